//! Restarts against requests that concern the same child.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use shuttle::future::{block_on, spawn};

use super::{
    check,
    counter::{Say, World, each_life_ends_once},
};
use crate::{CallError, ChildStatus, Mailbox, RequestError};

async fn kill(world: World) {
    if let Ok(victim) = world.root.tree().kill("/top/child") {
        victim.exit().await;
        // It was the death of a life whose state is gone, whatever runs now.
        assert!(world.alive() <= 1, "two states at a time");
    }
}

/// It stays away, whatever is on its way: no restart that was due, and none that is tried again.
async fn stays_terminated(world: &World) {
    let child = world.root.supervisor().which_child("child").unwrap();
    assert_eq!((child.status, child.process), (ChildStatus::Stopped, None));
    assert_eq!(world.alive(), 0);
    let answer = world.address.call(Say::Flush, Duration::MAX).await;
    assert_eq!(answer, Err(CallError::NoProc), "nobody waits for what will not come");
}

/// A restart, of which `failing` starts fail first, against `terminate_child`.
fn restart_against_terminate(failing: usize) {
    block_on(async {
        let world = World::start(Mailbox::default()).await;
        let told = world.root.tree().lifecycle();
        world.notes.failing.store(failing, SeqCst);
        let kills = [(); 2].map(|()| spawn(kill(world.clone())));
        let own = world.clone();
        let terminates = spawn(async move {
            own.root.supervisor().terminate_child("child").await.unwrap();
            stays_terminated(&own).await;
        });
        terminates.await.unwrap();
        for kill in kills {
            kill.await.unwrap();
        }
        // Behind all that was in the supervisor's mailbox.
        world.root.supervisor().get_child_spec("child").await.unwrap();
        stays_terminated(&world).await;
        // What was due before is not due for the next life.
        world.notes.failing.store(0, SeqCst);
        let starts = world.notes.starts.load(SeqCst);
        world.root.supervisor().restart_child("child").await.unwrap();
        world.flush().await;
        world.root.supervisor().get_child_spec("child").await.unwrap();
        assert_eq!(world.notes.starts.load(SeqCst), starts + 1, "it was started once");
        world.end().await;
        each_life_ends_once(told).await;
    });
}

#[test]
fn what_is_terminated_in_the_middle_of_a_restart_stays_terminated() {
    check(|| restart_against_terminate(0));
}

#[test]
fn what_is_terminated_while_a_failed_restart_is_tried_again_stays_terminated() {
    check(|| restart_against_terminate(2));
}

/// Everybody at once: at rest there is one life or none, as the last answers say.
#[test]
fn requests_against_each_other_leave_one_life_or_none() {
    check(|| {
        block_on(async {
            let world = World::start(Mailbox::default()).await;
            let told = world.root.tree().lifecycle();
            let (own, other) = (world.clone(), world.clone());
            let kills = spawn(kill(world.clone()));
            let terminates =
                spawn(async move { own.root.supervisor().terminate_child("child").await });
            let restarts =
                spawn(async move { other.root.supervisor().restart_child("child").await });
            kills.await.unwrap();
            terminates.await.unwrap().unwrap();
            match restarts.await.unwrap() {
                Ok(_) => world.flush().await,
                // It ran, or was about to: the termination came behind.
                Err(RequestError::Running(_) | RequestError::Restarting(_)) => {
                    stays_terminated(&world).await;
                }
                Err(other) => panic!("{other}"),
            }
            let root = Arc::clone(&world.root);
            assert_eq!(root.supervisor().count_children().unwrap().active, world.alive());
            world.end().await;
            each_life_ends_once(told).await;
        });
    });
}

/// The shutdown of all against a restart: nothing is left, and whoever calls is told.
#[test]
fn a_shutdown_in_the_middle_of_a_restart_leaves_nothing() {
    check(|| {
        block_on(async {
            let world = World::start(Mailbox::default()).await;
            let told = world.root.tree().lifecycle();
            let kills = spawn(kill(world.clone()));
            let own = world.clone();
            let calls = spawn(async move { own.address.call(Say::Flush, Duration::MAX).await });
            world.end().await;
            kills.await.unwrap();
            // It is answered before, or hears of the end.
            assert_ne!(calls.await.unwrap(), Err(CallError::Timeout));
            each_life_ends_once(told).await;
        });
    });
}
