//! What the tree shows of light children: read from their desks, one after another, asking nobody.

use std::{sync::Weak, time::Duration};

use perennial_core::{
    ChildType, Overflow, Uptime,
    tree::{self, Current, LastExit, NodeKind, NodeState, Restarts, TreeNode},
};

#[cfg(feature = "testing")]
use crate::life::Life;

use super::{
    cell::Cell,
    desk::{Look, Phase, Stamp},
    home::Home,
};
use crate::{
    ChildInfo, ChildStatus, ProcessRef,
    node::{Below, PastLife, last_exit, millis},
};

/// Children that have no nodes of their own.
pub(crate) trait Litter: Send + Sync {
    /// Each as the dump shows it, with whom it is where somebody has met it, in start order; `in_window` is
    /// what their supervisor counts of late.
    fn nodes(&self, in_window: u32, now: Uptime) -> Vec<(TreeNode, Option<ProcessRef>)>;
    /// Their lines in a list of children, in start order; `by_id` says whether ids tell them apart.
    fn lines(&self) -> Vec<ChildInfo>;
    /// The one of this name that runs.
    #[cfg(feature = "testing")]
    fn life(&self, name: &str) -> Option<Life>;
}

impl<M: Send + 'static> Litter for Home<M> {
    fn nodes(&self, in_window: u32, now: Uptime) -> Vec<(TreeNode, Option<ProcessRef>)> {
        let stamp = self.context().clock().coarse();
        self.all().iter().map(|cell| self.picture(cell, in_window, now, stamp)).collect()
    }

    fn lines(&self) -> Vec<ChildInfo> {
        self.all().iter().filter_map(|cell| line(self, cell)).collect()
    }

    #[cfg(feature = "testing")]
    fn life(&self, name: &str) -> Option<Life> {
        self.find(name)?.life()
    }
}

impl<M: Send + 'static> Home<M> {
    fn picture(
        &self,
        cell: &Cell<M>,
        in_window: u32,
        now: Uptime,
        stamp: Stamp,
    ) -> (TreeNode, Option<ProcessRef>) {
        let (look, process) = cell.look();
        let spec = self.spec();
        let since = |then: Stamp| {
            (then != 0).then(|| millis(Duration::from_nanos(stamp.saturating_sub(then))))
        };
        let total = u64::from(look.restarts);
        let has_begun = matches!(look.phase, Phase::Running | Phase::Ending);
        let node = TreeNode {
            path: cell.path().to_string(),
            id: cell.id().to_string(),
            parent: Some(self.path().to_owned()),
            order: cell.order(),
            kind: NodeKind::Worker,
            type_name: Some(spec.type_name.to_owned()),
            restart: spec.child_restart,
            shutdown: spec.child_shutdown.to_string(),
            strategy: None,
            intensity: None,
            state: state(&look),
            incarnation: u64::from(look.incarnation),
            restarts: Restarts { total, in_window: if total == 0 { 0 } else { in_window } },
            last_exit: look.past.as_ref().map(ended),
            uptime_ms: look.started.filter(|_| has_begun).map(|then| millis(now.since(then))),
            mailbox_depth: Some(look.depth),
            mailbox_oldest_ms: since(look.oldest),
            mailbox: Some(mailbox(spec.mailbox, &look)),
            undelivered: look.undelivered,
            waits_for: Vec::new(),
            handled: Some(look.handled),
            current: since(look.begun)
                .map(|running_ms| Current { message: look.callback.to_owned(), running_ms }),
            working_ms: since(look.working),
            detail: serde_json::Value::Null,
        };
        (node, process)
    }
}

pub(super) fn mailbox(bound: crate::Mailbox, look: &Look) -> tree::Mailbox {
    let (rejected, dropped) = match bound.overflow {
        Overflow::Reject | Overflow::Wait => (look.refused, 0),
        Overflow::DropNewest => (0, look.refused),
        Overflow::DropOldest => (0, look.displaced),
    };
    let (capacity, policy) = (u64::from(bound.capacity), bound.overflow);
    tree::Mailbox { capacity, policy, rejected, dropped }
}

fn state(look: &Look) -> NodeState {
    match look.phase {
        Phase::Starting => NodeState::Starting,
        Phase::Running | Phase::Ending if look.stopping => NodeState::Stopping,
        Phase::Running | Phase::Ending => NodeState::Running,
        Phase::Between { comes_back: true } if !look.doomed => NodeState::BackingOff,
        Phase::Between { .. } | Phase::Over => NodeState::Stopped,
    }
}

fn ended(past: &super::desk::Past) -> LastExit {
    last_exit(&PastLife { reason: past.reason.clone(), lived: past.lived, ended: past.ended })
}

/// Its line in a list of children; none when it is not listed any more.
pub(super) fn line<M: Send + 'static>(
    home: &Home<M>,
    cell: &std::sync::Arc<Cell<M>>,
) -> Option<ChildInfo> {
    let status = {
        let desk = cell.desk();
        match desk.phase() {
            Phase::Running | Phase::Ending => ChildStatus::Running,
            Phase::Starting => ChildStatus::Restarting,
            Phase::Between { comes_back: true } if !desk.is_doomed() => ChildStatus::Restarting,
            Phase::Between { .. } | Phase::Over => return None,
        }
    };
    let path = cell.path();
    Some(ChildInfo {
        id: None,
        status,
        process: if status == ChildStatus::Running { cell.process() } else { None },
        child_type: ChildType::Worker,
        name_at: home.path().len() + 1,
        path,
        below: Below(Weak::new()),
    })
}
