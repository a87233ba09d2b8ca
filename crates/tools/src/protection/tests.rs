use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt as _, future::join_all};
use perennial_core::{Uptime, protection::limiter::LimitError};
use perennial_supervision::Clock;

use super::{permits::KeyedPermits, *};

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn limiter(limit: Limit, clock: Clock) -> Limiter {
    Limiter::new(LimiterConfig::one(limit), clock).unwrap()
}

/// The most of these instants that are in any interval `[t, t + within)`.
fn most_within(mut grants: Vec<Uptime>, within: Duration) -> usize {
    grants.sort();
    let after = |from: Uptime| grants.partition_point(|then| then.since(from) < within);
    (0..grants.len()).map(|begin| after(grants[begin]) - begin).max().unwrap_or(0)
}

/// Runs `work` in a task of its own and hands it over, to be killed.
#[expect(clippy::disallowed_methods, reason = "a task that the test kills")]
fn task<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::spawn(work)
}

/// Real threads, at one instant of a paused clock: as many as may.
///
/// Proves INV-RL-1, C6.8, C6.13, B47.
#[tokio::test(start_paused = true)]
async fn two_hundred_callers_at_once_get_exactly_the_limit() {
    let clock = Clock::start();
    for limit in [
        Limit::token_bucket(100, secs(60), 100),
        Limit::sliding_log(100, secs(60)),
        Limit::fixed_window(100, secs(60)),
    ] {
        let limiter = limiter(limit, clock);
        let (granted, gate) = (AtomicU64::new(0), Barrier::new(200));
        let runtime = tokio::runtime::Handle::current();
        std::thread::scope(|threads| {
            for _ in 0..200 {
                threads.spawn(|| {
                    // The paused clock is the runtime's.
                    let _inside = runtime.enter();
                    gate.wait();
                    if matches!(limiter.check("k", &[1]), Ok(Decision::Allowed { .. })) {
                        granted.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(granted.into_inner(), 100);
        let stats = MeterStats { checks: 200, denials: 100, keys_refused: 0, keys: 1 };
        assert_eq!(limiter.stats(), stats);
    }
}

/// 64 contenders, each asking again as soon as it has been served.
///
/// Proves INV-RL-1, INV-RL-6.
#[tokio::test(start_paused = true)]
async fn contenders_never_exceed_the_bound_and_get_nearly_all_of_it() {
    let window = secs(1);
    for (limit, most) in [
        (Limit::token_bucket(190, window, 10), 190),
        (Limit::sliding_log(200, window), 200),
        (Limit::fixed_window(200, window), 200),
    ] {
        let clock = Clock::start();
        let limiter = limiter(limit, clock);
        let end = clock.now() + secs(10);
        let contend = || async {
            let mut grants = Vec::new();
            while limiter.until_ready("k", &[1], end).await.is_ok() {
                grants.push(clock.now());
                // Or the first would take all before the others have come.
                tokio::task::yield_now().await;
            }
            grants
        };
        let grants = join_all((0..64).map(|_| contend())).await;
        let shares: Vec<usize> = grants.iter().map(Vec::len).collect();
        let grants = grants.concat();
        assert!(grants.len() * 100 >= most * 10 * 99, "{limit:?}: {}", grants.len());
        let bound = limit.bound();
        let held = most_within(grants, bound.within);
        assert!(held as u64 <= bound.grants, "{limit:?}: {held}");
        let (least, largest) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
        assert!(largest - least <= 12, "served in order: {shares:?}");
        assert_eq!(limiter.waiting(), 0);
    }
}

/// Proves INV-RL-6, C6.12.
#[tokio::test(start_paused = true)]
async fn a_cancelled_waiter_takes_nothing_and_those_behind_it_keep_their_order() {
    let clock = Clock::start();
    let limiter = limiter(Limit::sliding_log(1, secs(10)), clock);
    let far = clock.now() + secs(100);
    limiter.until_ready("k", &[1], far).await.unwrap();
    let mut waiters: Vec<_> =
        (0..4).map(|_| Box::pin(limiter.until_ready("k", &[1], far))).collect();
    for waiter in &mut waiters {
        assert!(waiter.now_or_never().is_none());
    }
    assert_eq!(limiter.waiting(), 4);
    // The first and one in the middle go.
    drop(waiters.remove(2));
    drop(waiters.remove(0));
    assert_eq!(limiter.waiting(), 2);
    let served = join_all(waiters.into_iter().map(|waiter| async {
        waiter.await.unwrap();
        clock.now().since(Uptime::ZERO).as_secs()
    }));
    assert_eq!(served.await, [10, 20]);
    assert_eq!(limiter.waiting(), 0);
}

/// Proves INV-RL-2, INV-RL-7.
#[tokio::test(start_paused = true)]
async fn nobody_waits_for_what_cannot_come_in_time_or_at_all() {
    let clock = Clock::start();
    let limiter = limiter(Limit::sliding_log(2, secs(10)), clock);
    limiter.until_ready("k", &[2], clock.now()).await.unwrap();
    let deadline = clock.now() + secs(9);
    let late = limiter.until_ready("k", &[1], deadline).await;
    let retry_at = Some(Uptime::new(secs(10)));
    assert_eq!(late, Err(LimiterError::DeadlineWouldPass { retry_at }));
    let never = limiter.until_ready("k", &[3], deadline).await;
    let error = LimitError::CostExceedsBurst { cost: 3, cost_max: 2, place: 0 };
    assert_eq!(never, Err(error.into()));
    assert_eq!(clock.now(), Uptime::ZERO, "no time went by");
}

/// Proves INV-RL-8, C6.16, C6.17, C6.18.
#[tokio::test(start_paused = true)]
async fn who_waits_waits_on_when_the_pause_is_extended() {
    let clock = Clock::start();
    let limiter = limiter(Limit::sliding_log(9, secs(1)), clock);
    limiter.back_off("k", Uptime::new(secs(5))).unwrap();
    let waits = limiter.until_ready("k", &[1], Uptime::new(secs(60)));
    let extends = async {
        // On a paused clock, while the other waits.
        tokio::time::sleep(secs(3)).await;
        assert_eq!(limiter.back_off("k", Uptime::new(secs(20))), Ok(true));
        assert_eq!(limiter.back_off("k", Uptime::new(secs(10))), Ok(false));
    };
    let (waited, ()) = tokio::join!(waits, extends);
    waited.unwrap();
    assert_eq!(clock.now(), Uptime::new(secs(20)));
}

/// Proves INV-RL-5, INV-RL-11, INV-RL-12.
#[tokio::test(start_paused = true)]
async fn what_comes_back_or_is_configured_wakes_the_first_in_line() {
    let clock = Clock::start();
    let limiter = limiter(Limit::sliding_log(10, secs(100)), clock);
    let far = Uptime::new(secs(1_000));
    let mut sent = limiter.reserve("k", &[6]).unwrap();
    let unsent = limiter.reserve_until_ready("k", &[4], far).await.unwrap();
    let mut waits = Box::pin(limiter.reserve_until_ready("k", &[5], far));
    assert!(waits.as_mut().now_or_never().is_none());
    drop(unsent);
    assert!(waits.as_mut().now_or_never().is_none(), "4 are not 5");
    sent.sent();
    drop(sent); // it counts as estimated
    assert!(waits.as_mut().now_or_never().is_none());
    assert_eq!(limiter.prune(), 0);
    limiter.configure(LimiterConfig::one(Limit::sliding_log(11, secs(100)))).unwrap();
    let reserved = waits.as_mut().now_or_never().expect("it was woken").unwrap();
    assert_eq!(limiter.status("k")[0].remaining, 0);
    drop(reserved);
    assert_eq!(clock.now(), Uptime::ZERO);
}

#[tokio::test(start_paused = true)]
async fn so_many_may_wait_and_no_more() {
    let clock = Clock::start();
    let limiter = limiter(Limit::sliding_log(1, secs(10)), clock);
    let far = clock.now() + secs(100);
    limiter.until_ready("k", &[1], far).await.unwrap();
    let mut waiters: Vec<_> =
        (0..1_024).map(|_| Box::pin(limiter.until_ready("k", &[1], far))).collect();
    for waiter in &mut waiters {
        assert!(waiter.now_or_never().is_none());
    }
    let more = limiter.until_ready("other", &[1], far).await;
    assert_eq!(more, Err(LimiterError::TooManyWait { waiting_max: 1_024 }));
    drop(waiters);
    limiter.until_ready("other", &[1], far).await.unwrap();
}

/// However its holder ends: at the end of a scope, by a panic, killed while it works, killed while it waits.
///
/// Proves INV-SEM-1, INV-SEM-2, C10.2, C10.8.
#[tokio::test(start_paused = true)]
async fn permits_come_back_however_their_holders_end() {
    let clock = Clock::start();
    let permits = Permits::counting("calls", 2, clock).unwrap();
    let far = clock.now() + secs(1_000);
    let hold = |owner: &'static str| {
        let permits = permits.clone();
        async move {
            let _permit = permits.acquire(1, owner, far).await.unwrap();
            std::future::pending::<()>().await;
        }
    };
    let (one, two, third) = (task(hold("one")), task(hold("two")), task(hold("third")));
    // Tasks go on whenever this one waits; on a paused clock that takes no time.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let owners = |permits: &Permits| -> Vec<String> {
        permits.status().holders.into_iter().map(|holder| holder.owner).collect()
    };
    assert_eq!(owners(&permits), ["one", "two"]);
    assert_eq!(permits.status().waiting, 1);
    third.abort();
    assert!(third.await.unwrap_err().is_cancelled());
    assert_eq!(permits.status().waiting, 0);
    one.abort();
    assert!(one.await.unwrap_err().is_cancelled());
    assert_eq!(owners(&permits), ["two"]);
    let panicking = permits.clone();
    let panics = task(async move {
        let _permit = panicking.acquire(1, "three", far).await.unwrap();
        assert!(panicking.try_acquire(1, "four").is_ok(), "all are out");
    });
    assert!(panics.await.unwrap_err().is_panic());
    assert_eq!(owners(&permits), ["two"]);
    two.abort();
    assert!(two.await.unwrap_err().is_cancelled());
    let status = permits.status();
    assert_eq!((status.out, status.waiting, status.holders), (0, 0, vec![]));
}

/// Proves INV-SEM-2, INV-SEM-3, C10.5.
#[tokio::test(start_paused = true)]
async fn a_large_request_is_served_in_its_turn_and_overdraws_once() {
    let clock = Clock::start();
    let bytes = Permits::weighted("bytes", 10, clock).unwrap();
    let far = clock.now() + secs(1_000);
    let too_heavy = bytes.acquire(11, "x", far).await.unwrap_err();
    assert!(matches!(too_heavy, PermitError::WeightExceedsTotal { weight: 11, total: 10, .. }));
    let first = bytes.try_acquire(8, "a").unwrap();
    let second = bytes.try_acquire(9, "b").unwrap();
    assert_eq!(bytes.status().out, 17);
    let mut large = Box::pin(bytes.acquire(10, "large", far));
    let mut gone = Box::pin(bytes.acquire(1, "gone", far));
    let mut small = Box::pin(bytes.acquire(1, "small", far));
    for waiter in [&mut large, &mut gone, &mut small] {
        assert!(waiter.now_or_never().is_none());
    }
    assert!(matches!(bytes.try_acquire(1, "x"), Err(PermitError::Busy { out: 17, .. })));
    drop(first);
    drop(gone);
    // One byte is left: the large one is first, and nobody is before it.
    assert!(matches!(bytes.try_acquire(1, "x"), Err(PermitError::Busy { out: 9, .. })));
    assert!(small.as_mut().now_or_never().is_none(), "it is not overtaken");
    let large = large.now_or_never().expect("it may overdraw").unwrap();
    assert_eq!(bytes.status().out, 19);
    assert!(small.as_mut().now_or_never().is_none());
    drop(second);
    let small = small.now_or_never().expect("what is left is not negative").unwrap();
    assert_eq!(bytes.status().out, 11);
    drop((large, small));
    assert_eq!(bytes.status().out, 0);
}

/// Proves INV-SEM-3, C10.3, C10.9.
#[tokio::test(start_paused = true)]
async fn who_waits_is_served_in_order_and_nobody_overtakes() {
    let clock = Clock::start();
    let permits = Permits::counting("calls", 1, clock).unwrap();
    let far = clock.now() + secs(1_000);
    let order = std::sync::Mutex::new(Vec::new());
    let call = |number: u64| {
        let (permits, order) = (&permits, &order);
        async move {
            let _permit = permits.acquire(1, "x", far).await.unwrap();
            order.lock().unwrap().push(number);
            assert!(permits.try_acquire(1, "y").is_err());
            // The work, on a paused clock.
            tokio::time::sleep(secs(1)).await;
        }
    };
    join_all((0..20).map(call)).await;
    assert_eq!(order.into_inner().unwrap(), (0..20).collect::<Vec<_>>());
    let _all = permits.try_acquire(1, "x").unwrap();
    let late = permits.acquire(1, "y", clock.now() + secs(5)).await.unwrap_err();
    assert_eq!(late, PermitError::DeadlinePassed { name: "calls".to_owned() });
}

/// Proves INV-SEM-5.
#[tokio::test(start_paused = true)]
async fn an_adaptive_limit_lets_fewer_in_and_those_who_wait_come_when_it_grows() {
    let clock = Clock::start();
    let permits = Permits::adaptive("calls", 4, secs(10), clock).unwrap();
    let far = clock.now() + secs(1_000);
    let held: Vec<_> = (0..3).map(|_| permits.try_acquire(1, "x").unwrap()).collect();
    permits.overloaded();
    permits.overloaded();
    assert_eq!((permits.status().total, permits.status().out), (2, 3));
    assert!(matches!(permits.try_acquire(1, "y"), Err(PermitError::Busy { total: 2, .. })));
    // Nobody returns anything: it is 3 after 10 s, and 4 after 20.
    let _fourth = permits.acquire(1, "y", far).await.unwrap();
    assert_eq!(clock.now(), Uptime::new(secs(20)));
    for _ in 0..9 {
        permits.overloaded();
        // A window, on a paused clock.
        tokio::time::sleep(secs(10)).await;
        permits.overloaded();
    }
    assert_eq!(permits.status().total, 1);
    drop(held);
}

/// In real threads: no more are out than may be, and none is lost.
///
/// Proves INV-SEM-1, C10.1.
#[test]
fn threads_never_hold_more_than_there_is() {
    let permits = Permits::counting("calls", 3, Clock::start()).unwrap();
    let (out, most) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| {
                for _ in 0..2_000 {
                    if let Ok(permit) = permits.try_acquire(1, "x") {
                        let now_out = out.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now_out, Ordering::SeqCst);
                        out.fetch_sub(1, Ordering::SeqCst);
                        drop(permit);
                    }
                }
            });
        }
    });
    assert!((1..=3).contains(&most.into_inner()));
    assert_eq!(permits.status().out, 0);
}

