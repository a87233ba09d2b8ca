//! Workflows of the host's own that a runtime builds again: those of a process that is gone, and of none it knows.

use std::{
    path::Path,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use perennial::{
    Adoption, Builder, ProviderMode, RunId, Runtime, RuntimeError, StartPipeline, Store,
    WorkflowFault,
    engine::{
        AttemptCx, Definition, DoneJob, FailureMeans, JobPlan, Next, NotRunnable, Outcome,
        StartRun, Workflow,
        workflow::{BoxFuture, JobKey, RetryPolicy},
    },
    records::{Failure, RunError, RunRecord},
};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::gate::SOON;

/// Whether the work may end, and how often it began.
#[derive(Clone, Debug)]
struct Door {
    open: watch::Sender<bool>,
    begun: watch::Sender<usize>,
}

impl Door {
    fn new(open: bool) -> Self {
        Self { open: watch::Sender::new(open), begun: watch::Sender::new(0) }
    }

    async fn begun(&self, count: usize) {
        let mut begun = self.begun.subscribe();
        let begun = tokio::time::timeout(SOON, begun.wait_for(|begun| *begun >= count)).await;
        begun.expect("it begins").unwrap();
    }
}

/// Two jobs, one after the other.
#[derive(Debug)]
struct Two {
    name: String,
    definition: Definition,
    door: Door,
}

impl Two {
    fn new(name: &str, definition: impl Into<Vec<u8>>, door: &Door) -> Arc<Self> {
        let definition = Definition::new(definition.into());
        Arc::new(Self { name: name.to_owned(), definition, door: door.clone() })
    }
}

impl Workflow for Two {
    fn name(&self) -> &str {
        &self.name
    }

    fn definition(&self) -> &Definition {
        &self.definition
    }

    fn next(&self, done: &[DoneJob]) -> Next {
        if done.len() == 2 {
            return Next::Seal;
        }
        let key = JobKey::new(format!("job-{}", done.len()));
        Next::Jobs(vec![JobPlan::new(key, RetryPolicy::ONCE, Duration::from_secs(600))])
    }

    fn on_failure(&self, _: &JobKey, failure: &Failure, _: u32, _: &[DoneJob]) -> FailureMeans {
        FailureMeans::FailRun { record: json!(failure.message) }
    }

    fn execute(self: Arc<Self>, _: AttemptCx) -> BoxFuture<'static, Outcome> {
        Box::pin(async move {
            self.door.begun.send_modify(|begun| *begun += 1);
            let mut open = self.door.open.subscribe();
            open.wait_for(|open| *open).await.unwrap();
            Outcome::Succeeded(Value::Null)
        })
    }
}

fn on(path: &Path) -> Builder {
    Runtime::builder().store(Store::sqlite(path)).drain_within(Duration::ZERO)
}

/// How `two` is built again.
fn rebuilds(
    door: &Door,
) -> impl Fn(&RunRecord, Vec<u8>) -> Result<Arc<dyn Workflow>, NotRunnable> + use<> {
    let door = door.clone();
    move |_, definition| Ok(Two::new("two", definition, &door))
}

/// A store with the run `r`, whose first job had begun when its process went.
async fn left(path: &Path, definition: &str, settings: Value) -> RunId {
    let (runtime, door) = (on(path).start().await.unwrap(), Door::new(false));
    let workflow = Two::new("two", definition, &door);
    let run = Some(RunId::parse("r").unwrap());
    let start = StartRun { run, workflow, settings, within: None, priority: Default::default() };
    let run = runtime.runs().start(start).await.unwrap();
    door.begun(1).await;
    let id = run.id().clone();
    drop(run);
    runtime.shutdown().await;
    id
}

async fn ends(runtime: &Runtime, id: &RunId) {
    let run = runtime.runs().get(id).await.unwrap();
    let outcome = tokio::time::timeout(SOON, run.outcome()).await.unwrap().unwrap();
    assert_eq!(outcome.state.name(), "succeeded");
    assert_eq!(outcome.view.jobs.len(), 2);
}

