//! What outlives an actor, its supervisor and its process.

use perennial_core::service::ServiceState::{Degraded, Draining, Failed, Ready, Starting, Stopped};
use perennial_store::{InstanceRecord, InstanceStep, InstanceStepped};

use super::{kept::Kept, *};

fn it() -> ServiceKey {
    ServiceKey::shared("it")
}

impl Scripted {
    /// What another process has started is still there.
    fn left(self) -> Self {
        self.left.store(true, Ordering::SeqCst);
        self
    }

    /// How often it was started, and stopped.
    fn done(&self) -> (u32, u32) {
        (self.count(|counts| &counts.starts), self.count(|counts| &counts.stops))
    }
}

impl World {
    async fn row(&self) -> InstanceRecord {
        self.store.instance(it()).await.unwrap().unwrap()
    }

    /// Waits for a state of the row.
    async fn until_row(&self, state: ServiceState) -> InstanceRecord {
        let found = async {
            loop {
                let row = self.store.instance(it()).await.unwrap();
                if let Some(row) = row.filter(|row| row.state == state) {
                    return row;
                }
                sleep(Duration::from_millis(100)).await; // paused clock
            }
        };
        timeout(secs(3_600), found).await.unwrap_or_else(|_| panic!("the row is never {state}"))
    }
}

/// Waits until it serves.
pub(super) async fn served(hold: &Hold) -> Admitted {
    let served = async {
        loop {
            match hold.admitted().await {
                Ok(admitted) => return admitted,
                Err(_) => sleep(secs(1)).await, // paused clock
            }
        }
    };
    timeout(secs(3_600), served).await.expect("it never serves")
}

/// A store on which a process has died that kept `it` in `state` of its third life.
async fn left_in(state: ServiceState) -> Arc<dyn Store> {
    let store = MemoryStore::open().unwrap();
    let keeper = store.register_node("n").await.unwrap().node;
    let note = InstanceNote { endpoint: Some("there".to_owned()), ..InstanceNote::default() };
    let step = InstanceStep {
        key: it(),
        was: None,
        keeper,
        state,
        epoch: Epoch::new(3),
        instance: (state != Starting).then(|| serde_json::to_string(&note).unwrap()),
        breaker_open_until: None,
        cause: None,
        unless_held: false,
    };
    assert_eq!(store.step_instance(step).await, Ok(InstanceStepped::Done));
    Arc::new(store)
}

/// DUR-80: the hold and the start are rows before the driver is asked.
#[tokio::test(start_paused = true)]
async fn what_is_done_is_written_before_it_is_done() {
    let driver = Scripted::new(Does::HangsInStart);
    let world = World::of(vec![spec(&driver)]).await;
    let hold = world.hold("it").await;
    let row = world.row().await;
    assert_eq!((row.state, row.epoch.get(), row.instance), (Starting, 1, None));
    assert_eq!(world.store.holds(it()).await.unwrap().len(), 1);
    drop(hold);
    world.root.shutdown().await;
    let driver = Scripted::new(Does::Well);
    let mut world = World::of(vec![spec(&driver)]).await;
    let hold = world.hold("it").await;
    world.until(ServiceEventKind::ServiceUp).await;
    let row = world.row().await;
    assert_eq!(row.state, Ready);
    assert!(row.instance.unwrap().contains("here/1"));
    drop(hold);
    world.until(ServiceEventKind::ServiceDown).await;
    assert!(world.store.holds(it()).await.unwrap().is_empty());
    let row = world.until_row(Stopped).await;
    assert_eq!((row.epoch.get(), row.instance), (2, None));
    world.root.shutdown().await;
}

/// FL5: whoever needs it then has what runs.
/// What K33 leaves.
#[tokio::test(start_paused = true)]
async fn what_a_process_has_left_is_adopted_by_the_next() {
    for state in [Starting, Ready, Degraded] {
        let driver = Scripted::new(Does::Well).left();
        let world = World::on(left_in(state).await, "n", vec![spec(&driver)]).await;
        let hold = world.hold("it").await;
        let admitted = served(&hold).await;
        assert_eq!(admitted.epoch.get(), 3, "{state}");
        let known = if state == Starting { "here/3" } else { "there" };
        assert_eq!(admitted.endpoint.as_deref(), Some(known));
        assert_eq!(driver.done(), (0, 0));
        assert_eq!(world.row().await.keeper, world.external.0.engine.node().await.unwrap());
        world.root.shutdown().await;
    }
}

