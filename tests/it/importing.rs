//! Records of the predecessor of the worked example's platform: whatever their form, they become the runs that they mean.

use std::sync::Arc;

use perennial::{
    RunId, RunState, Runtime, Store,
    engine::{AttemptCx, RunError, StartRun, staged::*, workflow::RetryPolicy},
    records::JobState,
};
use serde_json::{Value, json};

use self::import::{Import, ImportError, import};
use self::platform::{Platform, Terms};
use crate::study::platform;

// The rooms of the example themselves.
#[path = "../../examples/staged_jobs/import.rs"]
mod import;

struct World {
    platform: Platform,
    runtime: Runtime,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pace = std::time::Duration::from_millis(2);
        let retry = RetryPolicy { base_ms: 1, ..RetryPolicy::PROVIDER };
        let platform = Platform::new(folder.path(), Terms { pace, retry, notes: Arc::new(|_| ()) });
        let store = Store::sqlite(folder.path().join("runs.db"));
        let runtime = platform.on(store).start().await.unwrap();
        Self { platform, runtime, _folder: folder }
    }

    async fn import(&self, record: &Value) -> Result<Import, ImportError> {
        import(&self.platform, self.runtime.runs(), &record.to_string()).await
    }

    /// What a record became: its run, its jobs, and what is said of it.
    async fn imported(&self, record: &Value) -> (RunState, Vec<String>, Vec<String>) {
        let Import { run, differences } = self.import(record).await.unwrap();
        let view = run.run.view().await.unwrap();
        (view.run.state, picture(&view.jobs), differences)
    }

    /// As [`imported`](Self::imported), with what follows from the order that failed: it is made while the run is paused.
    async fn fed(&self, record: &Value) -> (RunState, Vec<String>, Vec<String>) {
        let Import { run, differences } = self.import(record).await.unwrap();
        let mut events = run.run.events(1);
        let fed = async {
            loop {
                let event = events.next().await.unwrap();
                let job = event.job.as_ref().map_or("", |job| job.as_str());
                if (event.kind.as_str(), job) == ("job_skipped", "analysis/3:swift:shop") {
                    break;
                }
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), fed).await.unwrap();
        let view = run.run.view().await.unwrap();
        (view.run.state, picture(&view.jobs), differences)
    }
}

/// Jobs that are more than planned, a line each.
fn picture(jobs: &[perennial::records::JobRecord]) -> Vec<String> {
    let mut lines: Vec<String> = jobs
        .iter()
        .map(|job| {
            let told = job.result.as_ref();
            let told = match told.map(|it| (&it["message"], &it["number"])) {
                Some((Value::String(text), _)) => format!(": {text}"),
                Some((_, Value::Number(number))) => format!(": {number}"),
                Some(_) | None => String::new(),
            };
            format!("{} {}{told}", job.key, job.state)
        })
        .collect();
    lines.sort();
    lines
}

/// Two of four apps are there, one is not to be; of the analyses one is done, one stopped in the middle.
fn record() -> Value {
    let made = |index: u64, model: &str, template: &str, number: u64| {
        json!({ "job_index": index, "model_slug": model, "template_slug": template, "app_number": number,
            "success": true, "duration": 12.5 })
    };
    json!({
        "pipeline_id": "pipeline_0123456789ab",
        "user_id": 7,
        "name": "thesis",
        "status": "running",
        "current_stage": "analysis",
        "created_at": "2025-11-03T10:00:00",
        "config": {
            "generation": { "mode": "generate", "models": ["large", "swift"], "templates": ["chat", "shop"] },
            "analysis": { "enabled": true, "tools": ["ruff", "zap"] },
            "streamingAnalysis": true,
        },
        "progress": {
            "generation": {
                "status": "running",
                "results": [
                    made(0, "large", "chat", 4),
                    made(2, "swift", "chat", 1),
                    { "job_index": 3, "model_slug": "swift", "template_slug": "shop", "success": false,
                      "error": "the model refuses" },
                ],
                "submitted_jobs": ["0:large:chat", "1:large:shop", "swift:chat", "3:swift:shop"],
                "completed": 9, "in_flight": 5,
            },
            "analysis": {
                "status": "running",
                "main_task_ids": ["task_a", "task_b"],
                "subtask_ids": ["task_a1", "task_a2", "task_b1", "task_b2"],
                "submitted_apps": ["large:4", "swift:1"],
                "retryable_apps": [],
            },
        },
        "tasks": [
            { "task_id": "task_a", "status": "completed", "target_model": "large", "target_app_number": 4 },
            { "task_id": "task_a1", "parent_task_id": "task_a", "status": "completed", "service_name": "static-analyzer" },
            { "task_id": "task_a2", "parent_task_id": "task_a", "status": "completed", "service_name": "dynamic-analyzer" },
            { "task_id": "task_b", "status": "running", "target_model": "swift", "target_app_number": 1 },
            { "task_id": "task_b1", "parent_task_id": "task_b", "status": "failed", "service_name": "static-analyzer",
              "error": "it fell over" },
            { "task_id": "task_b2", "parent_task_id": "task_b", "status": "running", "service_name": "dynamic-analyzer" },
        ],
        "events": ["started", "still there"],
    })
}

