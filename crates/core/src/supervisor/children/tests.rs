//! Every small family of children against the tables of OTP's behaviour, written down a second time
//! as tables.

#![expect(clippy::wildcard_enum_match_arm, reason = "tests look for one step among all")]

mod delays;
mod requests;

use super::*;
use crate::{Restart, Strategy, intensity::IntensityLimit, supervisor::RestartDelay};

const STRATEGIES: [Strategy; 3] = [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne];
const AUTO: [AutoShutdown; 3] =
    [AutoShutdown::Never, AutoShutdown::AnySignificant, AutoShutdown::AllSignificant];
const RESTARTS: [Restart; 3] = [Restart::Permanent, Restart::Transient, Restart::Temporary];
const INSTANCES: Keeps = Keeps::Instances { max: None };
const RESTARTING: Status = Status::Restarting { generation: 7 };

/// One child of a family.
#[derive(Clone, Copy, Debug)]
struct Kid {
    restart: Restart,
    significant: bool,
    status: Status,
}

fn at(secs: u64) -> Uptime {
    Uptime::new(Duration::from_secs(secs))
}

fn limit(max_restarts: u32) -> IntensityLimit {
    IntensityLimit { max_restarts, within: Duration::from_secs(5) }
}

fn rules(id: &str, restart: Restart) -> Rules {
    Rules { id: id.into(), restart, significant: false, delay: None, budget: None }
}

fn pid(order: Order) -> Pid {
    Pid(100 + order)
}

/// A family in the midst of its life: children 1, 2, 3 … in the states given.
fn family(flags: Flags, keeps: Keeps, kids: &[Kid]) -> Children {
    let mut children = Children::new(flags, keeps).unwrap();
    for (kid, id) in kids.iter().zip(["a", "b", "c", "d"]) {
        let order = children.add(Rules { significant: kid.significant, ..rules(id, kid.restart) });
        children.entries.get_mut(&order).unwrap().status = kid.status;
    }
    children.next_generation = 8;
    children
}

fn plan(children: &mut Children) -> Vec<Step> {
    std::iter::from_fn(|| children.next_step()).collect()
}

/// All ways to fill `places` places with one of `choices` each.
fn all<T: Copy>(choices: &[T], places: u32) -> impl Iterator<Item = Vec<T>> + '_ {
    (0..choices.len().pow(places)).map(move |mut number| {
        let mut filled = Vec::new();
        for _ in 0..places {
            filled.push(choices[number % choices.len()]);
            number /= choices.len();
        }
        filled
    })
}

/// What can be true of one child at some moment: temporary ones run or are not there.
fn kids() -> Vec<Kid> {
    let mut kids = Vec::new();
    for restart in RESTARTS {
        for significant in [false, true] {
            for status in [Status::Running(Pid(0)), Status::Stopped, RESTARTING] {
                let runs = matches!(status, Status::Running(_));
                let possible = restart != Restart::Temporary || runs;
                // A permanent child is refused as significant.
                if possible && !(significant && restart == Restart::Permanent) {
                    kids.push(Kid { restart, significant, status });
                }
            }
        }
    }
    kids
}

/// Table 5.1 and 5.3, read aloud.
fn book(flags: Flags, keeps: Keeps, kids: &[Kid], failed: usize, reason: &ExitReason) -> Vec<Step> {
    let order = |place: usize| place as Order + 1;
    let kid = kids[failed];
    let abnormal = !matches!(reason, ExitReason::Normal | ExitReason::Shutdown);
    let mut steps = Vec::new();
    if kid.restart == Restart::Permanent || abnormal {
        steps.push(Step::Report(order(failed), reason.clone()));
    }
    let comes_back = match kid.restart {
        Restart::Permanent => true,
        Restart::Transient => abnormal,
        Restart::Temporary => false,
    };
    if !comes_back {
        let kept = kid.restart == Restart::Transient && keeps == Keeps::Specs;
        steps.push(if kept { Step::Dismiss(order(failed)) } else { Step::Forget(order(failed)) });
        let others_live = kids.iter().enumerate().any(|(place, other)| {
            place != failed && other.significant && other.status != Status::Stopped
        });
        let ends = match flags.auto_shutdown {
            AutoShutdown::Never => false,
            AutoShutdown::AnySignificant => kid.significant,
            AutoShutdown::AllSignificant => kid.significant && !others_live,
        };
        steps.extend(ends.then_some(Step::End));
        return steps;
    }
    steps.push(Step::Counted(at(9)));
    if flags.intensity.max_restarts == 0 {
        steps.extend([Step::GaveUp(order(failed)), Step::End]);
        return steps;
    }
    let touched: Vec<usize> = (0..kids.len())
        .filter(|place| match flags.strategy {
            Strategy::OneForOne => *place == failed,
            Strategy::OneForAll => true,
            Strategy::RestForOne => *place >= failed,
        })
        .collect();
    for place in touched.iter().rev() {
        if *place != failed && matches!(kids[*place].status, Status::Running(_)) {
            steps.push(Step::Stop(order(*place), pid(order(*place))));
        }
        steps.push(Step::Expect(order(*place)));
    }
    let temporary = |place: &&usize| kids[**place].restart == Restart::Temporary;
    steps.extend(touched.iter().rev().filter(temporary).map(|place| Step::Forget(order(*place))));
    let comes = |place: &&usize| kids[**place].restart != Restart::Temporary;
    steps.extend(touched.iter().filter(comes).map(|place| Step::Start(order(*place))));
    steps
}

