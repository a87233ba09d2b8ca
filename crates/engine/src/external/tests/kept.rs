//! Services that somebody keeps: a future of their driver's that runs for as long as they live. What becomes of them when
//! their actor, their keeper or both are lost, on a paused clock.

use perennial_core::{run::RunId, service::ServiceState};
use perennial_store::Admits;

use super::*;

/// A service that runs for as long as its keeper does.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept(pub(super) Arc<Lives>);

#[derive(Debug, Default)]
pub(super) struct Lives {
    starts: AtomicU32,
    stops: AtomicU32,
    /// Keepers that run.
    run: Arc<AtomicU32>,
    is_unready: AtomicBool,
    pub(super) hangs_in_probe: AtomicBool,
    pub(super) hangs_in_stop: AtomicBool,
    pub(super) fails_to_stop: AtomicBool,
    is_lost: tokio::sync::Notify,
}

/// Counts down when a keeper ends, however it does.
struct Runs(Arc<AtomicU32>);

impl Drop for Runs {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Kept {
    pub(super) fn counts(&self) -> (u32, u32, u32) {
        let count = |of: &AtomicU32| of.load(Ordering::SeqCst);
        (count(&self.0.starts), count(&self.0.stops), count(&self.0.run))
    }
}

impl ServiceDriver for Kept {
    fn start<'a>(
        &'a self,
        _: &'a ServiceKey,
        epoch: Epoch,
    ) -> DriverFuture<'a, Result<Instance, StartError>> {
        Box::pin(async move {
            self.0.starts.fetch_add(1, Ordering::SeqCst);
            self.0.run.fetch_add(1, Ordering::SeqCst);
            let (runs, lives) = (Runs(self.0.run.clone()), self.0.clone());
            Ok(Instance::at(format!("here/{epoch}")).kept_by(async move {
                let _runs = runs;
                lives.is_lost.notified().await;
                "it ended with exit status: 1".into()
            }))
        })
    }

    /// Whoever keeps it is let go, and that ends it.
    fn stop<'a>(&'a self, _: &'a Instance, _: StopMode) -> DriverFuture<'a, Result<(), StopError>> {
        self.0.stops.fetch_add(1, Ordering::SeqCst);
        Box::pin(async {
            if self.0.hangs_in_stop.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            match self.0.fails_to_stop.load(Ordering::SeqCst) {
                true => Err(StopError::new("it does not listen")),
                false => Ok(()),
            }
        })
    }

    /// It never knows that it is gone, only that it does not answer.
    fn probe<'a>(&'a self, _: &'a Instance, _: Probe) -> DriverFuture<'a, ProbeResult> {
        Box::pin(async {
            if self.0.hangs_in_probe.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            let runs = self.0.run.load(Ordering::SeqCst) > 0;
            match runs && !self.0.is_unready.load(Ordering::SeqCst) {
                true => ProbeResult::Pass,
                false => ProbeResult::Fail("it takes no connection".into()),
            }
        })
    }
}

const ACTOR: &str = "/app/services/it";
const KEEPER: &str = "/app/tasks/it keeper";

async fn world(driver: &Kept) -> World {
    World::of(vec![ServiceSpec::new("it", driver.clone())]).await
}

/// How long it takes until `hold` is served by that life.
async fn served_by(world: &World, hold: &Hold, epoch: u64) -> Duration {
    let now = || world.external.0.engine.clock.now();
    let began = now();
    loop {
        match hold.admitted().await {
            Ok(admitted) if admitted.epoch.get() == epoch => return now().since(began),
            Ok(_) | Err(_) => sleep(Duration::from_millis(10)).await, // paused clock
        }
        assert!(now().since(began) < secs(600), "not served: {}", world.detail("it"));
    }
}

/// DUR-83: what lives is not started anew because its actor was lost, and is stopped when nobody needs it.
#[tokio::test(start_paused = true)]
async fn what_is_kept_outlives_its_actor_and_not_its_use() {
    let driver = Kept::default();
    let mut world = world(&driver).await;
    let hold = world.hold("it").await;
    world.until(ServiceEventKind::ServiceUp).await;
    for _ in 0..2 {
        world.root.tree().kill(ACTOR).unwrap().exit().await;
        assert_eq!(served_by(&world, &hold, 1).await, Duration::ZERO);
        assert_eq!(driver.counts(), (1, 0, 1));
    }
    drop(hold);
    while world.until(ServiceEventKind::ServiceDown).await.event.to != ServiceState::Stopped {}
    // Its driver left that to the end of its keeper, which is no later than the stop.
    assert_eq!(driver.counts(), (1, 1, 0));
    world.root.shutdown().await;
}