/// The one that the example's documentation names.
#[tokio::test]
async fn the_record_that_is_shown_is_imported() {
    let world = World::new().await;
    let record = serde_json::from_str(include_str!("../../examples/staged_jobs/record.json"));
    let (state, jobs, differences) = world.imported(&record.unwrap()).await;
    assert_eq!((state, differences), (RunState::PartiallySucceeded, vec![]));
    let picture = [
        "analysis/0:large:blog succeeded",
        "analysis/0:large:blog/static succeeded",
        "analysis/1:swift:blog skipped",
        "generation/0:large:blog succeeded: 1",
        "generation/1:swift:blog failed: it refuses",
    ];
    assert_eq!(jobs, picture);
    world.runtime.shutdown().await;
}

const PICTURE: [&str; 10] = [
    "analysis/0:large:chat succeeded",
    "analysis/0:large:chat/dynamic succeeded",
    "analysis/0:large:chat/static succeeded",
    "analysis/2:swift:chat ready",
    "analysis/2:swift:chat/static failed: it fell over",
    "analysis/3:swift:shop skipped",
    "generation/0:large:chat succeeded: 4",
    "generation/1:large:shop ready",
    "generation/2:swift:chat succeeded: 1",
    "generation/3:swift:shop failed: the model refuses",
];

fn changed(change: impl FnOnce(&mut Value)) -> Value {
    let mut record = record();
    change(&mut record);
    record
}

/// Proves TG2, B15, INV-35.
/// The forms that a record has had over the years mean the same; so does what is told twice.
#[tokio::test]
async fn whatever_its_form_a_record_is_the_jobs_that_it_means() {
    let results = |record: &mut Value, change: fn(&mut Value)| {
        let list = record["progress"]["generation"]["results"].as_array_mut().unwrap();
        list.iter_mut().for_each(change);
    };
    let forms = [
        ("as it is", record(), vec![]),
        (
            "no main list",
            changed(|it| {
                let analysis = it["progress"]["analysis"].as_object_mut().unwrap();
                let main = analysis.remove("main_task_ids").unwrap();
                analysis.insert("task_ids".to_owned(), main);
            }),
            vec![],
        ),
        (
            "both lists",
            changed(|it| it["progress"]["analysis"]["task_ids"] = json!(["old"])),
            vec![],
        ),
        (
            "no place",
            changed(|it| results(it, |of| drop(of.as_object_mut().unwrap().remove("job_index")))),
            vec![],
        ),
        (
            "the short name",
            changed(|it| {
                results(it, |of| {
                    let number = of.as_object_mut().unwrap().remove("app_number");
                    of["app_num"] = number.unwrap_or_default();
                })
            }),
            vec![],
        ),
        (
            "texts in texts",
            changed(|it| {
                for name in ["config", "progress"] {
                    let text = it.as_object_mut().unwrap().remove(name).unwrap().to_string();
                    it[format!("{name}_json")] = text.into();
                }
            }),
            vec![],
        ),
        (
            "stages at the top",
            changed(|it| {
                let progress = it.as_object_mut().unwrap().remove("progress").unwrap();
                it["generation"] = progress["generation"].clone();
                it["analysis"] = progress["analysis"].clone();
            }),
            vec![],
        ),
        (
            "among the options",
            changed(|it| {
                let asked = &mut it["config"]["analysis"];
                let tools = asked.as_object_mut().unwrap().remove("tools").unwrap();
                asked["options"] = json!({ "tools": tools, "streamingAnalysis": true });
                it["config"].as_object_mut().unwrap().remove("streamingAnalysis");
            }),
            vec![],
        ),
        (
            "a result twice",
            changed(|it| {
                let again = json!({ "job_index": 0, "model_slug": "large", "template_slug": "chat", "app_number": 9,
                "success": false });
                it["progress"]["generation"]["results"].as_array_mut().unwrap().push(again);
            }),
            vec!["job 0 has several results"],
        ),
        (
            "a result of nothing",
            changed(|it| {
                let other = json!({ "job_index": 9, "model_slug": "small", "template_slug": "chat", "success": false });
                it["progress"]["generation"]["results"].as_array_mut().unwrap().push(other);
            }),
            vec!["a result of small and chat belongs to no job"],
        ),
        (
            "a job of nothing",
            changed(|it| {
                it["progress"]["generation"]["submitted_jobs"]
                    .as_array_mut()
                    .unwrap()
                    .push("small:chat".into());
            }),
            vec!["`small:chat` was handed in, and is none of its jobs"],
        ),
        (
            "an analysis of nothing",
            changed(|it| {
                let analysis = &mut it["progress"]["analysis"];
                analysis["main_task_ids"].as_array_mut().unwrap().push("task_c".into());
                analysis["submitted_apps"].as_array_mut().unwrap().push("large:7".into());
            }),
            vec!["large:7 was analysed, and is none of its apps"],
        ),
        (
            "an analysis twice",
            changed(|it| {
                let analysis = &mut it["progress"]["analysis"];
                analysis["main_task_ids"].as_array_mut().unwrap().push("task_a".into());
            }),
            vec!["large:4 was analysed several times"],
        ),
    ];
    for (form, record, differences) in forms {
        let world = World::new().await;
        let (state, jobs, told) = world.fed(&record).await;
        assert_eq!(
            (state, told),
            (RunState::Paused, differences.iter().map(|it| (*it).to_owned()).collect()),
            "{form}"
        );
        assert_eq!(jobs, PICTURE, "{form}");
        world.runtime.shutdown().await;
    }
}

