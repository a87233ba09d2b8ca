//! The machine against what it promises: by examples, and in every order of events that a small world
//! can have.

mod histories;

use super::*;

type Machine = Applications<u8>;

fn name(text: &str) -> ApplicationName {
    text.into()
}

fn names(text: &str) -> Vec<ApplicationName> {
    text.chars().map(|one| one.to_string().into()).collect()
}

fn asker(request: Request) -> Asker {
    Asker { request, inside: None }
}

fn failed(error: u8) -> Result<(), Failure<u8>> {
    Err(Failure { error, normal: false })
}

/// `c` needs `b`, which needs `a`; `d` needs nothing.
fn world() -> Machine {
    let mut machine = Machine::default();
    for (one, below) in [("a", ""), ("b", "a"), ("c", "b"), ("d", "")] {
        assert_eq!(machine.load(&name(one), names(below)), Ok(()));
    }
    machine
}

fn steps(machine: &mut Machine) -> Vec<Step<u8>> {
    std::iter::from_fn(|| machine.next_step()).collect()
}

/// Those of `text` run, started in that order as `restart`.
fn running(text: &str, restart: Restart) -> Machine {
    let mut machine = world();
    for one in names(text) {
        machine.start(&asker(0), &one, restart, Wanted::Start);
        machine.started(&one, Ok(()));
    }
    steps(&mut machine);
    machine
}

fn start(text: &str) -> Step<u8> {
    Step::Start(name(text))
}

fn stop(text: &str) -> Step<u8> {
    Step::Stop(name(text))
}

fn ok(request: Request, started: &str) -> Step<u8> {
    Step::Answer(request, Ok(names(started)))
}

fn no(request: Request, refusal: Refusal<u8>) -> Step<u8> {
    Step::Answer(request, Err(refusal))
}

#[test]
fn a_start_is_shared_and_its_result_told_to_all() {
    for (result, heard) in [
        (Ok(()), Ok(names("a"))),
        (failed(7), Err(Refusal::Failed { application: name("a"), error: 7 })),
    ] {
        let mut machine = world();
        machine.start(&asker(1), &name("a"), Restart::Temporary, Wanted::Start);
        machine.start(&asker(2), &name("a"), Restart::Temporary, Wanted::Running);
        assert_eq!(steps(&mut machine), [start("a")]);
        machine.started(&name("a"), result);
        let told = steps(&mut machine);
        assert_eq!(told[..2], [Step::Answer(1, heard.clone()), Step::Answer(2, heard)]);
    }
}

/// Every phase of an application against every request about it.
#[test]
fn requests_are_answered_by_the_phase() {
    let a = || name("a");
    let inside = Asker { request: 9, inside: Some(a()) };
    let loaded = world();
    let mut starting = world();
    starting.start(&asker(0), &a(), Restart::Temporary, Wanted::Start);
    let runs = running("a", Restart::Temporary);
    let mut stopping = runs.clone();
    stopping.stop(&asker(0), &a());
    let mut died = runs.clone();
    died.ended(&a(), ExitReason::Killed);
    died.stopped(&a());
    for (phase, mut machine, new, ensured, stopped, own, unloaded, dependency) in [
        (
            Phase::Loaded,
            loaded,
            vec![start("a")],
            vec![start("a")],
            vec![no(9, Refusal::NotStarted(a()))],
            vec![start("a")],
            Ok(()),
            Refusal::NotStarted(a()),
        ),
        (
            Phase::Starting,
            starting,
            vec![],
            vec![],
            vec![],
            vec![no(9, Refusal::CallingSelf(a()))],
            Err(Refusal::InUse(a())),
            Refusal::NotStarted(a()),
        ),
        (
            Phase::Running,
            runs,
            vec![no(9, Refusal::AlreadyStarted(a()))],
            vec![ok(9, "")],
            vec![stop("a")],
            vec![no(9, Refusal::AlreadyStarted(a()))],
            Err(Refusal::InUse(a())),
            Refusal::NotRunning(a()),
        ),
        (
            Phase::Stopping,
            stopping,
            vec![no(9, Refusal::Stopping(a()))],
            vec![no(9, Refusal::Stopping(a()))],
            vec![],
            vec![no(9, Refusal::Stopping(a()))],
            Err(Refusal::InUse(a())),
            Refusal::NotRunning(a()),
        ),
        (
            Phase::Died,
            died,
            vec![start("a")],
            vec![start("a")],
            vec![ok(9, "")],
            vec![start("a")],
            Ok(()),
            Refusal::NotRunning(a()),
        ),
    ] {
        steps(&mut machine);
        assert_eq!(machine.phase(&a()), Some(phase));
        let after = |ask: &dyn Fn(&mut Machine)| {
            let mut machine = machine.clone();
            ask(&mut machine);
            steps(&mut machine)
        };
        let temporary = Restart::Temporary;
        assert_eq!(after(&|it| it.start(&asker(9), &a(), temporary, Wanted::Start)), new);
        assert_eq!(after(&|it| it.start(&asker(9), &a(), temporary, Wanted::Running)), ensured);
        assert_eq!(after(&|it| it.stop(&asker(9), &a())), stopped, "{phase:?}");
        assert_eq!(after(&|it| it.start(&inside, &a(), temporary, Wanted::Start)), own);
        assert_eq!(machine.clone().unload(&a()), unloaded, "{phase:?}");
        let of_b = after(&|it| it.start(&asker(9), &name("b"), temporary, Wanted::Start));
        let refused = if phase == Phase::Running { start("b") } else { no(9, dependency) };
        assert_eq!(of_b, [refused], "{phase:?}");
        let own_stop = after(&|it| it.stop(&inside, &a()));
        let itself = no(9, Refusal::CallingSelf(a()));
        let waits = matches!(phase, Phase::Starting | Phase::Running | Phase::Stopping);
        assert_eq!(own_stop == [itself], waits, "{phase:?}");
    }
}

