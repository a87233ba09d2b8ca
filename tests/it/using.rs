//! Jobs that declare services: when these are started and stopped for them, and what becomes of the jobs while a service
//! is away, in every way in which one can be.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use perennial::supervision::Clock;
use perennial::{
    RunId, Runtime, Store,
    engine::{
        AttemptCx, Explanation, Priority, RunOutcome, Unavailable,
        staged::{
            Activity, ActivityError, Child, ChildOutcome, Ended, Feed, Group, JobSpec, Joined,
            Plan, PlanProblem, PlanProblems, RunReport, Stage, Staged, StagedWorkflow,
        },
        workflow::{JobKey, JobState, RetryPolicy, SkipReason},
    },
    records::{Failure, FailureClass, RunError, RunHandle},
    service::{
        BreakerConfig, DriverFuture, Epoch, Instance, Limit, OnUnavailable, Probe, ProbeResult,
        Scope, ServiceDriver, ServiceKey, ServiceSpec, StartError, StopError, StopMode, Then,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// What a driver does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Does {
    #[default]
    Well,
    /// Each start fails.
    Down,
    /// It ends a second after each start.
    Flaps,
    /// A start never answers.
    Hangs,
    /// A probe never answers.
    ProbeHangs,
    /// It refuses every probe of a long start, and then serves.
    Boots,
    /// It can never be started.
    Broken,
}

/// A service that the test breaks. Cheap to clone.
#[derive(Clone, Debug, Default)]
struct Fake {
    does: Arc<Mutex<Does>>,
    starts: Arc<AtomicU32>,
    stops: Arc<AtomicU32>,
    /// Probes of its readiness that it refused.
    refused: Arc<AtomicU32>,
}

/// So many probes a start refuses that takes 170 s, with one every 2 s.
const BOOT_PROBES: u32 = 85;

impl Fake {
    fn that(does: Does) -> Self {
        let fake = Self::default();
        fake.now(does);
        fake
    }

    fn now(&self, does: Does) {
        *self.does.lock().unwrap() = does;
    }

    fn done(&self) -> (u32, u32) {
        (self.starts.load(Ordering::SeqCst), self.stops.load(Ordering::SeqCst))
    }

    /// Called `name`, of which it is waited for a minute.
    fn spec(&self, name: &str) -> ServiceSpec {
        let spec = ServiceSpec::new(name, self.clone()).idle_stop(secs(5));
        spec.ready_within(secs(20)).on_unavailable(OnUnavailable::defer(secs(60)))
    }

    /// Waits until it was started and stopped so often.
    async fn until(&self, done: (u32, u32)) {
        let waited = async {
            while self.done() != done {
                sleep(Duration::from_millis(20)).await; // paused clock
            }
        };
        let late = |_| panic!("{:?}, and not {done:?}", self.done());
        timeout(secs(600), waited).await.unwrap_or_else(late);
    }
}

impl ServiceDriver for Fake {
    fn start<'a>(
        &'a self,
        key: &'a ServiceKey,
        epoch: Epoch,
    ) -> DriverFuture<'a, Result<Instance, StartError>> {
        Box::pin(async move {
            self.starts.fetch_add(1, Ordering::SeqCst);
            let instance = Instance::at(format!("{key}/{epoch}"));
            let does = *self.does.lock().unwrap();
            match does {
                Does::Well | Does::ProbeHangs | Does::Boots => Ok(instance),
                Does::Down => Err(StartError::Retryable("the port is taken".into())),
                Does::Flaps => Ok(instance.kept_by(async {
                    sleep(secs(1)).await; // paused clock
                    "it ended".into()
                })),
                Does::Hangs => std::future::pending().await,
                Does::Broken => Err(StartError::Permanent("it does not build".into())),
            }
        })
    }

    fn stop<'a>(&'a self, _: &'a Instance, _: StopMode) -> DriverFuture<'a, Result<(), StopError>> {
        self.stops.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Ok(()) })
    }

    fn probe<'a>(&'a self, _: &'a Instance, probe: Probe) -> DriverFuture<'a, ProbeResult> {
        let does = *self.does.lock().unwrap();
        Box::pin(async move {
            match does {
                Does::Boots if self.refused.load(Ordering::SeqCst) < BOOT_PROBES => {
                    let counts = u32::from(probe == Probe::Readiness);
                    self.refused.fetch_add(counts, Ordering::SeqCst);
                    ProbeResult::Fail("it takes no connection".into())
                }
                Does::ProbeHangs => std::future::pending().await,
                Does::Flaps => ProbeResult::Fail("it is not ready yet".into()),
                Does::Well | Does::Boots | Does::Down | Does::Hangs | Does::Broken => {
                    ProbeResult::Pass
                }
            }
        })
    }
}

/// One call: a service may be declared for it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Call {
    name: String,
    /// It asks for a permit for each call.
    permit: bool,
    /// Name and key.
    service: Option<(String, Option<String>)>,
}

impl Call {
    fn of(name: &str, service: &str) -> Self {
        Self { name: name.to_owned(), permit: false, service: Some((service.to_owned(), None)) }
    }

    fn of_key(name: &str, service: &str, key: &str) -> Self {
        let service = Some((service.to_owned(), Some(key.to_owned())));
        Self { name: name.to_owned(), permit: false, service }
    }

    fn with_permit(name: &str) -> Self {
        Self { permit: true, ..Self::of(name, "app") }
    }

