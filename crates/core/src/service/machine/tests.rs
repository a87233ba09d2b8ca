//! Every pair of a state and an input, every sequence of inputs up to a depth, and what is promised of them.

mod stories;
mod witness;

use std::{collections::BTreeSet, time::Duration};

use super::{
    super::{Epoch, Holder, ServiceState, ServiceTerms, Verdict},
    ServiceInput, ServiceMachine, Spent,
};
use crate::{RestartIntensity, Uptime, intensity::IntensityLimit};
use witness::Witness;

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn at(seconds: u64) -> Uptime {
    Uptime::new(secs(seconds))
}

/// Small numbers, so that short sequences reach everything.
fn short() -> ServiceTerms {
    ServiceTerms { down_after: 2, up_after: 2, restarts_max: 1, ..ServiceTerms::default() }
}

/// An input, with what depends on the machine left open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Do {
    Acquire(&'static str),
    Ask,
    Release(&'static str),
    Launched,
    LaunchFailed {
        permanent: bool,
    },
    Exited,
    Healthy,
    Unready,
    Unresponsive,
    Gone,
    DrainConfirmed,
    Cleaned {
        failed: bool,
    },
    /// Time passes until it wants to be woken.
    Due,
    Restart,
    Shutdown,
    /// The same reports, of the life before.
    Late,
}

const ALL: [Do; 20] = [
    Do::Acquire("a"),
    Do::Acquire("b"),
    Do::Ask,
    Do::Release("a"),
    Do::Release("b"),
    Do::Launched,
    Do::LaunchFailed { permanent: false },
    Do::LaunchFailed { permanent: true },
    Do::Exited,
    Do::Healthy,
    Do::Unready,
    Do::Unresponsive,
    Do::Gone,
    Do::DrainConfirmed,
    Do::Cleaned { failed: false },
    Do::Cleaned { failed: true },
    Do::Due,
    Do::Restart,
    Do::Shutdown,
    Do::Late,
];

fn verdict(what: Do) -> Verdict {
    match what {
        Do::Unready => Verdict::Unready("busy".into()),
        Do::Unresponsive => Verdict::Unresponsive("silent".into()),
        Do::Gone => Verdict::Gone("exited".into()),
        Do::Healthy
        | Do::Acquire(_)
        | Do::Ask
        | Do::Release(_)
        | Do::Launched
        | Do::LaunchFailed { .. }
        | Do::Exited
        | Do::DrainConfirmed
        | Do::Cleaned { .. }
        | Do::Due
        | Do::Restart
        | Do::Shutdown
        | Do::Late => Verdict::Healthy,
    }
}

/// How each state, and each step within one, is reached.
const WAYS: [&[Do]; 17] = [
    &[],
    &[Do::Acquire("a")],
    &[Do::Acquire("a"), Do::Launched],
    &[Do::Acquire("a"), Do::Launched, Do::Unready],
    &[Do::Acquire("a"), Do::Launched, Do::Healthy],
    &[Do::Acquire("a"), Do::Launched, Do::Healthy, Do::Due, Do::Ask],
    &[Do::Acquire("a"), Do::Launched, Do::Healthy, Do::Release("a")],
    &[Do::Acquire("a"), Do::Launched, Do::Healthy, Do::Due, Do::Unready, Do::Due, Do::Unready],
    &[
        Do::Acquire("a"),
        Do::Launched,
        Do::Healthy,
        Do::Due,
        Do::Unready,
        Do::Due,
        Do::Unready,
        Do::Due,
        Do::Healthy,
        Do::Due,
    ],
    &[Do::Acquire("a"), Do::LaunchFailed { permanent: false }],
    &[Do::Acquire("a"), Do::LaunchFailed { permanent: true }],
    &[Do::Acquire("a"), Do::Exited, Do::Cleaned { failed: false }],
    &[Do::Acquire("a"), Do::LaunchFailed { permanent: true }, Do::Cleaned { failed: false }],
    &[Do::Acquire("a"), Do::Launched, Do::Healthy, Do::Shutdown],
    &[Do::Acquire("a"), Do::Launched, Do::Shutdown],
    // With `idle`, below: the drain is asked for, and issued.
    &[Do::Acquire("a"), Do::Launched, Do::Healthy, Do::Release("a"), Do::Due],
    &[Do::Acquire("a"), Do::Launched, Do::Healthy, Do::Release("a"), Do::Due, Do::DrainConfirmed],
];

/// Under these terms the stop of an idle one comes before its next probe.
fn idle() -> ServiceTerms {
    ServiceTerms { idle_stop: secs(1), ..short() }
}

fn kinds_of_terms() -> [ServiceTerms; 4] {
    [
        short(),
        idle(),
        ServiceTerms { admit_degraded: true, settle_delay: secs(3), ..short() },
        ServiceTerms { always_on: true, ..idle() },
    ]
}

/// SM-1, and of INV-24 that nothing is stopped while it is held: each way to a state, and each input in it; what is not in the table asserts in the machine.
#[test]
fn every_input_in_every_state_keeps_what_is_promised() {
    let mut seen = BTreeSet::new();
    for terms in kinds_of_terms() {
        for way in WAYS {
            let mut there = Witness::new(terms);
            way.iter().for_each(|what| there.take(*what));
            for what in ALL {
                let mut witness = there.clone();
                witness.take(what);
                seen.extend(witness.transitions.iter().copied());
            }
        }
    }
    let allowed: BTreeSet<_> = ServiceState::ALL
        .iter()
        .flat_map(|from| ServiceState::ALL.map(|to| (*from, to)))
        .filter(|(from, to)| from.may_become(*to))
        .collect();
    assert_eq!(seen, allowed, "every arrow of the table is taken, and no other");
}

/// As above, and INV-23: whoever is admitted was looked at for.
#[test]
fn every_short_sequence_keeps_what_is_promised() {
    let depth = if std::env::var_os("PERENNIAL_FULL").is_some() { 5 } else { 4 };
    fn walk(witness: &Witness, depth: u32, walked: &mut u64) {
        for what in ALL {
            let mut next = witness.clone();
            next.take(what);
            *walked += 1;
            if depth > 1 && next.has_moved(witness) {
                walk(&next, depth - 1, walked);
            }
        }
    }
    let mut walked = 0;
    for terms in kinds_of_terms() {
        for way in WAYS {
            let mut there = Witness::new(terms);
            way.iter().for_each(|what| there.take(*what));
            walk(&there, depth, &mut walked);
        }
    }
    assert!(walked > 200_000, "only {walked} inputs were tried");
}

/// SM-51: what a probe, a start, a stop or an end of an earlier life tells changes nothing.
#[test]
fn reports_of_an_earlier_life_change_nothing() {
    for way in WAYS {
        let mut witness = Witness::new(idle());
        way.iter().for_each(|what| witness.take(*what));
        let before = format!("{:?}", witness.machine);
        for earlier in 0..witness.machine.epoch().get() {
            let epoch = (0..earlier).fold(Epoch::ZERO, |epoch, _| epoch.next());
            for probe in 0..9 {
                let verdict = Verdict::Gone("late".into());
                let input = ServiceInput::Probed { epoch, probe, verdict };
                assert_eq!(witness.machine.on(input, witness.now, 0.5), Default::default());
            }
            let why: std::sync::Arc<str> = "late".into();
            for input in [
                ServiceInput::Exited { epoch, why: why.clone() },
                ServiceInput::LaunchFailed { epoch, why: why.clone(), permanent: true },
                ServiceInput::DrainConfirmed { epoch },
                ServiceInput::Cleaned { epoch, failed: None },
                ServiceInput::Cleaned { epoch, failed: Some(why) },
            ] {
                assert_eq!(witness.machine.on(input, witness.now, 0.5), Default::default());
            }
        }
        assert_eq!(format!("{:?}", witness.machine), before);
    }
}

/// DUR-83: nothing is guessed, what lives is adopted, what is gone is started again where somebody needs it.
/// What K33, K34 and K35 leave.
#[test]
fn what_was_lost_with_its_shell_is_looked_for_and_adopted_or_started_again() {
    use super::ServiceAction::{Find, Remove, Start, Stop};
    let epoch = Epoch::ZERO.next();
    for (state, held) in ServiceState::ALL.into_iter().flat_map(|of| [(of, false), (of, true)]) {
        let holders: BTreeSet<_> = held.then(|| Holder::new("a")).into_iter().collect();
        let recovered =
            || ServiceMachine::recovered(short(), (state, epoch), None, holders.clone(), at(1));
        let (machine, steps) = recovered();
        let first = steps.actions.first();
        match state {
            ServiceState::Failed => assert_eq!((first, machine.state()), (None, state)),
            ServiceState::Stopped if held => assert!(matches!(first, Some(Start { .. }))),
            ServiceState::Stopped => assert_eq!((first, machine.is_at_rest()), (None, true)),
            ServiceState::Starting
            | ServiceState::Ready
            | ServiceState::Degraded
            | ServiceState::Draining
            | ServiceState::Crashed => {
                assert_eq!((first, machine.state()), (Some(&Find { epoch }), state));
            }
        }
        if !machine.is_finding() {
            continue;
        }
        for what in [Do::Healthy, Do::Unready, Do::Unresponsive, Do::Gone] {
            let (mut machine, _) = recovered();
            let ask = ServiceInput::Ask { asker: 1, needed: at(1) };
            assert!(machine.on(ask, at(1), 0.0).actions.is_empty(), "whoever asks waits for it");
            let found = ServiceInput::Found { epoch, verdict: verdict(what) };
            let steps = machine.on(found.clone(), at(2), 0.0);
            assert!(!machine.is_finding());
            let serves = what == Do::Healthy
                && matches!(state, ServiceState::Starting | ServiceState::Ready);
            let answered = steps.actions.iter().any(|action| {
                let ready = super::Admission::Ready { epoch };
                matches!(action, super::ServiceAction::Answer { admission, .. } if *admission == ready)
            });
            assert_eq!(answered, serves, "{state} {what:?}");
            let (to, why) = (machine.state(), machine.status(at(2)).why);
            assert!(to != ServiceState::Ready || why.is_none(), "it serves, and {why:?}");
            let adopted = machine.state() == state || machine.state() == ServiceState::Ready;
            match state {
                ServiceState::Draining | ServiceState::Crashed => {
                    let cleans = |action: &_| matches!(action, Remove { .. } | Stop { .. });
                    assert!(what == Do::Gone || steps.actions.iter().any(cleans), "{state}");
                }
                ServiceState::Starting
                | ServiceState::Ready
                | ServiceState::Degraded
                | ServiceState::Stopped
                | ServiceState::Failed => assert_eq!(adopted, what != Do::Gone, "{state} {what:?}"),
            }
            assert_eq!(machine.on(found, at(2), 0.0), Default::default(), "found only once");
            if what == Do::Gone {
                let mut starts = false;
                let mut steps = steps;
                for _ in 0..3 {
                    starts |= steps.actions.iter().any(|action| matches!(action, Start { .. }));
                    let cleaned = ServiceInput::Cleaned { epoch, failed: None };
                    steps = machine.on(cleaned, at(2), 0.0);
                    starts |= steps.actions.iter().any(|action| matches!(action, Start { .. }));
                    if let Some(due) = machine.wake_at().filter(|_| !starts) {
                        steps = machine.on(ServiceInput::Due, due, 0.0);
                    }
                }
                assert_eq!((starts, machine.epoch() > epoch), (held, true), "{state}");
            } else if adopted && !held && state == ServiceState::Ready && what == Do::Healthy {
                let idle = at(2) + short().idle_stop;
                assert!(
                    machine.wake_at().is_some_and(|due| due <= idle),
                    "it is stopped when idle"
                );
            }
        }
        // A driver that never answers holds up nobody.
        let (mut machine, _) = recovered();
        let due = machine.wake_at().unwrap();
        let _ = machine.on(ServiceInput::Due, due, 0.0);
        assert!(!machine.is_finding());
    }
}

/// The loss of a shell begins no budget anew: not where it was lost between two lives, and not while a life was being cleared
/// away that was the last one, however long that takes.
#[test]
fn what_was_counted_goes_on_to_count_with_another_shell() {
    let (epoch, terms, why) = (Epoch::ZERO.next(), short(), Some("it fell over"));
    let limit = IntensityLimit { max_restarts: terms.restarts_max, within: terms.restarts_within };
    let recovered = |state, is_held: bool, crashes, is_final| {
        let mut restarts = RestartIntensity::new(limit);
        let _ = (0..crashes).map(|_| restarts.record(at(1))).last();
        let holders = is_held.then(|| Holder::new("a")).into_iter().collect();
        let (mut machine, _) =
            ServiceMachine::recovered(terms, (state, epoch), why, holders, at(1));
        machine.has_spent(Spent { restarts, counted: None, is_final });
        machine
    };
    let clear = |machine: &mut ServiceMachine, now| {
        let found = ServiceInput::Found { epoch, verdict: verdict(Do::Gone) };
        let _ = machine.on(found, now, 0.0);
        let _ = machine.on(ServiceInput::Cleaned { epoch, failed: None }, now, 0.0);
    };
    for crashes in 0..=terms.restarts_max {
        let mut machine = recovered(ServiceState::Ready, true, crashes, false);
        clear(&mut machine, at(1));
        assert_eq!(machine.status(at(1)).restarts, crashes + 1);
        let is_over = crashes == terms.restarts_max;
        assert_eq!(machine.state() == ServiceState::Failed, is_over, "{crashes}");
    }
    // A crash that was counted, and could not be kept, is one.
    for crashes in 1..=terms.restarts_max + 1 {
        let is_over = crashes > terms.restarts_max;
        let mut machine = recovered(ServiceState::Ready, true, crashes, is_over);
        machine.spent.counted = Some(epoch);
        clear(&mut machine, at(1));
        assert_eq!(machine.status(at(1)).restarts, crashes);
        assert_eq!(machine.state() == ServiceState::Failed, is_over, "{crashes}");
    }
    // One that was counted, and is found alive, was none: its end counts when it comes.
    for is_final in [false, true] {
        let mut machine = recovered(ServiceState::Ready, true, 1, is_final);
        machine.spent.counted = Some(epoch);
        let found = ServiceInput::Found { epoch, verdict: verdict(Do::Healthy) };
        let _ = machine.on(found, at(1), 0.0);
        let exited = ServiceInput::Exited { epoch, why: "it fell over".into() };
        let _ = machine.on(exited, at(1), 0.0);
        let _ = machine.on(ServiceInput::Cleaned { epoch, failed: None }, at(1), 0.0);
        assert_eq!(machine.status(at(1)).restarts, 1);
        assert_eq!(machine.state(), ServiceState::Crashed);
    }
    // What was permanent is so with any count; and by then no crash may be in the window any more.
    for (crashes, is_final, is_held) in
        [(1, false, false), (1, false, true), (1, true, false), (1, true, true), (2, true, true)]
    {
        for now in [at(1), at(2) + terms.restarts_within] {
            let mut machine = recovered(ServiceState::Crashed, is_held, crashes, is_final);
            clear(&mut machine, now);
            let state = match (is_final, is_held) {
                (true, _) => ServiceState::Failed,
                (false, true) => ServiceState::Crashed,
                (false, false) => ServiceState::Stopped,
            };
            assert_eq!(machine.state(), state, "{crashes} {is_final} {is_held}");
            let told = why.filter(|_| state != ServiceState::Stopped);
            assert_eq!(machine.status(now).why.as_deref(), told);
        }
    }
}
