//! What `[service]` and `[breaker]` change: each key makes another story of the same service. Time is paused, and only told.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use perennial::supervision::Clock;
use perennial::{
    Config, Runtime, Store,
    engine::{AttemptCx, staged::*},
    records::{Failure, FailureClass},
    service::{
        DriverFuture, Epoch, Holder, Instance, Probe, ProbeResult, Scope, ServiceDriver,
        ServiceKey, ServiceSpec, StartError, StopError, StopMode,
    },
};
use tokio::time::sleep;

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// What happened when.
#[derive(Clone, Debug)]
struct Story(Arc<Mutex<Vec<(String, Duration)>>>, Clock);

/// What happened, and how much: how many calls in a row, or how many tenths of a second after what was before.
type Told = Vec<(String, u64)>;

const CALLS: [&str; 3] = ["failed", "called", "refused"];
/// What is told of a story whose pauses differ by chance, so that it never ends between two restarts.
const TOLD_MAX: usize = 60;

impl Story {
    fn new() -> Self {
        Self(Arc::default(), Clock::start())
    }

    fn elapsed(&self) -> Duration {
        self.1.now().elapsed()
    }

    fn tell(&self, what: &str) {
        self.0.lock().unwrap().push((what.to_owned(), self.elapsed()));
    }

    /// What only jobs see, or all.
    fn told(&self, of_jobs: bool) -> Told {
        let (mut told, mut before) = (Told::new(), Duration::ZERO);
        for (what, at) in self.0.lock().unwrap().iter() {
            let is_call = CALLS.contains(&what.as_str());
            match told.last_mut().filter(|(last, _)| is_call && last == what) {
                Some((_, calls)) => *calls += 1,
                None if is_call => told.push((what.clone(), 1)),
                None if of_jobs && !what.starts_with("calls/") => continue,
                None => {
                    let tenths = (*at - before).as_millis() / 100;
                    told.push((what.clone(), u64::try_from(tenths).unwrap()));
                }
            }
            before = *at;
        }
        told.truncate(TOLD_MAX);
        told
    }
}

/// Pauses before restarts are shorter by chance, by a quarter at most; few calls are counted exactly.
fn alike(one: &Told, other: &Told) -> bool {
    let same = |((one, here), (other, there)): (&(String, u64), &(String, u64))| {
        let (off, most) = (here.abs_diff(*there), *here.max(there));
        let may = match CALLS.contains(&one.as_str()) {
            true if most < 20 => 0,
            true => 4 + most / 100,
            false => 2 + most * 35 / 100,
        };
        one == other && off <= may
    };
    one.len() == other.len() && one.iter().zip(other).all(same)
}

/// How a service does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    /// It is ready 5 s after its start, and not so from 40 s to 80 s.
    Wavers,
    /// It is never ready.
    NeverReady,
    /// It dies a second after each start.
    Dies,
    ProbeHangs,
    StopHangs,
    Well,
}

#[derive(Clone, Debug)]
struct Driver(Does, Story);

impl ServiceDriver for Driver {
    fn start<'a>(
        &'a self,
        key: &'a ServiceKey,
        _: Epoch,
    ) -> DriverFuture<'a, Result<Instance, StartError>> {
        self.1.tell("start");
        let dies = self.0 == Does::Dies;
        Box::pin(async move {
            let instance = Instance::at(key.to_string());
            Ok(match dies {
                true => instance.kept_by(async {
                    sleep(secs(1)).await; // paused clock
                    "it ended".into()
                }),
                false => instance,
            })
        })
    }

    fn stop<'a>(
        &'a self,
        _: &'a Instance,
        mode: StopMode,
    ) -> DriverFuture<'a, Result<(), StopError>> {
        self.1.tell(&format!("stop {mode:?}"));
        let hangs = self.0 == Does::StopHangs && mode == StopMode::Graceful;
        Box::pin(async move {
            match hangs {
                true => std::future::pending().await,
                false => Ok(()),
            }
        })
    }

    fn probe<'a>(&'a self, _: &'a Instance, probe: Probe) -> DriverFuture<'a, ProbeResult> {
        self.1.tell(&format!("probe {probe:?}"));
        let since = self.1.elapsed();
        let is_ready = match self.0 {
            Does::Wavers => since > secs(5) && !(secs(40)..secs(80)).contains(&since),
            Does::NeverReady => false,
            Does::Dies | Does::ProbeHangs | Does::StopHangs | Does::Well => true,
        };
        let hangs = self.0 == Does::ProbeHangs;
        Box::pin(async move {
            match probe {
                _ if hangs => std::future::pending().await,
                Probe::Readiness if !is_ready => ProbeResult::Fail("not yet".into()),
                Probe::Readiness | Probe::Liveness => ProbeResult::Pass,
            }
        })
    }
}

/// A group with one call to the service.
struct Calling;

impl StagedWorkflow for Calling {
    const NAME: &'static str = "calling";
    const VERSION: u32 = 1;
    type Input = ();
    type Output = ();