    fn free(name: &str) -> Self {
        Self { name: name.to_owned(), permit: false, service: None }
    }

    fn service(&self) -> Option<ServiceKey> {
        let (service, key) = self.service.clone()?;
        Some(match key {
            Some(key) => ServiceKey::keyed(service, key),
            None => ServiceKey::shared(service),
        })
    }
}

/// What a run does: each call as a job, or all of them as the children of one group.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Calls {
    calls: Vec<Call>,
    as_group: bool,
}

/// Attempts, by their names; those whose name begins with `long` stay until the gate opens.
#[derive(Clone, Debug)]
struct Made {
    calls: Arc<Mutex<BTreeMap<String, u32>>>,
    gate: watch::Receiver<bool>,
    /// Attempts hold nothing themselves.
    is_per_run: bool,
    calls_fail: Arc<AtomicBool>,
    /// Permits that calls had.
    permitted: Arc<AtomicU32>,
}

impl Activity for Made {
    const NAME: &'static str = "call";
    type In = Call;
    type Out = String;

    async fn run(&self, cx: &AttemptCx, call: Call) -> Result<Ended<String>, ActivityError> {
        *self.calls.lock().unwrap().entry(call.name.clone()).or_default() += 1;
        let mut told = String::new();
        if let Some(service) = call.service().filter(|_| !self.is_per_run) {
            // It is held for the job, so that it is there.
            let held = cx.hold(&service).await?;
            told = held.endpoint().unwrap_or_default().to_owned();
        }
        if call.permit {
            let permit = cx.permit(&ServiceKey::shared("app")).await?;
            self.permitted.fetch_add(1, Ordering::SeqCst);
            assert_eq!(permit.endpoint(), Some(told.as_str()));
            if call.name.starts_with("long") {
                std::future::pending::<()>().await;
            }
            if self.calls_fail.load(Ordering::SeqCst) {
                let class = if call.name.starts_with("bad") {
                    FailureClass::Permanent
                } else {
                    FailureClass::Transient
                };
                permit.settle(Some(&Failure::new(class, "APP2", "no answer")));
                return Err(Unavailable::new("service app: it gave no answer").into());
            }
            permit.settle(None);
        }
        if call.name.starts_with("long") {
            self.gate.clone().wait_for(|open| *open).await.unwrap();
        }
        if call.name.starts_with("wrong") {
            return Err(Failure::new(FailureClass::Permanent, "APP1", "it is wrong").into());
        }
        Ok(Ended::Done(told))
    }
}

#[derive(Debug)]
struct All;

impl Group for All {
    const NAME: &'static str = "all";
    type In = Vec<Call>;
    type Out = u32;

    fn expand(&self, calls: &Vec<Call>) -> Vec<Child> {
        let child = |call: &Call| {
            let child = Child::activity::<Made>(&call.name, call).retry(RetryPolicy::ONCE);
            match call.service() {
                Some(service) => child.uses(service),
                None => child,
            }
        };
        calls.iter().map(child).collect()
    }

    fn join(&self, _: &Vec<Call>, children: &[ChildOutcome]) -> Joined<u32> {
        Joined::by_ends(children, 0)
    }
}

#[derive(Debug)]
struct Calling;

impl StagedWorkflow for Calling {
    const NAME: &'static str = "calling";
    const VERSION: u32 = 1;
    type Input = Calls;
    type Output = ();

    fn plan(&self, input: &Calls) -> Result<Plan, PlanProblems> {
        if input.as_group {
            let jobs = [JobSpec::new("g", &input.calls)];
            return Ok(Plan::new().stage(Stage::group::<All>("calls").feed(Feed::jobs(jobs))));
        }
        let job = |call: &Call| {
            let job = JobSpec::new(&call.name, call);
            let job = if call.name == "urgent" { job.priority(Priority::URGENT) } else { job };
            match call.service() {
                Some(service) => job.uses(service),
                None => job,
            }
        };
        let jobs: Vec<JobSpec> = input.calls.iter().map(job).collect();
        let stage = Stage::activity::<Made>("calls").concurrency(2);
        Ok(Plan::new().stage(stage.feed(Feed::jobs(jobs))))
    }

    fn summarize(&self, _: &Calls, _: &RunReport) {}
}

struct World {
    runtime: Runtime,
    calling: Staged<Calling>,
    calls: Arc<Mutex<BTreeMap<String, u32>>>,
    calls_fail: Arc<AtomicBool>,
    permitted: Arc<AtomicU32>,
    gate: watch::Sender<bool>,
}

impl World {
    async fn on(store: Store, services: Vec<ServiceSpec>) -> Self {
        Self::of(store, services, false).await
    }

    async fn of(store: Store, services: Vec<ServiceSpec>, is_per_run: bool) -> Self {
        let (gate, opened) = watch::channel(false);
        let calls = Arc::<Mutex<BTreeMap<String, u32>>>::default();
        let (calls_fail, permitted) = (Arc::<AtomicBool>::default(), Arc::<AtomicU32>::default());
        let made = Made {
            calls: calls.clone(),
            gate: opened,
            is_per_run,
            calls_fail: calls_fail.clone(),
            permitted: permitted.clone(),
        };
        let calling = Staged::new(Calling).activity(made).group(All);
        let builder = Runtime::builder().store(store).staged(&calling).drain_within(Duration::ZERO);
        let builder = services.into_iter().fold(builder, |builder, spec| builder.service(spec));
        let runtime = builder.start().await.unwrap();
        Self { runtime, calling, calls, calls_fail, permitted, gate }
    }

