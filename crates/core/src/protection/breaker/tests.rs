use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn at(secs: u64) -> Uptime {
    Uptime::new(Duration::from_secs(secs))
}

/// Ten seconds open and no jitter; a window of 60 s, so that a slot is a second.
fn config(failures_max: u32) -> BreakerConfig {
    BreakerConfig::consecutive(failures_max).open_for(Duration::from_secs(10)).jitter(0)
}

fn rated(failures_max: u32) -> BreakerConfig {
    config(failures_max).rate(50, 2, Duration::from_secs(60))
}

fn granted(breaker: &mut Breaker, now: Uptime) -> Grant {
    match breaker.permit(now).0 {
        Verdict::Granted(grant) => grant,
        Verdict::Open { .. } | Verdict::Probing => panic!("no grant of {breaker:?}"),
    }
}

fn call(breaker: &mut Breaker, outcome: Outcome, now: Uptime) -> Option<Transition> {
    let grant = granted(breaker, now);
    breaker.settle(grant, outcome, now, 0.5)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Ask,
    /// Gives a held grant back, by its place from the oldest or from the newest.
    Oldest(Outcome),
    Newest(Outcome),
    /// A second goes by, or as many as a breaker is open.
    Second,
    OpenTime,
    Reset,
}

const EVENTS: [Event; 9] = [
    Event::Ask,
    Event::Oldest(Outcome::Success),
    Event::Oldest(Outcome::Failure),
    Event::Oldest(Outcome::Ignore),
    Event::Newest(Outcome::Success),
    Event::Newest(Outcome::Failure),
    Event::Second,
    Event::OpenTime,
    Event::Reset,
];

/// The rules once more, by recounting the whole history.
#[derive(Clone)]
struct Model {
    config: BreakerConfig,
    state: State,
    /// What was counted since it closed: when, and whether it failed.
    counted: Vec<(u64, bool)>,
    successes: u32,
    failed_probes: u32,
    /// Which change of the state came last.
    changes: u64,
    /// Grants that are out: in which life of the state they were given.
    held: Vec<u64>,
    now: u64,
}

impl Model {
    fn new(config: BreakerConfig) -> Self {
        let (counted, held) = (Vec::new(), Vec::new());
        let state = State::Closed;
        Self { config, state, counted, successes: 0, failed_probes: 0, changes: 0, held, now: 0 }
    }

    fn change(&mut self, state: State) {
        self.state = state;
        self.changes += 1;
        self.counted.clear();
        self.successes = 0;
        if state == State::Closed {
            self.failed_probes = 0;
        }
    }

    fn open(&mut self) {
        let secs = (10_u64 << self.failed_probes).min(300);
        self.change(State::Open { until: at(self.now + secs) });
    }

    /// Whether a call is granted.
    fn ask(&mut self) -> bool {
        if let State::Open { until } = self.state
            && until <= at(self.now)
        {
            self.change(State::HalfOpen);
        }
        let of_now = self.held.iter().filter(|given| **given == self.changes).count();
        let may = match self.state {
            State::Closed => true,
            State::Open { .. } => false,
            State::HalfOpen => of_now < self.config.probes as usize,
        };
        if may {
            self.held.push(self.changes);
        }
        may
    }

    fn settle(&mut self, given: u64, outcome: Outcome) {
        if given != self.changes || outcome == Outcome::Ignore {
            return;
        }
        let failed = outcome == Outcome::Failure;
        match self.state {
            State::Open { .. } => unreachable!("nobody has a grant of an open breaker"),
            State::HalfOpen if failed => {
                self.failed_probes += 1;
                self.open();
            }
            State::HalfOpen => {
                self.successes += 1;
                if self.successes >= self.config.successes {
                    self.change(State::Closed);
                }
            }
            State::Closed => {
                self.counted.push((self.now, failed));
                let row = self.counted.iter().rev().take_while(|(_, failed)| *failed).count();
                let lately = self.counted.iter().filter(|(then, _)| then + 60 > self.now);
                let calls = lately.clone().count();
                let failures = lately.filter(|(_, failed)| *failed).count();
                let by_rate = self.config.rate.is_some_and(|rate| {
                    calls >= rate.calls_min as usize
                        && failures * 100 >= calls * usize::from(rate.percent)
                });
                if row >= self.config.failures_max as usize || by_rate {
                    self.open();
                }
            }
        }
    }
}

