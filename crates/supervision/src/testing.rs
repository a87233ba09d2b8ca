//! Fault injection: crash or kill any node of a tree by its path.
//!
//! For tests only (feature `testing`). A crash is a real panic in the node's own code path: in an
//! actor's event handling, in a task's or a supervisor's poll, on a thread. A kill is the kill that
//! a supervisor would use.

use std::fmt;

use perennial_core::ExitReason;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};

use crate::{Tree, life::Life, node::Node};

/// Why nothing was injected.
///
/// ```
/// use perennial_supervision::testing::NothingThere;
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (table, _) = Agent::child_spec("table", || 0_u32);
/// # let app = SupervisorSpec::new("app").child(table);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// # let app = root.supervisor();
/// # drop(app);
/// let missed: NothingThere = root.tree().crash("/app/tabel").unwrap_err();
/// assert_eq!(missed.to_string(), "nothing runs at `/app/tabel`");
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing runs at `{0}`")]
pub struct NothingThere(String);

/// One life that was hit.
///
/// ```
/// use perennial_supervision::testing::Victim;
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (table, _) = Agent::child_spec("table", || 0_u32);
/// # let app = SupervisorSpec::new("app").child(table);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// # let app = root.supervisor();
/// # drop(app);
/// let victim: Victim = root.tree().kill("/app/table")?;
/// assert_eq!(victim.exit().await, ExitReason::Killed);
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Victim(Life);

impl Victim {
    /// Waits for its announced end.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (table, _) = Agent::child_spec("table", || 0_u32);
    /// # let app = SupervisorSpec::new("app").child(table);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # let app = root.supervisor();
    /// # drop(app);
    /// let victim = root.tree().crash("/app/table")?;
    /// assert_eq!(victim.exit().await.name(), "panic");
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub async fn exit(&self) -> ExitReason {
        self.0.ended().wait().await
    }
}

impl Tree {
    /// Makes what runs at `path` panic.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (table, _) = Agent::child_spec("table", || 0_u32);
    /// # let app = SupervisorSpec::new("app").child(table);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # let app = root.supervisor();
    /// let victim = root.tree().crash("/app/table")?;
    /// assert_eq!(victim.exit().await.name(), "panic"); // a real one, in its own code
    /// # drop(app);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When nothing runs there.
    pub fn crash(&self, path: &str) -> Result<Victim, NothingThere> {
        self.hit(path, |life| life.control.crash())
    }

    /// Kills what runs at `path`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (table, _) = Agent::child_spec("table", || 0_u32);
    /// # let app = SupervisorSpec::new("app").child(table);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # let app = root.supervisor();
    /// let victim = root.tree().kill("/app/table")?;
    /// assert_eq!(victim.exit().await, ExitReason::Killed);
    /// # drop(app);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When nothing runs there.
    pub fn kill(&self, path: &str) -> Result<Victim, NothingThere> {
        self.hit(path, |life| life.control.kill())
    }

    /// Whether another life than `victim`'s runs at `path` now.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (table, _) = Agent::child_spec("table", || 0_u32);
    /// # let app = SupervisorSpec::new("app").child(table);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # let app = root.supervisor();
    /// # drop(app);
    /// let mut events = root.tree().lifecycle();
    /// let victim = root.tree().kill("/app/table")?;
    /// assert!(!root.tree().is_succeeded("/app/table", &victim));
    /// while !root.tree().is_succeeded("/app/table", &victim) {
    ///     events.next().await;
    /// }
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn is_succeeded(&self, path: &str, victim: &Victim) -> bool {
        let runs = |node: &Node| node.state() == perennial_core::tree::NodeState::Running;
        let is_light = self.find(path).is_none();
        let other = self.life_at(path).is_some_and(|life| life.pid() != victim.0.pid());
        other && (is_light || self.find(path).is_some_and(|node| runs(&node)))
    }

    fn life_at(&self, path: &str) -> Option<Life> {
        if let Some(node) = self.find(path) {
            return node.life();
        }
        let (above, name) = path.rsplit_once('/')?;
        self.find(above)?.light()?.life(name)
    }

    fn hit(&self, path: &str, how: impl FnOnce(&Life)) -> Result<Victim, NothingThere> {
        let life = self.life_at(path).ok_or_else(|| NothingThere(path.to_owned()))?;
        how(&life);
        Ok(Victim(life))
    }
}

/// What the injected event carries.
#[derive(Debug)]
struct InjectedCrash;

impl fmt::Display for InjectedCrash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("injected crash")
    }
}

impl std::error::Error for InjectedCrash {}

pub(crate) fn is_injected_crash(event: &SupervisionEvent) -> bool {
    matches!(event, SupervisionEvent::ActorFailed(_, error) if error.is::<InjectedCrash>())
}

/// An actor whose only purpose is to be somebody's child for a moment.
struct Messenger;

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl Actor for Messenger {
    type Msg = ();
    type State = ();
    type Arguments = ActorCell;

    /// The event goes to whoever the messenger is linked to; the adapter of the victim knows it.
    async fn pre_start(
        &self,
        me: ActorRef<()>,
        victim: ActorCell,
    ) -> Result<(), ActorProcessingErr> {
        let cell = me.get_cell();
        cell.link(victim.clone());
        cell.notify_supervisor(SupervisionEvent::ActorFailed(cell.clone(), InjectedCrash.into()));
        cell.unlink(victim);
        Err(InjectedCrash.into())
    }
}

/// Sends the event that the adapter turns into a panic.
pub(crate) fn crash_actor(cell: &ActorCell) {
    let cell = cell.clone();
    #[expect(clippy::disallowed_methods, reason = "ends before its first await")]
    drop(tokio::spawn(async move {
        // Its start fails on purpose once the event is sent.
        drop(Actor::spawn(None, Messenger, cell).await);
    }));
}