    async fn with(services: Vec<ServiceSpec>) -> Self {
        Self::on(Store::memory(), services).await
    }

    async fn try_start(
        &self,
        run: &str,
        calls: &[Call],
        as_group: bool,
    ) -> Result<RunHandle, RunError> {
        let input = Calls { calls: calls.to_vec(), as_group };
        let mut start = self.calling.start(&input).unwrap();
        start.run = Some(RunId::parse(run).unwrap());
        self.runtime.runs().start(start).await
    }

    async fn start(&self, run: &str, calls: &[Call]) -> RunHandle {
        self.try_start(run, calls, false).await.unwrap()
    }

    async fn group(&self, run: &str, calls: &[Call]) -> RunHandle {
        self.try_start(run, calls, true).await.unwrap()
    }

    fn made(&self, name: &str) -> u32 {
        self.calls.lock().unwrap().get(name).copied().unwrap_or(0)
    }
}

async fn outcome(run: &RunHandle) -> RunOutcome {
    timeout(secs(3_600), run.outcome()).await.expect("it does not end").unwrap()
}

/// State, reason and attempts of each job but groups.
fn ends(outcome: &RunOutcome) -> Vec<(String, JobState, Option<SkipReason>, u32)> {
    let jobs = outcome.view.jobs.iter().filter(|job| job.key.as_str() != "calls/g");
    let name = |key: &JobKey| key.as_str().rsplit('/').next().unwrap().to_owned();
    jobs.map(|job| (name(&job.key), job.state, job.skipped, job.attempts_used)).collect()
}

/// Waits until a job is what it is to be.
async fn until(run: &RunHandle, key: &str, is: impl Fn(&Explanation) -> bool) -> Explanation {
    let mut last = None;
    let waited = async {
        loop {
            let explained = run.explain(&JobKey::new(key)).await.unwrap();
            if is(&explained) {
                return explained;
            }
            last = Some(explained);
            sleep(Duration::from_millis(100)).await; // paused clock, or real time
        }
    };
    match timeout(secs(600), waited).await {
        Ok(explained) => explained,
        Err(_) => panic!("{key} is {last:?}"),
    }
}

async fn waits(run: &RunHandle, key: &str) -> String {
    let waits = |it: &Explanation| matches!(it, Explanation::Unavailable { .. });
    let explained = until(run, key, waits).await;
    let Explanation::Unavailable { what, .. } = explained else { panic!("{explained:?}") };
    what
}

/// Proves FL5.
/// DUR-80, INV-24: one instance for all jobs of a run, started for the first while it waits, and stopped after the last.
#[tokio::test(start_paused = true)]
async fn a_service_is_started_for_the_jobs_that_declare_it_and_stopped_after_the_last() {
    let fake = Fake::default();
    let world = World::with(vec![fake.spec("app")]).await;
    let calls = [Call::of("a", "app"), Call::of("b", "app"), Call::of("c", "app")];
    let run = world.start("r", &calls).await;
    let outcome = outcome(&run).await;
    assert_eq!(outcome.state.name(), "succeeded");
    for job in &outcome.view.jobs {
        // It waited without an attempt.
        assert_eq!((job.attempt, job.attempts_used), (1, 1), "{}", job.key);
        assert_eq!(job.result, Some("app/1".into()));
    }
    assert_eq!(fake.done(), (1, 0));
    fake.until((1, 1)).await;
    world.runtime.shutdown().await;
}

/// Proves FL7, FL9.
/// INV-24: however a job ends, its hold ends in the same transaction, and the service is stopped.
#[tokio::test(start_paused = true)]
async fn every_end_of_a_job_gives_its_service_back() {
    let fake = Fake::default();
    let world = World::of(Store::memory(), vec![fake.spec("app").scope(Scope::PerRun)], true).await;
    for (count, run) in (1..).zip(["failed", "cancelled", "skipped"]) {
        let name = if run == "failed" { "wrong" } else { "long" };
        let handle = world.start(run, &[Call::of(name, "app")]).await;
        let job = JobKey::new(format!("calls/{name}"));
        match run {
            "cancelled" => {
                until(&handle, job.as_str(), |it| matches!(it, Explanation::Leased { .. })).await;
                assert_eq!(fake.done(), (count, count - 1), "it is held");
                assert!(handle.cancel().await.unwrap());
            }
            "skipped" => {
                until(&handle, job.as_str(), |it| matches!(it, Explanation::Leased { .. })).await;
                handle.skip(&job, "it is not wanted").await.unwrap();
            }
            _ => {}
        }
        let outcome = outcome(&handle).await;
        let ended = &outcome.view.jobs[0];
        assert!(ended.state.is_terminal());
        if run == "failed" {
            // What cannot get better is not tried again, and its reason is kept.
            assert_eq!((ended.state, ended.attempts_used), (JobState::Failed, 1));
            assert_eq!(ended.result.as_ref().unwrap()["message"], "it is wrong");
        }
        // A stop is written only when no hold is left.
        fake.until((count, count)).await;
    }
    world.runtime.shutdown().await;
}