/// Whose keeper is lost is gone, and that is known at once, also to an actor that was not there: it does not wait for as
/// long as one that may only be slow.
#[tokio::test(start_paused = true)]
async fn a_keeper_that_is_lost_with_its_actor_is_known_to_be_gone() {
    for is_unready in [false, true] {
        let driver = Kept::default();
        driver.0.is_unready.store(is_unready, Ordering::SeqCst);
        let mut world = world(&driver).await;
        let hold = world.hold("it").await;
        match is_unready {
            false => drop(world.until(ServiceEventKind::ServiceUp).await),
            true => sleep(Duration::from_millis(100)).await, // paused clock
        }
        assert_eq!(driver.counts(), (1, 0, 1));
        // Nothing of it gets a turn in between: whoever is told is not there.
        let actor = world.root.tree().kill(ACTOR).unwrap();
        let keeper = world.root.tree().kill(KEEPER).unwrap();
        actor.exit().await;
        keeper.exit().await;
        driver.0.is_unready.store(false, Ordering::SeqCst);
        let took = served_by(&world, &hold, 2).await;
        // No more than the pause after a crash.
        assert!(took < secs(3), "{took:?}");
        assert_eq!(driver.counts(), (2, 1, 1));
        world.root.shutdown().await;
        assert_eq!(driver.counts(), (2, 2, 0));
    }
}

/// PF-32: who falls over again and again is given up, also where its actors are lost besides.
#[tokio::test(start_paused = true)]
async fn the_loss_of_its_actor_begins_no_budget_anew() {
    let driver = Kept::default();
    let spec = ServiceSpec::new("it", driver.clone()).restarts_max(2);
    let mut world = World::of(vec![spec]).await;
    let hold = world.hold("it").await;
    world.until(ServiceEventKind::ServiceUp).await;
    for life in 1..=3 {
        let actor = world.root.tree().kill(ACTOR).unwrap();
        let keeper = world.root.tree().kill(KEEPER).unwrap();
        actor.exit().await;
        keeper.exit().await;
        if life < 3 {
            served_by(&world, &hold, life + 1).await;
        }
    }
    world.until(ServiceEventKind::ServiceFailed).await;
    assert_eq!(driver.counts(), (3, 3, 0));
    assert_eq!(world.detail("it")["restarts"], 3);
    // Whoever starts it again begins anew.
    world.external.restart(hold.key()).await.unwrap();
    served_by(&world, &hold, 4).await;
    assert_eq!(world.detail("it")["restarts"], 0);
    world.root.shutdown().await;
}

/// The look at what an actor has left finds that it lives, and then it does not.
#[tokio::test(start_paused = true)]
async fn what_ends_while_it_is_looked_at_is_gone() {
    let driver = Kept::default();
    let mut world = world(&driver).await;
    let hold = world.hold("it").await;
    world.until(ServiceEventKind::ServiceUp).await;
    driver.0.hangs_in_probe.store(true, Ordering::SeqCst);
    world.root.tree().kill(ACTOR).unwrap().exit().await;
    sleep(Duration::from_millis(100)).await; // paused clock
    driver.0.is_lost.notify_one();
    driver.0.hangs_in_probe.store(false, Ordering::SeqCst);
    let took = served_by(&world, &hold, 2).await;
    let look = 2 * ServiceTerms::default().probe_timeout;
    assert!(took < look + secs(3), "{took:?}");
    world.root.shutdown().await;
    assert_eq!(driver.counts(), (2, 2, 0));
}

/// Its driver removes what is left of it, whoever has seen that it is gone, and nothing is remembered of it.
#[tokio::test(start_paused = true)]
async fn what_ends_while_it_is_stopped_is_removed_by_the_next_actor() {
    for is_held in [false, true] {
        let driver = Kept::default();
        driver.0.hangs_in_stop.store(true, Ordering::SeqCst);
        let mut world = world(&driver).await;
        let mut hold = Some(world.hold("it").await);
        world.until(ServiceEventKind::ServiceUp).await;
        match is_held {
            // It has crashed, and is removed.
            true => drop(world.root.tree().kill(KEEPER).unwrap().exit().await),
            false => drop(hold.take()),
        }
        world.until(ServiceEventKind::ServiceDown).await;
        sleep(secs(2)).await; // paused clock
        assert_eq!(driver.counts().1, 1);
        driver.0.is_lost.notify_waiters();
        sleep(secs(1)).await; // paused clock
        driver.0.hangs_in_stop.store(false, Ordering::SeqCst);
        world.root.tree().kill(ACTOR).unwrap().exit().await;
        let lives = u32::from(is_held);
        match &hold {
            Some(hold) => drop(served_by(&world, hold, 2).await),
            None => drop(world.until(ServiceEventKind::ServiceDown).await),
        }
        assert_eq!(driver.counts(), (1 + lives, 2, lives));
        let instances = world.external.0.instances.lock().await;
        let ledger = &instances[&ServiceKey::shared("it")].ledger;
        assert_eq!(ledger.instances().len(), usize::try_from(lives).unwrap());
        drop(instances);
        world.root.shutdown().await;
    }
}

