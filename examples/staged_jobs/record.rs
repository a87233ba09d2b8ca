//! A record as it is written. Fields came and went over the years: each is looked for wherever it has been.
//!
//! It is a JSON object, one pipeline, as `record.json` beside this file. Needed are `pipeline_id` and `status`; what else is missing is as if nothing was
//! told of it, and what is not named here is not read.
//!
//! | field | what it is |
//! |---|---|
//! | `pipeline_id` | `pipeline_` and 12 hexadecimal digits: the id of the run |
//! | `status` | `pending`, `running`, `paused`, `completed`, `partial_success`, `failed` or `cancelled` |
//! | `user_id`, `name`, `current_stage`, `events`, `created_at`, `started_at`, `completed_at`, `updated_at` | kept as they are told |
//! | `config.generation` | `mode` (`generate` or `existing`), `models`, `templates`, `existingApps` (`model:number`) |
//! | `config.analysis` | `enabled` (true), `tools` (all), `streamingAnalysis` (true) |
//! | `progress.generation` | `status`, `submitted_jobs` (`model:template`), and `results`, each with `job_index` (the place of its pair, model by model), `model_slug`, `template_slug`, `success`, and `app_number` or `error` |
//! | `progress.analysis` | `status`, `main_task_ids` (ids of `tasks`, or `skipped:why`, `error:why`), `subtask_ids`, `submitted_apps`, `retryable_apps` |
//! | `tasks` | each with `task_id`, `status` (`created`, and those above but `paused`), `target_model` and `target_app_number`, or `parent_task_id` and `service_name`, and `error` |
//! | `applications` | versions of apps: each with `id`, `model_slug`, `app_number`, `version` (1), `parent_app_id` |
//!
//! The status of a stage is `pending`, `running`, `in_progress`, `completed`, `failed`, `skipped` or `timeout`. `config` and `progress` may be texts of JSON as well,
//! `config_json` and `progress_json`; options may be under `options`.

use std::collections::BTreeMap;

use serde_json::Value;

/// One pipeline.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) status: String,
    /// The owner, the name, instants, events: kept as they are told.
    pub(super) told: Value,
    pub(super) is_existing: bool,
    pub(super) models: Vec<String>,
    pub(super) templates: Vec<String>,
    /// Model and number of apps that were there before.
    pub(super) existing: Vec<(String, u64)>,
    pub(super) tools: Vec<String>,
    pub(super) streaming: bool,
    pub(super) analyse: bool,
    pub(super) results: Vec<Generated>,
    pub(super) submitted_jobs: Vec<String>,
    pub(super) main: Vec<Listed>,
    pub(super) below: Vec<Listed>,
    /// Model and number, in the order of `main`.
    pub(super) submitted_apps: Vec<(String, u64)>,
    pub(super) retryable_apps: Vec<(String, u64)>,
    pub(super) tasks: BTreeMap<String, Task>,
    pub(super) applications: Vec<Application>,
    /// What is told of each stage.
    pub(super) stages: Vec<(&'static str, String)>,
}

/// A result of the first stage.
#[derive(Clone, Debug)]
pub(super) struct Generated {
    pub(super) index: Option<u64>,
    pub(super) model: String,
    pub(super) template: String,
    pub(super) number: Option<u64>,
    pub(super) success: bool,
    pub(super) error: String,
}

/// What a list of tasks names: a task, or why there is none.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Listed {
    Task(String),
    Skipped(String),
    Failed(String),
}

/// A task of the second stage.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) parent: Option<String>,
    pub(super) status: String,
    pub(super) service: String,
    pub(super) app: Option<(String, u64)>,
    pub(super) error: String,
}

/// An app, in one of its versions.
#[derive(Clone, Debug)]
pub(super) struct Application {
    pub(super) id: String,
    pub(super) model: String,
    pub(super) number: u64,
    pub(super) version: u64,
    pub(super) parent: Option<String>,
}

const STATUSES: [&str; 7] =
    ["pending", "running", "paused", "completed", "partial_success", "failed", "cancelled"];
const TASK_STATUSES: [&str; 7] =
    ["created", "pending", "running", "completed", "partial_success", "failed", "cancelled"];
const STAGE_STATUSES: [&str; 7] =
    ["pending", "running", "in_progress", "completed", "failed", "skipped", "timeout"];

