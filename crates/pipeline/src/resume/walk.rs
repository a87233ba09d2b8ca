//! The walk through both definitions, scope by scope.

use std::collections::{BTreeMap, BTreeSet};

use perennial_core::run::{JobKey, JobState, StepPath};
use serde_json::Value;

use super::{RecordedJob, RerunWhy, ResumePlan, ResumedStep, StepFate, Version, depends};
use crate::{
    definition::{Child, Effects, Model, Nested, Step, Workspace},
    run::{Children, Places, Site, limit_of},
};

/// One scope in both definitions.
struct Scope<'a> {
    path: StepPath,
    /// Nothing when the step around it had no child before.
    before: Option<(Site<'a>, &'a Value)>,
    after: (Site<'a>, &'a Value),
    /// All of it begins anew.
    anew: Option<RerunWhy>,
    /// This step, and what stands behind it, was asked for.
    from: Option<&'a str>,
}

struct Walk<'a> {
    /// What is recorded, by the path of the step without rounds; openings apart.
    jobs: BTreeMap<String, Vec<RecordedJob<'a>>>,
    openings: BTreeMap<String, Vec<RecordedJob<'a>>>,
    /// Children that were loaded while the run was under way.
    children: &'a Children,
    plan: ResumePlan,
}

/// The steps inside of a step, as they were and as they are, where both are known.
#[derive(Clone)]
struct Inner<'a> {
    before: Site<'a>,
    after: Site<'a>,
}

