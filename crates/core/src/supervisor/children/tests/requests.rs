//! Requests, options and reconfiguration: table 5.5 and what is not OTP's own.

use super::*;

/// Table 5.5.
#[test]
fn every_request_is_answered_by_the_state_of_the_id() {
    let running = Status::Running(pid(1));
    for (status, start, restart, delete) in [
        (running, Refusal::AlreadyStarted(1), Some(Refusal::Running), Some(Refusal::Running)),
        (RESTARTING, Refusal::AlreadyPresent, Some(Refusal::Restarting), Some(Refusal::Restarting)),
        (Status::Stopped, Refusal::AlreadyPresent, None, None),
    ] {
        let kid = Kid { restart: Restart::Permanent, significant: false, status };
        let children = || family(Flags::default(), Keeps::Specs, &[kid]);
        let mut asked = children();
        assert_eq!(asked.start_child(rules("a", Restart::Permanent)), Err(start));
        let bad = Rules { significant: true, ..rules("a", Restart::Permanent) };
        let invalid = Refusal::Invalid(SpecError::SignificantNeverShutsDown("a".into()));
        assert_eq!(asked.start_child(bad), Err(invalid), "refused for what it is (SUP-182)");
        assert_eq!(plan(&mut asked), []);

        let mut asked = children();
        assert_eq!(asked.restart_child(1), restart.clone().map_or(Ok(()), Err));
        let starts = [Step::Expect(1), Step::Start(1)];
        assert_eq!(plan(&mut asked), if restart.is_none() { &starts[..] } else { &[] });

        let mut asked = children();
        assert_eq!(asked.delete_child(1), delete.clone().map_or(Ok(()), Err));
        assert_eq!(plan(&mut asked), if delete.is_none() { vec![Step::Forget(1)] } else { vec![] });
        assert_eq!(asked.find(&"a".into()), delete.is_some().then_some(1));

        let mut asked = children();
        assert_eq!(asked.terminate_child(1), Ok(()));
        let stop = (status == running).then_some(Step::Stop(1, pid(1)));
        let expected: Vec<Step> = stop.into_iter().chain([Step::Dismiss(1)]).collect();
        assert_eq!(plan(&mut asked), expected);
        assert_eq!(asked.status(1), Some(Status::Stopped), "its specification stays");
        assert_eq!(asked.terminate_child(1), Ok(()), "again");
    }
    let mut empty = Children::new(Flags::default(), Keeps::Specs).unwrap();
    assert_eq!(empty.terminate_child(1), Err(Refusal::NotFound));
    assert_eq!(empty.restart_child(1), Err(Refusal::NotFound));
    assert_eq!(empty.delete_child(1), Err(Refusal::NotFound));
}

#[test]
fn a_temporary_child_and_an_instance_vanish_when_they_are_terminated() {
    for (keeps, restart) in [
        (Keeps::Specs, Restart::Temporary),
        (INSTANCES, Restart::Permanent),
        (INSTANCES, Restart::Transient),
        (INSTANCES, Restart::Temporary),
    ] {
        let kid = Kid { restart, significant: false, status: Status::Running(pid(1)) };
        let mut children = family(Flags::default(), keeps, &[kid]);
        assert_eq!(children.terminate_child(1), Ok(()));
        assert_eq!(plan(&mut children), [Step::Stop(1, pid(1)), Step::Forget(1)]);
        assert_eq!(children.terminate_child(1), Err(Refusal::NotFound));
        assert_eq!(children.iter().count(), 0);
    }
}

