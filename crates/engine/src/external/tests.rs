//! Services below a tree, with drivers that fail in every way, on a paused clock.

mod durable;
mod failed;
mod kept;

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use perennial_core::{
    FailureClass,
    failure::Failure,
    service::{Epoch, ServiceEventKind, ServiceTerms},
};
use perennial_store::{MemoryStore, RunRecord, Store};
use perennial_supervision::{
    Clock, Options, Root, SupervisorSpec, TaskSupervisor, TaskSupervisorSpec,
};
use perennial_tools::service::{
    DriverFuture, Instance, InstanceNote, Probe, ProbeResult, ServiceDriver, StartError, StopError,
    StopMode,
};
use tokio::time::{sleep, timeout};

use super::*;
use crate::{
    Definitions, NotRunnable, ServicesSpec, Workflow, monitor::Monitoring, scheduler::LeaseTerms,
    workflow::BoxFuture,
};

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// What a driver does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Well,
    /// The start answers with an error, at once.
    FailsToStart,
    /// The start never answers.
    HangsInStart,
    /// It ends a second after each start.
    DiesEverySecond,
    /// Probes say that it lives, and it does not.
    Lies,
    /// Probes never answer.
    HangsInProbe,
    PanicsInProbe,
    PanicsInStart,
    Refuses,
}

#[derive(Debug, Default)]
struct Counts {
    starts: AtomicU32,
    stops: AtomicU32,
    probes: AtomicU32,
    probing: AtomicU32,
    probing_most: AtomicU32,
}

/// Cheap to clone: one for the test, one for the tree.
#[derive(Clone, Debug)]
struct Scripted {
    does: Arc<Mutex<Does>>,
    counts: Arc<Counts>,
    /// Whether what another process has started is still there.
    left: Arc<AtomicBool>,
}

impl Scripted {
    fn new(does: Does) -> Self {
        Self { does: Arc::new(Mutex::new(does)), counts: Arc::default(), left: Arc::default() }
    }

    fn does(&self) -> Does {
        *self.does.lock().unwrap()
    }

    fn now(&self, does: Does) {
        *self.does.lock().unwrap() = does;
    }

    fn count(&self, of: impl Fn(&Counts) -> &AtomicU32) -> u32 {
        of(&self.counts).load(Ordering::SeqCst)
    }
}

/// Counts down when a probe ends, however it does.
struct Probing(Arc<Counts>);

impl Drop for Probing {
    fn drop(&mut self) {
        self.0.probing.fetch_sub(1, Ordering::SeqCst);
    }
}

impl ServiceDriver for Scripted {
    fn start<'a>(
        &'a self,
        _: &'a ServiceKey,
        epoch: Epoch,
    ) -> DriverFuture<'a, Result<Instance, StartError>> {
        Box::pin(async move {
            self.counts.starts.fetch_add(1, Ordering::SeqCst);
            let instance = Instance::at(format!("here/{epoch}"));
            match self.does() {
                Does::FailsToStart => Err(StartError::Retryable("the port is taken".into())),
                Does::HangsInStart => std::future::pending().await,
                Does::PanicsInStart => panic!("its driver has a bug"),
                Does::DiesEverySecond | Does::Lies => Ok(instance.kept_by(async {
                    sleep(secs(1)).await; // paused clock
                    "it ended with exit status: 1".into()
                })),
                Does::Well | Does::HangsInProbe | Does::PanicsInProbe | Does::Refuses => {
                    Ok(instance)
                }
            }
        })
    }

    fn stop<'a>(&'a self, _: &'a Instance, _: StopMode) -> DriverFuture<'a, Result<(), StopError>> {
        Box::pin(async {
            self.counts.stops.fetch_add(1, Ordering::SeqCst);
            Ok(())
        })
    }

    fn adopt<'a>(
        &'a self,
        _: &'a ServiceKey,
        epoch: Epoch,
        note: Option<&'a InstanceNote>,
    ) -> DriverFuture<'a, Option<Instance>> {
        let noted = note.and_then(|note| note.endpoint.clone());
        let there = self.left.load(Ordering::SeqCst);
        Box::pin(async move {
            there.then(|| Instance::at(noted.unwrap_or_else(|| format!("here/{epoch}"))))
        })
    }

    fn probe<'a>(&'a self, _: &'a Instance, _: Probe) -> DriverFuture<'a, ProbeResult> {
        Box::pin(async {
            self.counts.probes.fetch_add(1, Ordering::SeqCst);
            let probing = self.counts.probing.fetch_add(1, Ordering::SeqCst) + 1;
            self.counts.probing_most.fetch_max(probing, Ordering::SeqCst);
            let _probing = Probing(self.counts.clone());
            sleep(Duration::from_millis(10)).await; // paused clock
            match self.does() {
                Does::HangsInProbe => std::future::pending().await,
                Does::PanicsInProbe => panic!("its probe has a bug"),
                Does::Refuses => ProbeResult::Fail("it takes no connection".into()),
                Does::Well
                | Does::FailsToStart
                | Does::HangsInStart
                | Does::PanicsInStart
                | Does::DiesEverySecond
                | Does::Lies => ProbeResult::Pass,
            }
        })
    }
}

