//! Who waits for whom, as a dump tells it.

use std::{pin::pin, time::Duration};

use perennial_core::{ExitReason, Restart, tree::WaitsFor};
use perennial_supervision::{
    CallError, ChildSpec, Mailbox, Next, Overflow, Reply, Root, SupervisorSpec, TaskSupervisor,
    TaskSupervisorSpec,
};
use tokio::sync::oneshot;

use crate::{
    gs_server::{Answer, Say, Talk, pending, settle},
    probe::{Log, Message, Probe, SOON, root},
};

type Wait = (String, u64);

/// Whom the node at `path` waits for, and for how many seconds.
fn waits(root: &Root, path: &str) -> Vec<Wait> {
    let nodes = root.tree().nodes();
    let node = nodes.into_iter().find(|node| node.path == path).unwrap();
    node.waits_for.into_iter().map(|WaitsFor { path, ms }| (path, ms / 1_000)).collect()
}

fn wait(path: &str, seconds: u64) -> Wait {
    (path.to_owned(), seconds)
}

async fn pass(seconds: u64) {
    settle().await;
    tokio::time::advance(Duration::from_secs(seconds)).await;
    settle().await;
}

fn work(work: impl Future<Output = Answer> + Send + 'static) -> Say {
    Say::Await(Box::pin(work))
}