    fn plan(&self, _: &()) -> Result<Plan, PlanProblems> {
        let job = JobSpec::new("all", &());
        Ok(Plan::new().stage(Stage::group::<All>("calls").feed(Feed::jobs([job]))))
    }

    fn summarize(&self, _: &(), _: &RunReport) {}
}

struct All;

impl Group for All {
    const NAME: &'static str = "all";
    type In = ();
    type Out = usize;

    fn expand(&self, _: &()) -> Vec<Child> {
        vec![Child::activity::<Call>("call", &()).uses(ServiceKey::shared("it"))]
    }

    fn join(&self, _: &(), children: &[ChildOutcome]) -> Joined<usize> {
        Joined::by_ends(children, children.len())
    }
}

/// Calls the service four times a second for 5 min, two at a time; for 3 min each call fails.
struct Call(Story);

impl Activity for Call {
    const NAME: &'static str = "call";
    type In = ();
    type Out = ();

    async fn run(&self, cx: &AttemptCx, _: ()) -> Result<Ended<()>, ActivityError> {
        let key = ServiceKey::shared("it");
        let began = self.0.elapsed();
        let since = || self.0.elapsed() - began;
        while since() < secs(300) {
            let (one, other) = (cx.permit(&key).await, cx.permit(&key).await);
            let is_down = since() < secs(180);
            let failure = Failure::new(FailureClass::Transient, "APP1", "no answer");
            for permit in [one, other] {
                match permit {
                    Ok(permit) if is_down => {
                        self.0.tell("failed");
                        permit.settle(Some(&failure));
                    }
                    Ok(permit) => {
                        self.0.tell("called");
                        permit.settle(None);
                    }
                    Err(_) => self.0.tell("refused"),
                }
            }
            sleep(Duration::from_millis(250)).await; // paused clock
        }
        Ok(Ended::Done(()))
    }
}

/// What is done with the service.
#[derive(Clone, Copy, Debug)]
enum Done {
    /// It is held, and again after 1 min 45 s, for a minute in which its holder asks twice.
    Held,
    /// It is held for 10 min.
    HeldLong,
    /// Five instances are held.
    FiveHeld,
    /// A job needs it.
    Needed,
}