/// Proves R3.5, D32, B45.
/// DUR-13, DUR-41, DUR-43, ACC-6.3, TRAP-6: down for the whole run, flapping every second, hanging in its start: who
/// declares it waits its time, without an attempt; nobody else waits, and then children are skipped and other jobs fail.
#[tokio::test(start_paused = true)]
async fn who_waits_for_a_service_that_never_comes_waits_alone_and_not_for_ever() {
    for does in [Does::Down, Does::Flaps, Does::Hangs, Does::ProbeHangs] {
        let (fake, well) = (Fake::that(does), Fake::default());
        let terms = perennial::service::ServiceTerms { restarts_max: 1_000, ..Default::default() };
        let spec = ServiceSpec::new("app", fake.clone()).terms(terms).ready_within(secs(20));
        let spec = spec.on_unavailable(OnUnavailable::defer(secs(60)));
        let world = World::with(vec![spec, well.spec("other")]).await;
        let began = Clock::start();
        // More of them than the stage has places, before one that needs nothing.
        let mut calls: Vec<Call> = (0..5).map(|n| Call::of(&format!("n{n}"), "app")).collect();
        calls.push(Call::free("free"));
        calls.push(Call::of("other", "other"));
        let group = world.group("group", &calls).await;
        let alone = world.start("alone", &calls).await;
        let free = |it: &Explanation| matches!(it, Explanation::Ended { .. });
        for key in ["calls/free", "calls/other"] {
            until(&alone, key, free).await;
        }
        let cause = waits(&alone, "calls/n0").await;
        assert!(cause.starts_with("service app: "), "{cause}");
        let (group, alone) = (outcome(&group).await, outcome(&alone).await);
        assert!(
            (60..75).contains(&began.now().elapsed().as_secs()),
            "{does:?}: {:?}",
            began.now().elapsed()
        );
        for (outcome, state, skipped) in [
            (&group, JobState::Skipped, Some(SkipReason::Unavailable)),
            (&alone, JobState::Failed, None),
        ] {
            for (name, is, why, attempts) in ends(outcome) {
                let is_of_app = name.starts_with('n');
                let expected =
                    if is_of_app { (state, skipped, 0) } else { (JobState::Succeeded, None, 1) };
                assert_eq!((is, why, attempts), expected, "{does:?} {name}");
            }
        }
        assert_eq!(group.state.name(), "partially_succeeded");
        assert_eq!((world.made("n0"), world.made("free")), (0, 2));
        timeout(secs(100), world.runtime.shutdown()).await.unwrap();
    }
}

/// DUR-41: what can never be started is not waited for, and what is not declared neither.
#[tokio::test(start_paused = true)]
async fn a_start_that_failed_for_good_is_not_waited_for() {
    let fake = Fake::that(Does::Broken);
    let strict =
        fake.spec("strict").on_unavailable(OnUnavailable::defer(secs(60)).then(Then::Fail));
    let world = World::with(vec![fake.spec("app"), strict]).await;
    let began = Clock::start();
    let calls = [Call::of("a", "app"), Call::of("b", "strict"), Call::of("c", "apq")];
    let run = world.group("r", &calls).await;
    let outcome = outcome(&run).await;
    assert!(began.now().elapsed() < secs(10), "{:?}", began.now().elapsed());
    let expected = [
        ("a".to_owned(), JobState::Skipped, Some(SkipReason::Unavailable), 0),
        ("b".to_owned(), JobState::Failed, None, 0),
        ("c".to_owned(), JobState::Skipped, Some(SkipReason::Unavailable), 0),
    ];
    assert_eq!(ends(&outcome), expected);
    let told: Vec<_> =
        outcome.view.jobs.iter().filter_map(|job| job.result.as_ref()?.as_str()).collect();
    let says = |words: &str| assert!(told.iter().any(|why| why.contains(words)), "{told:#?}");
    says("it does not build (`Runtime::services().restart` starts it again); nobody waits for it");
    says("there is no service `apq`: did you mean `app`?; nobody waits for it");
    let why =
        outcome.view.jobs.iter().find_map(|job| job.result.clone().filter(|it| it.is_object()));
    assert!(why.unwrap()["message"].as_str().unwrap().contains("it does not build"));
    world.runtime.shutdown().await;
}

/// DUR-41, DUR-42: the service's Ready event ends the wait, not the timer; those that come back together are spread, what has
/// more priority first, and then as they were made.
#[tokio::test(start_paused = true)]
async fn jobs_come_back_when_the_service_does() {
    let fake = Fake::that(Does::Down);
    let world = World::with(vec![fake.spec("app")]).await;
    let names = ["n0", "n1", "n2", "n3", "n4", "n5", "urgent", "n7"];
    let calls = names.map(|name| Call::of(name, "app"));
    let run = world.start("r", &calls).await;
    // What it waits for is told as it is now, not as it was when it began to wait.
    let is_told = |it: &Explanation| matches!(it, Explanation::Unavailable { what, .. } if what.contains("the port is taken"));
    until(&run, "calls/n7", is_told).await;
    fake.now(Does::Well);
    let began = Clock::start();
    let outcome = outcome(&run).await;
    assert_eq!(outcome.state.name(), "succeeded");
    // The pause of its restart, a probe, and the second over which they are spread.
    assert!(began.now().elapsed() < secs(12), "{:?}", began.now().elapsed());
    let (mut due, mut last) = (Vec::new(), BTreeMap::new());
    let mut events = run.events(1);
    loop {
        let event = events.next().await.unwrap();
        let at = &event.data["run_after_micros"];
        if event.kind == "job_ready"
            && let Some(at) = at.as_i64()
        {
            due.push(at);
            last.insert(event.job.unwrap().as_str().to_owned(), at);
        }
        if event.kind == "run_closed" {
            break;
        }
    }
    let count = due.len();
    due.sort_unstable();
    due.dedup();
    assert!(count >= 8 && due.len() == count, "{due:?}");
    let mut order: Vec<_> = last.iter().map(|(job, at)| (at, job.as_str())).collect();
    order.sort_unstable();
    let order: Vec<_> = order.iter().map(|(_, job)| job.trim_start_matches("calls/")).collect();
    assert_eq!(order, ["urgent", "n0", "n1", "n2", "n3", "n4", "n5", "n7"]);
    world.runtime.shutdown().await;
}

