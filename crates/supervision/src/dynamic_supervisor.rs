//! Supervisors whose children are started on demand.
//!
//! One-for-one only. Children are told apart by what their start returned, not by their ids
//! (DYN-012); one that ends for good is forgotten; a shutdown stops all at once, each under its own
//! timer (DYN-039).

mod shell;

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use perennial_core::{
    ChildId, ChildType, ExitReason, Restart, Shutdown, Strategy, intensity::IntensityLimit,
    tree::NodeKind,
};

use crate::{
    ChildInfo, ChildSpec, Counts, RequestError,
    life::Life,
    node::{Node, Supervises},
    presence::{Announce, Presence, channel},
    supervisor::{Reply, SupervisorLife, ask, begin, count},
};

/// What a dynamic supervisor is made of.
#[derive(Clone, Debug)]
pub struct DynamicSupervisorSpec {
    pub(crate) id: ChildId,
    pub(crate) intensity: IntensityLimit,
    pub(crate) max_children: usize,
    pub(crate) child_budget: Option<IntensityLimit>,
    pub(crate) kind: NodeKind,
    restart: Restart,
}

impl DynamicSupervisorSpec {
    /// A permanent dynamic supervisor for at most `max_children` children that tolerates 3
    /// restarts in 5 s. The limit is an argument because there is no right default: OTP has none.
    pub fn new(id: impl Into<ChildId>, max_children: usize) -> Self {
        Self {
            id: id.into(),
            intensity: IntensityLimit::default(),
            max_children,
            child_budget: None,
            kind: NodeKind::DynamicSupervisor,
            restart: Restart::Permanent,
        }
    }

    /// Gives up after more than `max_restarts` restarts within `within`, over all children.
    #[must_use]
    pub fn intensity(mut self, max_restarts: u32, within: Duration) -> Self {
        self.intensity = IntensityLimit { max_restarts, within };
        self
    }

    /// Gives each child a restart budget of its own instead: a child that exceeds it is dropped
    /// and reported, and its siblings and the supervisor live on.
    #[must_use]
    pub fn child_budget(mut self, max_restarts: u32, within: Duration) -> Self {
        self.child_budget = Some(IntensityLimit { max_restarts, within });
        self
    }

    /// Sets when this supervisor itself is restarted, as a child.
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }
}

/// Handle to a dynamic supervisor. Cheap to clone; outlives its restarts.
#[derive(Clone, Debug)]
pub struct DynamicSupervisor {
    presence: Presence<SupervisorLife<Request>>,
}

/// One child of a dynamic supervisor, over its restarts.
#[derive(Clone, Debug)]
pub struct ChildRef {
    /// Orders begin anew with every life of the supervisor; nodes are never the same.
    pub(crate) node: Weak<Node>,
    pub(crate) order: u64,
    id: ChildId,
    /// The life it had when it was started.
    pub(crate) first: Life,
}

impl ChildRef {
    /// Its id, as given by its specification.
    pub fn id(&self) -> &ChildId {
        &self.id
    }

    /// Waits for the end of its first life.
    pub async fn first_exit(&self) -> ExitReason {
        self.first.ended.wait().await
    }
}

/// What a dynamic supervisor can be asked, in OTP's words.
#[derive(Debug)]
pub(crate) enum Request {
    StartChild { spec: Box<ChildSpec>, reply: Reply<ChildRef> },
    TerminateChild { child: ChildRef, reply: Reply<()> },
}

impl DynamicSupervisor {
    /// How to supervise a dynamic supervisor, and the handle to it.
    pub fn child_spec(spec: DynamicSupervisorSpec) -> (ChildSpec, Self) {
        let (publisher, presence) = channel();
        let publisher = Arc::new(publisher);
        let announce: Arc<dyn Announce> = publisher.clone();
        let declared = Supervises {
            strategy: Strategy::OneForOne,
            intensity: spec.intensity,
            children: Vec::new(),
        };
        let (restart, kind) = (spec.restart, spec.kind);
        let mut child = ChildSpec::worker(spec.id.clone(), kind, move |cx| {
            let (publisher, spec) = (publisher.clone(), spec.clone());
            Box::pin(async move {
                let make = |cx, mail, reaper| shell::Shell::new(cx, spec, mail, reaper);
                begin(cx, publisher, make).await
            })
        });
        child.restart = restart;
        child.shutdown = Shutdown::Infinity;
        child.child_type = ChildType::Supervisor;
        child.start_within = None;
        child.presence = Some(announce);
        child.supervises = Some(declared);
        (child, Self { presence })
    }

    /// Starts a child (DYN-011, 012, 017, 020, 021).
    ///
    /// # Errors
    ///
    /// When the child does not start, or as many as allowed are there.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the request.
    pub async fn start_child(&self, spec: ChildSpec) -> Result<ChildRef, RequestError> {
        let spec = Box::new(spec);
        ask(&self.presence, |reply| Request::StartChild { spec, reply }).await
    }

    /// Stops a child, awaits its end and forgets it; a pending restart is cancelled for good
    /// (DYN-035–037).
    ///
    /// # Errors
    ///
    /// [`RequestError::NotFound`] when it is not a child any more (DYN-038).
    pub async fn terminate_child(&self, child: &ChildRef) -> Result<(), RequestError> {
        let child = child.clone();
        ask(&self.presence, |reply| Request::TerminateChild { child, reply }).await
    }

    /// Its children in start order, as published; asks nobody. Empty when it does not run.
    pub fn which_children(&self) -> Vec<ChildInfo> {
        self.presence.now().map(|life| life.children()).unwrap_or_default()
    }

    /// Totals of [`which_children`](Self::which_children).
    pub fn count_children(&self) -> Counts {
        count(&self.which_children())
    }

    /// The child of this id that runs, as published; asks nobody. Of several that share the id, the
    /// first.
    pub fn find(&self, id: &str) -> Option<ChildRef> {
        let (node, first) = self.presence.now()?.find(id)?;
        Some(ChildRef { order: node.order(), node: Arc::downgrade(&node), id: id.into(), first })
    }

    /// Waits until an incarnation runs; answers whether one does.
    pub async fn is_up(&self) -> bool {
        self.presence.current().await.is_ok()
    }
}