/// At the start, when it is asked for by either handle, and by what it has of the run.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_the_hosts_own_goes_on_where_its_workflow_is_known() {
    for way in ["at boot", "runs", "pipelines"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.db");
        let id = left(&path, "two 1", json!({"who": "Ada"})).await;
        let (door, seen) = (Door::new(true), Arc::new(Mutex::new(Vec::new())));
        let (rebuild, saw) = (rebuilds(&door), seen.clone());
        let adoption = if way == "at boot" { Adoption::AtBoot } else { Adoption::OnRequest };
        let runtime = on(&path).adoption(adoption).workflow("two", move |run, definition| {
            // It finds the executor, which it may ask and wait for.
            tokio::runtime::Handle::current().block_on(tokio::task::yield_now());
            saw.lock().unwrap().push((run.settings.clone(), definition.clone()));
            rebuild(run, definition)
        });
        let runtime = runtime.start().await.unwrap();
        match way {
            "runs" => drop(runtime.runs().resume(&id).await.unwrap()),
            "pipelines" => drop(runtime.pipelines().resume(&id).await.unwrap()),
            _ => (),
        }
        ends(&runtime, &id).await;
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        assert_eq!(seen, [(json!({"who": "Ada"}), b"two 1".to_vec())], "{way}: once");
        let nodes = runtime.tree().nodes;
        let rebuilds = nodes.iter().find(|node| node.path == "/perennial/rebuilds").unwrap();
        assert_eq!(rebuilds.detail, json!({"workflows": ["two"], "hanging": 0}));
        runtime.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_this_build_does_not_know_is_left_as_it_is_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.db");
    let id = left(&path, "two 1", json!({})).await;
    let asked = on(&path).adoption(Adoption::OnRequest).start().await.unwrap();
    let before = asked.runs().get(&id).await.unwrap().view().await.unwrap();
    let refused = asked.runs().resume(&id).await.unwrap_err();
    let RunError::NotRunnable(why) = &refused else { panic!("{refused:?}") };
    assert_eq!(why.failure.code, "PL903");
    let how = "with `Builder::staged` or `Builder::workflow`";
    for word in ["does not know its workflow `two`", how, "left as it is"] {
        assert!(why.failure.message.contains(word), "{why}");
    }
    let refused = asked.pipelines().resume(&id).await.unwrap_err();
    assert!(refused.to_string().contains("does not know its workflow `two`"), "{refused}");
    let after = asked.runs().get(&id).await.unwrap().view().await.unwrap();
    assert_eq!(after, before, "not even its owner is another one");
    asked.shutdown().await;

    // A runtime that adopts goes on with everything else.
    let stays = on(&path).start().await.unwrap();
    let waits = stays.runs().get(&id).await.unwrap();
    let parked = tokio::time::timeout(SOON, waits.outcome()).await.unwrap().unwrap_err();
    let RunError::Parked { why, .. } = &parked else { panic!("{parked:?}") };
    assert!(why.contains("does not know its workflow `two`"), "{why}");
    let text = "workflow: {name: w, steps: [{name: a, type: echo, value: 1}]}";
    let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    let other = stays.pipelines().start(start).await.unwrap();
    assert_eq!(other.outcome().await.unwrap().status(), "completed");
    drop((waits, other));
    stays.shutdown().await;

    let knows = on(&path).workflow("two", rebuilds(&Door::new(true))).start().await.unwrap();
    ends(&knows, &id).await;
    knows.shutdown().await;
}

/// Whatever the host's code makes of it but the workflow that the run was accepted with.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_the_workflow_of_the_run_is_refused_for_this_run_alone() {
    type Rebuilt = Result<Arc<dyn Workflow>, NotRunnable>;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.db");
    let id = left(&path, "two 1", json!({})).await;
    let door = Door::new(true);
    let (other_name, other_definition) = (door.clone(), door.clone());
    type Rebuild = Box<dyn Fn(&RunRecord, Vec<u8>) -> Rebuilt + Send + Sync>;
    let cases: Vec<(Rebuild, &str)> = vec![
        (Box::new(|_: &RunRecord, _| -> Rebuilt { panic!("no paper") }), "panicked: no paper"),
        (Box::new(|run: &RunRecord, _| Err(NotRunnable::new(run, "no ink"))), "no ink"),
        (
            Box::new(move |_: &RunRecord, bytes| -> Rebuilt {
                Ok(Two::new("three", bytes, &other_name))
            }),
            "`two` calls itself `three`",
        ),
        (
            Box::new(move |_: &RunRecord, _| -> Rebuilt {
                Ok(Two::new("two", "two 2", &other_definition))
            }),
            "with another definition than the run was accepted with",
        ),
    ];
    for (rebuild, why) in cases {
        let runtime = on(&path).adoption(Adoption::OnRequest).workflow("two", rebuild);
        let runtime = runtime.start().await.unwrap();
        let refused = runtime.runs().resume(&id).await.unwrap_err();
        assert!(matches!(refused, RunError::NotRunnable(_)), "{refused:?}");
        assert!(refused.to_string().contains(why), "{refused}");
        let new = Two::new("two", "two 1", &door);
        let start = StartRun {
            run: None,
            workflow: new,
            settings: json!({}),
            within: None,
            priority: Default::default(),
        };
        let new = runtime.runs().start(start).await.unwrap();
        ends(&runtime, new.id()).await;
        drop(new);
        runtime.shutdown().await;
    }
    let runtime = on(&path).workflow("two", rebuilds(&door)).start().await.unwrap();
    ends(&runtime, &id).await;
    runtime.shutdown().await;
}

