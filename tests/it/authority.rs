//! Who may ask what of runs: each request is a right of its own (DUR-68).

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};

use perennial::{
    Adoption, ProviderMode, RunId, RunState, Runtime, StartPipeline, Store,
    engine::{
        Action, AttemptCx, Authority, Denied, EngineSettings, NotAuthorised, Priority, Runs,
        StartRun, staged::*, workflow::JobKey,
    },
    records::{EventRecord, Failure, FailureClass, RunError, RunHandle, RunSummary, RunView},
};

/// What a run of it makes: nothing ever, or a failure.
struct Works;

impl StagedWorkflow for Works {
    const NAME: &'static str = "works";
    const VERSION: u32 = 1;
    type Input = String;
    type Output = ();

    fn plan(&self, what: &String) -> Result<Plan, PlanProblems> {
        let job = JobSpec::new("1", what);
        Ok(Plan::new().stage(Stage::activity::<Work>("work").feed(Feed::jobs([job]))))
    }

    fn summarize(&self, _: &String, _: &RunReport) {}
}

struct Work;

impl Activity for Work {
    const NAME: &'static str = "work";
    type In = String;
    type Out = ();

    async fn run(&self, _: &AttemptCx, what: String) -> Result<Ended<()>, ActivityError> {
        match what.as_str() {
            "fail" => Err(Failure::new(FailureClass::Permanent, "APP1", "no").into()),
            _ => std::future::pending().await,
        }
    }
}

const DOCUMENT: &str = "workflow: {name: w, steps: [{name: b, type: echo, fail: true}]}";

struct World {
    runtime: Runtime,
    works: Staged<Works>,
    /// The one that is allowed.
    allowed: Arc<Mutex<Option<Action>>>,
}

/// Runs in the states in which each request would change something.
struct Given {
    runs: Runs,
    working: RunHandle,
    paused: RunHandle,
    queued: RunHandle,
    failed: RunHandle,
    /// Of a document.
    written: RunId,
}

impl World {
    async fn on(store: Store) -> Self {
        let allowed = Arc::new(Mutex::new(None));
        let (works, asked) = (Staged::new(Works).activity(Work), allowed.clone());
        let authority = Authority::new(move |it| {
            it.principal == "ada" && Some(it.action) == *asked.lock().unwrap()
        });
        let builder = Runtime::builder().store(store).staged(&works).authority(authority);
        let builder = builder.adoption(Adoption::OnRequest).drain_within(Duration::ZERO);
        Self { runtime: builder.start().await.unwrap(), works, allowed }
    }

    fn start(&self, what: &str) -> StartRun {
        self.works.start(&what.to_owned()).unwrap()
    }

    async fn working(&self) -> RunHandle {
        let run = self.runtime.runs().start(self.start("for ever")).await.unwrap();
        until(&run, "attempt_started").await;
        run
    }

    async fn given(&self) -> Given {
        let host = self.runtime.runs();
        let (working, paused) = (self.working().await, self.working().await);
        paused.pause().await.unwrap();
        let queued = host.submit(self.start("for ever")).await.unwrap();
        let failed = host.start(self.start("fail")).await.unwrap();
        failed.outcome().await.unwrap();
        let start = StartPipeline::document("w.yaml", DOCUMENT).mode(ProviderMode::Mock);
        let written = self.runtime.pipelines().start(start).await.unwrap();
        written.outcome().await.unwrap();
        let runs = host.on_behalf_of("ada");
        Given {
            working: runs.get(working.id()).await.unwrap(),
            paused: runs.get(paused.id()).await.unwrap(),
            queued: runs.get(queued.id()).await.unwrap(),
            failed: runs.get(failed.id()).await.unwrap(),
            written: written.id().clone(),
            runs,
        }
    }

    async fn list(&self) -> Vec<RunSummary> {
        self.runtime.runs().list(10_000).await.unwrap()
    }

    /// Everything that is recorded of runs.
    async fn rows(&self) -> Vec<RunView> {
        let mut rows = Vec::new();
        for summary in self.list().await {
            let run = self.runtime.runs().get(&summary.run).await.unwrap();
            rows.push(run.view().await.unwrap());
        }
        rows
    }

