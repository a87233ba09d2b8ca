//! Services that have failed for good, and what an operator does then, on a paused clock.

use perennial_core::service::ServiceState::Failed;

use super::{durable::served, kept::Kept, *};

/// One that has failed and that nobody holds has no actor.
#[tokio::test(start_paused = true)]
async fn one_that_nobody_holds_is_started_by_hand() {
    for again in [false, true] {
        let driver = Scripted::new(Does::FailsToStart);
        let specs = || vec![ServiceSpec::new("app", driver.clone()).scope(Scope::Keyed)];
        let key = ServiceKey::keyed("app", "7");
        let store: Arc<dyn Store> = Arc::new(MemoryStore::open().unwrap());
        let mut world = World::on(store.clone(), "n", specs()).await;
        let refused = world.external.restart(&key).await.unwrap_err();
        let text = "the service is stopped, not failed: it is started by whoever holds it";
        assert_eq!(refused.to_string(), text);
        drop(world.external.hold(&key, Holder::new("a")).await.unwrap());
        world.until(ServiceEventKind::ServiceFailed).await;
        sleep(secs(1)).await; // paused clock
        let path = "/app/services/app:7";
        assert!(world.root.tree().nodes().iter().all(|node| node.path != path));
        if again {
            world.root.shutdown().await;
            world = World::on(store, "n", specs()).await;
        }
        driver.now(Does::Well);
        world.external.restart(&key).await.unwrap();
        let up = world.until(ServiceEventKind::ServiceUp).await;
        let hold = world.external.hold(&key, Holder::new("a")).await.unwrap();
        assert_eq!(served(&hold).await.epoch, up.event.epoch);
        // Nobody holds it for the operator.
        drop(hold);
        while world.until(ServiceEventKind::ServiceDown).await.event.to != ServiceState::Stopped {}
        world.root.shutdown().await;
        assert_eq!(driver.count(|counts| &counts.stops), 1);
    }
}

/// Each process that has given it up learns that another one has started it.
#[tokio::test(start_paused = true)]
async fn one_that_is_started_by_hand_serves_in_all_processes() {
    let driver = Scripted::new(Does::FailsToStart);
    driver.left.store(true, Ordering::SeqCst);
    let store: Arc<dyn Store> = Arc::new(MemoryStore::open().unwrap());
    let mut one = World::on(store.clone(), "one", vec![spec(&driver)]).await;
    let first = one.hold("it").await;
    one.until(ServiceEventKind::ServiceFailed).await;
    let key = first.key().clone();
    drop(first);
    let two = World::on(store, "two", vec![spec(&driver)]).await;
    let second = two.hold("it").await;
    assert_eq!(second.admitted().await.unwrap_err().state, Failed);
    driver.now(Does::Well);
    one.external.restart(&key).await.unwrap();
    let up = one.until(ServiceEventKind::ServiceUp).await;
    assert_eq!(served(&second).await.epoch, up.event.epoch);
    let refused = two.external.restart(&key).await.unwrap_err();
    assert!(matches!(refused, ServiceError::NotFailed(_)), "{refused}");
    assert_eq!(driver.count(|counts| &counts.starts), 7, "six that failed, and one by hand");
    drop(second);
    two.root.shutdown().await;
    one.root.shutdown().await;
}

/// What its last life has left is tried again, and then let go of: nothing runs on that nobody knows.
#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_one_whose_last_life_was_not_removed() {
    for hangs in [false, true] {
        let driver = Kept::default();
        let mut world =
            World::of(vec![ServiceSpec::new("it", driver.clone()).restarts_max(0)]).await;
        let _hold = world.hold("it").await;
        world.until(ServiceEventKind::ServiceUp).await;
        let fails = if hangs { &driver.0.hangs_in_stop } else { &driver.0.fails_to_stop };
        fails.store(true, Ordering::SeqCst);
        driver.0.hangs_in_probe.store(true, Ordering::SeqCst);
        world.until(ServiceEventKind::ServiceFailed).await;
        sleep(ServiceTerms::default().stop_within + secs(1)).await; // paused clock
        assert_eq!(driver.counts(), (1, 2, 0), "{hangs}");
        assert_eq!(world.detail("it")["state"], "failed");
        world.root.shutdown().await;
        assert_eq!(driver.counts(), (1, 2, 0));
    }
}

/// One that another process keeps fails there: whoever has seen that may start it at once, also where it is looked at later.
#[tokio::test(start_paused = true)]
async fn one_that_failed_elsewhere_is_started_by_hand_before_anybody_here_has_looked() {
    let driver = Scripted::new(Does::HangsInStart);
    driver.left.store(true, Ordering::SeqCst);
    let spec = || spec(&driver).restarts_max(0);
    let store: Arc<dyn Store> = Arc::new(MemoryStore::open().unwrap());
    let mut one = World::on(store.clone(), "one", vec![spec()]).await;
    let first = one.hold("it").await;
    let two = World::on(store, "two", vec![spec()]).await;
    let second = two.hold("it").await;
    one.until(ServiceEventKind::ServiceFailed).await;
    driver.now(Does::Well);
    two.external.restart(second.key()).await.unwrap();
    let up = served(&second).await;
    assert_eq!(served(&first).await.epoch, up.epoch);
    assert_eq!(driver.count(|counts| &counts.starts), 2);
    drop((first, second));
    two.root.shutdown().await;
    one.root.shutdown().await;
}