/// The story of half an hour and more with these settings.
async fn story(settings: &str, does: Does, done: Done) -> Told {
    let config = Config::parse("p.toml", settings.as_bytes()).unwrap();
    let story = Story::new();
    let calling = Staged::new(Calling).group(All).activity(Call(story.clone()));
    let scope = if matches!(done, Done::FiveHeld) { Scope::Keyed } else { Scope::Shared };
    let service = ServiceSpec::new("it", Driver(does, story.clone())).scope(scope);
    let builder = Runtime::builder().store(Store::memory()).config(config).staged(&calling);
    let runtime = builder.service(service).start().await.unwrap();
    let services = runtime.services();
    let mut events = services.events();
    let hold = async |key: &ServiceKey, name: &str| {
        let held = services.hold(key, Holder::new(name)).await;
        let at_first = held.as_ref().map(|held| held.at_first().is_ok()).ok();
        story.tell(&format!("held by {name}: {at_first:?}"));
        held.ok()
    };
    let key = ServiceKey::shared("it");
    let acts = async {
        match done {
            Done::Held => {
                let first = hold(&key, "first").await;
                sleep(secs(105)).await; // paused clock
                if let Some(second) = hold(&key, "second").await {
                    for pause in [40, 15] {
                        let admitted = second.admitted().await;
                        story.tell(&format!("admitted: {}", admitted.is_ok()));
                        sleep(secs(pause)).await; // paused clock
                    }
                }
                // Until it stops by itself.
                drop(first);
                sleep(secs(650)).await; // paused clock
            }
            Done::HeldLong => {
                let _held = hold(&key, "first").await;
                sleep(secs(600)).await; // paused clock
            }
            Done::FiveHeld => {
                let mut held = Vec::new();
                for number in 0..5 {
                    held.push(hold(&ServiceKey::keyed("it", number.to_string()), "one").await);
                }
                sleep(secs(30)).await; // paused clock
            }
            Done::Needed => {
                let run = runtime.runs().start(calling.start(&()).unwrap()).await.unwrap();
                let outcome = run.outcome().await.unwrap();
                for job in &outcome.view.jobs {
                    story.tell(&format!("{} {}", job.key, job.state));
                }
            }
        }
    };
    let told = async {
        loop {
            match events.recv().await {
                Ok(notice) => story.tell(&format!("{:?}", notice.event.kind())),
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::select! { () = acts => (), () = told => () }
    runtime.shutdown().await;
    story.told(matches!(done, Done::Needed))
}

/// Each key, another value of it, what else is set, and what is done with a service that does how.
const KEYS: [(&str, &str, &str, Does, Done); 24] = [
    ("service.ready_within", "\"50s\"", "", Does::NeverReady, Done::HeldLong),
    ("service.settle_delay", "\"7s\"", "", Does::Wavers, Done::Held),
    ("service.start_probe_every", "\"3s\"", "", Does::Wavers, Done::Held),
    ("service.probe_every", "\"7s\"", "", Does::Wavers, Done::Held),
    ("service.probe_timeout", "\"3s\"", "", Does::ProbeHangs, Done::HeldLong),
    ("service.down_after", "2", "", Does::Wavers, Done::Held),
    ("service.up_after", "1", "", Does::Wavers, Done::Held),
    ("service.health_ttl", "\"10m\"", "service.probe_every = \"5m\"", Does::Well, Done::Held),
    ("service.idle_stop", "\"1m\"", "", Does::Well, Done::Held),
    ("service.stop_within", "\"3s\"", "service.idle_stop = \"30s\"", Does::StopHangs, Done::Held),
    ("service.start_backoff", "\"5s\"", "", Does::Dies, Done::HeldLong),
    ("service.backoff_max", "\"3s\"", "", Does::Dies, Done::HeldLong),
    ("service.restarts_max", "2", "", Does::Dies, Done::HeldLong),
    ("service.restarts_within", "\"20s\"", "", Does::Dies, Done::HeldLong),
    ("service.holds_max", "1", "", Does::Well, Done::Held),
    ("service.instances_max", "5", "", Does::Well, Done::FiveHeld),
    ("service.max_wait", "\"7m\"", RARE, Does::NeverReady, Done::Needed),
    ("service.on_unavailable", "\"fail\"", RARE, Does::NeverReady, Done::Needed),
    ("breaker.failures_max", "7", STEADY, Does::Well, Done::Needed),
    ("breaker.open_for", "\"20s\"", STEADY, Does::Well, Done::Needed),
    ("breaker.open_max", "\"40s\"", STEADY, Does::Well, Done::Needed),
    ("breaker.jitter_percent", "0", "", Does::Well, Done::Needed),
    ("breaker.probes", "2", STEADY, Does::Well, Done::Needed),
    ("breaker.successes", "3", STEADY, Does::Well, Done::Needed),
];

/// It is looked at rarely, which takes the test less time.
const RARE: &str = "service.start_probe_every = \"1m\"";
/// Nothing is left to chance.
const STEADY: &str = "breaker.jitter_percent = 0";

/// Proves INV-33.
/// The keys are those of the README, so that one that is new is told here as well.
#[tokio::test(start_paused = true)]
async fn each_setting_of_services_makes_another_story() {
    for (key, value, beside, does, done) in KEYS {
        let set = format!("{beside}\n{key} = {value}\n");
        // With chance no story is told twice.
        let by_chance = key == "breaker.jitter_percent";
        let (one, other) = if by_chance { (&*set, beside) } else { (beside, &*set) };
        let (usual, again) = (story(one, does, done).await, story(one, does, done).await);
        assert!(alike(&usual, &again), "{key}: {usual:?}\n{again:?}");
        let other = story(other, does, done).await;
        assert!(!alike(&usual, &other), "{key} changes nothing: {usual:?}\n{other:?}");
    }
    let readme = include_str!("../../README.md");
    let told = readme.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let mut told: Vec<&str> =
        told.filter(|key| key.starts_with("service.") || key.starts_with("breaker.")).collect();
    let mut tried = KEYS.map(|(key, ..)| key).to_vec();
    told.sort_unstable();
    tried.sort_unstable();
    assert_eq!(told, tried);
}

/// Proves INV-33.
#[tokio::test(start_paused = true)]
async fn what_a_service_says_itself_is_stronger_than_what_holds_for_all() {
    let config = Config::parse("p.toml", b"[service]\nidle_stop = \"1s\"\nprobe_every = \"7s\"\n");
    let story = Story::new();
    let service = ServiceSpec::new("it", Driver(Does::Well, story.clone())).idle_stop(secs(300));
    let builder = Runtime::builder().store(Store::memory()).config(config.unwrap());
    let runtime = builder.service(service).start().await.unwrap();
    drop(runtime.services().hold(&ServiceKey::shared("it"), Holder::new("me")).await.unwrap());
    sleep(secs(200)).await; // paused clock
    let told = story.told(false);
    assert!(!told.iter().any(|(what, _)| what.contains("stop")), "{told:?}");
    // The other one is that of all.
    let probes = told.iter().filter(|(what, _)| what.contains("Readiness")).count();
    assert!((25..=32).contains(&probes), "{told:?}");
    runtime.shutdown().await;
}

/// All that cannot be meant is told at once.
#[test]
fn what_cannot_be_meant_for_services_is_refused() {
    let text = b"[service]\nup_after = 0\nprobe_every = \"0s\"\ninstances_max = 0\n[breaker]\nfailures_max = 0\n";
    let refused = Config::parse("p.toml", text).unwrap_err().to_string();
    for told in ["up_after is 0", "probe_every is 0", "may have no instance", "failures"] {
        assert!(refused.contains(told), "{told}: {refused}");
    }
}
