//! Trees share nothing, leave nothing behind, and change nothing of the program but its panic hook.

use std::{
    panic::{PanicHookInfo, set_hook, take_hook},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use perennial_core::ExitReason;
use perennial_supervision::{
    CallError, ChildSpec, Clock, DynamicSupervisor, DynamicSupervisorSpec, LifecycleEvent, Name,
    Options, Root, Supervisor, SupervisorSpec, TaskSupervisor, TaskSupervisorSpec,
};

use crate::{
    gs_server::{Say, Talk},
    probe::*,
};

/// One of several trees in which everything has the same names.
struct Twin {
    root: Root,
    actor: Probe,
    server: Talk,
    log: Log,
}

impl Twin {
    async fn start() -> Self {
        let log = Log::default();
        let (actor, probe) = Probe::new("a", &log);
        let (spec, server) = Talk::new("server");
        let inner = SupervisorSpec::new("inner").child(spec.name("the server"));
        let (inner, _) = Supervisor::child_spec(inner);
        let top = SupervisorSpec::new("top").intensity(1, SOON);
        let top = top.child(actor.name("the actor")).child(inner.name("the supervisor"));
        Self { root: root(top).await, actor: probe, server, log }
    }

    /// Everything of it is in its first life and where it belongs.
    async fn is_untouched(&self, pings: u64) {
        assert_eq!(self.actor.ping().await, Ok(pings));
        assert_eq!(self.server.address.ask(Say::Ping).await, Ok(pings));
        assert_eq!(self.log.take(), [""; 0]);
        for node in self.root.tree().nodes() {
            assert_eq!(node.incarnation, 1, "{}", node.path);
        }
        for (name, path) in [
            ("the actor", "/top/a"),
            ("the supervisor", "/top/inner"),
            ("the server", "/top/inner/server"),
        ] {
            let holder = self.root.names().whereis(name).unwrap();
            assert_eq!(holder.path(), path);
        }
        let own = self.actor.address.whereis();
        assert_eq!(self.root.names().whereis(Name::from("the actor")), own);
    }
}

#[tokio::test(start_paused = true)]
async fn trees_with_equal_names_do_not_notice_each_other() {
    let (first, second) = (Twin::start().await, Twin::start().await);
    second.log.take();
    let mut heard = second.root.tree().lifecycle();
    second.is_untouched(1).await;
    assert_ne!(first.actor.address.whereis(), second.actor.address.whereis());
    assert!(first.actor.address.whereis().is_some());

    // One of its children crashes, then it gives up, and one of its kind takes its place.
    first.actor.end(|| Message::Panic).await;
    first.actor.answers().await;
    second.is_untouched(2).await;
    first.root.tree().crash("/top/inner/server").unwrap().exit().await;
    first.root.tree().crash("/top/inner").unwrap().exit().await;
    assert_eq!(first.root.ended().await, ExitReason::Shutdown);
    assert_eq!(first.actor.ping().await, Err(CallError::NoProc));
    second.is_untouched(3).await;
    let third = Twin::start().await;
    second.is_untouched(4).await;
    third.root.shutdown().await;
    second.is_untouched(5).await;
    drop(third);
    let fourth = Twin::start().await;
    assert!(fourth.root.tree().kill("/top").unwrap().exit().await.is_abnormal());
    second.is_untouched(6).await;

    // What it hears first is its own.
    second.root.shutdown().await;
    let event = heard.next().await.unwrap();
    assert_eq!(event.path, "/top/inner/server");
    let shutdown = ExitReason::Shutdown;
    assert_eq!(event.event, LifecycleEvent::Exited { incarnation: 1, reason: shutdown });
}

#[tokio::test(start_paused = true)]
async fn a_tree_that_is_dropped_leaves_no_task() {
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = alive();
    let log = Log::default();
    let (actor, probe) = Probe::new("actor", &log);
    let (server, talk) = Talk::new("server");
    let task = ChildSpec::task("task", std::future::pending::<Result<(), String>>)
        .restart(perennial_core::Restart::Permanent);
    let cooperative = ChildSpec::cooperative_task("cooperative", |stop| async move {
        stop.stopped().await;
        Ok::<(), String>(())
    })
    .restart(perennial_core::Restart::Permanent);
    let (returned, has_returned) = std::sync::mpsc::channel();
    let thread = ChildSpec::thread("thread", move |stop| {
        let (wake, woken) = std::sync::mpsc::channel();
        stop.on_stop(move || wake.send(()).unwrap_or(()));
        woken.recv()?;
        returned.send(())?;
        Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    });
    let (waits, bad) = Probe::new("waits", &log);
    let (nested, nested_handle) = Supervisor::child_spec(
        SupervisorSpec::new("nested").child(waits.restart_delay(SOON)).child(server),
    );
    let (dynamic, children) =
        DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("dynamic", 9));
    let (tasks, work) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 9));
    let top = [actor, task, cooperative, thread, nested, dynamic, tasks];
    let root = root(top.into_iter().fold(SupervisorSpec::new("top"), SupervisorSpec::child)).await;
    let (child, dynamic_probe) = Probe::new("child", &log);
    children.start_child(child).await.unwrap();
    let unfinished = work.async_nolink("work", std::future::pending::<()>()).await.unwrap();
    bad.end(|| Message::Panic).await;
    let tree = root.tree().clone();
    assert_eq!(root.tree().nodes().len(), 12);
    assert!(alive() > before);

    // Its handles, its picture and a task's result are still held.
    drop(root);
    until(|| alive() <= before).await;
    assert_eq!(has_returned.try_recv(), Ok(()));
    assert_eq!(probe.ping().await, Err(CallError::NoProc));
    assert_eq!(dynamic_probe.ping().await, Err(CallError::NoProc));
    assert_eq!(talk.address.ask(Say::Ping).await, Err(CallError::NoProc));
    assert!(
        nested_handle
            .start_child(
                ChildSpec::task("late", || async { Ok::<(), String>(()) })
                    .restart(perennial_core::Restart::Permanent)
            )
            .await
            .is_err()
    );
    assert_eq!(alive(), before, "asking the dead starts nothing");
    drop((tree, unfinished));
}