fn families(mut each: impl FnMut(Flags, Keeps, Vec<Kid>)) {
    for kids in all(&kids(), 3) {
        // Identities as the machine would have given them.
        let kids: Vec<Kid> = kids
            .into_iter()
            .zip(1..)
            .map(|(kid, order)| match kid.status {
                Status::Running(_) => Kid { status: Status::Running(pid(order)), ..kid },
                Status::Restarting { .. } | Status::Stopped => kid,
            })
            .collect();
        for auto_shutdown in AUTO {
            for max_restarts in [0, 3] {
                let flags =
                    |strategy| Flags { strategy, intensity: limit(max_restarts), auto_shutdown };
                for strategy in STRATEGIES {
                    each(flags(strategy), Keeps::Specs, kids.clone());
                }
                each(flags(Strategy::OneForOne), INSTANCES, kids.clone());
            }
        }
    }
}

#[test]
fn every_own_exit_in_every_small_family_follows_the_book() {
    let reasons = [
        ExitReason::Normal,
        ExitReason::Shutdown,
        ExitReason::Killed,
        ExitReason::Error("no".into()),
    ];
    let mut seen = 0;
    families(|flags, keeps, kids| {
        for failed in 0..kids.len() {
            let Status::Running(own) = kids[failed].status else { continue };
            for reason in &reasons {
                let mut children = family(flags, keeps, &kids);
                children.exited(failed as Order + 1, own, reason, at(9), at(9));
                let expected = book(flags, keeps, &kids, failed, reason);
                assert_eq!(plan(&mut children), expected, "{flags:?} {keeps:?} {kids:?} {failed}");
                seen += 1;
            }
        }
    });
    assert!(seen > 100_000, "{seen}");
}

#[test]
fn news_of_another_incarnation_or_of_nobody_change_nothing() {
    families(|flags, keeps, kids| {
        let mut children = family(flags, keeps, &kids);
        for place in 0..kids.len() {
            children.exited(place as Order + 1, Pid(1), &ExitReason::Killed, at(9), at(9));
        }
        children.exited(9, Pid(1), &ExitReason::Killed, at(9), at(9));
        children.retry_due(9, 7, at(9));
        children.retry_due(1, 6, at(9));
        assert_eq!(plan(&mut children), []);
        for (place, kid) in kids.iter().enumerate() {
            assert_eq!(children.status(place as Order + 1), Some(kid.status));
        }
    });
}

/// A retry is a restart step like any other: it counts, and its strategy is applied to the child
/// that failed.
#[test]
fn every_retry_in_every_small_family_follows_the_book() {
    families(|flags, keeps, kids| {
        for failed in 0..kids.len() {
            if kids[failed].status != RESTARTING {
                continue;
            }
            let mut children = family(flags, keeps, &kids);
            children.retry_due(failed as Order + 1, 7, at(9));
            let mut as_crash = kids.clone();
            as_crash[failed].restart = Restart::Permanent;
            let mut expected = book(flags, keeps, &as_crash, failed, &ExitReason::Killed);
            assert!(matches!(expected.remove(0), Step::Report(..)), "a retry reports no exit");
            assert_eq!(plan(&mut children), expected, "{flags:?} {kids:?} {failed}");
        }
    });
}

/// For each member of a restarting group in turn: those before it start, it fails, or is ignored.
#[test]
fn a_restart_goes_as_far_as_the_first_child_that_fails() {
    let up = |order| Kid {
        restart: Restart::Permanent,
        significant: false,
        status: Status::Running(pid(order)),
    };
    let kids: Vec<Kid> = (1..=4).map(up).collect();
    for strategy in STRATEGIES {
        let flags = Flags { strategy, intensity: limit(3), auto_shutdown: AutoShutdown::Never };
        for failed in 1..=4 {
            for stops_at in 1..=4 {
                for how in [Started::Failed, Started::Ignored] {
                    let mut children = family(flags, Keeps::Specs, &kids);
                    children.exited(failed, pid(failed), &ExitReason::Killed, at(1), at(1));
                    let mut started = Vec::new();
                    let mut left = Vec::new();
                    let mut retry = None;
                    while let Some(step) = children.next_step() {
                        match step {
                            Step::Leave(order) => left.push(order),
                            Step::Start(order) => {
                                started.push(order);
                                let how =
                                    if order == stops_at { how } else { Started::Up(Pid(order)) };
                                children.started(order, how, at(2));
                            }
                            Step::Retry { order, generation, after: None } => {
                                retry = Some((order, generation));
                            }
                            _ => (),
                        }
                    }
                    let group: Vec<Order> = match strategy {
                        Strategy::OneForOne => vec![failed],
                        Strategy::OneForAll => (1..=4).collect(),
                        Strategy::RestForOne => (failed..=4).collect(),
                    };
                    let fails = how == Started::Failed && group.contains(&stops_at);
                    let expected: Vec<Order> = group
                        .iter()
                        .copied()
                        .filter(|order| !fails || *order <= stops_at)
                        .collect();
                    assert_eq!(started, expected, "{strategy:?} {failed} {stops_at} {how:?}");
                    assert_eq!([started, left].concat(), group, "the others are left for later");
                    assert_eq!(retry, fails.then_some((stops_at, 8)));
                    for order in 1..=4 {
                        let status = children.status(order).unwrap();
                        let expected = if !group.contains(&order) {
                            Status::Running(pid(order))
                        } else if fails && order == stops_at {
                            Status::Restarting { generation: 8 }
                        } else if order == stops_at || (fails && order > stops_at) {
                            Status::Stopped
                        } else {
                            Status::Running(Pid(order))
                        };
                        assert_eq!(status, expected, "{strategy:?} {failed} {stops_at} {how:?}");
                    }
                }
            }
        }
    }
}