/// Of a host whose runs are never continued by another process.
#[derive(Debug)]
struct NothingRevived;

impl Definitions for NothingRevived {
    fn revive<'a>(
        &'a self,
        run: &'a RunRecord,
        _definition: Vec<u8>,
    ) -> BoxFuture<'a, Result<Arc<dyn Workflow>, NotRunnable>> {
        let failure = Failure::new(FailureClass::Internal, "APP1", "it is not continued");
        Box::pin(std::future::ready(Err(NotRunnable { run: run.run.clone(), failure })))
    }
}

struct World {
    root: Root,
    store: Arc<dyn Store>,
    external: External,
    tasks: TaskSupervisor,
    events: broadcast::Receiver<ServiceNotice>,
}

impl World {
    async fn of(services: Vec<ServiceSpec>) -> Self {
        Self::on(Arc::new(MemoryStore::open().unwrap()), "n", services).await
    }

    /// Of a process of that name on this store; the one that had the name before is gone.
    async fn on(store: Arc<dyn Store>, node: &str, services: Vec<ServiceSpec>) -> Self {
        let (tasks_child, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 99));
        let clock = Clock::start();
        let engine = Services::new(ServicesSpec {
            store: store.clone(),
            clock,
            node: node.to_owned(),
            tasks: tasks.clone(),
            definitions: Arc::new(NothingRevived),
            monitoring: Monitoring::default(),
            lease: LeaseTerms { exclusive: true, ..LeaseTerms::default() },
            attempts_max: 64,
            settings: crate::EngineSettings::default(),
            authority: None,
        });
        let spec = ExternalSpec { services, defaults: ServiceDefaults::default(), engine };
        let (children, external) = External::child_spec(spec).unwrap();
        let events = external.events();
        let tree = SupervisorSpec::new("app").child(tasks_child);
        let tree = children.into_iter().fold(tree, SupervisorSpec::child);
        let root = Root::start(tree, clock, Options::default()).await.unwrap();
        external.start_always_on().await.unwrap();
        Self { root, store, external, tasks, events }
    }

    async fn hold(&self, service: &str) -> Hold {
        let holder = Holder::new(format!("holder of {service}"));
        self.external.hold(&ServiceKey::shared(service), holder).await.unwrap()
    }

    /// Waits for the next event of this kind.
    async fn until(&mut self, kind: ServiceEventKind) -> ServiceNotice {
        let found = async {
            loop {
                let notice = self.events.recv().await.unwrap();
                if notice.event.kind() == kind {
                    return notice;
                }
            }
        };
        timeout(secs(3_600), found).await.unwrap_or_else(|_| panic!("no {kind:?}"))
    }

    fn detail(&self, service: &str) -> serde_json::Value {
        let path = format!("/app/services/{service}");
        let nodes = self.root.tree().nodes();
        nodes.iter().find(|node| node.path == path).unwrap().detail.clone()
    }
}

fn spec(driver: &Scripted) -> ServiceSpec {
    ServiceSpec::new("it", driver.clone())
}