/// Proves C10.4.
#[test]
fn idle_keys_make_room_and_those_in_use_do_not() {
    let keyed = KeyedPermits::new("requests", 1, 2, Clock::start()).unwrap();
    let one = keyed.of("a").unwrap().try_acquire(1, "x").unwrap();
    assert!(keyed.of("b").unwrap().try_acquire(1, "x").is_ok());
    assert!(keyed.of("c").is_ok(), "b is idle");
    let error = keyed.of("a").unwrap().try_acquire(1, "y").unwrap_err();
    assert!(matches!(error, PermitError::Busy { out: 1, .. }));
    let two = keyed.of("c").unwrap().try_acquire(1, "x").unwrap();
    assert_eq!(keyed.of("d").unwrap_err().keys_max, 2);
    drop((one, two));
    assert!(keyed.of("d").is_ok());
    assert!(keyed.keys() <= 2);
    let _ = Arc::new(keyed);
}

/// Ten times: the balance is read, something else goes on, and it is written.
///
/// Proves B42.
#[tokio::test(start_paused = true)]
async fn two_holders_of_one_lock_take_turns() {
    let clock = Clock::start();
    let lost = |lock: Option<Permits>| async move {
        let balance = AtomicU64::new(0);
        let add = || async {
            for _ in 0..10 {
                let _held = match &lock {
                    Some(lock) => Some(lock.acquire(1, "x", clock.now() + secs(60)).await.unwrap()),
                    None => None,
                };
                let read = balance.load(Ordering::SeqCst);
                tokio::task::yield_now().await;
                balance.store(read + 1, Ordering::SeqCst);
            }
        };
        tokio::join!(add(), add());
        20 - balance.into_inner()
    };
    assert_eq!(lost(Some(Permits::counting("balance", 1, clock).unwrap())).await, 0);
    assert_eq!(lost(None).await, 10, "without the lock it goes wrong");
}

