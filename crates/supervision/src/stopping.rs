//! The shutdown protocol for one child: ask, wait, kill, wait no longer than the kill deadline.

use perennial_core::{ChildType, ExitReason, Shutdown};

use crate::{ChildSpec, LifecycleEvent, context::Context, life::Life, node::Node};
use perennial_core::tree::NodeState;

/// How many kill deadlines a supervisor gets for itself and what is below it.
const LEVELS: u32 = 4;

/// Stops the incarnation `life`, awaits its end, and reports what table 5.6 says. Returns once
/// nothing of it runs any more, or it is given up as unkillable.
pub(crate) async fn stop(context: &Context, node: &Node, spec: &ChildSpec, life: &Life) {
    if life.ended.reason().is_none() {
        node.enter(NodeState::Stopping);
    }
    let (reason, timed_out) = match spec.shutdown {
        Shutdown::BrutalKill => (kill(context, node, spec, life).await, false),
        Shutdown::Infinity => {
            life.control.stop();
            (life.ended.wait().await, false)
        }
        Shutdown::Timeout(within) => {
            life.control.stop();
            match tokio::time::timeout(within, life.ended.wait()).await {
                Ok(reason) => (reason, false),
                Err(_) => (kill(context, node, spec, life).await, true),
            }
        }
    };
    if spec.restart.stop_is_error(&reason, spec.shutdown, timed_out) {
        context.tell(node, LifecycleEvent::ShutdownError { reason });
    }
}

async fn kill(context: &Context, node: &Node, spec: &ChildSpec, life: &Life) -> ExitReason {
    life.control.kill();
    let within = match spec.child_type {
        ChildType::Worker => context.kill_deadline(),
        ChildType::Supervisor => context.kill_deadline() * LEVELS,
    };
    match tokio::time::timeout(within, life.ended.wait()).await {
        Ok(reason) => reason,
        Err(_) => {
            node.give_up_on(life.pid);
            context.tell(node, LifecycleEvent::Unkillable);
            ExitReason::Killed
        }
    }
}