/// One that lives without doing anything is down, and what could not be removed then is removed before the next life begins,
/// and with it whoever keeps it.
#[tokio::test(start_paused = true)]
async fn there_are_no_two_lives_where_a_stop_has_failed() {
    let driver = Kept::default();
    let mut world = world(&driver).await;
    let _hold = world.hold("it").await;
    world.until(ServiceEventKind::ServiceUp).await;
    driver.0.is_unready.store(true, Ordering::SeqCst);
    driver.0.fails_to_stop.store(true, Ordering::SeqCst);
    let down = world.until(ServiceEventKind::ServiceDown).await;
    assert_eq!(down.event.to, ServiceState::Crashed);
    while driver.counts().1 == 0 {
        sleep(Duration::from_millis(10)).await; // paused clock
    }
    driver.0.fails_to_stop.store(false, Ordering::SeqCst);
    driver.0.is_unready.store(false, Ordering::SeqCst);
    world.until(ServiceEventKind::ServiceUp).await;
    assert_eq!(driver.counts(), (2, 2, 1));
    world.root.shutdown().await;
}

/// Its actor is not restarted any more, and nobody needs it: it is stopped all the same.
#[tokio::test(start_paused = true)]
async fn one_whose_actor_is_given_up_is_not_left_to_itself() {
    let driver = Kept::default();
    let mut world = world(&driver).await;
    let hold = world.hold("it").await;
    world.until(ServiceEventKind::ServiceUp).await;
    for _ in 0..=BUDGET.0 {
        while world.root.tree().kill(ACTOR).is_err() {
            sleep(Duration::from_millis(10)).await; // paused clock
        }
        sleep(Duration::from_millis(100)).await; // paused clock
    }
    assert!(world.root.tree().kill(ACTOR).is_err(), "it is given up");
    drop(hold);
    while world.until(ServiceEventKind::ServiceDown).await.event.to != ServiceState::Stopped {}
    assert_eq!(driver.counts(), (1, 1, 0));
    world.root.shutdown().await;
}

/// Who needs it since it was looked at last is not told by that look, and does not wait until somebody is reminded.
#[tokio::test(start_paused = true)]
async fn who_needs_it_while_it_is_looked_at_is_let_in_by_the_next_look() {
    let driver = Scripted::new(Does::Well);
    let world = World::of(vec![spec(&driver)]).await;
    let (run, key) = (RunId::parse("r1").unwrap(), ServiceKey::shared("it"));
    let keys = || std::collections::BTreeSet::from([key.clone()]);
    let _hold = world.hold("it").await;
    // Its first probe takes 10 ms.
    sleep(Duration::from_millis(5)).await; // paused clock
    let admits = || world.external.admissions(&run, keys()).services.remove(0).1;
    assert!(matches!(admits(), Admits::No(_)));
    world.external.settle(&run, &keys());
    sleep(Duration::from_millis(50)).await; // paused clock
    assert!(matches!(admits(), Admits::Yes), "{:?}", admits());
    world.root.shutdown().await;
}

/// Whatever an actor has left of earlier lives goes with the next one, also where that starts nothing.
#[tokio::test(start_paused = true)]
async fn what_is_left_of_earlier_lives_is_removed_by_the_next_actor() {
    for listens in [true, false] {
        let driver = Kept::default();
        let mut world = world(&driver).await;
        let hold = world.hold("it").await;
        world.until(ServiceEventKind::ServiceUp).await;
        let key = ServiceKey::shared("it");
        let ledger = world.external.0.instances.lock().await[&key].ledger.clone();
        let left = driver.start(&key, Epoch::ZERO).await.unwrap();
        let keeper = ledger.keep(Epoch::ZERO, left, false).unwrap();
        world.tasks.start_child("left", keeper).await.unwrap();
        assert_eq!(driver.counts(), (2, 0, 2));
        driver.0.hangs_in_stop.store(!listens, Ordering::SeqCst);
        world.root.tree().kill(ACTOR).unwrap().exit().await;
        // The other life is not held up by it.
        assert_eq!(served_by(&world, &hold, 1).await, Duration::ZERO);
        sleep(ServiceTerms::default().stop_within + secs(1)).await; // paused clock
        assert_eq!(driver.counts(), (2, 1, 1));
        assert_eq!(ledger.instances().len(), 1);
        driver.0.hangs_in_stop.store(false, Ordering::SeqCst);
        world.root.shutdown().await;
        assert_eq!(driver.counts(), (2, 2, 0));
    }
}

/// Where there is no task to be had any more it is stopped as well, and nobody waits for one.
#[tokio::test(start_paused = true)]
async fn a_shutdown_stops_what_runs_without_a_task() {
    let driver = Kept::default();
    let mut world = world(&driver).await;
    let _hold = world.hold("it").await;
    world.until(ServiceEventKind::ServiceUp).await;
    let clock = world.external.0.engine.clock;
    let began = clock.now();
    drop(world.root.tree().crash("/app/tasks").unwrap());
    world.root.shutdown().await;
    assert_eq!(driver.counts(), (1, 1, 0));
    assert!(clock.now().since(began) < secs(2), "{:?}", clock.now().since(began));
}
