//! What a record means here. What it tells of its jobs is believed; what it counted, and what it made of that, is not.

use std::collections::{BTreeMap, BTreeSet};

use perennial::RunId;
use perennial::engine::staged::{History, JobEnd, JobHistory, JobSpec};
use perennial::engine::workflow::{SequenceName, SkipReason};
use perennial::records::{Failure, FailureClass};

use super::super::platform::{
    Study,
    analysis::{Analysis, Findings},
    catalogue::ANALYZERS,
    generation::App,
};
use super::record::{Generated, Listed, Record, Task};

/// A record, understood.
pub(super) struct Meaning {
    pub(super) run: RunId,
    pub(super) study: Study,
    pub(super) history: History,
    pub(super) differences: Vec<String>,
}

impl Meaning {
    pub(super) fn of(record: &Record) -> Self {
        let mut reading = Reading { record, differences: Vec::new(), open: 0 };
        let existing = record.existing.iter().map(|(model, number)| App {
            pair: format!("{model}:{number}"),
            model: model.clone(),
            template: "unknown".to_owned(),
            number: *number,
        });
        let existing: Vec<App> = existing.filter(|_| record.is_existing).collect();
        let study = Study {
            models: record.models.clone(),
            templates: record.templates.clone(),
            existing: existing.clone(),
            tools: record.tools.clone(),
            streaming: record.streaming,
            analyse: record.analyse,
        };
        let mut history = History::new().note(record.told.clone());
        let (jobs, mut apps) = reading.generation(&study);
        apps.extend(existing);
        let analyses = if study.analyse { reading.analysis(&apps) } else { Vec::new() };
        for job in jobs.into_iter().chain(analyses) {
            history = history.job(job);
        }
        let had_ended =
            ["completed", "partial_success", "failed"].contains(&record.status.as_str());
        if !had_ended || reading.open > 0 {
            history = history.paused();
        }
        if had_ended && reading.open > 0 {
            let (status, open) = (&record.status, reading.open);
            reading
                .differences
                .push(format!("it was {status}, and {open} of its jobs had not ended"));
        }
        for (stage, status) in &record.stages {
            if status == "completed" && reading.open > 0 && *stage == "analysis" {
                reading.differences.push(format!("stage {stage} was {status}, and had not ended"));
            }
        }
        // The id has been looked at: it can name a run.
        let run = RunId::parse(record.id.as_str()).unwrap_or_else(|_| unreachable!("pipeline_…"));
        Self { run, study, history, differences: reading.differences }
    }
}

struct Reading<'a> {
    record: &'a Record,
    differences: Vec<String>,
    /// Jobs that had not ended.
    open: usize,
}