#[test]
fn what_cannot_be_loaded_is_refused() {
    let mut machine = world();
    let mut load = |one: &str, below: &str| machine.load(&name(one), names(below));
    assert_eq!(load("a", ""), Err(Refusal::AlreadyLoaded(name("a"))));
    assert_eq!(load("", ""), Err(Refusal::InvalidName(name(""))));
    assert_eq!(load("x", "ax"), Err(Refusal::Circular(names("x"))));
    for number in 4..APPLICATIONS_MAX {
        assert_eq!(load(&number.to_string(), ""), Ok(()));
    }
    assert_eq!(load("more", ""), Err(Refusal::TooMany(APPLICATIONS_MAX)));
    assert_eq!(machine.unload(&name("x")), Err(Refusal::NotLoaded(name("x"))));
    machine.start(&asker(1), &name("x"), Restart::Temporary, Wanted::Start);
    assert_eq!(steps(&mut machine), [no(1, Refusal::NotLoaded(name("x")))]);
}

#[test]
fn all_are_started_in_order_and_only_the_new_ones_are_told() {
    let mut machine = running("a", Restart::Temporary);
    machine.start_all(asker(1), &names("cd"), Restart::Temporary);
    for one in ["b", "c", "d"] {
        assert_eq!(steps(&mut machine), [start(one)]);
        machine.started(&name(one), Ok(()));
    }
    assert_eq!(steps(&mut machine), [ok(1, "bcd")]);
    machine.start_all(asker(2), &names("cd"), Restart::Temporary);
    assert_eq!(steps(&mut machine), [ok(2, "")]);
}

#[test]
fn all_or_nothing_leaves_alone_what_ran_and_what_others_start() {
    let mut machine = running("a", Restart::Temporary);
    machine.start(&asker(1), &name("d"), Restart::Temporary, Wanted::Start);
    machine.start_all(asker(2), &names("dc"), Restart::Temporary);
    assert_eq!(steps(&mut machine), [start("d")]);
    machine.started(&name("d"), Ok(()));
    assert_eq!(steps(&mut machine), [ok(1, "d"), start("b")]);
    machine.started(&name("b"), Ok(()));
    assert_eq!(steps(&mut machine), [start("c")]);
    machine.started(&name("c"), failed(3));
    let error = Refusal::Failed { application: name("c"), error: 3 };
    let report =
        Step::FailedToStart { application: name("c"), restart: Restart::Temporary, error: 3 };
    assert_eq!(steps(&mut machine), [report, stop("b")]);
    machine.stopped(&name("b"));
    assert_eq!(steps(&mut machine), [no(2, error)]);
    let left: Vec<_> = machine.running().into_iter().map(|(name, _)| name).collect();
    assert_eq!(left, names("ad"));
}

#[test]
fn what_is_undone_is_undone_in_reverse_one_at_a_time() {
    let mut machine = world();
    machine.start_all(asker(1), &names("c"), Restart::Temporary);
    machine.started(&name("a"), Ok(()));
    machine.started(&name("b"), Ok(()));
    steps(&mut machine);
    machine.started(&name("c"), failed(2));
    assert_eq!(steps(&mut machine)[1..], [stop("b")]);
    machine.stopped(&name("b"));
    assert_eq!(steps(&mut machine), [stop("a")]);
    machine.stopped(&name("a"));
    let error = Refusal::Failed { application: name("c"), error: 2 };
    assert_eq!(steps(&mut machine), [no(1, error)]);
}