/// Nobody asks for it, and no actor was told to look.
/// What K32 and K34 leave.
#[tokio::test(start_paused = true)]
async fn what_a_process_has_left_and_nobody_needs_is_stopped_in_time() {
    for state in [Starting, Ready] {
        let driver = Scripted::new(Does::Well).left();
        let specs = vec![spec(&driver).idle_stop(secs(60))];
        let world = World::on(left_in(state).await, "n", specs).await;
        let before = world.external.0.engine.clock.now();
        let row = world.until_row(Stopped).await;
        assert_eq!(world.external.0.engine.clock.now().since(before).as_secs(), 60, "{state}");
        assert_eq!((row.epoch.get(), driver.done()), (4, (0, 1)));
        world.root.shutdown().await;
    }
}

/// A child process dies with its process.
/// What K35 leaves.
#[tokio::test(start_paused = true)]
async fn what_is_gone_with_its_process_is_started_again_where_somebody_needs_it() {
    for state in [Starting, Ready, Draining] {
        let driver = Scripted::new(Does::Well);
        let world = World::on(left_in(state).await, "n", vec![spec(&driver)]).await;
        let row = world.until_row(Stopped).await;
        assert_eq!((row.epoch.get(), driver.done()), (4, (0, 0)), "{state}");
        world.root.shutdown().await;

        let driver = Scripted::new(Does::Well);
        let store = left_in(state).await;
        let mut world = World::on(store, "n", vec![spec(&driver).always_on()]).await;
        let up = world.until(ServiceEventKind::ServiceUp).await;
        assert!(up.event.epoch.get() > 3, "{state}");
        assert_eq!(driver.done(), (1, 0));
        world.root.shutdown().await;
    }
}

/// FL5: in good order, too.
#[tokio::test(start_paused = true)]
async fn lives_are_counted_on_over_an_orderly_end() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::open().unwrap());
    for life in [1, 3, 5] {
        let driver = Scripted::new(Does::Well);
        let mut world = World::on(store.clone(), "n", vec![spec(&driver)]).await;
        let _hold = world.hold("it").await;
        let up = world.until(ServiceEventKind::ServiceUp).await;
        assert_eq!(up.event.epoch.get(), life);
        world.root.shutdown().await;
        assert_eq!(driver.done(), (1, 1));
        let row = store.instance(it()).await.unwrap().unwrap();
        assert_eq!((row.state, row.epoch.get()), (Stopped, life + 1));
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_failed_stays_so_over_a_restart_and_gives_its_place_back() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::open().unwrap());
    let driver = Scripted::new(Does::FailsToStart);
    let keyed = || ServiceSpec::new("app", driver.clone()).scope(Scope::Keyed).instances_max(1);
    let (seven, eight) = (ServiceKey::keyed("app", "7"), ServiceKey::keyed("app", "8"));
    let mut world = World::on(store.clone(), "n", vec![keyed()]).await;
    let held = world.external.hold(&seven, Holder::new("a")).await.unwrap();
    world.until(ServiceEventKind::ServiceFailed).await;
    driver.now(Does::Well);
    let next = world.external.hold(&eight, Holder::new("a")).await.unwrap();
    served(&next).await;
    drop((held, next));
    world.root.shutdown().await;

    let starts = driver.done().0;
    let world = World::on(store, "n", vec![keyed()]).await;
    let held = world.external.hold(&seven, Holder::new("a")).await.unwrap();
    assert_eq!(held.admitted().await.unwrap_err().state, Failed);
    assert_eq!(driver.done().0, starts);
    world.external.restart(&seven).await.unwrap();
    served(&held).await;
    world.root.shutdown().await;
}

