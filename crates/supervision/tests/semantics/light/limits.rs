use std::time::Duration;

use perennial_core::supervisor::RestartDelay;
use perennial_supervision::{
    CallError, CastError, ExitReason, LifecycleEvent, LightSupervisorSpec, Mailbox, Overflow,
    RequestError, SendError, Shutdown, StopError,
};
use tokio::sync::oneshot;

use super::lamp::{Begin, Finish, Say, fall, lamps, patient};
use crate::{gs_server::settle, probe::SOON};

#[tokio::test(start_paused = true)]
async fn more_restarts_than_tolerated_end_all_and_then_the_supervisor() {
    let spec = LightSupervisorSpec::new("lamps", 10).intensity(2, Duration::from_secs(5));
    let (root, lamps, wire) = lamps(spec).await;
    let a = lamps.start_child("a", wire.clone()).await.unwrap();
    let b = lamps.start_child("b", wire.clone()).await.unwrap();
    let mut events = root.tree().lifecycle();
    for lamp in [&a, &b] {
        fall(lamp).await;
        assert_eq!(lamp.call(Say::Ask, SOON).await, Ok(2));
    }
    fall(&a).await;
    assert_eq!(a.call(Say::Ask, SOON).await, Err(CallError::NoProc));
    settle().await;
    // What it was is over; its own supervisor has started it again, without children.
    assert_eq!(b.call(Say::Ask, SOON).await, Err(CallError::NoProc));
    assert_eq!(lamps.count_children().unwrap().specs, 0);
    let told: Vec<_> = std::iter::from_fn(|| events.try_next()).collect();
    let gave_up = told.iter().find_map(|event| match &event.event {
        LifecycleEvent::GaveUp { offender } => Some((event.path.clone(), offender.id.to_string())),
        _ => None,
    });
    assert_eq!(gave_up, Some(("/top/lamps".to_owned(), "a".to_owned())));
    assert!(lamps.start_child("a", wire).await.is_ok());
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_window_that_has_passed_counts_no_more() {
    let spec = LightSupervisorSpec::new("lamps", 10).intensity(1, Duration::from_secs(5));
    let (root, lamps, wire) = lamps(spec).await;
    let lamp = lamps.start_child("a", wire).await.unwrap();
    for number in 2..6 {
        fall(&lamp).await;
        assert_eq!(lamp.call(Say::Ask, SOON).await, Ok(number));
        tokio::time::advance(Duration::from_secs(6)).await;
    }
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_budget_of_its_own_spares_the_others() {
    let spec = patient().child_budget(1, Duration::from_secs(5));
    let (root, lamps, wire) = lamps(spec).await;
    let a = lamps.start_child("a", wire.clone()).await.unwrap();
    let b = lamps.start_child("b", wire.clone()).await.unwrap();
    let mut events = root.tree().lifecycle();
    fall(&a).await;
    assert_eq!(a.call(Say::Ask, SOON).await, Ok(2));
    fall(&a).await;
    assert_eq!(a.call(Say::Ask, SOON).await, Err(CallError::NoProc));
    assert_eq!(b.call(Say::Ask, SOON).await, Ok(1));
    assert!(
        std::iter::from_fn(|| events.try_next())
            .any(|it| it.path == "/top/lamps/a" && it.event == LifecycleEvent::BudgetSpent)
    );
    // Its id is free, with a fresh budget.
    let a = lamps.start_child("a", wire).await.unwrap();
    fall(&a).await;
    assert_eq!(a.call(Say::Ask, SOON).await, Ok(2));
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_fails_is_tried_again_and_counts_again() {
    let (root, lamps, wire) = lamps(patient()).await;
    let lamp = lamps.start_child("a", wire.clone()).await.unwrap();
    let mut events = root.tree().lifecycle();
    wire.begin(Begin::Fail);
    wire.begin(Begin::Panic);
    fall(&lamp).await;
    assert_eq!(lamp.call(Say::Ask, SOON).await, Ok(4));
    let errors = std::iter::from_fn(|| events.try_next())
        .filter(|event| matches!(event.event, LifecycleEvent::StartError { .. }))
        .count();
    assert_eq!(errors, 2);
    let nodes = root.tree().nodes();
    let above = nodes.iter().find(|it| it.path == "/top/lamps").unwrap();
    assert_eq!(above.intensity.unwrap().in_window, 3);
    // One that need not run any more is gone.
    wire.begin(Begin::Ignore);
    fall(&lamp).await;
    assert_eq!(lamp.call(Say::Ask, SOON).await, Err(CallError::NoProc));
    assert_eq!(lamps.count_children().unwrap().specs, 0);
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn between_two_tries_callers_wait_and_a_termination_ends_the_wait() {
    let delay = RestartDelay {
        first: Duration::from_secs(1),
        max: Duration::from_secs(4),
        reset_after: Duration::from_secs(60),
    };
    let (root, lamps, wire) = lamps(patient().restart_backoff(delay)).await;
    let lamp = lamps.start_child("a", wire.clone()).await.unwrap();
    for (number, wait) in [(2, 1), (3, 2), (4, 4), (5, 4)] {
        let begun = tokio::time::Instant::now();
        fall(&lamp).await;
        assert_eq!(lamp.cast(Say::Note("nobody")), Err(CastError::NoProc));
        assert_eq!(lamp.whereis(), None);
        assert_eq!(lamp.call(Say::Ask, SOON).await, Ok(number));
        assert_eq!(begun.elapsed(), Duration::from_secs(wait));
    }
    tokio::time::advance(Duration::from_secs(61)).await;
    let begun = tokio::time::Instant::now();
    fall(&lamp).await;
    assert_eq!(lamp.call(Say::Ask, SOON).await, Ok(6));
    assert_eq!(begun.elapsed(), Duration::from_secs(1));
    fall(&lamp).await;
    let waiting = tokio::spawn({
        let lamp = lamp.clone();
        async move { lamp.call(Say::Ask, SOON).await }
    });
    settle().await;
    let again = lamps.start_child("a", wire.clone()).await;
    assert!(matches!(again, Err(RequestError::Restarting(_))), "{again:?}");
    wire.did();
    let begun = tokio::time::Instant::now();
    lamps.terminate_child("a").await.unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(waiting.await.unwrap(), Err(CallError::NoProc));
    tokio::time::advance(SOON).await;
    settle().await;
    assert_eq!(wire.did(), Vec::<String>::new());
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_keeps_the_order_or_asks_all_at_once() {
    let time = Duration::from_secs(1);
    for in_order in [true, false] {
        let spec = patient().stops_in_order(in_order).child_shutdown(Shutdown::Timeout(time));
        let (root, lamps, _) = lamps(spec).await;
        let wires = [(); 3].map(|()| super::lamp::Wire::default());
        for (id, wire) in ["a", "b", "c"].into_iter().zip(&wires) {
            lamps.start_child(id, wire.clone()).await.unwrap();
            wire.finish(Finish::Hang);
            wire.did();
        }
        let begun = tokio::time::Instant::now();
        let stopping = tokio::spawn({
            let lamps = lamps.clone();
            async move { lamps.stop(SOON).await }
        });
        settle().await;
        let asked = wires.each_ref().map(|wire| wire.did().len());
        assert_eq!(asked, if in_order { [0, 0, 1] } else { [1, 1, 1] });
        assert_eq!(stopping.await.unwrap(), Ok(()));
        assert_eq!(begun.elapsed(), if in_order { 3 * time } else { time });
        root.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_starts_in_a_supervisor_that_stops() {
    let (root, lamps, wire) = lamps(patient()).await;
    lamps.start_child("a", wire.clone()).await.unwrap();
    wire.finish(Finish::Hang);
    let stopping = tokio::spawn({
        let lamps = lamps.clone();
        async move { lamps.stop(SOON).await }
    });
    settle().await;
    let late = lamps.start_child("b", wire.clone()).await;
    assert!(matches!(late, Err(RequestError::NoProc)), "{late:?}");
    assert_eq!(stopping.await.unwrap(), Ok(()));
    assert_eq!(lamps.stop(Duration::ZERO).await, Err(StopError::ZeroDeadline));
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_dies_leaves_none_behind() {
    let (root, lamps, wire) = lamps(patient()).await;
    for how in ["kill", "crash"] {
        let lamp = lamps.start_child("a", wire.clone()).await.unwrap();
        let process = lamp.whereis().unwrap();
        let tree = root.tree();
        let victim = match how {
            "kill" => tree.kill("/top/lamps").unwrap(),
            _ => tree.crash("/top/lamps").unwrap(),
        };
        victim.exit().await;
        assert!(!process.is_alive(), "its own end comes after theirs");
        assert_eq!(lamp.call(Say::Ask, SOON).await, Err(CallError::NoProc));
        assert!(lamps.is_up().await);
        assert_eq!(lamps.count_children().unwrap().specs, 0);
    }
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_mailbox_has_each_policy() {
    for policy in [Overflow::Reject, Overflow::Wait, Overflow::DropOldest, Overflow::DropNewest] {
        let spec = patient().mailbox(Mailbox::new(3).overflow(policy));
        let (root, lamps, wire) = lamps(spec).await;
        let lamp = lamps.start_child("a", wire.clone()).await.unwrap();
        let (go, gate) = oneshot::channel();
        lamp.cast(Say::Hold(gate)).unwrap();
        settle().await;
        wire.did();
        let casts = ["1", "2", "3", "4", "5"].map(|what| lamp.cast(Say::Note(what)));
        let (told, handled, rejected, dropped) = match policy {
            Overflow::Reject | Overflow::Wait => (Err(CastError::Full), ["1", "2", "3"], 2, 0),
            Overflow::DropNewest => (Ok(()), ["1", "2", "3"], 0, 2),
            Overflow::DropOldest => (Ok(()), ["3", "4", "5"], 0, 2),
        };
        assert_eq!(casts, [Ok(()), Ok(()), Ok(()), told.clone(), told], "{policy}");
        let node = |path: &str| root.tree().nodes().into_iter().find(|it| it.path == path).unwrap();
        let shown = node("/top/lamps/a");
        let mailbox = shown.mailbox.unwrap();
        assert_eq!((mailbox.rejected, mailbox.dropped, mailbox.capacity), (rejected, dropped, 3));
        assert_eq!(shown.mailbox_depth, Some(3), "{policy}");
        let call = lamp.call(Say::Ask, Duration::from_secs(1)).await;
        match policy {
            Overflow::Reject | Overflow::DropNewest => assert_eq!(call, Err(CallError::Full)),
            Overflow::Wait | Overflow::DropOldest => assert_eq!(call, Err(CallError::Timeout)),
        }
        let mailbox = node("/top/lamps/a").mailbox.unwrap();
        let counted = match policy {
            Overflow::Wait => (rejected, dropped),
            Overflow::Reject => (rejected + 1, dropped),
            Overflow::DropOldest | Overflow::DropNewest => (rejected, dropped + 1),
        };
        assert_eq!((mailbox.rejected, mailbox.dropped), counted, "{policy}: one call is one");
        go.send(()).unwrap();
        settle().await;
        let handled = match policy {
            // The call went for the oldest.
            Overflow::DropOldest => &handled[1..],
            Overflow::Reject | Overflow::Wait | Overflow::DropNewest => &handled[..],
        };
        assert_eq!(wire.did(), handled, "{policy}");
        assert_eq!(lamp.call(Say::Ask, SOON).await, Ok(1));
        root.shutdown().await;
    }
}

/// Two have waited for the next incarnation, whose mailbox takes one.
#[tokio::test(start_paused = true)]
async fn whoever_finds_the_next_one_full_is_told_at_once() {
    let delay = RestartDelay {
        first: Duration::from_secs(1),
        max: Duration::from_secs(1),
        reset_after: Duration::ZERO,
    };
    let spec = patient().restart_backoff(delay).mailbox(Mailbox::new(1));
    let (root, lamps, wire) = lamps(spec).await;
    let lamp = lamps.start_child("a", wire).await.unwrap();
    fall(&lamp).await;
    let begun = tokio::time::Instant::now();
    let (first, second) = tokio::join!(lamp.call(Say::Ask, SOON), lamp.call(Say::Ask, SOON));
    assert_eq!(begun.elapsed(), Duration::from_secs(1), "not by a deadline");
    let mut answers = [first, second];
    answers.sort_by_key(Result::is_err);
    assert_eq!(answers, [Ok(2), Err(CallError::Full)]);
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_for_room_get_in_in_turn_and_none_waits_behind_the_end() {
    let spec = patient().mailbox(Mailbox::new(1).overflow(Overflow::Wait));
    let (root, lamps, wire) = lamps(spec).await;
    let lamp = lamps.start_child("a", wire.clone()).await.unwrap();
    let (go, gate) = oneshot::channel();
    lamp.cast(Say::Hold(gate)).unwrap();
    settle().await;
    lamp.cast(Say::Note("0")).unwrap();
    let mut senders = Vec::new();
    for what in ["1", "2", "3"] {
        let lamp = lamp.clone();
        senders.push(tokio::spawn(async move { lamp.send(Say::Note(what), SOON).await }));
        settle().await;
    }
    senders.remove(1).abort();
    settle().await;
    go.send(()).unwrap();
    for sender in senders {
        assert_eq!(sender.await.unwrap(), Ok(()));
    }
    settle().await;
    assert_eq!(wire.did()[1..], ["0", "1", "3"]);
    // At an end what waited is dropped, and room is what it was.
    let (_go, gate) = oneshot::channel();
    lamp.cast(Say::Hold(gate)).unwrap();
    settle().await;
    lamp.cast(Say::Note("lost")).unwrap();
    let late = tokio::spawn({
        let lamp = lamp.clone();
        async move { lamp.send(Say::Note("late"), SOON).await }
    });
    settle().await;
    root.tree().kill("/top/lamps/a").unwrap().exit().await;
    let late = late.await.unwrap();
    assert!(matches!(late, Ok(()) | Err(SendError::NoProc | SendError::Exited(_))), "{late:?}");
    settle().await;
    assert_eq!(lamp.cast(Say::Note("again")), Ok(()));
    settle().await;
    assert_eq!(lamp.cast(Say::Note("and again")), Ok(()));
    settle().await;
    assert_eq!(lamp.cast(Say::Note("ever")), Ok(()), "no place is lost");
    let waits = tokio::spawn({
        let lamp = lamp.clone();
        async move {
            let (_go, gate) = oneshot::channel();
            lamp.cast(Say::Hold(gate)).ok();
            tokio::task::yield_now().await;
            lamp.cast(Say::Note("full")).ok();
            lamp.send(Say::Note("waits"), SOON).await
        }
    });
    settle().await;
    lamps.terminate_child("a").await.ok();
    assert!(waits.await.unwrap().is_err() || lamps.find("a").is_none());
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_himself() {
    let (root, lamps, wire) = lamps(patient()).await;
    let lamp = lamps.start_child("a", wire).await.unwrap();
    assert_eq!(lamp.call(Say::CallSelf, SOON).await.unwrap(), "Err(CallingSelf)");
    assert_eq!(lamp.stop(ExitReason::Normal, Duration::ZERO).await, Err(StopError::ZeroDeadline));
    root.shutdown().await;
}