/// Proves C10.1, C10.6.
#[test]
fn permits_go_out_to_their_number_and_a_semaphore_outlives_its_first_user() {
    let keyed = KeyedPermits::new("requests", 2, 9, Clock::start()).unwrap();
    let first = keyed.clone();
    let held = first.of("a").unwrap().try_acquire(2, "x").unwrap();
    drop(first);
    let again = keyed.of("a").unwrap();
    assert!(matches!(again.try_acquire(1, "y"), Err(PermitError::Busy { out: 2, total: 2, .. })));
    drop(held);
    assert!(again.try_acquire(2, "y").is_ok());
}

/// A new total holds for whoever asks next, and wakes who waits.
#[tokio::test(start_paused = true)]
async fn a_larger_total_lets_those_who_wait_in() {
    let clock = Clock::start();
    for permits in [
        Permits::counting("calls", 1, clock).unwrap(),
        Permits::adaptive("calls", 1, secs(10), clock).unwrap(),
    ] {
        let _held = permits.try_acquire(1, "x").unwrap();
        let mut waits = Box::pin(permits.acquire(1, "y", clock.now() + secs(60)));
        assert!(waits.as_mut().now_or_never().is_none());
        assert_eq!(permits.configure(0).unwrap_err().field, "total");
        permits.configure(2).unwrap();
        assert!(waits.now_or_never().expect("it was woken").is_ok());
        assert_eq!(permits.status().total, 2);
    }
}