    /// Asks for it on behalf of ada.
    async fn ask(&self, given: &Given, action: Action) -> Result<(), RunError> {
        let Given { runs, working, paused, queued, failed, written } = given;
        match action {
            Action::Start => runs.start(self.start("fail")).await.map(drop),
            Action::Import => runs.import(self.start("fail"), &History::new()).await.map(drop),
            Action::Resume => runs.resume(queued.id()).await.map(drop),
            Action::Reopen => {
                let pipelines = self.runtime.pipelines().on_behalf_of("ada");
                match pipelines.resume(written).await.map(drop) {
                    Ok(()) => Ok(()),
                    Err(perennial::ResumePipelineError::Run(error)) => Err(error),
                    Err(error) => panic!("{error}"),
                }
            }
            Action::Retry => failed.retry(&Which::Failed, false).await.map(drop),
            Action::Pause => working.pause().await.map(drop),
            Action::Unpause => paused.unpause().await.map(drop),
            Action::Cancel => working.cancel().await.map(drop),
            Action::Skip => working.skip(&JobKey::new("work/1"), "not needed").await.map(drop),
            Action::SetConcurrency => {
                working.set_concurrency("work", NonZeroU32::new(3).unwrap()).await.map(drop)
            }
            Action::SetPriority => working.set_priority(Priority::HIGH).await.map(drop),
            Action::Signal => working.signal("go", &1).await.map(drop),
            Action::Answer => working.answer("agree?", &true).await.map(drop),
            Action::Remove => runs.remove(failed.id()).await.map(drop),
            _ => panic!("{action} is not tried"),
        }
    }
}

async fn until(run: &RunHandle, kind: &str) -> EventRecord {
    let mut events = run.events(1);
    let found = async {
        loop {
            let event = events.next().await.unwrap();
            if event.kind == kind {
                return event;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), found).await.unwrap()
}

/// Nothing but the one request that is allowed does anything.
async fn each_right_allows_one_request(store: Store) {
    let world = World::on(store).await;
    for allowed in Action::ALL {
        *world.allowed.lock().unwrap() = Some(allowed);
        let given = world.given().await;
        let (before, list) = (world.rows().await, world.list().await);
        for action in Action::ALL.into_iter().filter(|action| *action != allowed) {
            let refused = world.ask(&given, action).await;
            let Err(RunError::NotAuthorised(NotAuthorised { principal, action: of, why, .. })) =
                refused
            else {
                panic!("{action} although only {allowed} is allowed: {refused:?}");
            };
            assert_eq!((principal.as_str(), of, why), ("ada", action, Denied::Refused));
            assert_eq!(world.list().await, list, "{action}");
        }
        assert_eq!(world.rows().await, before, "one that is not {allowed} was done");
        world.ask(&given, allowed).await.unwrap_or_else(|error| panic!("{allowed}: {error}"));
        assert_ne!(world.rows().await, before, "{allowed} does nothing");
        for run in world.runtime.runs().unfinished().await.unwrap() {
            world.runtime.runs().get(&run.run).await.unwrap().cancel().await.unwrap();
        }
    }
    world.runtime.shutdown().await;
}

/// Proves D8.
#[tokio::test]
async fn each_right_allows_one_request_and_nothing_else_on_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::sqlite(folder.path().join("runs.db"));
    Box::pin(each_right_allows_one_request(store)).await;
}

/// Proves D8.
#[cfg(feature = "postgres")]
#[tokio::test]
async fn each_right_allows_one_request_and_nothing_else_on_a_server() {
    let Some(cluster) = perennial_testkit::postgres::cluster() else { return };
    let database = cluster.database("authority").unwrap();
    let store = Store::postgres(&database.url()).unwrap();
    Box::pin(each_right_allows_one_request(store)).await;
}

/// Proves D8.
#[tokio::test]
async fn who_asked_is_recorded_with_what_was_done() {
    let world = World::on(Store::memory()).await;
    for (action, name) in [
        (Action::Pause, "pause"),
        (Action::Unpause, "unpause"),
        (Action::Cancel, "cancel"),
        (Action::Skip, "skip"),
        (Action::SetConcurrency, "set_concurrency"),
        (Action::SetPriority, "set_priority"),
    ] {
        *world.allowed.lock().unwrap() = Some(action);
        let given = world.given().await;
        world.ask(&given, action).await.unwrap();
        let run = if action == Action::Unpause { &given.paused } else { &given.working };
        let told = until(run, "requested").await;
        assert_eq!((&told.data["request"], &told.data["by"]), (&name.into(), &"ada".into()));
        if action == Action::Skip {
            assert_eq!(told.job, Some(JobKey::new("work/1")));
            assert_eq!(told.data["why"], "not needed");
        }
    }
    // Of a run that nobody works on.
    *world.allowed.lock().unwrap() = Some(Action::Pause);
    let given = world.given().await;
    assert!(given.queued.pause().await.unwrap());
    assert_eq!(until(&given.queued, "requested").await.data["by"], "ada");
    assert_eq!(given.queued.view().await.unwrap().run.state, RunState::Paused);
    // What is sent says it itself, and nobody can say it is another's.
    *world.allowed.lock().unwrap() = Some(Action::Signal);
    let sent = perennial::engine::Sent::signal("go", &1).unwrap().by("bob");
    given.working.send(sent).await.unwrap();
    assert_eq!(given.working.view().await.unwrap().signals[0].by, "ada");
    let whole = world.runtime.upkeep().verify(None).rest().await.unwrap();
    assert!(whole.is_empty(), "{whole:?}");
    world.runtime.shutdown().await;
}

