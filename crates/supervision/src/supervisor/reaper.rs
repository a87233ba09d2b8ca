//! Ends what a supervisor left alive that can do nothing itself any more.

use std::time::Duration;

use futures_util::future::join_all;
use perennial_core::{ExitReason, Shutdown};

use crate::{context::Context, node::Node, stopping};

/// Ends what lives below `supervisor`, all at once, and awaits it. Those that clean up are told
/// `reason` and get their own time for it, but no more than the kill deadline (SUP-148); what does
/// not end then is killed, and what does not end when killed is given up (trap 7).
pub(super) async fn reap(supervisor: &Node, context: &Context, reason: &ExitReason) {
    let children = supervisor.child_nodes();
    let ends = children.iter().map(|node| async move {
        let (life, ending) = node.not_over();
        if let Some(ending) = ending {
            ending.wait().await;
        }
        if let Some(life) = life {
            let most = context.kill_deadline();
            let grace = match node.spec().shutdown {
                Shutdown::BrutalKill => Duration::ZERO,
                Shutdown::Timeout(within) => within.min(most),
                Shutdown::Infinity => most,
            };
            if !grace.is_zero() {
                life.control.stop(reason);
                if tokio::time::timeout(grace, life.ended().wait()).await.is_ok() {
                    return;
                }
            }
            stopping::kill(context, node, &life).await;
        }
    });
    join_all(ends).await;
}
