use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::Uptime;

/// Time in tests is small and whole.
fn at(secs: u64) -> Uptime {
    Uptime::new(Duration::from_secs(secs))
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn nano_after(instant: Uptime) -> Uptime {
    instant + Duration::from_nanos(1)
}

fn nano_before(instant: Uptime) -> Uptime {
    Uptime::new(instant.elapsed() - Duration::from_nanos(1))
}

fn meters(limits: impl IntoIterator<Item = Limit>) -> Meters<u8> {
    Meters::new(LimiterConfig::all(limits)).unwrap()
}

fn is_allowed(decision: Decision) -> bool {
    matches!(decision, Decision::Allowed { .. })
}

/// The grants of one limit, to be counted by anybody.
#[derive(Clone, Default)]
struct Grants(Vec<(Duration, u64)>);

impl Grants {
    /// The most that is in any interval `[t, t + within)`; it is enough to look where one begins with a grant.
    fn most_within(&self, within: Duration) -> u64 {
        let (mut most, mut sum, mut end) = (0, 0, 0);
        for (begin, (from, cost)) in self.0.iter().enumerate() {
            while end < self.0.len() && self.0[end].0 < *from + within {
                sum += self.0[end].1;
                end += 1;
            }
            assert!(end > begin);
            most = most.max(sum);
            sum -= cost;
        }
        most
    }
}

/// What a limit has to say by its definition, from all grants so far.
fn may(limit: &Limit, grants: &Grants, cost: u64, now: Duration) -> bool {
    match limit {
        Limit::SlidingLog { limit, window } => {
            let lately = grants.0.iter().filter(|(then, _)| now - *then < *window);
            lately.map(|(_, cost)| cost).sum::<u64>() + cost <= *limit
        }
        Limit::FixedWindow { limit, window, align } => {
            let number = |time: Duration| {
                (time.as_nanos().cast_signed() - align.as_nanos().cast_signed())
                    .div_euclid(window.as_nanos().cast_signed())
            };
            let same = grants.0.iter().filter(|(then, _)| number(*then) == number(now));
            same.map(|(_, cost)| cost).sum::<u64>() + cost <= *limit
        }
        Limit::TokenBucket { rate, burst } => {
            // How full it is, in grants times the length of the window.
            let (limit, per) = (u128::from(rate.limit), rate.per.as_nanos());
            let full = u128::from(*burst) * per;
            let (mut level, mut last) = (full, Duration::ZERO);
            for (then, cost) in grants.0.iter().copied().chain([(now, 0)]) {
                level = full.min(level + (then - last).as_nanos() * limit);
                level -= u128::from(cost) * per;
                last = then;
            }
            level >= u128::from(cost) * per
        }
    }
}

/// Asks, and compares the answer with the definition. A denial takes nothing, and names the first instant that grants.
fn ask(meters: &mut Meters<u8>, grants: &mut Grants, cost: u64, now: Uptime) {
    let limit = meters.config().limits[0];
    let may = may(&limit, grants, cost, now.elapsed());
    let before = meters.status(&0, now);
    match meters.check(&0, &[cost], now).unwrap() {
        Decision::Allowed { remaining } => {
            assert!(may, "{limit:?} granted {cost} at {now:?} after {:?}", grants.0);
            assert_eq!(before[0].remaining - cost, remaining);
            grants.0.push((now.elapsed(), cost));
        }
        Decision::Denied { retry_at } => {
            assert!(!may, "{limit:?} denied {cost} at {now:?} after {:?}", grants.0);
            assert_eq!(meters.status(&0, now), before, "a denial takes nothing");
            assert!(retry_at > now);
            assert!(is_allowed(meters.clone().check(&0, &[cost], retry_at).unwrap()));
            let early = meters.clone().check(&0, &[cost], nano_before(retry_at)).unwrap();
            assert_eq!(early, Decision::Denied { retry_at });
        }
    }
}

fn explore(meters: &Meters<u8>, grants: &Grants, now: u64, depth: u32) -> u64 {
    if depth == 0 {
        let bound = meters.config().limits[0].bound();
        assert!(grants.most_within(bound.within) <= bound.grants, "{:?}", grants.0);
        return 1;
    }
    let mut histories = 0;
    for wait in [0, 1, 2, 4] {
        for cost in 1..=meters.config().limits[0].cost_max().min(2) {
            let (mut meters, mut grants) = (meters.clone(), grants.clone());
            ask(&mut meters, &mut grants, cost, at(now + wait));
            histories += explore(&meters, &grants, now + wait, depth - 1);
        }
    }
    histories
}

/// Every history of five questions, with all short waits and costs between them.
///
/// Proves INV-RL-1, INV-RL-2, C6.10.
#[test]
fn no_short_history_exceeds_the_bound_of_any_limit() {
    let align = secs(1);
    let mut histories = 0;
    for limit in [
        Limit::token_bucket(1, secs(3), 1),
        Limit::token_bucket(3, secs(5), 2),
        Limit::token_bucket(2, secs(3), 4),
        Limit::sliding_log(1, secs(3)),
        Limit::sliding_log(3, secs(5)),
        Limit::fixed_window(2, secs(3)),
        Limit::FixedWindow { limit: 3, window: secs(4), align },
    ] {
        histories += explore(&meters([limit]), &Grants::default(), 0, 5);
    }
    assert_eq!(histories, 2 * 4_u64.pow(5) + 5 * 8_u64.pow(5));
}

fn limits() -> impl Strategy<Value = Limit> {
    let count = prop_oneof![1_u64..10, 1_u64..2_000];
    let nanos = prop_oneof![1_u64..50, 1_u64..100_000_000_000];
    (0..3, count.clone(), count, nanos.clone(), nanos).prop_map(
        |(kind, limit, burst, per, align)| {
            let (window, align) = (Duration::from_nanos(per), Duration::from_nanos(align));
            match kind {
                0 => Limit::token_bucket(limit, window, burst),
                1 => Limit::sliding_log(limit, window),
                _ => Limit::FixedWindow { limit, window, align },
            }
        },
    )
}

proptest! {
    /// Proves INV-RL-1, INV-RL-2, C6.10.
    #[test]
    fn no_long_history_exceeds_the_bound_of_any_limit(
        limit in limits(),
        questions in prop::collection::vec((0.0..1.0_f64, 0.0..1.0_f64), 1..300),
    ) {
        let (mut meters, mut grants) = (meters([limit]), Grants::default());
        let bound = limit.bound();
        let mut now = Uptime::ZERO;
        for (wait, cost) in questions {
            // Many short waits, a few of more than a window; cheap and dear, as it comes.
            now = now + bound.within.mul_f64(wait.powi(6) * 1.5);
            let cost = 1 + (cost.powi(3) * (limit.cost_max() - 1) as f64) as u64;
            ask(&mut meters, &mut grants, cost, now);
        }
        prop_assert!(grants.most_within(bound.within) <= bound.grants);
    }

    /// What was reserved and not used is as never taken; what was used beyond it delays what comes later.
    ///
    /// Proves INV-RL-11.
    #[test]
    fn a_settled_reservation_is_as_a_grant_of_what_was_used(
        limit in limits(),
        estimate in 0.0..=1.0_f64,
        used in 0.0..=1.0_f64,
    ) {
        let most = limit.cost_max();
        let share = |share: f64| (share * most as f64) as u64;
        let (estimate, used) = (share(estimate).max(1), share(used));
        let (mut reserved, mut taken) = (meters([limit]), meters([limit]));
        let Reserved::Held(hold) = reserved.reserve(&0, &[estimate], at(0)).unwrap() else {
            panic!()
        };
        reserved.settle(hold, &[used], at(0));
        prop_assert!(is_allowed(taken.check(&0, &[used], at(0)).unwrap()));
        for cost in [1, most.div_ceil(2), most] {
            let (one, two) = (reserved.clone().check(&0, &[cost], at(0)), taken.clone().check(&0, &[cost], at(0)));
            prop_assert_eq!(one.unwrap(), two.unwrap());
        }
        // However much comes back, and however late, no more than the limit can be granted.
        let far = reserved.status(&0, at(0))[0].reset_at;
        let Reserved::Held(hold) = reserved.reserve(&0, &[most], far).unwrap() else { panic!() };
        let full = reserved.status(&0, far)[0].reset_at;
        reserved.settle(hold, &[0], full);
        prop_assert_eq!(reserved.status(&0, full)[0].remaining, most);
    }
}

/// Whoever asks again when told gets nearly all of the bound, in any order of the 64 who do.
#[test]
fn contenders_that_come_when_told_get_all_that_may_be_granted() {
    let window = secs(1);
    for most in [64, 200] {
        for limit in [
            Limit::token_bucket(most, window, 10),
            Limit::sliding_log(most, window),
            Limit::fixed_window(most, window),
        ] {
            let (mut meters, mut grants, mut seed) = (meters([limit]), Grants::default(), most);
            let mut due = [Uptime::ZERO; 64];
            loop {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                let first = (0..64).min_by_key(|who| (due[*who], (*who as u64) ^ (seed % 64)));
                let first = first.unwrap();
                let now = due[first];
                if now >= at(5) {
                    break;
                }
                match meters.check(&0, &[1], now).unwrap() {
                    Decision::Allowed { .. } => grants.0.push((now.elapsed(), 1)),
                    Decision::Denied { retry_at } => due[first] = retry_at,
                }
            }
            assert!(grants.most_within(window) <= limit.bound().grants);
            let granted = grants.0.len() as u64;
            assert!(granted * 100 >= most * 5 * 99, "{limit:?}: {granted} of {}", most * 5);
        }
    }
}

/// Proves INV-RL-11.
#[test]
fn an_under_estimate_is_debt_that_delays_later_grants() {
    for (limit, retry_at) in [
        // 25 used of 10: 15 are owed, and one more is there after 16 of a second each.
        (Limit::token_bucket(10, secs(10), 10), at(16)),
        (Limit::sliding_log(10, secs(10)), at(10)),
        // The windows to come pay what was too much.
        (Limit::fixed_window(10, secs(10)), at(20)),
    ] {
        let mut meters = meters([limit]);
        let Reserved::Held(hold) = meters.reserve(&0, &[5], at(0)).unwrap() else { panic!() };
        meters.settle(hold, &[25], at(0));
        assert_eq!(meters.status(&0, at(0))[0].remaining, 0);
        let denied = meters.check(&0, &[1], at(0)).unwrap();
        assert_eq!(denied, Decision::Denied { retry_at }, "{limit:?}");
        assert!(is_allowed(meters.check(&0, &[1], retry_at).unwrap()));
    }
}

/// Proves INV-RL-7.
#[test]
fn a_cost_that_can_never_be_granted_is_an_error_and_takes_nothing() {
    let mut meters = meters([Limit::token_bucket(5, secs(1), 3), Limit::sliding_log(9, secs(1))]);
    let error = meters.check(&0, &[4, 1], at(0)).unwrap_err();
    assert_eq!(error, LimitError::CostExceedsBurst { cost: 4, cost_max: 3, place: 0 });
    let error = meters.check(&0, &[1], at(0)).unwrap_err();
    assert_eq!(error, LimitError::CostsMismatch { given: 1, limits: 2 });
    assert_eq!(meters.stats(), MeterStats::default());
    assert!(is_allowed(meters.check(&0, &[3, 9], at(0)).unwrap()));
}

/// Proves INV-RL-10, C6.11.
#[test]
fn several_limits_are_taken_together_or_not_at_all() {
    let mut meters = meters([Limit::sliding_log(3, secs(10)), Limit::sliding_log(100, secs(60))]);
    assert_eq!(meters.check(&0, &[1, 90], at(0)), Ok(Decision::Allowed { remaining: 2 }));
    // The second has too little, until its window is over: the first keeps what it has.
    let denied = meters.check(&0, &[1, 20], at(1));
    assert_eq!(denied, Ok(Decision::Denied { retry_at: at(60) }));
    let left = |meters: &mut Meters<u8>, now| {
        meters.status(&0, now).iter().map(|status| status.remaining).collect::<Vec<_>>()
    };
    assert_eq!(left(&mut meters, at(1)), [2, 10]);
    // Both have too little: the later of the two instants is the one.
    assert_eq!(meters.check(&0, &[2, 1], at(1)), Ok(Decision::Allowed { remaining: 0 }));
    assert_eq!(meters.check(&0, &[2, 20], at(1)), Ok(Decision::Denied { retry_at: at(60) }));
    assert_eq!(meters.check(&0, &[2, 1], at(1)), Ok(Decision::Denied { retry_at: at(11) }));
}

/// Proves INV-RL-3, C6.3.
#[test]
fn keys_are_independent() {
    let mut meters = meters([Limit::sliding_log(1, secs(10))]);
    for key in 0..100 {
        assert!(is_allowed(meters.check(&key, &[1], at(0)).unwrap()));
        assert!(!is_allowed(meters.check(&key, &[1], at(0)).unwrap()));
    }
    let stats = MeterStats { checks: 200, denials: 100, keys_refused: 0, keys: 100 };
    assert_eq!(meters.stats(), stats);
}

/// Proves INV-RL-4.
#[test]
fn a_full_table_refuses_new_keys_and_forgets_only_what_is_as_fresh() {
    for limit in [
        Limit::token_bucket(1, secs(10), 1),
        Limit::sliding_log(1, secs(10)),
        Limit::fixed_window(1, secs(10)),
    ] {
        let config = LimiterConfig::one(limit).keys_max(2);
        let mut meters = Meters::new(config).unwrap();
        assert!(is_allowed(meters.check(&0, &[1], at(0)).unwrap()));
        assert!(is_allowed(meters.check(&1, &[1], at(0)).unwrap()));
        let full = LimitError::KeyTableFull { keys_max: 2 };
        assert_eq!(meters.check(&2, &[1], at(0)), Err(full.clone()));
        assert_eq!(meters.prune(nano_before(at(10))), 0);
        assert_eq!(meters.check(&2, &[1], nano_before(at(10))), Err(full.clone()));
        // Whoever is known is served, and is not forgotten by that.
        assert!(!is_allowed(meters.check(&0, &[1], nano_before(at(10))).unwrap()));
        assert_eq!(meters.stats().keys_refused, 2);
        assert!(is_allowed(meters.check(&1, &[1], at(10)).unwrap()));
        assert!(is_allowed(meters.check(&2, &[1], at(10)).unwrap()), "0 made room");
        assert_eq!(meters.check(&0, &[1], at(10)), Err(full));
    }
}

/// A key with a reservation is not forgotten, though it seems fresh: its debt would be lost.
///
/// Proves INV-RL-4, INV-RL-11.
#[test]
fn a_key_with_a_reservation_is_not_forgotten() {
    let mut meters = meters([Limit::sliding_log(5, secs(1))]);
    let Reserved::Held(hold) = meters.reserve(&0, &[1], at(0)).unwrap() else { panic!() };
    assert_eq!(hold.costs(), [1]);
    assert_eq!(meters.prune(at(9)), 0);
    meters.settle(hold, &[6], at(9));
    assert_eq!(meters.status(&0, at(9))[0].remaining, 0);
    assert_eq!(meters.prune(at(10)), 1);
}

/// Proves INV-RL-5.
#[test]
fn new_limits_count_what_was_taken_before() {
    let kinds = |limit| {
        [
            Limit::token_bucket(limit, secs(10), limit),
            Limit::sliding_log(limit, secs(10)),
            Limit::fixed_window(limit, secs(10)),
        ]
    };
    for old in kinds(10) {
        for new in kinds(8) {
            let mut meters = meters([old]);
            assert!(is_allowed(meters.check(&0, &[6], at(0)).unwrap()));
            meters.configure(LimiterConfig::one(new), at(0)).unwrap();
            assert_eq!(meters.status(&0, at(0))[0].remaining, 2, "{old:?} {new:?}");
            assert!(!is_allowed(meters.check(&0, &[3], at(0)).unwrap()));
            // Less than was taken is debt; what cannot be used changes nothing.
            let wrong = LimiterConfig::one(Limit::sliding_log(0, secs(1)));
            assert_eq!(meters.configure(wrong, at(0)).unwrap_err().field, "limit");
            meters.configure(LimiterConfig::one(kinds(4)[1]), at(0)).unwrap();
            assert_eq!(meters.status(&0, at(0))[0].remaining, 0);
            // A second limit has nothing taken of it.
            let both = LimiterConfig::all([kinds(10)[1], kinds(3)[0]]);
            meters.configure(both, at(0)).unwrap();
            let left: Vec<u64> =
                meters.status(&0, at(0)).iter().map(|left| left.remaining).collect();
            assert_eq!(left, [4, 3]);
        }
    }
}

/// Proves INV-RL-5, C6.4.
#[test]
fn settings_that_cannot_be_used_are_named() {
    let (one, zero) = (secs(1), Duration::ZERO);
    for (limit, field) in [
        (Limit::token_bucket(0, one, 1), "rate.limit"),
        (Limit::token_bucket(1, one, 0), "burst"),
        (Limit::token_bucket(1, zero, 1), "rate.per"),
        (Limit::sliding_log(LIMIT_MAX + 1, one), "limit"),
        (Limit::sliding_log(1, WINDOW_MAX + one), "window"),
        (Limit::fixed_window(0, one), "limit"),
        (Limit::fixed_window(1, zero), "window"),
    ] {
        assert_eq!(LimiterConfig::one(limit).check().unwrap_err().field, field);
    }
    assert_eq!(LimiterConfig::all([]).check().unwrap_err().field, "limits");
    let none = LimiterConfig::one(Limit::sliding_log(1, one)).keys_max(0);
    assert_eq!(none.check().unwrap_err().field, "keys_max");
}

/// Time that seems to run back, as two threads may see it, is taken as the latest; nothing overflows at the largest.
///
/// Proves INV-RL-9.
#[test]
fn time_does_not_run_back_and_nothing_overflows() {
    let far = Uptime::new(Duration::MAX);
    for limit in [
        Limit::token_bucket(LIMIT_MAX, WINDOW_MAX, LIMIT_MAX),
        Limit::sliding_log(LIMIT_MAX, WINDOW_MAX),
        Limit::fixed_window(LIMIT_MAX, WINDOW_MAX),
    ] {
        let mut meters = meters([limit]);
        for now in [at(5), at(4), far, at(1), nano_after(at(1))] {
            let Reserved::Held(hold) = meters.reserve(&0, &[1], now).unwrap() else { panic!() };
            meters.settle(hold, &[1], now);
        }
        for _ in 0..3 {
            let mut debtor = meters.clone();
            if let Reserved::Held(hold) = debtor.reserve(&0, &[0], far).unwrap() {
                debtor.settle(hold, &[u64::MAX], far);
            }
            debtor
                .configure(LimiterConfig::one(Limit::token_bucket(1, WINDOW_MAX, 1)), far)
                .unwrap();
            assert_eq!(debtor.status(&0, far)[0].remaining, 0);
            meters = debtor;
        }
    }
}

/// Proves INV-RL-8, C6.14, C6.15, C6.17.
#[test]
fn a_pause_that_one_was_told_holds_for_all_of_its_key_and_is_only_extended() {
    let mut meters = meters([Limit::sliding_log(2, secs(1))]);
    assert_eq!(meters.back_off(&0, at(9), at(0)), Ok(true));
    assert_eq!(meters.back_off(&0, at(3), at(0)), Ok(false));
    let denied = Ok(Decision::Denied { retry_at: at(9) });
    assert_eq!(meters.check(&0, &[1], at(1)), denied);
    assert_eq!(meters.check(&1, &[1], at(1)), Ok(Decision::Allowed { remaining: 1 }));
    assert_eq!(meters.check(&0, &[1], nano_before(at(9))), denied);
    // It is not forgotten before its end, and takes nothing.
    assert_eq!(meters.prune(nano_before(at(9))), 1);
    assert_eq!(meters.check(&0, &[1], at(9)), Ok(Decision::Allowed { remaining: 1 }));
    assert_eq!(meters.back_off(&0, at(8), at(9)), Ok(false));
}