/// In real time, on a file: nobody hears when it is written. Whose instant has come does not wait for the next look besides,
/// and children are not woken by what else happens in their run.
#[tokio::test(flavor = "multi_thread")]
async fn children_that_come_back_begin_at_their_instants() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::sqlite(dir.path().join("runs.db"));
    let world = World::on(store, vec![Fake::default().spec("app")]).await;
    let calls = [0, 1, 2, 3, 4, 5, 6, 7].map(|n| Call::of(&format!("n{n}"), "app"));
    let run = world.group("r", &calls).await;
    assert_eq!(outcome(&run).await.state.name(), "succeeded");
    let (mut due, mut late) = (BTreeMap::new(), Vec::new());
    let mut events = run.events(1);
    loop {
        let event = events.next().await.unwrap();
        let at = event.data["run_after_micros"].as_i64();
        match (event.kind.as_str(), event.job, at) {
            ("job_ready", Some(job), Some(at)) => drop(due.insert(job, at)),
            ("attempt_started", Some(job), _) => {
                late.extend(due.remove(&job).map(|due| event.at.as_micros() - due));
            }
            ("run_closed", ..) => break,
            _ => {}
        }
    }
    assert_eq!(late.len(), calls.len());
    assert!(late.iter().all(|late| *late < 300_000), "µs late: {late:?}");
    world.runtime.shutdown().await;
}

/// DUR-82: two runs use one instance, and it is stopped only after both have given it back.
#[tokio::test(start_paused = true)]
async fn a_keyed_service_of_two_runs_is_stopped_after_both() {
    let fake = Fake::default();
    let world = World::with(vec![fake.spec("app").scope(Scope::Keyed)]).await;
    let long = world.start("long", &[Call::of_key("long", "app", "7")]).await;
    let short = world.start("short", &[Call::of_key("short", "app", "7")]).await;
    let other = world.start("other", &[Call::of_key("other", "app", "8")]).await;
    for run in [&short, &other] {
        assert_eq!(outcome(run).await.state.name(), "succeeded");
    }
    until(&long, "calls/long", |it| matches!(it, Explanation::Leased { .. })).await;
    // That of the other key, and much later no more.
    fake.until((2, 1)).await;
    sleep(secs(60)).await; // paused clock
    assert_eq!(fake.done(), (2, 1));
    world.gate.send_replace(true);
    assert_eq!(outcome(&long).await.state.name(), "succeeded");
    fake.until((2, 2)).await;
    world.runtime.shutdown().await;
}

/// DUR-88: one instance more than may be is waited for, and none is started for it.
#[tokio::test(start_paused = true)]
async fn who_needs_an_instance_too_many_waits_for_room() {
    let fake = Fake::default();
    let spec = fake.spec("app").scope(Scope::Keyed).instances_max(1);
    let world = World::with(vec![spec.on_unavailable(OnUnavailable::defer(secs(600)))]).await;
    let first = world.start("first", &[Call::of_key("long", "app", "7")]).await;
    until(&first, "calls/long", |it| matches!(it, Explanation::Leased { .. })).await;
    let second = world.start("second", &[Call::of_key("b", "app", "8")]).await;
    let cause = waits(&second, "calls/b").await;
    assert!(cause.contains("as many instances"), "{cause}");
    sleep(secs(60)).await; // paused clock
    assert_eq!(fake.done(), (1, 0));
    world.gate.send_replace(true);
    for run in [&first, &second] {
        assert_eq!(outcome(run).await.state.name(), "succeeded");
    }
    fake.until((2, 2)).await;
    world.runtime.shutdown().await;
}

/// Proves B41.
/// All that is wrong with what a plan declares is told at once, and nothing is started.
#[tokio::test(start_paused = true)]
async fn services_that_are_not_there_are_refused_when_a_run_is_started() {
    let fake = Fake::default();
    let world = World::with(vec![fake.spec("analyzer")]).await;
    let calls =
        [Call::of("a", "analyser"), Call::of("b", "analyzer"), Call::of_key("c", "analyzer", "7")];
    let refused = world.try_start("r", &calls, false).await.unwrap_err();
    let RunError::PlanRejected(PlanProblems(problems)) = refused else { panic!("{refused}") };
    let unknown = PlanProblem::UnknownService {
        what: "job `a` of stage `calls`".to_owned(),
        service: "analyser".to_owned(),
        nearest: Some("analyzer".to_owned()),
    };
    let scope = PlanProblem::ServiceScope {
        what: "job `c` of stage `calls`".to_owned(),
        service: "analyzer:7".to_owned(),
        scope: Scope::Shared,
    };
    assert_eq!(problems, [unknown, scope]);
    assert!(world.runtime.runs().unfinished().await.unwrap().is_empty());
    // A child is known only once its group expands: it is skipped, and nothing of the others.
    let run = world.group("g", &[Call::of("a", "analyser"), Call::free("b")]).await;
    let outcome = outcome(&run).await;
    let expected = [
        ("a".to_owned(), JobState::Skipped, Some(SkipReason::Unavailable), 0),
        ("b".to_owned(), JobState::Succeeded, None, 1),
    ];
    assert_eq!(ends(&outcome), expected);
    world.runtime.shutdown().await;
}

