//! The shutdown protocol for one child: ask, wait, kill, wait no longer than the kill deadline.

mod patience;

use std::sync::{Arc, OnceLock, Weak};

use perennial_core::{ChildType, ExitReason, Shutdown, child::StopRules};

pub(crate) use self::patience::Patience;
use crate::{ChildSpec, Offender, context::Context, life::Life, node::Node};

/// How many kill deadlines a supervisor gets for itself and what is below it.
const LEVELS: u32 = 4;

/// One incarnation that is to be stopped, and those who are concerned.
pub(crate) struct Stopping<'a> {
    pub(crate) context: &'a Context,
    pub(crate) node: &'a Node,
    pub(crate) spec: &'a ChildSpec,
    pub(crate) life: &'a Life,
    pub(crate) rules: StopRules,
}

/// A stop that did not go as asked.
pub(crate) struct StopFault {
    pub(crate) reason: ExitReason,
    pub(crate) offender: Box<Offender>,
}

/// Stops an incarnation, awaits its end, and answers what `rules` say is to be reported. Returns once
/// nothing of it runs any more, or it is given up as unkillable.
pub(crate) async fn stop(it: Stopping<'_>, patience: &mut Patience) -> Option<StopFault> {
    let Stopping { context, node, spec, life, rules } = it;
    node.stopping(life.pid());
    let (reason, timed_out) = match spec.shutdown {
        Shutdown::BrutalKill => (kill(context, node, life).await, false),
        Shutdown::Infinity => {
            life.control.stop(&ExitReason::Shutdown);
            (life.ended().wait().await, false)
        }
        Shutdown::Timeout(within) => {
            life.control.stop(&ExitReason::Shutdown);
            match patience.within(within, life.ended().wait()).await {
                Some(reason) => (reason, false),
                None => (kill(context, node, life).await, true),
            }
        }
    };
    let error = spec.restart.stop_is_error(rules, &reason, spec.shutdown, timed_out);
    error.then(|| {
        let process = life.process.clone();
        StopFault { reason, offender: spec.offender(Some(process)) }
    })
}

/// Kills the incarnation `life` and awaits its end. One that does not end is given up: reported,
/// and from then on no business of its supervisor, so that nobody waits for it twice.
pub(crate) async fn kill(context: &Context, node: &Node, life: &Life) -> ExitReason {
    life.control.kill();
    let within = match node.child_type() {
        ChildType::Worker => context.kill_deadline(),
        ChildType::Supervisor => context.kill_deadline().saturating_mul(LEVELS),
    };
    if let Ok(reason) = tokio::time::timeout(within, life.ended().wait()).await {
        return reason;
    }
    if !node.give_up_on(life.pid()) {
        // It has ended this very moment and is being announced.
        return life.ended().wait().await;
    }
    context.unkillable(life, node);
    ExitReason::Killed
}

/// Kills one child on behalf of somebody who is not its supervisor. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Killer {
    /// Known once the child has started.
    pub(crate) context: Arc<OnceLock<Context>>,
    pub(crate) node: Weak<Node>,
}

impl Killer {
    /// Kills the incarnation `life` and awaits its end, as [`kill`] does.
    pub(crate) async fn kill(&self, life: &Life) -> ExitReason {
        match (self.context.get(), self.node.upgrade()) {
            (Some(context), Some(node)) => kill(context, &node, life).await,
            // Its supervisor has forgotten it: it has ended.
            (Some(_) | None, _) => {
                life.control.kill();
                life.ended().wait().await
            }
        }
    }
}