#[tokio::test(start_paused = true)]
async fn one_that_is_held_is_started_and_who_holds_it_learns_where_it_is() {
    let driver = Scripted::new(Does::Well);
    let mut world = World::of(vec![spec(&driver)]).await;
    assert_eq!(driver.count(|counts| &counts.starts), 0);
    let hold = world.hold("it").await;
    assert_eq!(hold.at_first().unwrap_err().state, ServiceState::Starting);
    let up = world.until(ServiceEventKind::ServiceUp).await;
    assert_eq!(up.seq, 2);
    let admitted = hold.admitted().await.unwrap();
    assert_eq!((admitted.epoch, admitted.endpoint.as_deref()), (up.event.epoch, Some("here/1")));
    let shown = world.detail("it");
    assert_eq!(
        (&shown["state"], &shown["epoch"], &shown["holds"]),
        (&"ready".into(), &1.into(), &1.into())
    );
    assert_eq!(
        (&shown["last_probe"]["found"], &shown["endpoint"]),
        (&"healthy".into(), &"here/1".into())
    );
    // At a shutdown it is stopped although somebody holds it.
    world.root.shutdown().await;
    assert_eq!(driver.count(|counts| &counts.stops), 1);
    assert!(hold.admitted().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn one_that_is_down_for_ever_has_failed_after_its_restarts_and_its_sibling_serves() {
    for does in [Does::FailsToStart, Does::PanicsInStart] {
        let (bad, good) = (Scripted::new(does), Scripted::new(Does::Well));
        let sibling = ServiceSpec::new("sibling", good.clone()).always_on();
        let mut world = World::of(vec![spec(&bad), sibling]).await;
        let _held = world.hold("it").await;
        let failed = world.until(ServiceEventKind::ServiceFailed).await;
        assert_eq!(bad.count(|counts| &counts.starts), 6, "one start and five restarts");
        let why = failed.event.why.unwrap();
        let said = if does == Does::FailsToStart { "the port is taken" } else { "panic" };
        assert!(why.contains(said), "{why}");
        let again = world.hold("it").await;
        let refused = again.admitted().await.unwrap_err();
        assert_eq!((refused.state, refused.retry_at), (ServiceState::Failed, None));
        assert_eq!(world.detail("it")["state"], "failed");
        assert!(world.hold("sibling").await.admitted().await.is_ok());
        assert_eq!(good.count(|counts| &counts.starts), 1);
        // Nobody is restarted for it: the actor has only told what is.
        assert!(world.root.tree().nodes().iter().all(|node| node.restarts.total == 0));
        // And an operator brings it back.
        bad.now(Does::Well);
        let key = ServiceKey::shared("it");
        world.external.restart(&key).await.unwrap();
        world.until(ServiceEventKind::ServiceUp).await;
        assert!(again.admitted().await.is_ok());
        let refused = world.external.restart(&key).await.unwrap_err();
        assert!(matches!(refused, ServiceError::NotFailed(_)), "{refused}");
        world.root.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_dies_every_second_is_down_each_time_and_has_failed_in_the_end() {
    for does in [Does::DiesEverySecond, Does::Lies] {
        let driver = Scripted::new(does);
        let mut world = World::of(vec![spec(&driver)]).await;
        let hold = world.hold("it").await;
        let mut epochs = Vec::new();
        for _ in 0..6 {
            let up = world.until(ServiceEventKind::ServiceUp).await;
            epochs.push(up.event.epoch.get());
            let admitted = hold.admitted().await.unwrap();
            assert_eq!(admitted.epoch, up.event.epoch);
            let down = world.until(ServiceEventKind::ServiceDown).await;
            assert_eq!(down.event.why.as_deref(), Some("it ended with exit status: 1"));
            // Its probes still pass: nobody is let through for that.
            assert!(hold.admitted().await.is_err());
        }
        assert_eq!(epochs, [1, 2, 3, 4, 5, 6]);
        world.until(ServiceEventKind::ServiceFailed).await;
        assert_eq!(driver.count(|counts| &counts.stops), 6, "each life is removed");
        world.root.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_that_hangs_is_down_with_its_time_and_holds_up_nobody() {
    let driver = Scripted::new(Does::HangsInStart);
    let well = Scripted::new(Does::Well);
    let other = ServiceSpec::new("other", well);
    let mut world = World::of(vec![spec(&driver).ready_within(secs(60)), other]).await;
    let hold = world.hold("it").await;
    let asked = hold.admitted().await.unwrap_err();
    assert_eq!(asked.state, ServiceState::Starting);
    let other = world.hold("other").await;
    world.until(ServiceEventKind::ServiceUp).await;
    assert!(other.admitted().await.is_ok());
    let down = world.until(ServiceEventKind::ServiceDown).await;
    assert_eq!(down.at.elapsed().as_secs(), 60);
    assert_eq!(down.event.why.as_deref(), Some("its driver did not start it within 60s"));
    assert_eq!(world.tasks.children(), [""; 0]);
    driver.now(Does::Well);
    world.until(ServiceEventKind::ServiceUp).await;
    assert!(hold.admitted().await.is_ok());
    world.root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_hangs_or_panics_or_is_killed_is_no_sign_of_life() {
    for does in [Does::HangsInProbe, Does::PanicsInProbe, Does::Refuses] {
        let driver = Scripted::new(Does::Well);
        let mut world = World::of(vec![spec(&driver)]).await;
        let first = world.hold("it").await;
        world.until(ServiceEventKind::ServiceUp).await;
        assert!(first.admitted().await.is_ok());
        sleep(secs(1)).await; // paused clock
        driver.now(does);
        // Somebody who comes now is not let through by what was found before.
        let holder = Holder::new("another");
        let second = world.external.hold(&ServiceKey::shared("it"), holder).await.unwrap();
        let refused = second.admitted().await.unwrap_err();
        assert_eq!(refused.state, ServiceState::Ready);
        world.until(ServiceEventKind::ServiceDown).await;
        assert_eq!(driver.count(|counts| &counts.probing_most), 1);
        world.root.shutdown().await;
    }

    let driver = Scripted::new(Does::Well);
    let mut world = World::of(vec![spec(&driver)]).await;
    let hold = world.hold("it").await;
    world.until(ServiceEventKind::ServiceUp).await;
    driver.now(Does::HangsInProbe);
    sleep(secs(1)).await; // paused clock
    let holder = Holder::new("another");
    let key = ServiceKey::shared("it");
    let (second, ()) = tokio::join!(world.external.hold(&key, holder), async {
        let probe = async {
            loop {
                if let Some(task) = world.tasks.find("it probe") {
                    return task;
                }
                tokio::task::yield_now().await;
            }
        };
        world.tasks.terminate_child(&probe.await).await.unwrap();
    });
    let why = &second.unwrap().at_first().unwrap_err().why.clone();
    assert!(why.starts_with("its probe ended: "), "{why}");
    driver.now(Does::Well);
    sleep(secs(11)).await; // paused clock
    assert!(hold.admitted().await.is_ok(), "one lost probe is not the end");
    world.root.shutdown().await;
}

/// Proves INV-23, I6.
#[tokio::test(start_paused = true)]
async fn those_who_ask_at_a_time_share_one_probe() {
    let driver = Scripted::new(Does::Well);
    let mut world = World::of(vec![spec(&driver)]).await;
    let _first = world.hold("it").await;
    world.until(ServiceEventKind::ServiceUp).await;
    sleep(secs(1)).await; // paused clock
    let before = driver.count(|counts| &counts.probes);
    let key = ServiceKey::shared("it");
    let holds =
        (0..20).map(|number| world.external.hold(&key, Holder::new(format!("run {number}"))));
    let holds = futures_util::future::join_all(holds).await;
    assert!(holds.iter().all(|hold| hold.as_ref().unwrap().at_first().is_ok()));
    assert_eq!(driver.count(|counts| &counts.probes) - before, 1);
    assert_eq!(driver.count(|counts| &counts.probing_most), 1);
    world.root.shutdown().await;
}

/// Proves D30.
#[tokio::test(start_paused = true)]
async fn it_is_stopped_when_the_last_hold_was_given_back_for_long_enough() {
    let driver = Scripted::new(Does::Well);
    let terms = ServiceTerms { idle_stop: secs(60), ..ServiceTerms::default() };
    let keyed = ServiceSpec::new("app", driver.clone()).scope(Scope::Keyed).instances_max(1);
    let mut world = World::of(vec![keyed.terms(terms)]).await;
    let key = ServiceKey::keyed("app", "7");
    let holder = || Holder::new("a");
    let one = world.external.hold(&key, holder()).await.unwrap();
    let same = world.external.hold(&key, holder()).await.unwrap();
    let other = world.external.hold(&key, Holder::new("b")).await.unwrap();
    world.until(ServiceEventKind::ServiceUp).await;
    assert_eq!(world.detail("app:7")["holds"], 2);
    let full = world.external.hold(&ServiceKey::keyed("app", "8"), holder()).await.unwrap_err();
    assert!(matches!(full, ServiceError::InstancesFull { max: 1, .. }), "{full}");
    drop(one);
    drop(other);
    sleep(secs(600)).await; // paused clock
    assert_eq!(driver.count(|counts| &counts.stops), 0, "the holder has it once more");
    drop(same);
    let given_back = world.external.0.engine.clock.now();
    let down = world.until(ServiceEventKind::ServiceDown).await;
    assert_eq!(down.at.since(given_back).as_secs(), 60);
    world.until(ServiceEventKind::ServiceDown).await; // it is stopped
    assert_eq!(driver.count(|counts| &counts.stops), 1);
    // There is room for another, and the first may come again, in a later life.
    let next = world.external.hold(&ServiceKey::keyed("app", "8"), holder()).await.unwrap();
    world.until(ServiceEventKind::ServiceUp).await;
    assert!(next.admitted().await.is_ok());
    world.root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_is_lost_forgets_no_hold_and_adopts_what_runs() {
    let driver = Scripted::new(Does::Well);
    let mut world = World::of(vec![spec(&driver)]).await;
    let hold = world.hold("it").await;
    world.until(ServiceEventKind::ServiceUp).await;
    world.root.tree().kill("/app/services/it").unwrap().exit().await;
    // What lives is adopted: nobody needs to be told, and nobody waits longer than for a probe.
    assert_eq!(hold.admitted().await.unwrap().endpoint.as_deref(), Some("here/1"));
    assert_eq!(world.detail("it")["holds"], 1);
    assert_eq!(driver.count(|counts| &counts.starts), 1);
    assert_eq!(driver.count(|counts| &counts.stops), 0);
    drop(hold);
    world.until(ServiceEventKind::ServiceDown).await;
    world.root.shutdown().await;
}

/// Proves B41.
#[tokio::test(start_paused = true)]
async fn what_is_not_declared_or_declared_otherwise_is_refused() {
    let driver = Scripted::new(Does::Well);
    let keyed = ServiceSpec::new("app", driver.clone()).scope(Scope::Keyed);
    let world = World::of(vec![ServiceSpec::new("analyzer", driver), keyed]).await;
    let hold = async |key| world.external.hold(&key, Holder::new("a")).await.unwrap_err();
    let unknown = hold(ServiceKey::shared("analyser")).await;
    assert_eq!(unknown.to_string(), "there is no service `analyser`: did you mean `analyzer`?");
    for key in [ServiceKey::keyed("analyzer", "7"), ServiceKey::shared("app")] {
        assert!(matches!(hold(key).await, ServiceError::Scope { .. }));
    }
    world.root.shutdown().await;
}

#[test]
fn all_faults_of_all_services_are_told_at_once() {
    let driver = || Scripted::new(Does::Well);
    let twice = || ServiceSpec::new("twice", driver());
    let terms = ServiceTerms { up_after: 0, down_after: 0, ..ServiceTerms::default() };
    let odd = ServiceSpec::new("", driver()).scope(Scope::Keyed).terms(terms);
    let specs = vec![twice(), odd.always_on().instances_max(0), twice()];
    let faults = spec::declare(specs, &ServiceDefaults::default()).unwrap_err().faults;
    let service = String::new;
    let zero = |name| {
        let fault = perennial_core::service::TermsFault::Zero { name };
        ServiceFault::Terms { service: service(), fault }
    };
    assert_eq!(
        faults,
        [
            ServiceFault::Name { service: service() },
            zero("down_after"),
            zero("up_after"),
            ServiceFault::AlwaysOn { service: service() },
            ServiceFault::NoInstance { service: service() },
            ServiceFault::Repeated { service: "twice".to_owned(), times: 2 },
        ]
    );
}

/// What a service sets alone is its own; of the rest holds what the host has for all, unless it sets everything.
#[test]
fn what_a_service_sets_leaves_the_rest_as_the_host_has_it() {
    let driver = || Scripted::new(Does::Well);
    let defaults = ServiceDefaults {
        terms: ServiceTerms { idle_stop: secs(7), ..ServiceTerms::default() },
        ..ServiceDefaults::default()
    };
    let some = ServiceSpec::new("some", driver())
        .start_probe_every(secs(1))
        .start_backoff(secs(3))
        .restarts_max(9);
    let all = ServiceSpec::new("all", driver()).restarts_max(9).terms(ServiceTerms::default());
    let declared = spec::declare(vec![some, all], &defaults).unwrap();
    let own = ServiceTerms {
        start_probe_every: secs(1),
        start_backoff: secs(3),
        restarts_max: 9,
        ..defaults.terms
    };
    assert_eq!(declared["some"].terms, own);
    assert_eq!(declared["all"].terms, ServiceTerms::default());
}