/// Does one event to both, and compares all that can be seen.
fn step(breaker: &mut Breaker, model: &mut Model, event: Event) {
    let (before, epoch) = (breaker.state(), breaker.epoch());
    let told = match event {
        Event::Ask => {
            let (verdict, told) = breaker.permit(at(model.now));
            assert_eq!(model.ask(), matches!(verdict, Verdict::Granted(_)), "{verdict:?}");
            match verdict {
                Verdict::Granted(grant) => assert_eq!(grant.epoch, breaker.epoch()),
                Verdict::Open { retry_at } => assert!(retry_at > at(model.now)),
                Verdict::Probing => assert_eq!(breaker.probes_out(), breaker.config().probes),
            }
            told
        }
        Event::Oldest(outcome) | Event::Newest(outcome) => {
            if model.held.is_empty() {
                return;
            }
            let place = if event == Event::Oldest(outcome) { 0 } else { model.held.len() - 1 };
            let given = model.held.remove(place);
            model.settle(given, outcome);
            breaker.settle(Grant { epoch: given }, outcome, at(model.now), 0.5)
        }
        Event::Second => {
            model.now += 1;
            None
        }
        Event::OpenTime => {
            model.now += 10;
            None
        }
        Event::Reset => {
            if model.state == State::Closed {
                model.counted.clear();
            } else {
                model.change(State::Closed);
            }
            breaker.reset(at(model.now))
        }
    };
    assert_eq!(breaker.state(), model.state, "after {event:?}");
    assert_eq!(breaker.epoch(), model.changes);
    let changed = u64::from(told.is_some());
    assert_eq!(breaker.epoch(), epoch + changed, "one transition is told for each change");
    if let Some(told) = told {
        let (at, epoch) = (at(model.now), breaker.epoch());
        let wanted = Transition { from: before, to: model.state, cause: told.cause, epoch, at };
        assert_eq!(told, wanted);
    }
    let of_now = model.held.iter().filter(|given| **given == model.changes).count();
    if model.state == State::HalfOpen {
        assert_eq!(breaker.probes_out() as usize, of_now);
        assert!(of_now <= model.config.probes as usize);
    }
}

/// Four million histories in all, in a few seconds.
const DEPTH: u32 = 6;

fn explore(breaker: &Breaker, model: &Model, depth: u32) -> u64 {
    if depth == 0 {
        return 1;
    }
    let mut histories = 0;
    for event in EVENTS {
        let (mut breaker, mut model) = (breaker.clone(), model.clone());
        step(&mut breaker, &mut model, event);
        histories += explore(&breaker, &model, depth - 1);
    }
    histories
}

/// All histories of `DEPTH` events from the start, and as many more from a breaker that is half open with grants of all its
/// lives still out.
///
/// Proves INV-CB-1, INV-CB-2, INV-CB-3, INV-CB-4, INV-CB-5, INV-CB-9, INV-CB-11.
#[test]
fn all_short_histories_equal_a_recount() {
    let mut histories = 0;
    for (failures_max, probes, successes) in [(1, 1, 1), (2, 2, 2)] {
        for config in [config(failures_max), rated(failures_max)] {
            let config = config.half_open(probes, successes);
            let (mut breaker, mut model) = (Breaker::new(config).unwrap(), Model::new(config));
            histories += explore(&breaker, &model, DEPTH);
            let trip = std::iter::repeat_n(Event::Newest(Outcome::Failure), failures_max as usize);
            let ask = std::iter::repeat_n(Event::Ask, failures_max as usize + 1);
            let open_again = [Event::OpenTime, Event::Ask, Event::Newest(Outcome::Failure)];
            let half_open = [Event::OpenTime, Event::OpenTime, Event::Ask];
            for event in ask.chain(trip).chain(open_again).chain(half_open) {
                step(&mut breaker, &mut model, event);
            }
            assert_eq!(breaker.state(), State::HalfOpen);
            assert_eq!(model.held.len(), 2, "one grant is of before the trip");
            histories += explore(&breaker, &model, DEPTH);
        }
    }
    assert_eq!(histories, 8 * 9_u64.pow(DEPTH));
}