/// What a start that was asked for leaves behind, by how it went.
#[test]
fn a_start_that_was_asked_for_leaves_what_the_rows_say() {
    for (keeps, restart, how, stays) in [
        (Keeps::Specs, Restart::Permanent, Started::Up(Pid(5)), true),
        (Keeps::Specs, Restart::Permanent, Started::Failed, false),
        (Keeps::Specs, Restart::Permanent, Started::Ignored, true),
        (Keeps::Specs, Restart::Temporary, Started::Up(Pid(5)), true),
        (Keeps::Specs, Restart::Temporary, Started::Failed, false),
        (Keeps::Specs, Restart::Temporary, Started::Ignored, false),
        (INSTANCES, Restart::Permanent, Started::Up(Pid(5)), true),
        (INSTANCES, Restart::Permanent, Started::Failed, false),
        (INSTANCES, Restart::Permanent, Started::Ignored, false),
    ] {
        let mut children = Children::new(Flags::default(), keeps).unwrap();
        let order = children.start_child(rules("a", restart)).unwrap();
        assert_eq!(plan(&mut children), [Step::Start(order)]);
        children.started(order, how, at(1));
        let forgotten = if stays { vec![] } else { vec![Step::Forget(order)] };
        assert_eq!(plan(&mut children), forgotten, "{keeps:?} {restart:?} {how:?}");
        let status = match how {
            Started::Up(pid) => Some(Status::Running(pid)),
            Started::Ignored | Started::Failed => stays.then_some(Status::Stopped),
        };
        assert_eq!(children.status(order), status);
        assert_eq!(children.find(&"a".into()).is_some(), stays && keeps == Keeps::Specs);
        let again = children.start_child(rules("a", restart));
        assert_eq!(again.is_ok(), !stays || keeps == INSTANCES);
    }
}

#[test]
fn a_manual_restart_keeps_the_specification_whatever_comes_of_it() {
    for (how, steps) in [
        (Started::Failed, vec![Step::Dismiss(1)]),
        (Started::Ignored, vec![]),
        (Started::Up(Pid(2)), vec![]),
    ] {
        // A temporary child that was ignored at a manual restart cannot be: it has no specification.
        let kid = Kid { restart: Restart::Transient, significant: false, status: Status::Stopped };
        let mut children = family(Flags::default(), Keeps::Specs, &[kid]);
        children.restart_child(1).unwrap();
        plan(&mut children);
        children.started(1, how, at(1));
        assert_eq!(plan(&mut children), steps, "{how:?}");
        assert!(children.status(1).is_some());
        assert_eq!(children.intensity().in_window(at(1)), 0, "it counts nothing");
    }
}

#[test]
fn declared_children_start_in_order_and_the_first_that_fails_is_the_end() {
    let mut children = Children::new(Flags::default(), Keeps::Specs).unwrap();
    let declared = ["a", "b", "c", "d"].map(|id| rules(id, Restart::Permanent)).to_vec();
    assert_eq!(children.declare(declared), Ok(vec![1, 2, 3, 4]));
    assert_eq!(children.next_step(), Some(Step::Start(1)));
    children.started(1, Started::Up(Pid(1)), at(0));
    assert_eq!(children.next_step(), Some(Step::Start(2)));
    children.started(2, Started::Ignored, at(0));
    assert_eq!(children.next_step(), Some(Step::Start(3)));
    children.started(3, Started::Failed, at(0));
    assert_eq!(plan(&mut children), [Step::End]);
    assert_eq!(children.end(), [(4, None), (3, None), (2, None), (1, Some(Pid(1)))]);
    assert_eq!(children.iter().count(), 0);
    assert_eq!(children.find(&"a".into()), None);
}

#[test]
fn nothing_is_planned_for_declarations_that_are_refused() {
    let mut children = Children::new(Flags::default(), Keeps::Specs).unwrap();
    let twice = vec![rules("a", Restart::Permanent), rules("a", Restart::Transient)];
    assert_eq!(children.declare(twice), Err(SpecError::DuplicateChild("a".into())));
    assert_eq!(plan(&mut children), []);
    let flags = Flags {
        intensity: IntensityLimit { max_restarts: 1, within: Duration::ZERO },
        ..Flags::default()
    };
    assert_eq!(Children::new(flags, Keeps::Specs).unwrap_err(), SpecError::ZeroPeriod);
}