impl Record {
    /// Reads one; else everything that is wrong with it, each with where it is.
    pub(super) fn read(of: &Value) -> Result<Self, Vec<String>> {
        let mut problems = Problems::default();
        let record = problems.record(of);
        if problems.0.is_empty() { Ok(record) } else { Err(problems.0) }
    }
}

#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn record(&mut self, of: &Value) -> Record {
        let id = self.text(of, "pipeline_id", "");
        let digits = id.strip_prefix("pipeline_").unwrap_or_default();
        if digits.len() != 12 || !digits.chars().all(|sign| sign.is_ascii_hexdigit()) {
            self.0
                .push(format!("pipeline_id: `{id}` is not `pipeline_` and 12 hexadecimal digits"));
        }
        let (config, progress) = (nested(of, "config"), nested(of, "progress"));
        let (ordered, asked) = (&config["generation"], &config["analysis"]);
        let part = |name: &str| if progress[name].is_null() { &of[name] } else { &progress[name] };
        let (made, analysed) = (part("generation"), part("analysis"));
        let streaming = option(&config, "streamingAnalysis");
        let streaming =
            if streaming.is_null() { option(asked, "streamingAnalysis") } else { streaming };
        let mut stages = Vec::new();
        for (name, of) in [("generation", made), ("analysis", analysed)] {
            if !of["status"].is_null() {
                let path = format!("progress.{name}.status");
                stages.push((name, self.one_of(&of["status"], &path, &STAGE_STATUSES)));
            }
        }
        let main = if analysed["main_task_ids"].is_array() { "main_task_ids" } else { "task_ids" };
        let tasks = self.all(&of["tasks"], "tasks", Self::task);
        Record {
            status: self.one_of(&of["status"], "status", &STATUSES),
            told: told(of),
            is_existing: ordered["mode"].as_str() == Some("existing"),
            models: self.all(option(ordered, "models"), "config.generation.models", Self::word),
            templates: self.all(
                option(ordered, "templates"),
                "config.generation.templates",
                Self::word,
            ),
            existing: self.all(
                option(ordered, "existingApps"),
                "config.generation.existingApps",
                Self::app,
            ),
            tools: self.all(option(asked, "tools"), "config.analysis.tools", Self::word),
            streaming: streaming.as_bool().unwrap_or(true),
            analyse: asked["enabled"].as_bool().unwrap_or(true),
            results: self.all(&made["results"], "progress.generation.results", Self::generated),
            submitted_jobs: self.all(
                &made["submitted_jobs"],
                "progress.generation.submitted_jobs",
                Self::word,
            ),
            main: self.all(&analysed[main], &format!("progress.analysis.{main}"), Self::listed),
            below: self.all(
                &analysed["subtask_ids"],
                "progress.analysis.subtask_ids",
                Self::listed,
            ),
            submitted_apps: self.all(
                &analysed["submitted_apps"],
                "progress.analysis.submitted_apps",
                Self::app,
            ),
            retryable_apps: self.all(
                &analysed["retryable_apps"],
                "progress.analysis.retryable_apps",
                Self::app,
            ),
            tasks: tasks.into_iter().collect(),
            applications: self.all(&of["applications"], "applications", Self::application),
            stages,
            id,
        }
    }

    /// Each of a list that may be missing.
    fn all<T>(
        &mut self,
        list: &Value,
        path: &str,
        read: fn(&mut Self, &Value, &str) -> Option<T>,
    ) -> Vec<T> {
        if let Some(list) = list.as_array() {
            let each = list.iter().enumerate();
            return each.filter_map(|(at, of)| read(self, of, &format!("{path}[{at}]"))).collect();
        }
        if !list.is_null() {
            self.0.push(format!("{path}: a list is expected"));
        }
        Vec::new()
    }

    fn word(&mut self, of: &Value, path: &str) -> Option<String> {
        let word = of.as_str().filter(|word| !word.is_empty());
        self.needed(word.map(str::to_owned), path, "a text")
    }

    /// `"model:app"`, or an object.
    fn app(&mut self, of: &Value, path: &str) -> Option<(String, u64)> {
        let app = match of.as_str().and_then(|text| text.rsplit_once(':')) {
            Some((model, number)) => Some(model.to_owned()).zip(number.parse().ok()),
            None => {
                let model = of["model"].as_str().or(of["model_slug"].as_str());
                model.map(str::to_owned).zip(number(of))
            }
        };
        self.needed(app, path, "`model:number`")
    }

    fn listed(&mut self, of: &Value, path: &str) -> Option<Listed> {
        let text = self.word(of, path)?;
        Some(match text.split_once(':') {
            Some(("skipped", why)) => Listed::Skipped(why.to_owned()),
            Some(("error", why)) => Listed::Failed(why.to_owned()),
            Some(_) | None => Listed::Task(text),
        })
    }

    fn generated(&mut self, of: &Value, path: &str) -> Option<Generated> {
        let success = self.needed(of["success"].as_bool(), &format!("{path}.success"), "a truth");
        let number = number(of);
        if success == Some(true) && number.is_none() {
            self.0.push(format!("{path}.app_number: a number is expected of what succeeded"));
        }
        Some(Generated {
            index: of["job_index"].as_u64(),
            model: self.text(of, "model_slug", path),
            template: self.text(of, "template_slug", path),
            number,
            success: success?,
            error: of["error"].as_str().unwrap_or("it failed without saying why").to_owned(),
        })
    }

    fn task(&mut self, of: &Value, path: &str) -> Option<(String, Task)> {
        let text = |name: &str| of[name].as_str().unwrap_or_default().to_owned();
        let model = of["target_model"].as_str().map(str::to_owned);
        let task = Task {
            parent: of["parent_task_id"].as_str().map(str::to_owned),
            status: self.one_of(&of["status"], &format!("{path}.status"), &TASK_STATUSES),
            service: text("service_name"),
            app: model.zip(of["target_app_number"].as_u64()),
            error: of["error"].as_str().or(of["error_message"].as_str()).unwrap_or("").to_owned(),
        };
        Some((self.text(of, "task_id", path), task))
    }

    fn application(&mut self, of: &Value, path: &str) -> Option<Application> {
        let id = |of: &Value| {
            let number = of.as_number().map(ToString::to_string);
            of.as_str().map(str::to_owned).or(number)
        };
        Some(Application {
            id: self.needed(id(&of["id"]), &format!("{path}.id"), "an id")?,
            model: self.text(of, "model_slug", path),
            number: self.needed(number(of), &format!("{path}.app_number"), "a number")?,
            version: of["version"].as_u64().unwrap_or(1),
            parent: id(&of["parent_app_id"]),
        })
    }

    fn text(&mut self, of: &Value, name: &str, path: &str) -> String {
        let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        self.word(&of[name], &path).unwrap_or_default()
    }

    fn one_of(&mut self, of: &Value, path: &str, known: &[&str]) -> String {
        let text = of.as_str().filter(|text| known.contains(text)).map(str::to_owned);
        self.needed(text, path, &format!("one of {}", known.join(", "))).unwrap_or_default()
    }

    fn needed<T>(&mut self, found: Option<T>, path: &str, what: &str) -> Option<T> {
        if found.is_none() {
            self.0.push(format!("{path}: {what} is expected"));
        }
        found
    }
}