impl Reading<'_> {
    /// The jobs of the first stage that had ended, and the apps that are there.
    fn generation(&mut self, study: &Study) -> (Vec<JobHistory>, Vec<App>) {
        let (mut jobs, mut apps) = (Vec::new(), Vec::new());
        let orders: Vec<(JobSpec, String, String)> =
            if study.existing.is_empty() { study.orders().collect() } else { Vec::new() };
        let mut ends: BTreeMap<usize, &Generated> = BTreeMap::new();
        for result in &self.record.results {
            let Generated { index, model, template, .. } = result;
            let fits = |place: &usize| {
                orders.get(*place).is_some_and(|(_, of, by)| (of, by) == (model, template))
            };
            let place = match index {
                Some(index) => usize::try_from(*index).ok().filter(fits),
                // Of equal pairs the first that has no result yet.
                None => (0..orders.len()).find(|place| fits(place) && !ends.contains_key(place)),
            };
            match place {
                // The first one of a job counts.
                Some(place) => {
                    if ends.contains_key(&place) {
                        self.differences.push(format!("job {place} has several results"));
                    }
                    ends.entry(place).or_insert(result);
                }
                None => {
                    let text = format!("a result of {model} and {template} belongs to no job");
                    self.differences.push(text);
                }
            }
        }
        self.unknown_jobs(&orders);
        for (place, (spec, model, template)) in orders.into_iter().enumerate() {
            let Some(result) = ends.get(&place) else {
                self.open += 1;
                continue;
            };
            let mut job = JobHistory::new("generation", spec);
            let app = result.number.map(|number| App {
                pair: job.key().to_owned(),
                model: model.clone(),
                template,
                number,
            });
            if let (Some(number), Ok(sequence)) = (result.number, SequenceName::new("app")) {
                job = job.number(&sequence, &model, number, self.versions(&model, number));
            }
            job = match app.filter(|_| result.success) {
                Some(app) => {
                    let end = JobEnd::succeeded(&app);
                    apps.push(app);
                    job.ended(end)
                }
                None => job.ended(failed(&result.error)),
            };
            jobs.push(job);
        }
        (jobs, apps)
    }

    /// Jobs that were handed in, by their keys: with their place in front or without.
    fn unknown_jobs(&mut self, orders: &[(JobSpec, String, String)]) {
        let known = |text: &String| {
            orders.iter().enumerate().any(|(place, (_, model, template))| {
                *text == format!("{place}:{model}:{template}")
                    || *text == format!("{model}:{template}")
            })
        };
        for text in self.record.submitted_jobs.iter().filter(|text| !known(text)) {
            self.differences.push(format!("`{text}` was handed in, and is none of its jobs"));
        }
    }

    /// The version that each further one was made from.
    fn versions(&self, model: &str, number: u64) -> Vec<u32> {
        let of = |app: &&super::record::Application| app.model == model && app.number == number;
        let mut all: Vec<_> = self.record.applications.iter().filter(of).collect();
        all.sort_by_key(|app| app.version);
        let place = |id: &String| all.iter().position(|app| app.id == *id);
        let further = (1_u32..).zip(all.iter().skip(1));
        further
            .map(|(before, app)| {
                let parent = app.parent.as_ref().and_then(place);
                parent
                    .and_then(|at| u32::try_from(at + 1).ok())
                    .filter(|at| *at <= before)
                    .unwrap_or(before)
            })
            .collect()
    }

    /// The analyses that are told of.
    fn analysis(&mut self, apps: &[App]) -> Vec<JobHistory> {
        let (mut jobs, mut told) = (Vec::new(), BTreeSet::new());
        for (place, listed) in self.record.main.iter().enumerate() {
            let task = match listed {
                Listed::Task(id) => self.record.tasks.get(id),
                Listed::Skipped(_) | Listed::Failed(_) => None,
            };
            let of = task.and_then(|task| task.app.as_ref());
            let Some((model, number)) = of.or(self.record.submitted_apps.get(place)) else {
                self.differences.push(format!("{listed:?} of the analyses belongs to no app"));
                continue;
            };
            let Some(app) = apps.iter().find(|app| app.model == *model && app.number == *number)
            else {
                self.differences
                    .push(format!("{model}:{number} was analysed, and is none of its apps"));
                continue;
            };
            if !told.insert(&app.pair) {
                self.differences.push(format!("{model}:{number} was analysed several times"));
                continue;
            }
            jobs.push(self.group(app, listed, task));
        }
        self.open += apps.iter().filter(|app| !told.contains(&app.pair)).count();
        for listed in &self.record.below {
            let is_told = match listed {
                Listed::Task(id) => self.record.tasks.get(id).is_some_and(|it| it.parent.is_some()),
                Listed::Skipped(_) | Listed::Failed(_) => false,
            };
            if !is_told {
                self.differences.push(format!("{listed:?} of the subtasks belongs to no analysis"));
            }
        }
        jobs
    }

    fn group(&mut self, app: &App, listed: &Listed, task: Option<&Task>) -> JobHistory {
        let tools = self.record.tools.clone();
        let spec = JobSpec::new(&app.pair, &Analysis { app: app.clone(), tools });
        let mut job = JobHistory::new("analysis", spec);
        let is_retryable = self
            .record
            .retryable_apps
            .iter()
            .any(|(model, number)| *model == app.model && *number == app.number);
        let end = match (listed, task) {
            _ if is_retryable => None,
            (Listed::Skipped(why), _) => Some(JobEnd::skipped(SkipReason::NotApplicable, why)),
            (Listed::Failed(why), _) => Some(failed(why)),
            (Listed::Task(_), Some(task)) => ended(task),
            // It is not told what became of it.
            (Listed::Task(_), None) => None,
        };
        if let Listed::Task(id) = listed {
            let below = self.record.tasks.values().filter(|task| task.parent.as_ref() == Some(id));
            let mut seen = BTreeSet::new();
            for task in below {
                let Some(end) = ended(task) else { continue };
                let key = analyzer(&task.service);
                if seen.insert(key.clone()) {
                    job = job.child(key, end);
                } else {
                    self.differences.push(format!("{} has several tasks of {key}", app.pair));
                }
            }
        }
        match end {
            Some(end) => job = job.ended(end),
            None => self.open += 1,
        }
        job
    }
}

/// How a task had ended, if it had. What it found is in no record.
fn ended(task: &Task) -> Option<JobEnd> {
    match task.status.as_str() {
        "completed" => Some(JobEnd::succeeded(&Findings::default())),
        "partial_success" => Some(JobEnd::partial(&Findings::default())),
        "failed" => Some(failed(&task.error)),
        "cancelled" => Some(JobEnd::cancelled()),
        _ => None,
    }
}

fn failed(why: &str) -> JobEnd {
    JobEnd::failed(&Failure::new(FailureClass::Permanent, "LEGACY", why.to_owned()))
}

/// The analyzer of a service's old name: `static-analyzer`.
fn analyzer(service: &str) -> String {
    let known = ANALYZERS.iter().find(|it| service.starts_with(it.name));
    known.map_or_else(|| service.replace('/', "-"), |it| it.name.to_owned())
}