/// SM-60: what has failed for good is not started again by the next process, which says of what it failed, and who starts it.
#[tokio::test]
async fn a_service_that_failed_for_good_says_so_in_the_next_process() {
    let dir = tempfile::tempdir().unwrap();
    let store = || Store::sqlite(dir.path().join("runs.db"));
    let world = World::on(store(), vec![Fake::that(Does::Broken).spec("app")]).await;
    let run = world.start("r", &[Call::of("a", "app")]).await;
    outcome(&run).await;
    world.runtime.shutdown().await;
    let fake = Fake::default();
    let strict = OnUnavailable::defer(secs(60)).then(Then::Fail);
    let world = World::on(store(), vec![fake.spec("app").on_unavailable(strict)]).await;
    let run = world.start("s", &[Call::of("a", "app")]).await;
    let failed = outcome(&run).await;
    let why = failed.view.jobs.iter().find_map(|job| job.result.clone()).unwrap();
    let why = why["message"].as_str().unwrap().to_owned();
    assert!(why.contains("it does not build") && why.contains("services().restart"), "{why}");
    assert_eq!(fake.done().0, 0, "it was not started");
    world.runtime.services().restart(&ServiceKey::shared("app")).await.unwrap();
    let run = world.start("t", &[Call::of("a", "app")]).await;
    assert_eq!(outcome(&run).await.state.name(), "succeeded");
    world.runtime.shutdown().await;
}

/// Proves FL5, B50.
/// DUR-83: jobs that waited for a service when their process went wait on in the next, and its service is started there.
#[tokio::test]
async fn jobs_that_wait_wait_on_in_the_next_process() {
    let dir = tempfile::tempdir().unwrap();
    let store = || Store::sqlite(dir.path().join("runs.db"));
    let fake = Fake::that(Does::Hangs);
    let world = World::on(store(), vec![fake.spec("app")]).await;
    let run = world.start("r", &[Call::of("a", "app"), Call::free("b")]).await;
    waits(&run, "calls/a").await;
    world.runtime.shutdown().await;
    let fake = Fake::default();
    let world = World::on(store(), vec![fake.spec("app")]).await;
    let input = Calls { calls: vec![Call::of("a", "app"), Call::free("b")], as_group: false };
    let mut start = world.calling.start(&input).unwrap();
    start.run = Some(RunId::parse("r").unwrap());
    let run = world.runtime.runs().start(start).await.unwrap();
    let outcome = timeout(secs(60), run.outcome()).await.unwrap().unwrap();
    assert_eq!(outcome.state.name(), "succeeded");
    assert_eq!(fake.done().0, 1);
    world.runtime.shutdown().await;
}

/// Proves D27.
/// SM-60, DUR-42, ACC-6.3: probes say that it serves and calls fail. Its breaker opens, and who declares it is deferred and
/// not failed, until its time is over; only now and then one of them tries.
#[tokio::test(start_paused = true)]
async fn a_service_whose_probe_lies_fails_nobody_before_their_time() {
    let fake = Fake::default();
    let breaker = BreakerConfig::consecutive(3).open_for(secs(10)).jitter(0);
    let world = World::with(vec![fake.spec("app").breaker(breaker)]).await;
    world.calls_fail.store(true, Ordering::SeqCst);
    let began = Clock::start();
    let mut calls: Vec<Call> = (0..6).map(|n| Call::with_permit(&format!("n{n}"))).collect();
    calls.push(Call::free("free"));
    let run = world.group("r", &calls).await;
    let is_open = |it: &Explanation| matches!(it, Explanation::Unavailable { what, .. } if what.contains("breaker is open"));
    until(&run, "calls/g/n5", is_open).await;
    let outcome = outcome(&run).await;
    assert!((60..70).contains(&began.now().elapsed().as_secs()), "{:?}", began.now().elapsed());
    for (name, state, skipped, attempts) in ends(&outcome) {
        let expected = if name == "free" {
            (JobState::Succeeded, None, 1)
        } else {
            (JobState::Skipped, Some(SkipReason::Unavailable), 0)
        };
        assert_eq!((state, skipped, attempts), expected, "{name}");
    }
    // Those until it opened, at most all at once, and one each time it was tried: after 10, 20, 40 s.
    let permitted = world.permitted.load(Ordering::SeqCst);
    assert!((4..=9).contains(&permitted), "{permitted}");
    world.runtime.shutdown().await;
}

/// DUR-87: what is not the service's fault opens nothing.
#[tokio::test(start_paused = true)]
async fn calls_that_are_wrong_themselves_do_not_open_the_breaker() {
    let fake = Fake::default();
    let breaker = BreakerConfig::consecutive(1).open_for(secs(10)).jitter(0);
    let world = World::with(vec![fake.spec("app").breaker(breaker)]).await;
    world.calls_fail.store(true, Ordering::SeqCst);
    let run = world.start("r", &[Call::with_permit("bad")]).await;
    outcome(&run).await;
    // An open one would let it try after 10, 30 and 70 s.
    let permitted = world.permitted.load(Ordering::SeqCst);
    assert!(permitted > 20, "{permitted}");
    world.runtime.shutdown().await;
}