#[test]
fn what_was_started_again_since_is_not_undone() {
    let mut machine = world();
    machine.start_all(asker(1), &names("dc"), Restart::Temporary);
    machine.started(&name("d"), Ok(()));
    machine.stop(&asker(2), &name("d"));
    machine.stopped(&name("d"));
    machine.start(&asker(3), &name("d"), Restart::Temporary, Wanted::Start);
    machine.started(&name("d"), Ok(()));
    steps(&mut machine);
    machine.started(&name("a"), failed(1));
    let error = Refusal::Failed { application: name("a"), error: 1 };
    assert_eq!(steps(&mut machine).pop(), Some(no(1, error)));
    assert_eq!(machine.phase(&name("d")), Some(Phase::Running));
}

#[test]
fn an_end_is_reported_and_may_bring_everything_down_in_order() {
    for (restart, reason, down) in [
        (Restart::Permanent, ExitReason::Normal, true),
        (Restart::Transient, ExitReason::Normal, false),
        (Restart::Transient, ExitReason::Shutdown, true),
        (Restart::Temporary, ExitReason::Killed, false),
    ] {
        let mut machine = running("abd", Restart::Temporary);
        machine.start(&asker(0), &name("c"), restart, Wanted::Start);
        machine.started(&name("c"), Ok(()));
        steps(&mut machine);
        machine.ended(&name("c"), reason.clone());
        assert_eq!(steps(&mut machine), [stop("c")], "its callbacks run first");
        machine.stopped(&name("c"));
        let application = name("c");
        let exited =
            Step::Exited { application: application.clone(), restart, reason: reason.clone() };
        if !down {
            assert_eq!(steps(&mut machine), [exited]);
            assert_eq!(machine.phase(&application), Some(Phase::Died));
            continue;
        }
        let cause = Some(Cause::Exited { application, restart, reason });
        assert_eq!(steps(&mut machine), [exited, Step::TellHost(cause.clone())]);
        machine.host_told();
        for one in ["d", "b", "a"] {
            assert_eq!(steps(&mut machine), [stop(one)]);
            machine.stopped(&name(one));
        }
        assert_eq!(steps(&mut machine), [Step::Down]);
        assert_eq!(machine.cause(), cause.as_ref());
    }
}

#[test]
fn a_failed_start_is_answered_before_the_system_goes_down() {
    for (restart, normal, down) in [
        (Restart::Permanent, true, true),
        (Restart::Transient, true, false),
        (Restart::Transient, false, true),
        (Restart::Temporary, false, false),
    ] {
        let mut machine = world();
        machine.start(&asker(1), &name("a"), restart, Wanted::Start);
        steps(&mut machine);
        machine.started(&name("a"), Err(Failure { error: 5, normal }));
        let (application, error) = (name("a"), 5);
        let mut told = vec![
            no(1, Refusal::Failed { application: application.clone(), error }),
            Step::FailedToStart { application: application.clone(), restart, error },
        ];
        if down {
            told.push(Step::TellHost(Some(Cause::FailedToStart { application, restart, error })));
        }
        assert_eq!(steps(&mut machine), told, "{restart:?} {normal}");
    }
}

#[test]
fn who_goes_down_aborts_starts_and_refuses_the_rest() {
    let mut machine = running("ad", Restart::Temporary);
    machine.start(&asker(1), &name("b"), Restart::Temporary, Wanted::Start);
    machine.stop(&asker(2), &name("b"));
    steps(&mut machine);
    machine.shut_down(None);
    machine.shut_down(Some(Cause::FailedToStart {
        application: name("d"),
        restart: Restart::Permanent,
        error: 1,
    }));
    let left = [no(1, Refusal::ShuttingDown), no(2, Refusal::ShuttingDown), Step::TellHost(None)];
    assert_eq!(steps(&mut machine), left, "the first reason counts");
    machine.start(&asker(3), &name("c"), Restart::Temporary, Wanted::Start);
    machine.start_all(asker(4), &names("c"), Restart::Temporary);
    machine.stop(&asker(5), &name("a"));
    assert_eq!(steps(&mut machine), [3, 4, 5].map(|it| no(it, Refusal::ShuttingDown)));
    assert_eq!(machine.load(&name("e"), Vec::new()), Err(Refusal::ShuttingDown));
    machine.host_told();
    assert_eq!(steps(&mut machine), [Step::Abort(name("b"))]);
    // Too late: it runs, and is the last one that started.
    machine.started(&name("b"), Ok(()));
    for one in ["b", "d", "a"] {
        assert_eq!(steps(&mut machine), [stop(one)]);
        machine.stopped(&name(one));
    }
    assert_eq!(steps(&mut machine), [Step::Down]);
}