/// Each is waited for as long as for any definition, a few of a workflow; then nobody waits for it any more.
#[tokio::test(start_paused = true)]
async fn a_workflow_whose_building_hangs_holds_up_nobody_for_long() {
    let (gone, hangs) = mpsc::channel::<()>();
    let hangs = Mutex::new(hangs);
    let builder = Runtime::builder().store(Store::memory()).workflow("two", move |run, _| {
        // Until the test has seen enough.
        assert!(hangs.lock().unwrap().recv().is_err());
        Err(NotRunnable::new(run, "too late"))
    });
    let (runtime, door) = (builder.start().await.unwrap(), Door::new(true));
    let mut whys = Vec::new();
    for number in 0..6 {
        let run = Some(RunId::parse(format!("r{number}")).unwrap());
        let workflow = Two::new("two", "two 1", &door);
        let start = StartRun {
            run,
            workflow,
            settings: json!({}),
            within: None,
            priority: Default::default(),
        };
        let run = runtime.runs().submit(start).await.unwrap();
        // Paused clock.
        let left = tokio::time::timeout(Duration::from_secs(120), run.outcome()).await.unwrap();
        whys.push(left.unwrap_err().to_string());
    }
    assert!(whys[..4].iter().all(|why| why.contains("was not read within 10 s")), "{whys:?}");
    assert!(whys[4..].iter().all(|why| why.contains("hangs for 4 runs already")), "{whys:?}");
    let text = "workflow: {name: w, steps: [{name: a, type: echo, value: 1}]}";
    let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    let other = runtime.pipelines().start(start).await.unwrap();
    assert_eq!(other.outcome().await.unwrap().status(), "completed");
    let nodes = runtime.tree().nodes;
    let hanging = nodes.iter().filter(|node| node.path.starts_with("/perennial/rebuilds/"));
    assert_eq!(hanging.count(), 4, "they are seen");
    drop((gone, other));
    runtime.shutdown().await;
}

/// A document may have the name of the host's own workflow, and the host's own settings may look like a document's.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_not_taken_for_what_only_has_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.db");
    let id = left(&path, "{\"language\": \"none\"}", json!({"provider_mode": "mock"})).await;
    let first = on(&path).adoption(Adoption::OnRequest).start().await.unwrap();
    let text = "workflow: {name: two, steps: [{name: a, type: echo, value: 1}]}";
    let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    let document = first.pipelines().submit(start).await.unwrap();
    let of_document = document.id().clone();
    drop(document);
    first.shutdown().await;

    let runtime = on(&path).workflow("two", rebuilds(&Door::new(true))).start().await.unwrap();
    ends(&runtime, &id).await;
    let run = runtime.pipelines().get(&of_document).await.unwrap();
    let outcome = tokio::time::timeout(SOON, run.outcome()).await.unwrap().unwrap();
    assert_eq!(outcome.result("a"), Some(&json!(1)), "it is the document's own step");
    drop(run);
    runtime.shutdown().await;
}

#[tokio::test]
async fn all_names_that_cannot_be_are_told_at_the_start() {
    let text = "workflow: {name: inner, steps: [{name: a, type: echo, value: 1}]}";
    fn never(run: &RunRecord, _: Vec<u8>) -> Result<Arc<dyn Workflow>, NotRunnable> {
        Err(NotRunnable::new(run, "never"))
    }
    let names = ["outer", "", "two", "inner", "two", "fine"];
    let builder = Runtime::builder().store(Store::memory()).pipeline("outer", text);
    let builder = names.iter().fold(builder, |builder, name| builder.workflow(*name, never));
    let Err(RuntimeError::Workflows(invalid)) = builder.start().await else {
        panic!("these cannot be")
    };
    let of_pipeline = |name: &str| WorkflowFault::OfPipeline { name: name.to_owned() };
    let twice = WorkflowFault::Repeated { name: "two".to_owned(), times: 2 };
    let faults = [WorkflowFault::Empty, of_pipeline("inner"), of_pipeline("outer"), twice];
    assert_eq!(invalid.faults, faults);
    assert!(invalid.to_string().contains("`two` is registered 2 times"), "{invalid}");
}