/// An object, or the text of one, by its name or by that with `_json` behind it.
fn nested(of: &Value, name: &str) -> Value {
    let (plain, text) = (&of[name], &of[format!("{name}_json")]);
    let found = if plain.is_null() { text } else { plain };
    match found.as_str() {
        Some(text) => serde_json::from_str(text).unwrap_or_default(),
        None => found.clone(),
    }
}

/// At the top, or among the options.
fn option<'a>(of: &'a Value, name: &str) -> &'a Value {
    if of[name].is_null() { &of["options"][name] } else { &of[name] }
}

/// The number of an app, by either of its names.
fn number(of: &Value) -> Option<u64> {
    ["app_number", "app_num", "app"].into_iter().find_map(|name| of[name].as_u64())
}

/// What is kept beside the run: whose it was, what it was called, when it was what; instants without a zone are UTC.
fn told(of: &Value) -> Value {
    let mut told = serde_json::Map::new();
    for name in ["user_id", "name", "status", "current_stage", "events"] {
        told.insert(name.to_owned(), of[name].clone());
    }
    for name in ["created_at", "started_at", "completed_at", "updated_at"] {
        if let Some(at) = of[name].as_str() {
            let (_, time) = at.split_at(at.find(['T', ' ']).unwrap_or(at.len()));
            let has_zone = time.ends_with('Z') || time.contains(['+', '-']);
            told.insert(name.to_owned(), format!("{at}{}", if has_zone { "" } else { "Z" }).into());
        }
    }
    told.into()
}
