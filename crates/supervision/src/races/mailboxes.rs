//! What is sent against the end of whoever it is sent to.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use perennial_core::{ExitReason, Overflow};
use shuttle::{future::block_on, thread};

use super::{
    check, check_all,
    counter::{Counter, Parcel},
};
use crate::{
    Clock, Mailbox, SendError,
    address::Refused,
    gen_server::{Inbox, Letter, Queue},
    load::Load,
    races::counter::World,
};

/// Posts against the reader that takes `taken` letters and leaves.
fn post_against_close(policy: Overflow, taken: usize) {
    let dropped = Arc::new(AtomicUsize::new(0));
    let bound = Mailbox::new(2).overflow(policy);
    let queue = Queue::<Counter>::new(Load::new(Clock::start(), bound));
    let mut inbox = Inbox::new(queue.clone());
    let posts = [1, 2].map(|messages| {
        let (queue, dropped) = (queue.clone(), dropped.clone());
        thread::spawn(move || {
            let post = |_| queue.post(Parcel(dropped.clone()).into(), None);
            (0..messages).map(post).collect::<Vec<Result<(), Refused>>>()
        })
    });
    // It is always there: the last one to be read wakes a reader that waits.
    let reads = thread::spawn(move || {
        for _ in 0..taken {
            let letter = block_on(inbox.next(false));
            assert!(matches!(letter, Letter::Message(_)));
        }
    });
    let sent: Vec<Result<(), Refused>> = posts.map(|it| it.join().unwrap()).concat();
    reads.join().unwrap();
    let seen = queue.load().look();
    let went_in = sent.iter().filter(|it| it.is_ok()).count();
    let refused = sent.iter().filter(|it| matches!(it, Err(Refused::Full))).count();
    let not_taken = sent.iter().filter(|it| matches!(it, Err(Refused::Dropped))).count();
    let too_late = sent.iter().filter(|it| matches!(it, Err(Refused::NoProc))).count();
    assert_eq!(went_in + refused + not_taken + too_late, 3);
    let count = |number: u64| usize::try_from(number).unwrap();
    let displaced = if policy == Overflow::DropOldest { count(seen.mailbox.dropped) } else { 0 };
    assert_eq!(seen.taken, taken as u64);
    assert_eq!(went_in, taken + count(seen.depth) + displaced, "{sent:?} {seen:?}");
    assert_eq!(refused, count(seen.mailbox.rejected));
    assert_eq!(not_taken + displaced, count(seen.mailbox.dropped));
    // The queue is still there, and nothing is in it.
    assert_eq!(dropped.load(SeqCst), 3, "each is dropped once, whatever became of it");
}

#[test]
fn a_post_against_the_close_is_taken_or_undelivered_or_refused() {
    for policy in [Overflow::Reject, Overflow::Wait, Overflow::DropOldest, Overflow::DropNewest] {
        // With room for two, two of three are taken or counted under each of the policies.
        let tried = check_all(move || post_against_close(policy, 2));
        println!("{policy:?}: {tried} schedules");
    }
}

/// Casts against a kill: what was taken is handled, or counted as undelivered before the end is announced.
#[test]
fn a_cast_against_a_kill_is_handled_or_undelivered_or_refused() {
    check(|| {
        block_on(async {
            let world = World::start(Mailbox::default()).await;
            let casts = [2, 2].map(|count| {
                let world = world.clone();
                shuttle::future::spawn(async move {
                    (0..count).filter(|_| world.address.cast(world.parcel()).is_ok()).count()
                })
            });
            let killed = world.clone();
            let kill = shuttle::future::spawn(async move {
                if let Ok(victim) = killed.root.tree().kill("/top/child") {
                    victim.exit().await;
                }
            });
            let mut sent = 0;
            for cast in casts {
                sent += cast.await.unwrap();
            }
            kill.await.unwrap();
            let handled = world.end().await;
            assert_eq!(handled + world.undelivered(), sent);
        });
    });
}

/// Senders that wait for room, one of whom gives up, against those who take: no permit is lost, none doubled.
#[test]
fn room_that_is_waited_for_is_neither_lost_nor_doubled() {
    check(|| {
        block_on(async {
            let world = World::start(Mailbox::new(1).overflow(Overflow::Wait)).await;
            let [first, second, leaving] = [1, 2, 1].map(|count| {
                let world = world.clone();
                shuttle::future::spawn(async move {
                    let mut sent = 0;
                    for _ in 0..count {
                        let answer = world.address.send(world.parcel(), Duration::MAX).await;
                        assert_eq!(answer, Ok(()));
                        sent += 1;
                    }
                    sent
                })
            });
            leaving.abort();
            let left = leaving.await.unwrap_or(0);
            let sent = first.await.unwrap() + second.await.unwrap();
            // Behind all that was sent: it is alive, and has taken them.
            let room = world.address.now().unwrap();
            world.flush().await;
            assert_eq!(room.room().unwrap().available_permits(), 1);
            let handled = world.end().await;
            assert!(handled == sent + left || handled == sent + 1, "{handled} of {sent}");
        });
    });
}

/// Senders that wait for room against a kill: each is told, and what was sent is counted.
#[test]
fn whoever_waits_for_room_hears_of_the_end() {
    check(|| {
        block_on(async {
            let world = World::start(Mailbox::new(1).overflow(Overflow::Wait)).await;
            let sends = [(); 3].map(|()| {
                let world = world.clone();
                shuttle::future::spawn(async move {
                    world.address.send(world.parcel(), Duration::MAX).await
                })
            });
            let victim = world.root.tree().kill("/top/child").unwrap();
            assert_eq!(victim.exit().await, ExitReason::Killed);
            let mut sent = 0;
            for send in sends {
                match send.await.unwrap() {
                    Ok(()) => sent += 1,
                    Err(SendError::Exited(ExitReason::Killed) | SendError::NoProc) => (),
                    Err(other) => panic!("{other}"),
                }
            }
            let handled = world.end().await;
            assert_eq!(handled + world.undelivered(), sent);
        });
    });
}