/// Actors of held services come back by themselves.
#[tokio::test(start_paused = true)]
async fn a_supervisor_that_is_lost_loses_no_service() {
    let driver = Scripted::new(Does::Well);
    let mut world = World::of(vec![spec(&driver)]).await;
    let hold = world.hold("it").await;
    world.until(ServiceEventKind::ServiceUp).await;
    world.root.tree().kill("/app/services").unwrap().exit().await;
    sleep(secs(5)).await; // paused clock
    let nodes = world.root.tree().nodes();
    assert!(nodes.iter().any(|node| node.path == "/app/services/it"), "without a new hold");
    assert_eq!(served(&hold).await.epoch.get(), 1);
    let again = world.hold("it").await;
    assert_eq!(served(&again).await.epoch.get(), 1);
    assert_eq!(driver.done(), (1, 0));
    drop((hold, again));
    world.until_row(Stopped).await;
    world.root.shutdown().await;
}

/// Its actor is killed again and again.
/// Proves INV-24.
#[tokio::test(start_paused = true)]
async fn whenever_an_actor_is_killed_what_is_held_serves_and_what_is_not_is_stopped() {
    for seed in 0..8_u64 {
        let driver = Scripted::new(Does::Well);
        let world = World::of(vec![spec(&driver)]).await;
        let hold = world.hold("it").await;
        for kill in 0..4 {
            let after = (seed * 7_919 + kill * 104_729) % 15_000;
            sleep(Duration::from_millis(after)).await; // paused clock
            if let Ok(killed) = world.root.tree().kill("/app/services/it") {
                killed.exit().await;
            }
        }
        let admitted = served(&hold).await;
        let (starts, stops) = driver.done();
        assert!(stops < starts, "seed {seed}: what is held runs");
        assert_eq!(world.row().await.epoch, admitted.epoch);
        drop(hold);
        world.until_row(Stopped).await;
        assert_eq!(driver.done(), (starts, starts), "seed {seed}");
        world.root.shutdown().await;
    }
}

/// D30: of two processes that use it.
/// Proves INV-24.
#[tokio::test(start_paused = true)]
async fn what_another_process_holds_is_not_stopped() {
    let driver = Scripted::new(Does::Well).left();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::open().unwrap());
    let specs = || vec![spec(&driver).idle_stop(secs(60))];
    let one = World::on(store.clone(), "one", specs()).await;
    let first = one.hold("it").await;
    served(&first).await;
    let two = World::on(store.clone(), "two", specs()).await;
    let second = two.hold("it").await;
    let admitted = served(&second).await;
    assert_eq!((admitted.epoch.get(), admitted.endpoint.as_deref()), (1, Some("here/1")));
    drop(first);
    sleep(secs(600)).await; // paused clock
    assert_eq!(driver.done(), (1, 0), "the other one uses it");
    assert!(second.admitted().await.is_ok());
    drop(second);
    let row = two.until_row(Stopped).await;
    assert_eq!((row.epoch.get(), driver.done()), (2, (1, 1)));
    // The keeper goes, and what the other one uses does not.
    let first = one.hold("it").await;
    served(&first).await;
    let second = two.hold("it").await;
    served(&second).await;
    let keeper = two.row().await.keeper;
    store.end_node(&keeper, serde_json::Value::Null).await.unwrap();
    one.root.shutdown().await;
    assert_eq!(driver.done(), (2, 1));
    sleep(secs(60)).await; // paused clock
    let row = two.row().await;
    assert_eq!((row.keeper.node.as_str(), row.state), ("two", Ready));
    assert_eq!(served(&second).await.epoch, row.epoch);
    drop((first, second));
    two.until_row(Stopped).await;
    assert_eq!(driver.done(), (2, 2));
    two.root.shutdown().await;
}