#[test]
fn those_who_wait_for_a_group_are_dismissed_when_its_restart_is_cancelled() {
    let kid =
        |restart, order| Kid { restart, significant: false, status: Status::Running(pid(order)) };
    let kids = [1, 2, 3].map(|order| kid(Restart::Permanent, order));
    let flags = Flags { strategy: Strategy::RestForOne, intensity: limit(3), ..Flags::default() };
    let mut children = family(flags, Keeps::Specs, &kids);
    children.exited(2, pid(2), &ExitReason::Killed, at(1), at(1));
    while let Some(step) = children.next_step() {
        if step == Step::Start(2) {
            children.started(2, Started::Failed, at(1));
        }
    }
    // 3 was stopped for the restart of 2, which waits.
    assert_eq!(children.awaited, 1);
    children.terminate_child(2).unwrap();
    assert_eq!(plan(&mut children), [Step::Dismiss(2), Step::Dismiss(3)]);
    assert_eq!(children.awaited, 0);

    // While another restart that would bring it is due, it is still awaited.
    let mut children = family(flags, Keeps::Specs, &kids);
    children.exited(2, pid(2), &ExitReason::Killed, at(1), at(1));
    while let Some(step) = children.next_step() {
        if step == Step::Start(2) {
            children.started(2, Started::Failed, at(1));
        }
    }
    children.exited(1, pid(1), &ExitReason::Killed, at(1), at(1));
    while let Some(step) = children.next_step() {
        if step == Step::Start(1) {
            children.started(1, Started::Failed, at(1));
        }
    }
    assert_eq!(children.awaited, 2);
    children.delete_child(3).unwrap();
    assert_eq!((plan(&mut children), children.awaited), (vec![Step::Forget(3)], 1));
    children.terminate_child(2).unwrap();
    assert_eq!(plan(&mut children), [Step::Dismiss(2)]);
    assert_eq!(children.awaited, 0);
}

#[test]
fn a_waiting_restart_holds_a_place_and_restarts_need_none() {
    let keeps = Keeps::Instances { max: Some(1) };
    let mut children = Children::new(Flags::default(), keeps).unwrap();
    let order = children.start_child(rules("a", Restart::Permanent)).unwrap();
    plan(&mut children);
    children.started(order, Started::Up(Pid(1)), at(0));
    let full = Err(Refusal::MaxChildren(1));
    assert_eq!(children.start_child(rules("a", Restart::Permanent)), full);
    children.exited(order, Pid(1), &ExitReason::Killed, at(0), at(0));
    while let Some(step) = children.next_step() {
        if step == Step::Start(order) {
            children.started(order, Started::Failed, at(0));
        }
    }
    assert_eq!(children.start_child(rules("a", Restart::Permanent)), full);
    let generation = 1;
    assert_eq!(children.status(order), Some(Status::Restarting { generation }));
    children.retry_due(order, generation, at(0));
    assert!(plan(&mut children).contains(&Step::Start(order)));
    children.terminate_child(order).unwrap();
    plan(&mut children);
    assert!(children.start_child(rules("a", Restart::Permanent)).is_ok());
    let none = Keeps::Instances { max: Some(0) };
    let mut children = Children::new(Flags::default(), none).unwrap();
    let refused = children.start_child(rules("a", Restart::Permanent));
    assert_eq!(refused, Err(Refusal::MaxChildren(0)));
}

#[test]
fn significance_is_refused_where_it_means_nothing() {
    let significant = |restart| Rules { significant: true, ..rules("a", restart) };
    for auto_shutdown in AUTO {
        for restart in RESTARTS {
            let flags = Flags { auto_shutdown, ..Flags::default() };
            let refused = if auto_shutdown == AutoShutdown::Never {
                Some(SpecError::SignificantNeverShutsDown("a".into()))
            } else if restart == Restart::Permanent {
                Some(SpecError::SignificantPermanent("a".into()))
            } else {
                None
            };
            let mut children = Children::new(flags, Keeps::Specs).unwrap();
            let declared = children.declare(vec![significant(restart)]).map(drop);
            assert_eq!(declared, refused.clone().map_or(Ok(()), Err));
            let mut children = Children::new(flags, Keeps::Specs).unwrap();
            let started = children.start_child(significant(restart)).map(drop);
            assert_eq!(started, refused.map_or(Ok(()), |error| Err(Refusal::Invalid(error))));
            let mut children = Children::new(flags, INSTANCES).unwrap();
            let here = SpecError::SignificantHere("a".into());
            let started = children.start_child(significant(restart));
            assert_eq!(started, Err(Refusal::Invalid(here)));
        }
    }
    assert_eq!(significant(Restart::Permanent).check(None), Ok(()), "no mode is known");
    assert_eq!(rules("", Restart::Permanent).check(None), Err(SpecError::MissingId));
    let budget = Some(IntensityLimit { max_restarts: 1, within: Duration::ZERO });
    let broke = Rules { budget, ..rules("a", Restart::Permanent) };
    assert_eq!(broke.check(None), Err(SpecError::ZeroPeriod));
}

