//! Restarts that wait: how long, and what becomes of them meanwhile.

use super::*;

#[test]
fn delays_double_up_to_their_maximum_and_a_long_life_begins_anew() {
    let secs = Duration::from_secs;
    let delay = RestartDelay { first: secs(1), max: secs(5), reset_after: secs(60) };
    let flags = Flags { intensity: limit(99), ..Flags::default() };
    let mut children = Children::new(flags, Keeps::Specs).unwrap();
    let order = children
        .start_child(Rules { delay: Some(Box::new(delay)), ..rules("a", Restart::Permanent) })
        .unwrap();
    plan(&mut children);
    children.started(order, Started::Up(Pid(0)), at(0));
    let mut now = 0;
    let mut waits = |children: &mut Children, lives: u64| {
        now += lives;
        let Some(Status::Running(own)) = children.status(order) else { panic!("it runs") };
        children.exited(order, own, &ExitReason::Killed, at(now), at(now));
        let mut steps = plan(children);
        let Some(Step::Retry { generation, after: Some(after), .. }) = steps.pop() else {
            panic!("{steps:?}")
        };
        children.retry_due(order, generation, at(now));
        assert!(plan(children).contains(&Step::Start(order)));
        children.started(order, Started::Up(Pid(now + 1000)), at(now));
        after.as_secs()
    };
    assert_eq!([0, 1, 59, 0, 0].map(|lives| waits(&mut children, lives)), [1, 2, 4, 5, 5]);
    assert_eq!(waits(&mut children, 60), 1, "after a long life");
    assert_eq!(waits(&mut children, 1), 2);
    // A supervisor that was busy when it ended does not make its life longer.
    let Some(Status::Running(own)) = children.status(order) else { panic!("it runs") };
    children.exited(order, own, &ExitReason::Killed, at(61), at(999));
    let after = plan(&mut children).into_iter().find_map(|step| match step {
        Step::Retry { after, .. } => after,
        _ => None,
    });
    assert_eq!(after, Some(secs(4)));
    assert_eq!(RestartDelay::constant(secs(3)).before(7), secs(3));
    assert_eq!(delay.before(u32::MAX), secs(5));

    // A manual start begins anew as well.
    children.terminate_child(order).unwrap();
    children.restart_child(order).unwrap();
    plan(&mut children);
    children.started(order, Started::Up(Pid(1)), at(62));
    children.exited(order, Pid(1), &ExitReason::Killed, at(62), at(62));
    let after = plan(&mut children).into_iter().find_map(|step| match step {
        Step::Retry { after, .. } => after,
        _ => None,
    });
    assert_eq!(after, Some(secs(1)));
}

#[test]
fn a_long_life_that_a_sibling_ended_begins_the_backoff_anew() {
    let secs = Duration::from_secs;
    let delay = RestartDelay { first: secs(1), max: secs(5), reset_after: secs(60) };
    let flags = Flags { strategy: Strategy::OneForAll, intensity: limit(99), ..Flags::default() };
    for (lives, wait) in [(59, 2), (60, 1)] {
        let slow = Rules { delay: Some(Box::new(delay)), ..rules("slow", Restart::Permanent) };
        let mut children = Children::new(flags, Keeps::Specs).unwrap();
        children.declare(vec![slow, rules("b", Restart::Permanent)]).unwrap();
        let up = |children: &mut Children, step: &Step, now: u64| {
            if let Step::Start(order) = *step {
                children.started(order, Started::Up(Pid(order + 10 * now)), at(now));
            }
        };
        while let Some(step) = children.next_step() {
            up(&mut children, &step, 0);
        }
        children.exited(1, Pid(1), &ExitReason::Killed, at(0), at(0));
        let Some(Step::Retry { generation, .. }) = plan(&mut children).pop() else { panic!() };
        children.retry_due(1, generation, at(1));
        while let Some(step) = children.next_step() {
            up(&mut children, &step, 1);
        }
        children.exited(2, Pid(12), &ExitReason::Killed, at(1 + lives), at(1 + lives));
        let mut waits = None;
        while let Some(step) = children.next_step() {
            match step {
                Step::Start(order) => children.started(order, Started::Failed, at(1 + lives)),
                Step::Retry { after, .. } => waits = after,
                _ => (),
            }
        }
        assert_eq!(waits, Some(secs(wait)), "{lives}");
    }
}

/// A child whose restart waits for a delay, and the generation of that restart.
fn waiting() -> (Children, u64) {
    let delay = Box::new(RestartDelay::constant(Duration::from_secs(9)));
    let mut children = Children::new(Flags::default(), Keeps::Specs).unwrap();
    let slow = Rules { delay: Some(delay), ..rules("slow", Restart::Permanent) };
    assert_eq!(children.start_child(slow), Ok(1));
    plan(&mut children);
    children.started(1, Started::Up(pid(1)), at(0));
    let generation = ends(&mut children, pid(1));
    (children, generation)
}

/// The generation of the restart that the end of `pid` leads to.
fn ends(children: &mut Children, pid: Pid) -> u64 {
    children.exited(1, pid, &ExitReason::Killed, at(1), at(1));
    match plan(children).pop() {
        Some(Step::Retry { generation, .. }) => generation,
        other => panic!("{other:?}"),
    }
}

/// SUP-120.
#[test]
fn a_child_that_waits_for_its_delay_can_be_deleted() {
    let (mut children, generation) = waiting();
    assert_eq!(children.restart_child(1), Err(Refusal::Restarting));
    assert_eq!(children.delete_child(1), Ok(()));
    assert_eq!(plan(&mut children), [Step::Forget(1)]);
    children.retry_due(1, generation, at(10));
    assert_eq!(plan(&mut children), [], "its restart went with it");
    assert_eq!(children.find(&"slow".into()), None);
}

/// SUP-115.
#[test]
fn a_restart_that_was_cancelled_is_not_taken_for_a_later_one() {
    let (mut children, cancelled) = waiting();
    children.terminate_child(1).unwrap();
    children.restart_child(1).unwrap();
    plan(&mut children);
    children.started(1, Started::Up(pid(2)), at(1));
    let present = ends(&mut children, pid(2));
    children.retry_due(1, cancelled, at(10));
    assert_eq!(plan(&mut children), []);
    children.retry_due(1, present, at(10));
    assert!(plan(&mut children).contains(&Step::Start(1)));
}