/// Set in a process that runs one test alone.
const ALONE: &str = "PERENNIAL_TEST_ALONE";

/// Runs `body` in a process of its own: the hook is the program's, and so are its panics.
fn alone(test: &str, body: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some() {
        return body();
    }
    let this = std::env::current_exe().unwrap();
    let output = Command::new(this)
        .args([&format!("isolation::{test}"), "--exact", "--nocapture"])
        .env(ALONE, "yes")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}{complained}");
    assert!(told.contains("1 passed"), "{told}{complained}");
}

/// Where the program's hook is. It is the same one as long as this does not change.
fn hook() -> usize {
    let hook = take_hook();
    let place = (&raw const *hook).cast::<()>().addr();
    set_hook(hook);
    place
}

/// The host's hook, which counts.
fn host_hook() -> Arc<AtomicUsize> {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    set_hook(Box::new(move |_: &PanicHookInfo<'_>| {
        count.fetch_add(1, Ordering::SeqCst);
    }));
    seen
}

/// Starts a tree with `options`, lets a child panic, and returns where that was as far as it knows.
async fn place_of_a_panic(options: Options) -> Option<String> {
    let (spec, probe) = Probe::new("a", &Log::default());
    let top = SupervisorSpec::new("top").child(spec);
    let root = Root::start(top, Clock::start(), options).await.unwrap();
    let reason = probe.end(|| Message::Panic).await;
    root.shutdown().await;
    let ExitReason::Panic { location, .. } = reason else { panic!("{reason}") };
    location.map(|place| place.to_string())
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    executor.block_on(future)
}

#[test]
fn the_panic_hook_is_chained_once() {
    alone("the_panic_hook_is_chained_once", || {
        let seen = host_hook();
        let before = hook();
        assert!(block_on(place_of_a_panic(Options::default())).is_some());
        let chained = hook();
        assert_ne!(chained, before);
        assert_eq!(seen.load(Ordering::SeqCst), 1, "the hook of the host runs too");
        assert!(block_on(place_of_a_panic(Options::default())).is_some());
        assert_eq!(hook(), chained, "another tree changes nothing");
        assert_eq!(seen.load(Ordering::SeqCst), 2);
        // Who sets a hook later has the last word.
        let seen = host_hook();
        let later = hook();
        assert_eq!(block_on(place_of_a_panic(Options::default())), None);
        assert_eq!(hook(), later);
        assert_eq!(seen.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn the_panic_hook_is_left_alone_on_request() {
    alone("the_panic_hook_is_left_alone_on_request", || {
        let seen = host_hook();
        let before = hook();
        let options = Options { note_panic_locations: false, ..Options::default() };
        assert_eq!(block_on(place_of_a_panic(options)), None);
        assert_eq!(hook(), before);
        assert_eq!(seen.load(Ordering::SeqCst), 1);
    });
}