/// Proves TG2, K44.
/// Why there is no task is told in its place; a task that is to be tried again had not ended; and a second import, of
/// whatever, changes nothing.
#[tokio::test]
async fn what_is_told_in_place_of_a_task_is_no_task() {
    let world = World::new().await;
    let record = changed(|it| {
        let analysis = &mut it["progress"]["analysis"];
        analysis["main_task_ids"] = json!(["error:no container", "skipped:too large"]);
        analysis["subtask_ids"] = json!(["skipped:nobody"]);
    });
    let (state, jobs, told) = world.fed(&record).await;
    assert_eq!(
        (state, told),
        (
            RunState::Paused,
            vec!["Skipped(\"nobody\") of the subtasks belongs to no analysis".to_owned()]
        )
    );
    let analyses: Vec<&String> = jobs.iter().filter(|it| it.starts_with("analysis")).collect();
    assert_eq!(
        analyses,
        [
            "analysis/0:large:chat failed: no container",
            "analysis/2:swift:chat skipped",
            "analysis/3:swift:shop skipped"
        ]
    );
    let run =
        world.runtime.runs().get(&RunId::parse("pipeline_0123456789ab").unwrap()).await.unwrap();
    let before = run.view().await.unwrap();
    assert!(!world.import(&record).await.unwrap().run.is_new);
    assert_eq!(run.view().await.unwrap(), before);
    // Of the same name, and of something else.
    let other = changed(|it| it["config"]["generation"]["models"] = json!(["large"]));
    let refused = world.import(&other).await.unwrap_err();
    assert!(matches!(&refused, ImportError::Run(RunError::Store(_))), "{refused}");
    let again = changed(|it| {
        it["pipeline_id"] = json!("pipeline_ba9876543210");
        it["progress"]["generation"]["results"] = json!([{ "model_slug": "large", "template_slug": "shop", "app_number": 3, "success": true }]);
        it["progress"]["analysis"]["submitted_apps"] = json!(["large:3"]);
        it["progress"]["analysis"]["main_task_ids"] = json!(["error:no container"]);
        it["progress"]["analysis"]["retryable_apps"] = json!(["large:3"]);
    });
    let (_, jobs, _) = world.imported(&again).await;
    assert!(jobs.contains(&"analysis/1:large:shop ready".to_owned()), "{jobs:#?}");
    // The number of another run's app.
    let taken = changed(|it| it["pipeline_id"] = json!("pipeline_aaaaaaaaaaaa"));
    let refused = world.import(&taken).await.unwrap_err().to_string();
    assert!(refused.contains("number 4 of app in large"), "{refused}");
    world.runtime.shutdown().await;
}

