//! The shutdown protocol for one child: ask, wait, kill, wait no longer than the kill deadline.

use perennial_core::{ChildType, ExitReason, Shutdown};

use crate::{ChildSpec, LifecycleEvent, ProcessRef, context::Context, life::Life, node::Node};

/// How many kill deadlines a supervisor gets for itself and what is below it.
const LEVELS: u32 = 4;

/// One incarnation that is to be stopped, and those who are concerned.
pub(crate) struct Stopping<'a> {
    pub(crate) context: &'a Context,
    pub(crate) supervisor: &'a Node,
    pub(crate) node: &'a Node,
    pub(crate) spec: &'a ChildSpec,
    pub(crate) life: &'a Life,
}

/// Stops an incarnation, awaits its end, and reports what table 5.6 says. Returns once nothing of it
/// runs any more, or it is given up as unkillable.
pub(crate) async fn stop(it: Stopping<'_>) {
    let Stopping { context, supervisor, node, spec, life } = it;
    node.stopping(life.pid);
    let (reason, timed_out) = match spec.shutdown {
        Shutdown::BrutalKill => (kill(context, node, life).await, false),
        Shutdown::Infinity => {
            life.control.stop(&ExitReason::Shutdown);
            (life.ended.wait().await, false)
        }
        Shutdown::Timeout(within) => {
            life.control.stop(&ExitReason::Shutdown);
            match tokio::time::timeout(within, life.ended.wait()).await {
                Ok(reason) => (reason, false),
                Err(_) => (kill(context, node, life).await, true),
            }
        }
    };
    if spec.restart.stop_is_error(&reason, spec.shutdown, timed_out) {
        let process = ProcessRef::new(node.shared_path(), life.pid, life.ended.clone());
        let offender = spec.offender(Some(process));
        context.tell(supervisor, LifecycleEvent::ShutdownError { reason, offender });
    }
}

/// Kills the incarnation `life` and awaits its end. One that does not end is given up: reported,
/// and from then on no business of its supervisor, so that nobody waits for it twice.
pub(crate) async fn kill(context: &Context, node: &Node, life: &Life) -> ExitReason {
    life.control.kill();
    let within = match node.child_type() {
        ChildType::Worker => context.kill_deadline(),
        ChildType::Supervisor => context.kill_deadline().saturating_mul(LEVELS),
    };
    if let Ok(reason) = tokio::time::timeout(within, life.ended.wait()).await {
        return reason;
    }
    if !node.give_up_on(life.pid) {
        // It has ended this very moment and is being announced.
        return life.ended.wait().await;
    }
    context.unkillable(life, node);
    ExitReason::Killed
}
