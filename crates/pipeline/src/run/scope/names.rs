//! What a name finds: results of steps, variables, constants, facts of the run.

use std::borrow::Cow;

use perennial_core::{Digest, run::JobState};
use perennial_engine::DoneJob;
use serde_json::{Map, Value};

use super::*;

impl<'a> Scope<'a> {
    /// The result of the step `name`, when it has run.
    pub(in crate::run) fn result(&self, name: &str) -> Option<&'a DoneJob> {
        let cleared = self.is_cleared(&Cleared::Steps(name.to_owned()));
        self.frame.find_named(name, self.done).filter(|_| !cleared)
    }

    /// What a consumer that asks for the whole step gets (YT-12).
    pub(in crate::run) fn value_view(&self, name: &str) -> Option<&'a Value> {
        Some(value_of(self.frame.step(name)?, self.result(name)?))
    }

    /// Follows `segments` into the result of the step `name`.
    ///
    /// # Errors
    ///
    /// The fields that are there instead.
    pub(in crate::run) fn step_field(
        &self,
        name: &str,
        segments: &[Segment],
    ) -> Result<Cow<'a, Value>, Option<Vec<String>>> {
        let Some(job) = self.result(name) else { return Err(Some(Vec::new())) };
        let record = &job.result;
        let own = match walk(Cow::Borrowed(record), segments) {
            Ok(value) => return Ok(value),
            Err(available) => available,
        };
        let shape = self.shape(name, job);
        if job.state == JobState::Skipped && shape != Shape::Nested {
            return Err(own);
        }
        let Some((first, _)) = segments.first().and_then(Segment::field) else { return Err(own) };
        let has_own = record.get(first).is_some();
        if first == "result" && !has_own {
            let whole = match shape {
                Shape::Reply => reply(record),
                Shape::Plain | Shape::Assigned | Shape::Nested => record,
            };
            let rest = &segments[1..];
            return walk(Cow::Borrowed(whole), rest)
                .or_else(|available| walk(Cow::Borrowed(record), rest).map_err(|_| available));
        }
        if has_own {
            return Err(own);
        }
        let inner = match shape {
            Shape::Plain => return Err(own),
            Shape::Reply => &record["data"],
            Shape::Assigned => &record["values"],
            Shape::Nested => &record["result"],
        };
        walk(Cow::Borrowed(inner), segments).map_err(|_| {
            let mut available = fields(record).unwrap_or_default();
            available.extend(fields(inner).unwrap_or_default());
            Some(available)
        })
    }

    fn shape(&self, name: &str, job: &DoneJob) -> Shape {
        self.frame.step(name).map_or(Shape::Plain, |step| shape_of(step, job))
    }

    /// Whether what `path` names is chosen by the document or by who started the run, not by a step.
    pub(in crate::run) fn is_given(&self, path: &Path) -> bool {
        // What a child is given, a step of its parent may have made up.
        let outermost = self.frame.pipeline().opened.is_none();
        let root = path.root.as_str();
        match root {
            "workflow" | "run_id" | "execution_id" | "timestamp" | "date" | "env"
            | "environment" => true,
            "inputs" => outermost,
            // A step may have written any of them.
            "global_vars" => outermost && self.constants.is_empty(),
            "steps" | "state" | "variables" => false,
            ERROR_ROOT if self.error.is_some() => false,
            _ => {
                let is_variable = self.own.contains_key(root) || self.variable(root).is_some();
                outermost && !is_variable && self.inputs.get(root).is_some()
            }
        }
    }

    /// A variable of any scope, nearest first.
    fn variable(&self, name: &str) -> Option<&Value> {
        self.local.get(name).or_else(|| self.global.get(name)).or_else(|| self.initial(name))
    }

    /// What a child sees of this scope when it is told to.
    pub(in crate::run) fn context(&self) -> Context {
        Context {
            inputs: self.inputs.clone(),
            variables: self.merged(&[&self.global]),
            global_vars: self.constants(),
        }
    }

    /// The initial value of a variable, unless it was cleared.
    pub(super) fn initial(&self, name: &str) -> Option<&Value> {
        let value = self.initial.get(name)?;
        (!self.is_cleared(&Cleared::State(name.to_owned()))).then_some(value)
    }

    fn is_cleared(&self, what: &Cleared) -> bool {
        !self.cleared.is_empty() && self.cleared.contains(what)
    }

    /// Initial values under `upper`.
    pub(super) fn merged(&self, uppers: &[&Map<String, Value>]) -> Value {
        let initial = self.initial.as_object();
        let mut merged = initial.cloned().unwrap_or_default();
        merged.retain(|name, _| !self.is_cleared(&Cleared::State(name.clone())));
        for upper in uppers {
            merged.extend(upper.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        Value::Object(merged)
    }

    fn rooted(&self, path: &Path) -> Result<Cow<'_, Value>, Option<Vec<String>>> {
        let inside = |value: Value| walk(Cow::Owned(value), &path.segments);
        let facts = &*self.facts;
        match path.root.as_str() {
            "steps" => match path.segments.split_first() {
                Some((first, rest)) => {
                    let (name, _) = first.field().ok_or(None)?;
                    self.step_field(name, rest)
                }
                None => Err(None),
            },
            "state" => match path.segments.first().and_then(Segment::field) {
                Some((name, _)) => match self.variable(name) {
                    Some(value) => walk(Cow::Borrowed(value), &path.segments[1..]),
                    None => Err(fields(&self.merged(&[&self.global, &self.local]))),
                },
                None => inside(self.merged(&[&self.global, &self.local])),
            },
            "variables" => inside(self.merged(&[&self.global])),
            "inputs" => walk(Cow::Borrowed(self.inputs), &path.segments),
            "global_vars" => match path.segments.first().and_then(Segment::field) {
                Some((name, _)) => match self.constant(name) {
                    Some(value) => walk(value, &path.segments[1..]),
                    None => Err(fields(&self.constants())),
                },
                None => inside(self.constants()),
            },
            "workflow" => walk(Cow::Borrowed(facts), &path.segments),
            "environment" => inside(self.deployed.facts()),
            "step" => match path.segments.first().and_then(Segment::field) {
                Some(("name", _)) => walk(Cow::Owned(Value::from(self.step)), &path.segments[1..]),
                Some(("attempt", _)) => {
                    walk(Cow::Owned(Value::from(self.attempt)), &path.segments[1..])
                }
                Some(("variables", _)) => {
                    let own = Value::Object(self.own.clone());
                    walk(Cow::Owned(own), &path.segments[1..])
                }
                _ => Err(Some(["name", "attempt", "variables"].map(str::to_owned).to_vec())),
            },
            "env" => {
                let name = path.segments.first().and_then(Segment::field).map(|(name, _)| name);
                match name.and_then(|name| Some((name, self.environment.get(name)?))) {
                    Some((name, text)) => walk(Cow::Owned(typed(name, text)), &path.segments[1..]),
                    None => Err(Some(Vec::new())),
                }
            }
            "timestamp" => inside(Value::from(self.timestamp.as_str())),
            "date" => inside(Value::from(self.date.as_str())),
            _ => inside(Value::from(self.run.as_str())),
        }
    }

    /// A constant: set by a step, by the document, or given to the run.
    fn constant(&self, name: &str) -> Option<Cow<'_, Value>> {
        if self.is_cleared(&Cleared::GlobalVars(name.to_owned())) {
            return None;
        }
        let given = || self.inputs.get(format!("global_vars.{name}"));
        let found = self.constants.get(name).or_else(|| self.given.get(name)).or_else(given);
        found.map(Cow::Borrowed)
    }

    fn constants(&self) -> Value {
        let mut all = Map::new();
        for (name, value) in self.inputs.as_object().into_iter().flatten() {
            if let Some(name) = name.strip_prefix("global_vars.") {
                all.insert(name.to_owned(), value.clone());
            }
        }
        for (name, value) in self.given.as_object().into_iter().flatten().chain(&self.constants) {
            all.insert(name.clone(), value.clone());
        }
        all.retain(|name, _| !self.is_cleared(&Cleared::GlobalVars(name.clone())));
        Value::Object(all)
    }

    /// Names that a bare word could have meant.
    fn plain_names(&self) -> Vec<String> {
        let mut names = fields(&self.merged(&[&self.global, &self.local])).unwrap_or_default();
        names.extend(fields(self.inputs).unwrap_or_default());
        names
    }
}