proptest! {
    /// Proves INV-CB-2, INV-CB-3, INV-CB-5, INV-CB-9, INV-CB-11, B32.
    #[test]
    fn long_histories_equal_a_recount(
        events in prop::collection::vec(prop::sample::select(&EVENTS[..]), 0..400),
        failures_max in 1_u32..6,
        calls_min in 1_u32..12,
        percent in 1_u8..=100,
        probes in 1_u32..4,
        successes in 1_u32..4,
    ) {
        let config = config(failures_max).rate(percent, calls_min, Duration::from_secs(60));
        let config = config.half_open(probes, successes);
        let (mut breaker, mut model) = (Breaker::new(config).unwrap(), Model::new(config));
        for event in events {
            step(&mut breaker, &mut model, event);
        }
    }

    /// The time for which it is open stays inside of its jitter and below its cap, whatever chance says.
    #[test]
    fn the_open_time_doubles_up_to_its_cap(doublings in 0_u32..100, chance in 0.0..=1.0_f64) {
        let config = BreakerConfig::default();
        let time = config.open_time(doublings, chance).as_secs_f64();
        let base = (30.0 * 2_f64.powi(doublings.min(20).cast_signed())).min(300.0);
        prop_assert!(time >= base * 0.8 - 1e-6 && time <= (base * 1.2).min(300.0) + 1e-6);
    }
}

/// Proves INV-CB-2, B30, B31, C7.1.
#[test]
fn it_trips_at_the_count_and_success_begins_the_count_anew() {
    let mut breaker = Breaker::new(config(3)).unwrap();
    for outcome in [Outcome::Failure, Outcome::Failure, Outcome::Success, Outcome::Failure] {
        assert_eq!(call(&mut breaker, outcome, at(0)), None);
    }
    // What is ignored neither counts nor begins anew.
    assert_eq!(call(&mut breaker, Outcome::Ignore, at(0)), None);
    assert_eq!(call(&mut breaker, Outcome::Failure, at(0)), None);
    let tripped = call(&mut breaker, Outcome::Failure, at(0)).unwrap();
    assert_eq!(tripped.cause, Cause::Consecutive { failures: 3 });
    assert_eq!((tripped.from, tripped.epoch), (State::Closed, 1));
}

/// Proves INV-CB-2.
#[test]
fn it_trips_at_the_rate_of_the_window_and_forgets_what_is_older() {
    let rate = config(100).rate(50, 10, Duration::from_secs(60));
    let mut breaker = Breaker::new(rate).unwrap();
    for second in 0..5 {
        assert_eq!(call(&mut breaker, Outcome::Success, at(second)), None);
        if second < 4 {
            assert_eq!(call(&mut breaker, Outcome::Failure, at(second)), None);
        }
    }
    assert_eq!(breaker.in_window(at(59)), (4, 9));
    assert_eq!(breaker.in_window(at(60)), (3, 7));
    assert_eq!(breaker.in_window(at(64)), (0, 0));
    let tripped = call(&mut breaker, Outcome::Failure, at(5)).unwrap();
    assert_eq!(tripped.cause, Cause::Rate { failures: 5, calls: 10 });
}

/// A breaker needs as much memory for many calls as for few.
///
/// Proves INV-CB-10.
#[test]
fn the_window_is_bounded_and_an_idle_breaker_is_known() {
    let rate = config(u32::MAX).rate(100, u32::MAX, Duration::from_secs(60));
    let mut breaker = Breaker::new(rate).unwrap();
    for number in 0..10_000 {
        let outcome = if number % 2 == 0 { Outcome::Failure } else { Outcome::Success };
        assert_eq!(call(&mut breaker, outcome, at(number / 5)), None);
    }
    let Phase::Closed { window, .. } = &breaker.phase else { panic!() };
    assert!(format!("{window:?}").matches("Slot {").count() <= 60);
    assert_eq!(breaker.in_window(at(1_999)), (150, 300));
    assert!(!breaker.is_idle(at(2_058)));
    assert!(breaker.is_idle(at(2_059)));
}