/// Proves TG2.
/// What had not ended goes on where it was, once somebody says so: what is there is kept, numbers go on behind the old ones.
#[tokio::test]
async fn what_was_under_way_goes_on_when_it_is_told_to() {
    let world = World::new().await;
    let imported = world.import(&record()).await.unwrap();
    let run = imported.run.run;
    run.unpause().await.unwrap();
    let outcome = run.outcome().await.unwrap();
    assert_eq!(outcome.state, RunState::PartiallySucceeded);
    let of = |key: &str| outcome.view.jobs.iter().find(|job| job.key.as_str() == key).unwrap();
    assert_eq!(of("generation/1:large:shop").result.as_ref().unwrap()["number"], 5);
    for key in ["generation/0:large:chat", "analysis/0:large:chat", "analysis/2:swift:chat/static"]
    {
        assert_eq!(of(key).attempts_used, 0, "{key}");
    }
    assert_eq!(of("analysis/1:large:shop").state, JobState::Succeeded);
    assert_eq!(of("analysis/3:swift:shop").state, JobState::Skipped);
    world.runtime.shutdown().await;
}

/// What had ended closes by its jobs, and what it was called is compared with that.
#[tokio::test]
async fn what_had_ended_is_what_its_jobs_make_it() {
    let whole = |status: &str| {
        changed(|it| {
            it["status"] = status.into();
            it["config"]["generation"]["models"] = json!(["large"]);
            it["config"]["generation"]["templates"] = json!(["chat"]);
            it["progress"]["generation"]["submitted_jobs"] = json!([]);
            it["progress"]["generation"]["results"].as_array_mut().unwrap().truncate(1);
            it["progress"]["analysis"]["main_task_ids"] = json!(["task_a"]);
        })
    };
    for (status, expected, told) in [
        ("completed", RunState::Succeeded, None),
        (
            "failed",
            RunState::Succeeded,
            Some("it was failed (failed); by its jobs it is succeeded"),
        ),
        ("cancelled", RunState::Cancelled, None),
        ("pending", RunState::Paused, None),
    ] {
        let world = World::new().await;
        let (state, jobs, differences) = world.imported(&whole(status)).await;
        assert_eq!((state, differences.first().map(String::as_str)), (expected, told), "{status}");
        assert!(jobs.contains(&"analysis/0:large:chat succeeded".to_owned()), "{jobs:?}");
        world.runtime.shutdown().await;
    }
    // It says that it was done, and was not.
    let world = World::new().await;
    let (state, _, told) = world.imported(&changed(|it| it["status"] = "completed".into())).await;
    assert_eq!(state, RunState::Paused);
    let expected = [
        "it was completed, and 2 of its jobs had not ended",
        "it was completed (succeeded); by its jobs it is paused",
    ];
    assert_eq!(told, expected);
    // Nothing of it was to be analysed.
    let bare = changed(|it| {
        it["pipeline_id"] = "pipeline_ba9876543210".into();
        it["config"]["analysis"]["enabled"] = false.into();
        it["progress"]["generation"]["results"] = json!([]);
    });
    let (state, jobs, _) = world.imported(&bare).await;
    assert_eq!((state, jobs.len()), (RunState::Paused, 4));
    world.runtime.shutdown().await;
}