/// A runtime with one run that is under way.
async fn with(authority: Option<Authority>, settings: EngineSettings) -> (Runtime, RunHandle) {
    let works = Staged::new(Works).activity(Work);
    let builder = Runtime::builder().store(Store::memory()).staged(&works).engine(settings);
    let builder = builder.drain_within(Duration::ZERO);
    let builder = match authority {
        Some(authority) => builder.authority(authority),
        None => builder,
    };
    let runtime = builder.start().await.unwrap();
    let start = works.start(&"for ever".to_owned()).unwrap();
    let run = runtime.runs().start(start).await.unwrap();
    until(&run, "attempt_started").await;
    (runtime, run)
}

fn refused(answer: Result<bool, RunError>) -> NotAuthorised {
    match answer {
        Err(RunError::NotAuthorised(refused)) => refused,
        other => panic!("{other:?}"),
    }
}

/// Proves D8.
#[tokio::test]
async fn without_an_authority_only_the_host_itself_may_ask() {
    let (runtime, run) = with(None, EngineSettings::default()).await;
    let ada = runtime.runs().on_behalf_of("ada").get(run.id()).await.unwrap();
    let refused = refused(ada.cancel().await);
    assert_eq!(refused.why, Denied::NoAuthority);
    assert!(refused.to_string().contains("`Builder::authority`"), "{refused}");
    assert!(run.cancel().await.unwrap());
    runtime.shutdown().await;
}

/// Proves D8.
#[tokio::test]
async fn a_handle_that_was_given_away_never_becomes_wider() {
    let authority =
        Authority::new(|asked| asked.principal == "ada" || asked.action == Action::Pause);
    let (runtime, run) = with(Some(authority), EngineSettings::default()).await;
    let bob = runtime.runs().on_behalf_of("bob");
    let as_ada = bob.on_behalf_of("ada").get(run.id()).await.unwrap();
    assert_eq!(refused(as_ada.cancel().await).principal, "bob");
    assert!(as_ada.pause().await.unwrap());
    assert_eq!(until(&run, "requested").await.data["by"], "bob for ada");
    run.cancel().await.unwrap();
    runtime.shutdown().await;
}

/// Proves D8, INV-32.
#[tokio::test]
async fn an_authority_that_panics_has_said_no() {
    let authority = Authority::new(|asked| panic!("{} is odd", asked.principal));
    let (runtime, run) = with(Some(authority), EngineSettings::default()).await;
    let ada = runtime.runs().on_behalf_of("ada").get(run.id()).await.unwrap();
    let before = run.view().await.unwrap();
    let refused = refused(ada.cancel().await);
    assert!(matches!(refused.why, Denied::Failed(_)), "{refused}");
    assert!(refused.to_string().contains("ada is odd"), "{refused}");
    assert_eq!(run.view().await.unwrap(), before);
    run.cancel().await.unwrap();
    runtime.shutdown().await;
}

/// Proves D8, INV-33.
#[tokio::test(start_paused = true)]
async fn an_authority_that_takes_too_long_has_said_no_and_how_long_that_is_is_a_setting() {
    for (seconds, may) in [(1, false), (5, true)] {
        let authority = Authority::asking(|_| async {
            // On the paused clock: a server that takes its time.
            tokio::time::sleep(Duration::from_secs(3)).await;
            true
        });
        let authority_within = Duration::from_secs(seconds);
        let settings = EngineSettings { authority_within, ..EngineSettings::default() };
        let (runtime, run) = with(Some(authority), settings).await;
        let ada = runtime.runs().on_behalf_of("ada").get(run.id()).await.unwrap();
        let answer = ada.pause().await;
        if may {
            assert!(answer.unwrap());
        } else {
            assert_eq!(refused(answer).why, Denied::Late(authority_within));
        }
        run.cancel().await.unwrap();
        runtime.shutdown().await;
    }
}
