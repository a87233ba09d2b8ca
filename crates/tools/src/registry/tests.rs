use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use perennial_supervision::{Clock, Options, Root, SupervisorSpec};
use serde_json::json;
use tokio::sync::Semaphore;

use super::*;
use crate::tool::tool_fn;

const SOON: Duration = Duration::from_secs(5);

fn name() -> ToolName {
    ToolName::new("tool")
}

async fn start() -> (Root, ToolRegistry) {
    let (spec, registry) = ToolRegistry::child_spec();
    let tree = SupervisorSpec::new("root").intensity(1_000, Duration::from_secs(1)).child(spec);
    let root = Root::start(tree, Clock::start(), Options::default()).await.unwrap();
    (root, registry)
}

fn unknown(near: Option<ToolName>) -> AcquireError {
    AcquireError::UnknownTool { tool: name(), near }
}

fn echo() -> Tool {
    tool_fn("tool", "gives back what it gets", async |arguments: Value| Ok(arguments))
}

#[tokio::test(start_paused = true)]
async fn a_registered_tool_is_called_with_its_arguments() {
    let (_root, registry) = start().await;
    assert_eq!(registry.call(&name(), json!({})).await, Err(unknown(None).into()));
    registry.register(echo()).unwrap();
    assert_eq!(registry.register(echo()), Err(AlreadyRegistered(name())));
    assert_eq!(registry.call(&name(), json!({"x": 1})).await, Ok(json!({"x": 1})));
    assert!(registry.unregister(&name()));
    assert!(!registry.unregister(&name()));
    let gone = registry.acquire(&name()).await.unwrap_err();
    assert_eq!(gone, unknown(None));
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_almost_right_is_told_the_right_one() {
    let (_root, registry) = start().await;
    registry.register(echo()).unwrap();
    for (asked, text) in
        [("tol", "unknown tool `tol`, did you mean `tool`?"), ("other", "unknown tool `other`")]
    {
        let error = registry.acquire(&ToolName::new(asked)).await.unwrap_err();
        assert_eq!(error.to_string(), text);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_permit_gives_its_slot_back() {
    let (_root, registry) = start().await;
    registry.register(echo().calls_max(1)).unwrap();
    let permit = registry.acquire(&name()).await.unwrap();
    assert_eq!(registry.acquire(&name()).await.unwrap_err(), AcquireError::Busy(name()));
    drop(permit);
    assert!(registry.acquire(&name()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_aborted_caller_gives_its_place_back() {
    let (_root, registry) = start().await;
    registry.register(echo().calls_max(1)).unwrap();
    let permit = registry.acquire(&name()).await.unwrap();
    let late = registry.acquire_within(&name(), Duration::from_millis(10)).await.unwrap_err();
    assert_eq!(late, AcquireError::Registry(CallError::Timeout));
    drop(permit);
    // The one that left is granted and gives back; this one comes after it.
    assert!(registry.acquire_within(&name(), SOON).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn callers_wait_in_line_and_no_more_than_the_limit_run() {
    let (_root, registry) = start().await;
    let (running, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (now, peak) = (running.clone(), most.clone());
    let work = move |arguments: Value| {
        let (now, peak) = (now.clone(), peak.clone());
        async move {
            peak.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            // Work that takes time, on the paused clock.
            tokio::time::sleep(Duration::from_millis(10)).await;
            now.fetch_sub(1, Ordering::Relaxed);
            Ok(arguments)
        }
    };
    registry.register(tool_fn("tool", "works for a while", work).calls_max(3)).unwrap();
    let name = name();
    let calls = (0..50).map(|number| registry.call(&name, json!(number)));
    let results = join_all(calls).await;
    let expected: Vec<_> = (0..50).map(|number| Ok(json!(number))).collect();
    assert_eq!(results, expected);
    assert_eq!((running.load(Ordering::Relaxed), most.load(Ordering::Relaxed)), (0, 3));
    let status = registry.status().await.unwrap();
    assert_eq!((status[0].calls, status[0].calls_max, status[0].waiting), (0, 3, 0));
}

#[tokio::test(start_paused = true)]
async fn a_failure_and_a_deadline_are_told_and_free_the_slot() {
    let (_root, registry) = start().await;
    let work = async |arguments: Value| match arguments.as_str() {
        Some(message) => Err(ToolError::new(message)),
        None => std::future::pending().await,
    };
    let within = Duration::from_millis(50);
    registry.register(tool_fn("tool", "fails", work).calls_max(1).within(within)).unwrap();
    let failed = registry.call(&name(), json!("no")).await.unwrap_err();
    assert_eq!(failed.to_string(), "tool `tool` failed: no");
    let failure = Failure::from(failed);
    assert_eq!((failure.class, failure.code.as_str()), (FailureClass::Tool, "PL617"));
    let late = registry.call(&name(), json!(null)).await.unwrap_err();
    assert_eq!(late, ToolCallError::TooLate { tool: name(), within });
    assert_eq!(Failure::from(late).class, FailureClass::Timeout);
    assert!(registry.acquire(&name()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_tool_is_told_with_its_place_and_frees_the_slot() {
    let (_root, registry) = start().await;
    // Once in the function, once in the future that it gives.
    let work = |arguments: Value| {
        assert!(arguments != json!("made"), "a bug in the making");
        async move {
            assert!(arguments != json!("run"), "a bug in the run");
            Ok(arguments)
        }
    };
    registry.register(tool_fn("tool", "panics", work).calls_max(1)).unwrap();
    for (argument, text) in [("made", "a bug in the making"), ("run", "a bug in the run")] {
        let error = registry.call(&name(), json!(argument)).await.unwrap_err();
        let ToolCallError::Panicked { tool, reason } = &error else { panic!("{error:?}") };
        assert_eq!(*tool, name());
        let ExitReason::Panic { message, location: Some(place) } = reason else {
            panic!("{reason:?}")
        };
        assert_eq!(&**message, text);
        assert!(place.contains("registry/tests.rs:"), "{place}");
        let shown = format!("Tool execution failed: tool `tool` ended with a panic: {text} (at ");
        assert!(error.to_string().starts_with(&shown), "{error}");
        let failure = Failure::from(error);
        assert_eq!((failure.class, failure.code.as_str()), (FailureClass::Panic, "PL617"));
    }
    assert_eq!(registry.call(&name(), json!(1)).await, Ok(json!(1)));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_tool_that_is_taken_away_is_told() {
    let (_root, registry) = start().await;
    registry.register(echo().calls_max(1)).unwrap();
    let permit = registry.acquire(&name()).await.unwrap();
    let name = name();
    let waiting = registry.acquire_within(&name, SOON);
    let taking = async {
        while registry.status().await.unwrap()[0].waiting == 0 {
            tokio::task::yield_now().await;
        }
        assert!(registry.unregister(&name));
        drop(permit);
    };
    let (told, ()) = futures_util::join!(waiting, taking);
    assert_eq!(told.unwrap_err(), unknown(None));
}

#[tokio::test(start_paused = true)]
async fn after_a_hundred_crashes_under_load_the_tools_are_there_and_no_call_is_lost() {
    let (root, registry) = start().await;
    let gate = Arc::new(Semaphore::new(0));
    let opened = gate.clone();
    let work = move |arguments: Value| {
        let gate = opened.clone();
        async move {
            gate.acquire().await.map_err(|_| ToolError::new("closed"))?.forget();
            Ok(arguments)
        }
    };
    registry.register(tool_fn("tool", "waits at a gate", work).calls_max(2)).unwrap();
    let name = name();
    let calls = join_all((0..100).map(|number| registry.call(&name, json!(number))));
    let crashes = async {
        for round in 0..100 {
            let path = "/root/tool_registry";
            let tree = root.tree();
            let hit = if round % 2 == 0 { tree.crash(path) } else { tree.kill(path) };
            hit.unwrap().exit().await;
            gate.add_permits(1);
            // Answers as soon as the next incarnation runs.
            while registry.status().await.is_err() {}
        }
    };
    let (results, ()) = futures_util::join!(calls, crashes);
    let expected: Vec<_> = (0..100).map(|number| Ok(json!(number))).collect();
    assert_eq!(results, expected);
    let status = registry.status().await.unwrap();
    assert_eq!((status.len(), status[0].calls, status[0].waiting), (1, 0, 0));
}

/// Slots lie with the tools: neither a restart nor another tool of the same name makes more of them.
#[tokio::test(start_paused = true)]
async fn calls_under_way_count_over_a_restart_and_over_a_new_registration() {
    let (root, registry) = start().await;
    registry.register(echo().calls_max(2)).unwrap();
    let _first = registry.acquire(&name()).await.unwrap();
    let second = registry.acquire_within(&name(), SOON).await.unwrap();
    root.tree().kill("/root/tool_registry").unwrap().exit().await;
    while registry.status().await.is_err() {}
    assert_eq!(registry.acquire(&name()).await.unwrap_err(), AcquireError::Busy(name()));
    let status = registry.status().await.unwrap();
    assert_eq!(status[0].callers, ["unsupervised", "unsupervised"]);
    assert!(registry.unregister(&name()));
    registry.register(echo().calls_max(1)).unwrap();
    drop(second);
    assert_eq!(registry.acquire(&name()).await.unwrap_err(), AcquireError::Busy(name()));
}