pub(super) fn plan(
    before: Version<'_>,
    after: Version<'_>,
    recorded: &[RecordedJob<'_>],
    from: Option<&str>,
) -> ResumePlan {
    let (old, new) = (&before.pipeline.model, &after.pipeline.model);
    let children = Children::default();
    let keys = recorded.iter().map(|job| (job.key, job.result));
    let places = Places::of(&[old, new], &children, keys);
    let mut walk = Walk {
        jobs: BTreeMap::new(),
        openings: BTreeMap::new(),
        children: &children,
        plan: ResumePlan::default(),
    };
    for job in recorded {
        let text = places.of_key(job.key);
        let (kind, text) = match text.strip_prefix('#') {
            Some(text) => (&mut walk.openings, text),
            None => (&mut walk.jobs, text.as_str()),
        };
        kind.entry(text.to_owned()).or_default().push(*job);
    }
    walk.scope(&Scope {
        path: StepPath::root(),
        before: Some((Site::of(old), before.inputs)),
        after: (Site::of(new), after.inputs),
        anew: (!depends::same_rules(old, new)).then_some(RerunWhy::Rules),
        from,
    });
    walk.plan
}

/// Whether nothing has to be done again: it ended, or its failure was forgiven.
fn completed(step: &Step, is_inner: bool, job: &RecordedJob<'_>) -> bool {
    match job.state {
        JobState::Succeeded | JobState::Skipped => true,
        JobState::Partial if is_inner => {
            step.forgives() && job.result.is_none_or(|result| limit_of(result).is_none())
        }
        JobState::Partial => true,
        JobState::Blocked
        | JobState::Ready
        | JobState::Leased
        | JobState::Deferred
        | JobState::Suspended
        | JobState::Joining
        | JobState::Failed
        | JobState::Cancelled => false,
    }
}

impl<'a> Walk<'a> {
    /// Plans the steps of a scope; answers the first that does not stay as it is.
    fn scope(&mut self, scope: &Scope<'a>) -> Option<String> {
        let (model, inputs) = (scope.after.0.model, scope.after.1);
        let mut fates: Vec<bool> = Vec::with_capacity(model.steps.len());
        let mut first = None;
        let mut asked = false;
        for (place, step) in model.steps.iter().enumerate() {
            asked = asked || scope.from == Some(step.name.as_str());
            let path = scope.path.step(&step.name);
            let old = scope.before.as_ref().and_then(|(site, inputs)| {
                let place = site.model.steps.iter().position(|old| old.name == step.name)?;
                Some((site.model, place, *inputs))
            });
            let needs = depends::of(model, place).into_iter().find(|needed| fates[*needed]);
            let why = if asked {
                Some(RerunWhy::Asked)
            } else if let Some(why) = &scope.anew {
                Some(why.clone())
            } else {
                let changed = old.is_some_and(|(old_model, old_place, old_inputs)| {
                    depends::own_digest(old_model, old_place, old_inputs)
                        != depends::own_digest(model, place, inputs)
                        || sources(old_model, old_place) != sources(model, place)
                });
                let needs = needs.map(|place| RerunWhy::Needs(model.steps[place].name.clone()));
                if changed { Some(RerunWhy::Changed) } else { needs }
            };
            let runs = self.step(scope, step, &path, old, why);
            fates.push(runs);
            if runs && first.is_none() {
                first = Some(step.name.clone());
            }
        }
        if let Some((old, _)) = &scope.before {
            for step in &old.model.steps {
                if !model.steps.iter().any(|new| new.name == step.name) {
                    let path = scope.path.step(&step.name);
                    self.told(&path, StepFate::Gone);
                    self.drop_all(&path, false);
                    first.get_or_insert_with(|| step.name.clone());
                }
            }
        }
        first
    }

    /// Plans one step; answers whether it runs.
    fn step(
        &mut self,
        scope: &Scope<'a>,
        step: &'a Step,
        path: &StepPath,
        old: Option<(&'a Model, usize, &'a Value)>,
        why: Option<RerunWhy>,
    ) -> bool {
        let Some((old_model, old_place, _)) = old else {
            self.told(path, StepFate::New);
            self.drop_all(path, true);
            self.all_new(step, path);
            return true;
        };
        let old_step = &old_model.steps[old_place];
        let is_inner = scope.path != StepPath::root();
        let own = self.jobs.get(path.as_str()).cloned().unwrap_or_default();
        let handler = path.handler();
        let had_completed = own.iter().any(|job| match old_step.handler {
            // What became of it says the job that closes its handler.
            Some(_) if job.state == JobState::Partial => {
                let closings = self.jobs.get(handler.as_str()).into_iter().flatten();
                closings.into_iter().any(|closing| closing.state == JobState::Partial)
            }
            Some(_) | None => completed(old_step, is_inner, job),
        });
        let begun = !own.is_empty() || self.has_below(path);
        if had_completed
            && why.is_some()
            && ((old_step.nested().is_none() && old_step.effects == Some(Effects::Write))
                || (self.jobs.contains_key(handler.as_str()) && handler_writes(old_step)))
        {
            self.plan.rewrites.push(path.as_str().to_owned());
        }
        let at = self.plan.steps.len();
        self.told(path, StepFate::Due);
        let inner = match (step.nested(), old_step.nested()) {
            (Some(new), Some(old)) => self.inner(scope, path, (old, new)),
            (_, None) | (None, _) => None,
        };
        let inside = match &inner {
            Some(inner) => self.child(path, step, inner, &why, had_completed),
            None => {
                self.all_new(step, path);
                None
            }
        };
        if inner.is_none()
            && why.is_some()
            && (self.has_begun(path) || (had_completed && self.was_opened(path)))
            && old_step.nested().is_some_and(|old| old.effects() == Some(Effects::Write))
        {
            // What it would do again is not known.
            self.plan.rewrites.push(path.as_str().to_owned());
        }
        let fate = match (why, inside) {
            // Asked for or not: it would have run anyway.
            _ if !begun => StepFate::Due,
            (Some(why), _) => StepFate::Rerun(why),
            (None, _) if !had_completed => {
                let failed = own.iter().any(|job| job.state == JobState::Failed);
                let partial = own.iter().any(|job| job.state == JobState::Partial);
                let why = if failed || partial { RerunWhy::Failed } else { RerunWhy::Unfinished };
                StepFate::Rerun(why)
            }
            (None, Some(inner)) => StepFate::Rerun(RerunWhy::Inside(inner)),
            (None, None) => StepFate::Reused,
        };
        let runs = fate != StepFate::Reused;
        if runs && begun {
            let asked = fate.why() == Some(&RerunWhy::Asked);
            let forget = asked || (had_completed && old_step.effects == Some(Effects::Write));
            self.drop_step(path, inner.as_ref(), forget);
            if old_step.nested().is_some_and(is_read_later) && !self.was_opened(path) {
                // No step of the child began: its file may be corrected, and is read anew.
                let openings = self.openings.get(path.as_str()).into_iter().flatten();
                self.plan.again.extend(openings.map(|opening| (opening.key.clone(), true)));
            }
        }
        self.plan.steps[at].fate = fate;
        runs
    }

    /// What stands in a step by both definitions; nothing when that cannot be said, or is not to be compared.
    fn inner(
        &self,
        scope: &Scope<'a>,
        path: &StepPath,
        (old, new): (&'a Nested, &'a Nested),
    ) -> Option<Inner<'a>> {
        let before = &scope.before.as_ref()?.0;
        match (&old.child, &new.child) {
            (Child::Known(old), Child::Known(new)) => {
                Some(Inner { before: before.inside(old), after: scope.after.0.inside(new) })
            }
            // Level by level, as deep as it was gone through.
            (Child::Again(old), Child::Again(new)) if self.has_below(path) => Some(Inner {
                before: before.again(old.again)?,
                after: scope.after.0.again(new.again)?,
            }),
            // Its definition is what the run has recorded, until it is opened anew.
            (Child::Later(_), Child::Later(_)) => {
                let model = self.recorded(path)?;
                let site = Site::of(model);
                Some(Inner { before: site.clone(), after: site })
            }
            (Child::Known(_) | Child::Again(_) | Child::Later(_), _) => None,
        }
    }

    /// The child that the last opening of the step at `path` has recorded.
    fn recorded(&self, path: &StepPath) -> Option<&'a Model> {
        let openings = self.openings.get(path.as_str())?.iter().rev();
        let mut records = openings.filter_map(|opening| opening.result);
        records.find_map(|record| self.children.recorded(record).ok()?)
    }

    /// Whether something inside of the step at `path` is recorded.
    fn has_below(&self, path: &StepPath) -> bool {
        self.openings.contains_key(path.as_str()) || self.has_begun(path)
    }

    /// Whether a step inside of the step at `path` has begun.
    fn has_begun(&self, path: &StepPath) -> bool {
        let below = format!("{}/", path.as_str());
        let mut begun = self.jobs.keys().chain(self.openings.keys());
        begun.any(|key| key.starts_with(&below))
    }

    /// Whether the scope of the step at `path` was opened; also when nothing is recorded of that.
    fn was_opened(&self, path: &StepPath) -> bool {
        let openings = self.openings.get(path.as_str());
        openings.is_none_or(|all| all.iter().any(|job| job.state == JobState::Succeeded))
    }

    /// Plans the steps inside of a step; answers the first that runs.
    fn child(
        &mut self,
        path: &StepPath,
        step: &'a Step,
        inner: &Inner<'a>,
        why: &Option<RerunWhy>,
        had_completed: bool,
    ) -> Option<String> {
        let around = || RerunWhy::Around(step.name.clone());
        let (before, after) = (inner.before.model, inner.after.model);
        let workspace = step.nested().and_then(|nested| nested.workspace.as_ref());
        let anew = match why {
            Some(RerunWhy::Asked) => Some(RerunWhy::Asked),
            Some(_) => Some(around()),
            None if before.facts != after.facts || before.inputs != after.inputs => {
                Some(RerunWhy::Changed)
            }
            None if !depends::same_rules(before, after) => Some(RerunWhy::Rules),
            // What was written there is removed with it, and before it is made again.
            // The clock may name another file.
            None if !had_completed && step.nested().is_some_and(names_by_time) => Some(around()),
            None if matches!(workspace, Some(Workspace::Scratch { .. }))
                && (!had_completed || before != after) =>
            {
                Some(around())
            }
            None => None,
        };
        // They are made from the same expressions, or all of it begins anew.
        let given = &Value::Null;
        self.scope(&Scope {
            path: path.clone(),
            before: Some((inner.before.clone(), given)),
            after: (inner.after.clone(), given),
            anew,
            from: None,
        })
    }

    fn told(&mut self, path: &StepPath, fate: StepFate) {
        self.plan.steps.push(ResumedStep { path: path.as_str().to_owned(), fate });
    }

    /// Steps inside of one that is new are new, too.
    fn all_new(&mut self, step: &Step, path: &StepPath) {
        for inner in step.child().into_iter().flat_map(|child| &child.steps) {
            let path = path.step(&inner.name);
            self.told(&path, StepFate::New);
            self.all_new(inner, &path);
        }
    }

    /// The jobs of a step that runs again: its own, what opens its scope, so that its time begins
    /// anew, and everything below it that is not planned by itself.
    fn drop_step(&mut self, path: &StepPath, inner: Option<&Inner<'a>>, forget: bool) {
        let both = inner.into_iter().flat_map(|inner| [inner.before.model, inner.after.model]);
        let steps = both.flat_map(|model| &model.steps);
        let planned: BTreeSet<String> =
            steps.map(|step| path.step(&step.name).as_str().to_owned()).collect();
        let is_planned = |key: &str| {
            planned.iter().any(|path| {
                key.strip_prefix(path.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        };
        self.drop_where(path, forget, |key| !is_planned(key));
    }

    /// Everything that is recorded of a step and below it.
    fn drop_all(&mut self, path: &StepPath, forget: bool) {
        self.drop_where(path, forget, |_| true);
    }

    fn drop_where(&mut self, path: &StepPath, forget: bool, takes: impl Fn(&str) -> bool) {
        let handler = path.handler();
        let mut found: Vec<JobKey> = Vec::new();
        for (key, jobs) in self.jobs.iter().chain(&self.openings) {
            let belongs = [path, &handler].into_iter().any(|path| {
                let rest = key.strip_prefix(path.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            });
            if belongs && takes(key) {
                found.extend(jobs.iter().map(|job| job.key.clone()));
            }
        }
        for key in found {
            let kept = self.plan.again.entry(key).or_insert(forget);
            *kept = *kept || forget;
        }
    }
}

/// Whether the file of a child is read when it is opened.
fn is_read_later(nested: &Nested) -> bool {
    match nested.child {
        Child::Known(_) | Child::Again(_) => false,
        Child::Later(_) => true,
    }
}

/// Whether the file of a child is named by the time of day.
fn names_by_time(nested: &Nested) -> bool {
    match &nested.child {
        Child::Known(_) | Child::Again(_) => false,
        Child::Later(later) => later.file.written().contains("now"),
    }
}

/// Whether a step of its handler, or of one in it, changes something outside.
fn handler_writes(step: &Step) -> bool {
    let all = depends::of_handlers(step);
    all.into_iter().any(|one| match one.nested() {
        Some(nested) => nested.effects() == Some(Effects::Write),
        None => one.effects == Some(Effects::Write),
    })
}

/// Names of the steps that a step depends on.
fn sources(model: &Model, place: usize) -> Vec<&str> {
    let places = depends::of(model, place).into_iter();
    places.map(|place| model.steps[place].name.as_str()).collect()
}