/// All that is wrong with a record is told at once, each with where it is; nothing of it is recorded.
#[tokio::test]
async fn a_record_that_cannot_be_understood_is_told_of_whole() {
    let world = World::new().await;
    let record = changed(|it| {
        it["pipeline_id"] = "p/17".into();
        it["status"] = "lost".into();
        it["config"]["generation"]["models"] = json!(["large", 7]);
        it["progress"]["generation"]["results"][0].as_object_mut().unwrap().remove("app_number");
        it["progress"]["generation"]["results"][1].as_object_mut().unwrap().remove("success");
        it["progress"]["analysis"]["submitted_apps"] = json!(["large"]);
        it["tasks"][2]["status"] = "maybe".into();
        it["tasks"][3]["task_id"] = Value::Null;
    });
    let told = world.import(&record).await.unwrap_err().to_string();
    let places = [
        "pipeline_id: ",
        "status: ",
        "config.generation.models[1]: ",
        "progress.generation.results[0].app_number: ",
        "progress.generation.results[1].success: ",
        "progress.analysis.submitted_apps[0]: ",
        "tasks[2].status: ",
        "tasks[3].task_id: ",
    ];
    for place in places {
        assert!(told.lines().any(|line| line.starts_with(place)), "{place}:\n{told}");
    }
    assert_eq!(told.lines().count(), places.len(), "{told}");
    assert!(matches!(
        import(&world.platform, world.runtime.runs(), "{").await,
        Err(ImportError::Json(_))
    ));
    assert!(world.import(&json!({})).await.is_err());
    let nothing = changed(|it| it["config"] = json!({}));
    assert!(matches!(world.import(&nothing).await, Err(ImportError::Plan(_))));
    assert_eq!(world.runtime.runs().list(9).await.unwrap().len(), 0);
    world.runtime.shutdown().await;
}

#[derive(Debug)]
struct Twice;

impl Activity for Twice {
    const NAME: &'static str = "twice";
    type In = u64;
    type Out = u64;

    async fn run(&self, _: &AttemptCx, number: u64) -> Result<Ended<u64>, ActivityError> {
        Ok(Ended::Done(number * 2))
    }
}

#[derive(Debug)]
struct Doubled;

impl StagedWorkflow for Doubled {
    const NAME: &'static str = "doubled";
    const VERSION: u32 = 1;
    type Input = u64;
    type Output = ();

    fn plan(&self, jobs: &u64) -> Result<Plan, PlanProblems> {
        let jobs = (0..*jobs).map(|number| JobSpec::new(number.to_string(), &number));
        let none = Stage::activity::<Twice>("none").feed(Feed::jobs([]));
        Ok(Plan::new().stage(Stage::activity::<Twice>("twice").feed(Feed::jobs(jobs))).stage(none))
    }

    fn summarize(&self, _: &u64, _: &RunReport) {}
}

/// A history that does not fit its plan is told of whole, and nothing is recorded.
#[tokio::test(start_paused = true)]
async fn a_history_that_does_not_fit_is_told_of_whole() {
    let doubled = Staged::new(Doubled).activity(Twice);
    let runtime = Runtime::builder().store(Store::memory()).staged(&doubled).start().await.unwrap();
    let job = |stage: &str, key: &str| JobHistory::new(stage, JobSpec::new(key, &1_u64));
    let unwritable = std::collections::BTreeMap::from([((1, 2), 3)]);
    let history = History::new()
        .job(job("twice", "0").child("c", JobEnd::cancelled()))
        .job(job("twice", "1").ended(JobEnd::succeeded(&unwritable)))
        .job(job("twice", "1"))
        .job(job("twice", ""))
        .job(job("none", "0"))
        .job(job("thrice", "0"));
    let start = || StartRun { run: Some(RunId::parse("r").unwrap()), ..doubled.start(&3).unwrap() };
    let refused = runtime.runs().import(start(), &history).await.unwrap_err();
    let RunError::PlanRejected(problems) = &refused else { panic!("{refused:?}") };
    let told: Vec<String> = problems.0.iter().map(ToString::to_string).collect();
    let expected = [
        "what is told of job `0` of stage `twice` does not fit: it is no group, and has no children",
        "what is told of job `1` of stage `twice` does not fit: what it gave cannot be kept: key must be a string",
        "stage `twice` has two jobs `1`",
        "`` cannot name a stage or a job: 1 to 100 bytes, and no `/` in a stage's name",
        "what is told of job `0` of stage `none` does not fit: the stage is closed from the beginning",
        "what is told of job `0` of stage `thrice` does not fit: the plan has no such stage",
    ];
    assert_eq!(told, expected);
    assert!(runtime.runs().get(&RunId::parse("r").unwrap()).await.is_err());
    // One that fits goes on at once.
    let history = History::new().job(job("twice", "1").ended(JobEnd::succeeded(&7)));
    let imported = runtime.runs().import(start(), &history).await.unwrap();
    let outcome = imported.run.outcome().await.unwrap();
    let results: Vec<_> = outcome.view.jobs.iter().map(|job| job.result.clone().unwrap()).collect();
    assert_eq!(results, [0, 7, 4].map(Value::from));
    runtime.shutdown().await;
}