/// Crashes the child, lets its restart work, and answers what was planned before the start.
fn crash(children: &mut Children, order: Order, now: Uptime) -> Vec<Step> {
    let Some(Status::Running(own)) = children.status(order) else { panic!("it runs") };
    children.exited(order, own, &ExitReason::Killed, now, now);
    let mut steps = Vec::new();
    while let Some(step) = children.next_step() {
        if step == Step::Start(order) {
            children.started(order, Started::Up(Pid(own.0 + 1)), now);
        } else {
            steps.push(step);
        }
    }
    steps
}

#[test]
fn a_child_with_a_budget_of_its_own_spends_that_and_no_other() {
    let own = Rules { budget: Some(limit(1)), ..rules("a", Restart::Permanent) };
    let flags = Flags { intensity: limit(0), ..Flags::default() };
    for keeps in [Keeps::Specs, INSTANCES] {
        let mut children = Children::new(flags, keeps).unwrap();
        let order = children.start_child(own.clone()).unwrap();
        plan(&mut children);
        children.started(order, Started::Up(Pid(1)), at(0));
        assert_eq!(
            crash(&mut children, order, at(0)),
            [Step::Report(order, ExitReason::Killed), Step::Expect(order)]
        );
        let mut spent = crash(&mut children, order, at(5));
        assert_eq!(spent.remove(0), Step::Report(order, ExitReason::Killed));
        assert_eq!(spent.remove(0), Step::BudgetSpent(order));
        if keeps == Keeps::Specs {
            assert_eq!(spent, [Step::Dismiss(order)]);
            assert_eq!(children.status(order), Some(Status::Stopped));
            children.restart_child(order).unwrap();
            plan(&mut children);
            children.started(order, Started::Up(Pid(9)), at(5));
            assert_eq!(crash(&mut children, order, at(5)).len(), 2, "a fresh budget");
        } else {
            assert_eq!(spent, [Step::Forget(order)]);
        }
        assert_eq!(children.intensity().in_window(at(5)), 0);
    }
}

#[test]
fn new_flags_and_rules_are_for_what_comes_and_refused_as_a_whole() {
    let kid =
        Kid { restart: Restart::Transient, significant: false, status: Status::Running(pid(1)) };
    let mut children = family(Flags::default(), Keeps::Specs, &[kid]);
    let significant = Rules { significant: true, ..rules("a", Restart::Transient) };
    let any = Flags { auto_shutdown: AutoShutdown::AnySignificant, ..Flags::default() };
    let new = rules("b", Restart::Permanent);

    let never = children.reconfigure(Flags::default(), Keeps::Specs, vec![significant.clone()]);
    assert_eq!(never, Err(SpecError::SignificantNeverShutsDown("a".into())));
    let zero = Flags { intensity: IntensityLimit { within: Duration::ZERO, ..limit(1) }, ..any };
    let refused = children.reconfigure(zero, Keeps::Specs, vec![significant.clone()]);
    assert_eq!(refused, Err(SpecError::ZeroPeriod));
    assert!(!children.iter().any(|(_, rules, _)| rules.significant), "nothing changed");

    let orders = children.reconfigure(any, Keeps::Specs, vec![new, significant]);
    assert_eq!(orders, Ok(vec![2, 1]));
    assert_eq!(plan(&mut children), [], "nothing is started or stopped");
    assert_eq!(children.status(1), Some(Status::Running(pid(1))));
    assert_eq!(children.status(2), Some(Status::Stopped));
    assert_eq!(children.find(&"b".into()), Some(2));
    children.exited(1, pid(1), &ExitReason::Normal, at(1), at(1));
    assert_eq!(plan(&mut children), [Step::Dismiss(1), Step::End]);

    let keeps = Keeps::Instances { max: Some(2) };
    let mut children = family(Flags::default(), keeps, &[kid, kid]);
    let fewer = Keeps::Instances { max: Some(1) };
    let tight = Flags { intensity: limit(0), ..Flags::default() };
    assert_eq!(children.reconfigure(tight, fewer, Vec::new()), Ok(vec![]));
    assert_eq!(children.iter().count(), 2, "those that run stay");
    let refused = children.start_child(rules("c", Restart::Permanent));
    assert_eq!(refused, Err(Refusal::MaxChildren(1)));
    children.exited(1, pid(1), &ExitReason::Killed, at(1), at(1));
    assert!(plan(&mut children).contains(&Step::GaveUp(1)), "the new intensity counts");
}
