//! What a supervisor can be asked, in OTP's words, and how it refuses.

use std::sync::{Arc, Weak};

use perennial_core::{
    ChildId, ExitReason,
    supervisor::{Flags, Keeps, Order, SpecError},
};
use tokio::sync::oneshot;

use super::SupervisorLife;
use crate::{ChildSpec, Extra, ProcessRef, StartError, life::Life, node::Node, presence::Presence};

/// Why a supervisor refused.
///
/// ```
/// use perennial_supervision::RequestError;
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (table, _) = Agent::child_spec("table", || 0_u32);
/// # let app = SupervisorSpec::new("app").child(table);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// # let app = root.supervisor();
/// let (table, _) = Agent::child_spec("table", || 0_u32);
/// let again = app.start_child(table.clone()).await;
/// assert!(matches!(again, Err(RequestError::AlreadyStarted(process)) if process.path() == "/app/table"));
/// app.terminate_child("table").await?;
/// assert_eq!(app.start_child(table).await, Err(RequestError::AlreadyPresent("table".into())));
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// A child of this id runs, or somebody else has the child's name: this one.
    #[error("already started: {0}")]
    AlreadyStarted(ProcessRef),
    /// A child of this id is specified and does not run.
    #[error("child `{0}` is already specified")]
    AlreadyPresent(ChildId),
    /// The child runs.
    #[error("child `{0}` is running")]
    Running(ChildId),
    /// The child is being restarted.
    #[error("child `{0}` is restarting")]
    Restarting(ChildId),
    /// There is no such child.
    #[error("no child `{0}`")]
    NotFound(ChildId),
    /// The child did not start.
    #[error(transparent)]
    StartFailed(StartError),
    /// The child's init answered that it need not run (DYN-018). Static supervisors answer that as a
    /// start without a process.
    #[error("the child need not run")]
    Ignore,
    /// The specification is refused; nothing changed.
    #[error(transparent)]
    Invalid(#[from] SpecError),
    /// As many children as allowed are there.
    #[error("no more than {0} children are allowed")]
    MaxChildren(usize),
    /// The supervisor does not run and will not.
    #[error("no such supervisor")]
    NoProc,
    /// The supervisor ended before it answered.
    #[error("the supervisor ended before it answered: {0}")]
    Ended(ExitReason),
    /// The request comes from the start of one of its own children and would wait for itself.
    #[error("a child that is being started cannot ask its own supervisor")]
    CallingSelf,
}

/// What a start that was asked for brought about.
///
/// ```
/// use perennial_supervision::ChildStart;
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (table, _) = Agent::child_spec("table", || 0_u32);
/// # let app = SupervisorSpec::new("app").child(table);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// # let app = root.supervisor();
/// let started: ChildStart = app.start_child(Agent::child_spec("cache", || 0_u32).0).await?;
/// assert_eq!(started.process.expect("its init did not ignore").path(), "/app/cache");
/// assert!(started.extra.is_none());
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct ChildStart {
    /// The incarnation that runs; none when its init answered ignore.
    pub process: Option<ProcessRef>,
    /// What its init handed over with [`pass_to_starter`](crate::pass_to_starter).
    pub extra: Option<Extra>,
}

impl PartialEq for ChildStart {
    fn eq(&self, other: &Self) -> bool {
        let same_extra = match (&self.extra, &other.extra) {
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        self.process == other.process && same_extra
    }
}

/// A child that was started, as its supervisor knows it.
#[derive(Debug)]
pub(crate) struct NewChild {
    pub(crate) order: Order,
    pub(crate) node: Weak<Node>,
    pub(crate) life: Option<Life>,
    pub(crate) start: ChildStart,
}

/// Which child is meant.
#[derive(Clone, Debug)]
pub(crate) enum Which {
    /// Where ids tell children apart.
    Id(ChildId),
    /// The child at this node.
    Node { order: Order, node: Weak<Node>, id: ChildId },
}

impl Which {
    pub(crate) fn id(&self) -> &ChildId {
        match self {
            Self::Id(id) | Self::Node { id, .. } => id,
        }
    }
}

/// What a supervisor can be asked.
#[derive(Debug)]
pub(crate) enum Request {
    StartChild { spec: Box<ChildSpec>, reply: Reply<NewChild> },
    TerminateChild { which: Which, reply: Reply<()> },
    RestartChild { id: ChildId, reply: Reply<ChildStart> },
    DeleteChild { id: ChildId, reply: Reply<()> },
    GetChildSpec { which: Which, reply: Reply<ChildSpec> },
    Reconfigure { flags: Flags, keeps: Keeps, children: Vec<ChildSpec>, reply: Reply<()> },
}

pub(crate) type Reply<T> = oneshot::Sender<Result<T, RequestError>>;

/// Sends a request to whichever incarnation is there or coming, and waits for its answer.
pub(crate) async fn ask<T>(
    presence: &Presence<SupervisorLife>,
    request: impl FnOnce(Reply<T>) -> Request,
) -> Result<T, RequestError> {
    if presence.now().is_some_and(|life| life.is_waited_for()) {
        return Err(RequestError::CallingSelf);
    }
    let life = presence.current().await.map_err(|_| RequestError::NoProc)?;
    let (reply, mut answer) = oneshot::channel();
    let _place = tokio::select! {
        biased;
        place = life.admit() => place,
        // Those before may never give their places back: whoever asked waits without being polled.
        reason = life.ended().wait() => return Err(RequestError::Ended(reason)),
    };
    life.send(request(reply));
    tokio::select! {
        biased;
        Ok(answer) = &mut answer => answer,
        // As at an address: what is sent at the very moment of the end is never read, and whoever
        // waits for the answer keeps it from being dropped.
        reason = life.ended().wait() => {
            answer.try_recv().unwrap_or(Err(RequestError::Ended(reason)))
        }
    }
}