/// DUR-41: what its rate refuses comes back when that grants it, and is not tried again and again until then.
#[tokio::test(start_paused = true)]
async fn a_call_beyond_the_rate_comes_back_when_it_is_granted() {
    let fake = Fake::default();
    let rate = Limit::token_bucket(3, secs(3_600), 1);
    let patient = OnUnavailable::defer(secs(7_200));
    let world = World::with(vec![fake.spec("app").rate(rate).on_unavailable(patient)]).await;
    let began = Clock::start();
    let run = world.start("r", &["n0", "n1", "n2"].map(Call::with_permit)).await;
    assert_eq!(outcome(&run).await.state.name(), "succeeded");
    assert!(
        (2_400..2_500).contains(&began.now().elapsed().as_secs()),
        "{:?}",
        began.now().elapsed()
    );
    let made: u32 = ["n0", "n1", "n2"].map(|name| world.made(name)).iter().sum();
    assert!(made <= 9, "{made} attempts for 3 calls");
    world.runtime.shutdown().await;
}

/// DUR-41: a child whose calls are refused until its time is over is skipped, as its service says, and any other job fails.
#[tokio::test(start_paused = true)]
async fn who_is_refused_its_calls_until_its_time_is_over_ends_as_the_service_says() {
    let fake = Fake::default();
    let rate = Limit::token_bucket(1, secs(36_000), 1);
    let world = World::with(vec![fake.spec("app").rate(rate)]).await;
    let first = world.start("first", &[Call::with_permit("n0")]).await;
    assert_eq!(outcome(&first).await.state.name(), "succeeded");
    let calls = [Call::with_permit("n1"), Call::free("free")];
    let (group, alone) = (world.group("group", &calls).await, world.start("alone", &calls).await);
    let skipped = (JobState::Skipped, Some(SkipReason::Unavailable));
    for (run, expected) in [(&group, skipped), (&alone, (JobState::Failed, None))] {
        let outcome = outcome(run).await;
        let ended = ends(&outcome).into_iter().find(|(name, ..)| name == "n1").unwrap();
        assert_eq!((ended.1, ended.2), expected, "{ended:?}");
    }
    world.runtime.shutdown().await;
}

/// D28, SM-52: 170 s, with many more refused probes than failed calls open the breaker.
/// Proves INV-22.
#[tokio::test(start_paused = true)]
async fn a_long_start_opens_no_breaker_and_is_no_failure() {
    let fake = Fake::that(Does::Boots);
    let spec = fake.spec("app").ready_within(secs(180)).breaker(BreakerConfig::consecutive(3));
    let world = World::with(vec![spec.on_unavailable(OnUnavailable::defer(secs(600)))]).await;
    let shown = || {
        let nodes = world.runtime.tree().nodes;
        let of_app = nodes.into_iter().find(|node| node.path.ends_with("/services/app"));
        let detail = of_app.expect("it has an actor").detail;
        let of = |name: &str| detail[name].clone();
        let breaker =
            ["state", "epoch", "failures", "trips_at"].map(|it| of("breaker")[it].clone());
        (of("state"), of("epoch"), of("restarts"), json!(breaker))
    };
    let untouched = json!(["closed", 0, 0, 3]);
    let began = Clock::start();
    let run = world.start("r", &[Call::with_permit("a")]).await;
    sleep(secs(160)).await; // paused clock
    assert!(fake.refused.load(Ordering::SeqCst) > 70, "{fake:?}");
    assert_eq!(shown(), (json!("starting"), json!(1), json!(0), untouched.clone()));
    let cause = waits(&run, "calls/a").await;
    assert!(cause.contains("it takes no connection"), "{cause}");
    let outcome = outcome(&run).await;
    let elapsed = began.now().elapsed();
    assert!((secs(165)..secs(180)).contains(&elapsed), "with its first readiness: {elapsed:?}");
    assert_eq!(ends(&outcome), [("a".to_owned(), JobState::Succeeded, None, 1)]);
    assert_eq!((outcome.view.jobs[0].attempt, world.permitted.load(Ordering::SeqCst)), (1, 1));
    assert_eq!(shown(), (json!("ready"), json!(1), json!(0), untouched));
    assert_eq!(fake.done(), (1, 0));
    world.runtime.shutdown().await;
}

/// Proves INV-CB-4.
/// ACC-6.3: the only one that may try is killed: the next may.
#[tokio::test(start_paused = true)]
async fn a_killed_probe_of_a_half_open_breaker_wedges_nothing() {
    let fake = Fake::default();
    let breaker = BreakerConfig::consecutive(1).open_for(secs(10)).jitter(0);
    let world = World::with(vec![fake.spec("app").breaker(breaker)]).await;
    world.calls_fail.store(true, Ordering::SeqCst);
    let first = world.start("first", &[Call::with_permit("first")]).await;
    let is_open = |it: &Explanation| matches!(it, Explanation::Unavailable { what, .. } if what.contains("breaker is open"));
    until(&first, "calls/first", is_open).await;
    assert!(first.cancel().await.unwrap());
    world.calls_fail.store(false, Ordering::SeqCst);
    let stays = world.start("stays", &[Call::with_permit("long")]).await;
    until(&stays, "calls/long", |it| matches!(it, Explanation::Leased { .. })).await;
    while world.permitted.load(Ordering::SeqCst) < 2 {
        sleep(Duration::from_millis(20)).await; // paused clock
    }
    let next = world.start("next", &[Call::with_permit("next")]).await;
    let is_tried = |it: &Explanation| matches!(it, Explanation::Unavailable { what, .. } if what.contains("half open"));
    until(&next, "calls/next", is_tried).await;
    assert!(stays.cancel().await.unwrap());
    assert_eq!(outcome(&next).await.state.name(), "succeeded");
    world.runtime.shutdown().await;
}

