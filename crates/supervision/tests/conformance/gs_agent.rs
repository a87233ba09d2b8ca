//! A plain state in a process.

use std::{collections::BTreeMap, pin::pin};

use perennial_core::{ExitReason, Restart};
use perennial_supervision::{Agent, CallError, CastError, SupervisorSpec};

use crate::{
    gs_server::{SHORT, pending, settle},
    harness::proves,
    probe::{SOON, root},
};

type Prices = BTreeMap<&'static str, u32>;

proves!(an_agent_is_used_by_functions_that_run_in_it, ["GS-064"]);
async fn an_agent_is_used_by_functions_that_run_in_it() {
    let (spec, prices) = Agent::child_spec("prices", Prices::new);
    assert_eq!(prices.get(Prices::len, SOON).await, Err(CallError::NoProc));
    let root = root(SupervisorSpec::new("top").child(spec)).await;
    assert_eq!(prices.get(Prices::len, SOON).await, Ok(0));
    prices.update(|prices| prices.extend([("tea", 3)]), SOON).await.unwrap();
    let raise = |prices: &mut Prices| prices.insert("tea", 4);
    assert_eq!(prices.get_and_update(raise, SOON).await, Ok(Some(3)));
    prices.cast(|prices| prices.extend([("rum", 9)])).unwrap();
    assert_eq!(prices.get(Prices::clone, SOON).await, Ok(Prices::from([("rum", 9), ("tea", 4)])));
    // There, and not in the caller: it cannot call itself from within.
    let own = prices.clone();
    let inside = move |_: &mut Prices| {
        let mut ask = Box::pin(own.get(Prices::len, SHORT));
        let waker = std::task::Waker::noop();
        match ask.as_mut().poll(&mut std::task::Context::from_waker(waker)) {
            std::task::Poll::Ready(answer) => answer,
            std::task::Poll::Pending => panic!("it waits for itself"),
        }
    };
    assert_eq!(prices.get_and_update(inside, SOON).await, Ok(Err(CallError::CallingSelf)));
    root.shutdown().await;
    assert_eq!(prices.cast(Prices::clear), Err(CastError::NoProc));
}

proves!(an_agent_is_a_permanent_child_that_a_panic_ends, ["GS-065", "GS-066"]);
async fn an_agent_is_a_permanent_child_that_a_panic_ends() {
    let (spec, count) = Agent::child_spec("count", || 1_u32);
    let node = |root: &perennial_supervision::Root| root.tree().nodes().swap_remove(1);
    let root = root(SupervisorSpec::new("top").child(spec)).await;
    assert_eq!(node(&root).restart, Restart::Permanent);
    count.update(|count| *count = 7, SOON).await.unwrap();
    let failing = count.get(|count| assert_eq!(*count, 0, "no more"), SOON).await;
    let Err(CallError::Exited(ExitReason::Panic { message, location })) = failing else {
        panic!("{failing:?}")
    };
    assert!(message.contains("no more"), "{message}");
    assert!(location.unwrap().contains("gs_agent.rs"));
    assert_eq!(count.get(|count| *count, SOON).await, Ok(1), "restarted, with a new value");
    assert_eq!(node(&root).incarnation, 2);
    // Behind one that is cast, all who wait are told.
    let mut first = pin!(count.get(|count| *count, SOON));
    count.cast(|_| panic!("cast")).unwrap();
    pending(first.as_mut()).await;
    settle().await;
    let Err(CallError::Exited(ExitReason::Panic { message, .. })) = first.await else {
        panic!("the caller is told")
    };
    assert_eq!(&*message, "cast");
}