#[tokio::test(start_paused = true)]
async fn those_that_wait_for_each_other_are_seen_until_their_deadlines() {
    let (a_spec, a) = Talk::new("a");
    let (b_spec, b) = Talk::new("b");
    let (c_spec, c) = Probe::new("c", &Log::default());
    let spec = SupervisorSpec::new("top").child(a_spec).child(b_spec).child(c_spec);
    let root = root(spec).await;
    let within = Duration::from_secs(60);
    let calls = |to: &Talk, answer| {
        let to = to.address.clone();
        work(async move {
            assert_eq!(to.call(Say::Ping, within).await, answer);
            Ok(Next::Continue)
        })
    };
    a.say(calls(&b, Ok(1)));
    settle().await;
    assert_eq!(waits(&root, "/top/a"), [], "it was answered");
    b.say(calls(&a, Err(CallError::Timeout)));
    a.say(calls(&b, Err(CallError::Timeout)));
    pass(3).await;
    let to = a.address.clone();
    let call = Message::Await(Box::pin(async move { drop(to.call(Say::Ping, within).await) }));
    c.address.cast(call).unwrap();
    pass(4).await;
    assert_eq!(waits(&root, "/top/a"), [wait("/top/b", 7)]);
    assert_eq!(waits(&root, "/top/b"), [wait("/top/a", 7)]);
    assert_eq!(waits(&root, "/top/c"), [wait("/top/a", 4)]);
    assert_eq!(waits(&root, "/top"), []);
    // Somebody outside of the tree waits for nothing in it.
    let mut outside = pin!(a.address.call(Say::Ping, within));
    pending(outside.as_mut()).await;
    pass(60).await;
    for path in ["/top/a", "/top/b", "/top/c"] {
        assert_eq!(waits(&root, path), [], "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_of_several_waits_is_told_until_it_ends_or_is_given_up() {
    let (a_spec, a) = Talk::new("a");
    let spec = SupervisorSpec::new("top").child(a_spec);
    let (others, talks): (Vec<_>, Vec<_>) = ["b", "c", "d"].into_iter().map(Talk::new).unzip();
    let root = root(others.into_iter().fold(spec, SupervisorSpec::child)).await;
    let [b, c, d] = talks.try_into().map_err(|_| "three").unwrap();
    let (give_up, given_up) = oneshot::channel::<()>();
    let (answers, to) = (c.clone(), [b.clone(), c.clone(), d.clone()]);
    a.say(work(async move {
        let [b, c, d] = to;
        let within = Duration::from_secs(600);
        let pending = d.address.send_request(Say::Keep);
        let all = async {
            let b = b.address.call(Say::Keep, within);
            tokio::join!(b, c.address.call(Say::Keep, within), pending.wait(within))
        };
        tokio::select! {
            _ = all => Err("they do not answer".into()),
            _ = given_up => Ok(Next::Continue),
        }
    }));
    pass(2).await;
    let [to_b, to_c, to_d] = ["/top/b", "/top/c", "/top/d"].map(|path| wait(path, 2));
    assert_eq!(waits(&root, "/top/a"), [to_b.clone(), to_c, to_d.clone()]);
    answers.say(crate::gs_server::Talker::act(|talker, _| {
        talker.kept.pop().into_iter().for_each(|reply: Reply<u64>| reply.send(1));
        Ok(Next::Continue)
    }));
    settle().await;
    assert_eq!(waits(&root, "/top/a"), [to_b, to_d]);
    give_up.send(()).unwrap();
    settle().await;
    assert_eq!(waits(&root, "/top/a"), []);
    assert_eq!(a.ping().await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_room_or_an_end_or_a_value_waits_too() {
    let (full_spec, full) = Talk::new("full");
    let full_spec = full_spec.mailbox(Mailbox::new(1).overflow(Overflow::Wait));
    let (tasks_spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 4));
    let mut spec = SupervisorSpec::new("top").child(full_spec).child(tasks_spec);
    let (talks_specs, talks): (Vec<_>, Vec<_>) = ["a", "b", "c"].into_iter().map(Talk::new).unzip();
    for child in talks_specs {
        spec = spec.child(child);
    }
    let root = root(spec).await;
    full.say(work(std::future::pending()));
    settle().await;
    full.say(Say::Work("x"));
    let to = full.address.clone();
    talks[0].say(work(async move {
        drop(to.send(Say::Work("y"), Duration::from_secs(60)).await);
        Ok(Next::Continue)
    }));
    let to = full.address.clone();
    talks[1].say(work(async move {
        drop(to.stop(ExitReason::Normal, Duration::from_secs(60)).await);
        Ok(Next::Continue)
    }));
    talks[2].say(work(async move {
        let mut task = tasks.async_nolink("t", std::future::pending::<()>()).await?;
        drop(task.join(Duration::from_secs(60)).await);
        Ok(Next::Continue)
    }));
    pass(5).await;
    assert_eq!(waits(&root, "/top/a"), [wait("/top/full", 5)]);
    assert_eq!(waits(&root, "/top/b"), [wait("/top/full", 5)]);
    let [(task, 5)] = &waits(&root, "/top/c")[..] else { panic!("{:?}", waits(&root, "/top/c")) };
    assert!(task.starts_with("/top/tasks/"), "{task}");
    root.tree().kill("/top/full").unwrap();
    settle().await;
    assert_eq!(waits(&root, "/top/a"), []);
    assert_eq!(waits(&root, "/top/b"), []);
}

/// Processes of another tree have no path here, and what has ended waits for nobody.
#[tokio::test(start_paused = true)]
async fn only_what_runs_in_this_tree_is_told() {
    let (a_spec, a) = Talk::new("a");
    let (b_spec, b) = Talk::new("b");
    let here = root(SupervisorSpec::new("here").child(a_spec)).await;
    let there = root(SupervisorSpec::new("there").child(b_spec)).await;
    let to = b.address.clone();
    a.say(work(async move {
        // Both may have the same number, each in its tree.
        assert_eq!(to.call(Say::Ping, SOON).await, Ok(1));
        drop(to.call(Say::Keep, SOON).await);
        Ok(Next::Continue)
    }));
    settle().await;
    assert_eq!(waits(&here, "/here/a"), []);
    assert_eq!(b.ping().await, Ok(2), "it was called");
    let to = b.address.clone();
    let caller = ChildSpec::task("caller", move || {
        let to = to.clone();
        async move { to.call(Say::Keep, SOON).await.map(drop) }
    });
    let caller = caller.restart(Restart::Permanent);
    there.supervisor().start_child(caller).await.unwrap();
    settle().await;
    assert_eq!(waits(&there, "/there/caller"), [wait("/there/b", 0)]);
    there.supervisor().terminate_child("caller").await.unwrap();
    assert_eq!(waits(&there, "/there/caller"), []);
}