/// Proves TRAP-5, B34.
/// SM-61, SM-62: an open breaker is open in the next process, says so at once, and is closed by hand.
#[tokio::test]
async fn a_breaker_that_was_open_is_open_in_the_next_process() {
    let dir = tempfile::tempdir().unwrap();
    let store = || Store::sqlite(dir.path().join("runs.db"));
    let spec = |fake: &Fake| {
        let breaker = BreakerConfig::consecutive(1).open_for(secs(600)).jitter(0);
        fake.spec("app").breaker(breaker).on_unavailable(OnUnavailable::defer(secs(3_600)))
    };
    let is_open = |it: &Explanation| matches!(it, Explanation::Unavailable { what, .. } if what.contains("breaker is open until"));
    let fake = Fake::default();
    let world = World::on(store(), vec![spec(&fake)]).await;
    world.calls_fail.store(true, Ordering::SeqCst);
    let run = world.start("first", &[Call::with_permit("first")]).await;
    until(&run, "calls/first", is_open).await;
    assert!(run.cancel().await.unwrap());
    world.runtime.shutdown().await;
    let fake = Fake::default();
    let world = World::on(store(), vec![spec(&fake)]).await;
    let run = world.start("second", &[Call::with_permit("second")]).await;
    until(&run, "calls/second", is_open).await;
    let nodes = world.runtime.tree().nodes;
    let shown = nodes.iter().find(|node| node.path.ends_with("/services/app")).unwrap();
    let breaker = &shown.detail["breaker"];
    assert_eq!((&breaker["state"], &breaker["trips_at"]), (&"open".into(), &1.into()));
    assert!(breaker["open_for_ms"].as_u64().unwrap() > 500_000, "{breaker}");
    assert_eq!(world.permitted.load(Ordering::SeqCst), 0);
    world.runtime.services().reset_breaker(&ServiceKey::shared("app")).unwrap();
    let outcome = timeout(secs(60), run.outcome()).await.unwrap().unwrap();
    assert_eq!(outcome.state.name(), "succeeded");
    world.runtime.shutdown().await;
}

/// DUR-81, INV-24: a shared instance that rests keeps its actor, whoever else comes meanwhile: there is never a second one.
#[tokio::test(start_paused = true)]
async fn a_shared_service_that_rests_has_one_actor_when_it_is_needed_again() {
    let (app, other) = (Fake::default(), Fake::default());
    let world = World::with(vec![app.spec("app"), other.spec("other")]).await;
    for (count, run) in (1..).zip(["first", "second"]) {
        outcome(&world.start(run, &[Call::of("a", "app")]).await).await;
        app.until((count, count)).await;
        outcome(&world.start(&format!("{run}-of-other"), &[Call::of("b", "other")]).await).await;
        let nodes = world.runtime.tree().nodes;
        let actors = nodes.iter().filter(|node| node.path.contains("/services/app"));
        let paths: Vec<&str> = actors.map(|node| node.path.as_str()).collect();
        assert_eq!(paths, ["/perennial/services/app"], "after the {run}");
    }
    world.runtime.shutdown().await;
}

/// SM-50, PF-32: who has used up its restarts is not started any more, which is a finding; its supervisor lives, and a
/// restart by hand begins anew.
#[tokio::test(start_paused = true)]
async fn a_service_that_used_up_its_restarts_is_a_finding_until_it_is_restarted() {
    let fake = Fake::that(Does::Down);
    let terms = perennial::service::ServiceTerms { restarts_max: 2, ..Default::default() };
    let spec = ServiceSpec::new("app", fake.clone()).terms(terms);
    let well = Fake::default();
    let world = World::with(vec![spec, well.spec("other")]).await;
    let run = world.start("r", &[Call::of("a", "app"), Call::of("b", "other")]).await;
    // Long before its 30 min.
    let began = Clock::start();
    let first = outcome(&run).await;
    assert!(began.now().elapsed() < secs(60), "{:?}", began.now().elapsed());
    let states: Vec<JobState> = first.view.jobs.iter().map(|job| job.state).collect();
    assert_eq!(states, [JobState::Failed, JobState::Succeeded]);
    let finding = |tree: perennial::TreeSnapshot| {
        let tree = perennial::inspect::diagnosed(tree, &[], &Default::default());
        tree.findings.into_iter().find(|finding| finding.id == "PF-32")
    };
    let found = finding(world.runtime.tree()).expect("it is told");
    assert!(found.message.contains("the port is taken"), "{}", found.message);
    fake.now(Does::Well);
    world.runtime.services().restart(&ServiceKey::shared("app")).await.unwrap();
    let run = world.start("again", &[Call::of("a", "app")]).await;
    assert_eq!(outcome(&run).await.state.name(), "succeeded");
    assert!(finding(world.runtime.tree()).is_none());
    world.runtime.shutdown().await;
}