/// Proves INV-CB-8, C7.7.
#[test]
fn new_settings_hold_from_the_next_decision_on() {
    let mut breaker = Breaker::new(rated(5).rate(100, 50, Duration::from_secs(60))).unwrap();
    for _ in 0..3 {
        assert_eq!(call(&mut breaker, Outcome::Failure, at(0)), None);
    }
    // What was counted is kept, also for a window of another length.
    breaker.configure(config(4).rate(100, 50, Duration::from_secs(120))).unwrap();
    assert_eq!(breaker.in_window(at(1)), (3, 3));
    let tripped = call(&mut breaker, Outcome::Failure, at(1)).unwrap();
    assert_eq!(tripped.to, State::Open { until: at(11) });
    // A setting that cannot be used changes nothing.
    let wrong = breaker.configure(config(4).half_open(0, 1)).unwrap_err();
    assert_eq!(wrong.field, "probes");
    breaker.configure(config(4).half_open(2, 1)).unwrap();
    let (_one, _two) = (granted(&mut breaker, at(11)), granted(&mut breaker, at(11)));
    assert_eq!(breaker.permit(at(11)).0, Verdict::Probing);
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    let zero = Duration::ZERO;
    for (config, field) in [
        (config(0), "failures_max"),
        (config(1).half_open(0, 1), "probes"),
        (config(1).half_open(1, 0), "successes"),
        (config(1).rate(0, 1, Duration::MAX), "rate.percent"),
        (config(1).rate(101, 1, Duration::MAX), "rate.percent"),
        (config(1).rate(50, 0, Duration::MAX), "rate.calls_min"),
        (config(1).rate(50, 1, zero), "rate.window"),
        (config(1).open_for(zero), "open_for"),
        (config(1).open_max(Duration::from_secs(1)), "open_max"),
        (config(1).jitter(100), "jitter_percent"),
    ] {
        assert_eq!(Breaker::new(config).unwrap_err().field, field);
    }
    let longest = config(1).open_for(Duration::MAX).rate(50, 1, Duration::MAX).jitter(99);
    let mut breaker = Breaker::new(longest).unwrap();
    let far = Uptime::new(Duration::MAX);
    let grant = granted(&mut breaker, far);
    let tripped = breaker.settle(grant, Outcome::Failure, far, 1.0).unwrap();
    assert_eq!(tripped.to, State::Open { until: far });
}

/// A breaker whose process ended while it was open begins open, and stays so for as long as was said.
#[test]
fn an_open_breaker_survives_the_end_of_its_process() {
    let mut before = Breaker::new(config(1)).unwrap();
    let _ = call(&mut before, Outcome::Failure, at(0));
    let _ = call(&mut before, Outcome::Failure, at(10)).unwrap();
    let State::Open { until } = before.state() else { panic!() };
    let (epoch, doublings) = (before.epoch(), before.doublings());
    let opened = Opened { until, epoch, doublings };
    let mut after = Breaker::restore(config(1), opened, at(29)).unwrap();
    assert!(
        matches!(after.permit(at(29)), (Verdict::Open { retry_at }, None) if retry_at == at(30))
    );
    // It goes on where it was: its next epoch is later, its next time is twice as long.
    let again = call(&mut after, Outcome::Failure, at(30)).unwrap();
    assert_eq!((again.to, again.epoch), (State::Open { until: at(70) }, epoch + 2));
    let mut later = Breaker::restore(config(1), opened, at(30)).unwrap();
    assert_eq!((later.state(), later.doublings()), (State::Closed, 0));
    assert!(granted(&mut later, at(30)).epoch() > epoch);
}

/// Whoever has a timer turns it, and tells of it once.
///
/// Proves INV-CB-9.
#[test]
fn a_breaker_turns_half_open_by_a_timer_or_by_a_call_and_not_by_both() {
    let mut breaker = Breaker::new(config(1)).unwrap();
    let _ = call(&mut breaker, Outcome::Failure, at(0));
    assert_eq!(breaker.turn(at(9)), None);
    let turned = breaker.turn(at(10)).unwrap();
    assert_eq!((turned.to, turned.cause), (State::HalfOpen, Cause::OpenTimeOver));
    assert_eq!(breaker.turn(at(10)), None);
    assert!(matches!(breaker.permit(at(10)), (Verdict::Granted(_), None)));
}