/// Its driver finds only what its own process has started: whoever uses what another one keeps looks in vain, as often as it
/// likes, and that is no life that was lost.
#[tokio::test(start_paused = true)]
async fn who_does_not_find_what_another_process_keeps_gives_up_nothing() {
    for restarts_max in [0, 2] {
        let driver = Scripted::new(Does::Well);
        let store: Arc<dyn Store> = Arc::new(MemoryStore::open().unwrap());
        let specs = || vec![spec(&driver).restarts_max(restarts_max)];
        let one = World::on(store.clone(), "one", specs()).await;
        let first = one.hold("it").await;
        served(&first).await;
        let mut two = World::on(store.clone(), "two", specs()).await;
        let second = two.hold("it").await;
        sleep(secs(600)).await; // paused clock
        let refused = second.admitted().await.unwrap_err();
        assert!(refused.state != Failed && refused.retry_at.is_some(), "{refused:?}");
        assert_eq!(driver.done(), (1, 0));
        // Whoever kept it is gone, and it is this one's to start.
        drop(first);
        let keeper = two.row().await.keeper;
        one.root.shutdown().await;
        store.end_node(&keeper, serde_json::Value::Null).await.unwrap();
        if restarts_max == 0 {
            // Now a life is lost, and none may be.
            two.until(ServiceEventKind::ServiceFailed).await;
        } else {
            assert!(served(&second).await.epoch.get() > 1);
            let failed = |notice: ServiceNotice| notice.event.to == Failed;
            assert!(!std::iter::from_fn(|| two.events.try_recv().ok()).any(failed));
            assert!(two.detail("it")["restarts"].as_u64().unwrap() < 2, "{}", two.detail("it"));
        }
        two.root.shutdown().await;
    }
}

/// Who comes while its keeper stops it waits for that, and does not look for it again and again.
#[tokio::test(start_paused = true)]
async fn who_comes_while_another_process_stops_it_waits_for_the_next_life() {
    let driver = Kept::default();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::open().unwrap());
    let specs = || vec![ServiceSpec::new("it", driver.clone()).idle_stop(secs(60))];
    let one = World::on(store.clone(), "one", specs()).await;
    let first = one.hold("it").await;
    served(&first).await;
    driver.0.hangs_in_stop.store(true, Ordering::SeqCst);
    drop(first);
    one.until_row(Draining).await;
    let mut two = World::on(store, "two", specs()).await;
    let hold = two.hold("it").await;
    sleep(secs(10)).await; // paused clock
    let told = std::iter::from_fn(|| two.events.try_recv().ok()).count();
    assert!(told < 50, "{told} events in 10 s");
    assert_eq!(two.row().await.state, Draining);
    driver.0.hangs_in_stop.store(false, Ordering::SeqCst);
    assert!(served(&hold).await.epoch.get() > 1);
    drop(hold);
    two.root.shutdown().await;
    one.root.shutdown().await;
    assert_eq!(driver.counts().2, 0);
}

/// Whoever was refused has a hold as well, and so has another process: the next actor finds more than may be let in.
#[tokio::test(start_paused = true)]
async fn more_holds_than_may_be_are_no_reason_to_fall_over() {
    let driver = Scripted::new(Does::Well);
    let terms = ServiceTerms { holds_max: 1, ..ServiceTerms::default() };
    let world = World::of(vec![spec(&driver).terms(terms)]).await;
    let first = world.hold("it").await;
    served(&first).await;
    let second = world.external.hold(&it(), Holder::new("another")).await.unwrap();
    let why = second.at_first().unwrap_err().why.clone();
    assert_eq!(&*why, "as many as may hold it do");
    world.root.tree().kill("/app/services/it").unwrap().exit().await;
    assert_eq!(served(&first).await.epoch.get(), 1);
    let third = world.external.hold(&it(), Holder::new("a third")).await.unwrap();
    assert_eq!(third.at_first().unwrap_err().why, why);
    let actor = "/app/services/it";
    let nodes = world.root.tree().nodes();
    let restarts = nodes.iter().find(|node| node.path == actor).unwrap().restarts.total;
    assert_eq!(restarts, 1, "only for the kill");
    world.root.shutdown().await;
}

/// It has lost its lease meanwhile, and is the same process.
#[tokio::test(start_paused = true)]
async fn who_joins_again_begins_no_budget_anew() {
    let driver = Scripted::new(Does::DiesEverySecond);
    let mut world = World::of(vec![spec(&driver).restarts_max(2)]).await;
    let _hold = world.hold("it").await;
    for _ in 0..2 {
        world.until(ServiceEventKind::ServiceUp).await;
        world.external.0.engine.rejoin().await.unwrap();
        world.root.tree().kill("/app/services/it").unwrap().exit().await;
    }
    world.until(ServiceEventKind::ServiceFailed).await;
    assert_eq!(driver.done().0, 3, "one start and two restarts");
    world.root.shutdown().await;
}