/// What a consumer that asks for the whole `step` gets, which ended with `job` (YT-12).
pub(in crate::run) fn value_of<'a>(step: &Step, job: &'a DoneJob) -> &'a Value {
    match shape_of(step, job) {
        Shape::Reply => reply(&job.result),
        Shape::Nested => job.result.get("result").unwrap_or(&job.result),
        Shape::Plain | Shape::Assigned => &job.result,
    }
}

fn shape_of(step: &Step, job: &DoneJob) -> Shape {
    match step.kind.ran_as(&job.result) {
        Some(StepKind::Pipeline(_)) => Shape::Nested,
        _ if job.state != JobState::Succeeded => Shape::Plain,
        Some(StepKind::Chat(_)) => Shape::Reply,
        Some(StepKind::SetVariable(_)) => Shape::Assigned,
        Some(StepKind::Echo(_) | StepKind::FileOps(_) | StepKind::Dynamic(_)) | None => {
            Shape::Plain
        }
    }
}

/// `data` when the reply was structured, else its text.
fn reply(record: &Value) -> &Value {
    let data = &record["data"];
    if data.is_object() || data.is_array() { data } else { &record["text"] }
}

impl Names for Scope<'_> {
    fn find(&self, path: &Path, place: Place) -> Result<Cow<'_, Value>, Missing> {
        let root = path.root.as_str();
        let is_step = self.frame.step(root).is_some();
        let found = if place == Place::Condition && is_step {
            self.step_field(root, &path.segments)
        } else if ROOTS.contains(&root) {
            self.rooted(path)
        } else if let Some(error) = self.error.as_ref().filter(|_| root == ERROR_ROOT) {
            walk(Cow::Borrowed(error), &path.segments)
        } else if let Some(value) = self.variable(root).or_else(|| self.inputs.get(root)) {
            walk(Cow::Borrowed(value), &path.segments)
        } else if is_step {
            self.step_field(root, &path.segments)
        } else {
            Err(Some(self.plain_names()))
        };
        found.map_err(|available| Missing { path: path.to_string(), available })
    }

    /// Made from the key of the job, which is in the journal: the same on every attempt.
    fn uuid(&self) -> String {
        let ordinal = self.ids.fetch_add(1, Ordering::Relaxed) + 1;
        let key = self.key.call(&format!("uuid/{ordinal}"));
        let digest = Digest::of(key.as_str().as_bytes()).to_string();
        let digits: String = digest.chars().filter(char::is_ascii_hexdigit).collect();
        // Version 8 of RFC 9562: the digits are ours to choose, but for version and variant.
        format!(
            "{}-{}-8{}-a{}-{}",
            &digits[0..8],
            &digits[8..12],
            &digits[13..16],
            &digits[17..20],
            &digits[20..32]
        )
    }

    fn now(&self) -> String {
        self.now.clone()
    }

    fn warn(&self, text: String) {
        match self.secrets {
            Some(secrets) => self.warnings.push(&secrets.redact(&text)),
            None => self.warnings.push(&text),
        }
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.environment.get(name).map(str::to_owned)
    }

    fn missing_hole(&self) -> MissingHole {
        self.frame.model.lenient.missing_hole()
    }

    fn undecided(&self) -> Undecided {
        self.frame.model.undecided
    }

    fn has_secrets(&self) -> bool {
        self.secrets.is_some()
    }

    fn is_secret(&self, value: &Value) -> bool {
        self.secrets.is_some_and(|secrets| secrets.are_in(value))
    }

    fn derived(&self, value: Value) -> Result<Value, Fault> {
        match self.secrets {
            Some(secrets) => secrets.derived(value),
            None => Ok(value),
        }
    }
}
