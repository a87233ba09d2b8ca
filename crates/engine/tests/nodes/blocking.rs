//! Attempts that block the threads of their executor for longer than a lease.

use std::{sync::Arc, time::Duration};

use perennial_core::{failure::Failure, run::RunState};
use perennial_engine::{
    AttemptCx, Definition, DoneJob, FailureMeans, JobPlan, Next, Outcome, Workflow,
    scheduler::{Adoption, LeaseTerms},
    workflow::{BoxFuture, JobKey, RetryPolicy},
};
use perennial_store::{MemoryStore, Store};

use crate::{
    node::{Node, checked, starting},
    work::{Known, Log},
};

const LEASE: Duration = Duration::from_millis(1_500);

#[expect(clippy::disallowed_methods, reason = "a thread that is blocked is the subject")]
fn block() {
    std::thread::sleep(LEASE * 2); // real time
}

/// Six attempts at once: one blocks its thread as it is, the others say that they do.
#[derive(Debug)]
struct Blocks(Definition);

impl Workflow for Blocks {
    fn name(&self) -> &str {
        "blocks"
    }

    fn definition(&self) -> &Definition {
        &self.0
    }

    fn next(&self, done: &[DoneJob]) -> Next {
        let plan = |number: usize| {
            let key = JobKey::new(format!("step-{number}"));
            JobPlan::new(key, RetryPolicy::ONCE, Duration::from_secs(60))
        };
        if done.is_empty() { Next::Jobs((0..6).map(plan).collect()) } else { Next::Seal }
    }

    fn on_failure(&self, _: &JobKey, failure: &Failure, _: u32, _: &[DoneJob]) -> FailureMeans {
        FailureMeans::FailRun { record: failure.message.clone().into() }
    }

    fn execute(self: Arc<Self>, cx: AttemptCx) -> BoxFuture<'static, Outcome> {
        Box::pin(async move {
            match cx.job.as_str() {
                "step-0" => block(),
                _ => tokio::task::block_in_place(block),
            }
            Outcome::Succeeded(1.into())
        })
    }
}

/// Proves TRAP-2.
/// DUR-23. Of two threads one is blocked, and all the rest of the work blocks as well, twice as long as the lease: it is renewed,
/// and the other node takes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_that_blocks_its_thread_does_not_keep_the_lease_from_its_renewal() {
    let (store, log) = (MemoryStore::open_shared().unwrap(), Log::new());
    let start = async |name: &str| {
        let known = Arc::new(Known { node: name.to_owned(), log: log.clone(), newer: false });
        let (room, lease) = ((Adoption::AtBoot, 64), LeaseTerms::of(LEASE));
        Node::start_leased(name, &store, &log, room, known, lease).await
    };
    let (a, b) = (start("a").await, start("b").await);
    let blocks = Blocks(Definition::new(b"blocks".to_vec()));
    let run = a.runs.start(starting("r", blocks)).await.unwrap();
    let outcome = run.outcome().await.unwrap();
    assert_eq!(outcome.state, RunState::Succeeded);
    let view = checked(&store, run.id()).await;
    assert_eq!((view.jobs.len(), view.attempts.len()), (6, 6), "one attempt each");
    assert!(view.attempts.iter().all(|attempt| attempt.node.node == "a"));
    assert_eq!(a.detail("/engine/scheduler/lease")["losses"], 0);
    let nodes = store.nodes(9).await.unwrap();
    assert!(nodes.len() == 2 && nodes.iter().all(|node| node.alive), "{nodes:?}");
    a.stop().await;
    b.stop().await;
}
