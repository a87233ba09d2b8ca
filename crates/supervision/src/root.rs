use std::{sync::Arc, time::Duration};

use perennial_core::ExitReason;

use crate::{
    ChildSpec, Clock, Names, Options, StartError, Supervisor, SupervisorSpec, Tree, child::StartCx,
    context::Context, life::Life, node::Node, panics,
};

/// The top of a running tree. Dropping it asks the tree to stop and does not wait.
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// use perennial_supervision::Root;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (table, count) = Agent::child_spec("table", || 1_u32);
/// let app = SupervisorSpec::new("app").child(table);
/// let root = Root::start(app, Clock::start(), Options::default()).await?;
/// assert_eq!(count.get(|count| *count, Duration::from_secs(5)).await, Ok(1));
/// let report = root.shutdown().await;
/// assert!(report.unkillable.is_empty());
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Root {
    supervisor: Supervisor,
    tree: Tree,
    life: Life,
}

/// How a shutdown went.
///
/// ```
/// use perennial_supervision::ShutdownReport;
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// let report: ShutdownReport = root.shutdown().await;
/// assert_eq!((report.reason, report.gave_up), (ExitReason::Shutdown, false));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Why the root ended.
    pub reason: ExitReason,
    /// Whether it had given up: a restart exceeded its intensity, and nobody had asked for its end.
    /// Both ends have the reason [`Shutdown`](ExitReason::Shutdown), as in OTP (SUP-129).
    pub gave_up: bool,
    /// How long it took.
    pub took: Duration,
    /// Paths of children that did not end when they were killed; they may still run.
    pub unkillable: Vec<String>,
}

impl Root {
    /// Starts the tree `spec` under `clock`: in order, all or nothing.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (table, _) = Agent::child_spec("table", || 0_u32);
    /// let app = SupervisorSpec::new("app").child(table);
    /// let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// assert_eq!(root.supervisor().count_children()?.active, 1); // all have started
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The first child that does not start; everything started before it has been stopped. Also
    /// when this program aborts on panics: nothing could be supervised.
    pub async fn start(
        spec: SupervisorSpec,
        clock: Clock,
        options: Options,
    ) -> Result<Self, StartError> {
        if cfg!(panic = "abort") {
            let why = "the program is built with panic = \"abort\", so a panic ends everything";
            return Err(StartError::new(&spec.id, ExitReason::Error(why.into())));
        }
        if options.note_panic_locations {
            panics::note_locations();
        }
        let (child, supervisor) = Supervisor::child_spec(spec);
        ChildSpec::check_all(std::slice::from_ref(&child), None)
            .map_err(|refused| StartError::new(child.id(), refused))?;
        let context = Context::new(clock, options);
        let node = Node::root(Arc::new(child.without_start()));
        let cx = StartCx::new(&context, &node, true, None);
        let id = child.id().clone();
        let begun = child.start(cx, None).await?;
        let life = begun.life.ok_or_else(|| StartError::new(&id, ExitReason::NoProc))?;
        Ok(Self { supervisor, tree: Tree::new(node, context), life })
    }

    /// The root supervisor.
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
    /// root.supervisor().terminate_child("table").await?;
    /// assert_eq!(root.supervisor().count_children()?.active, 0);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    /// The names of the tree.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (table, _) = Agent::child_spec("table", || 0_u32);
    /// let table = table.name("main");
    /// # let app = SupervisorSpec::new("app").child(table);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// assert!(root.names().whereis("main").is_some());
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn names(&self) -> &Names {
        self.tree.names()
    }

    /// The picture of the tree.
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
    /// assert_eq!(root.tree().nodes().len(), 2); // itself and one child
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Whether the root gave up: one of its children exceeded its restart intensity. A program that
    /// lives by this tree has failed then.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let link = ChildSpec::task("link", || async { Err::<(), _>("the other side hung up") });
    /// let link = link.restart(Restart::Permanent);
    /// # let app = SupervisorSpec::new("app").child(link);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// root.ended().await;
    /// assert!(root.gave_up()); // a reason for a bad exit code
    /// # Ok(()) }
    /// ```
    pub fn gave_up(&self) -> bool {
        self.tree.gave_up()
    }

    /// Waits until the root has ended: by a shutdown, or because it [gave up](Self::gave_up).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let asked_to_end = std::future::ready(());
    /// # let root = Root::start(SupervisorSpec::new("app"), Clock::start(), Options::default()).await?;
    /// tokio::select! {
    ///     _ = root.ended() => {} // it has given up
    ///     () = asked_to_end => {} // for instance `tokio::signal::ctrl_c()`
    /// }
    /// root.shutdown().await;
    /// assert_eq!(root.ended().await, ExitReason::Shutdown);
    /// # Ok(()) }
    /// ```
    pub async fn ended(&self) -> ExitReason {
        self.life.ended().wait().await
    }

    /// Stops the tree in reverse start order and awaits it: each child within its own limits.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let report = root.shutdown().await;
    /// assert_eq!(report.reason, ExitReason::Shutdown);
    /// assert_eq!(counter.whereis(), None);
    /// # Ok(()) }
    /// ```
    pub async fn shutdown(&self) -> ShutdownReport {
        let clock = self.tree.clock();
        let begun = clock.now();
        self.life.control.stop(&ExitReason::Shutdown);
        let reason = self.life.ended().wait().await;
        let unkillable = self.tree.unkillable();
        let gave_up = self.gave_up();
        ShutdownReport { reason, gave_up, took: clock.now().since(begun), unkillable }
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        self.life.control.stop(&ExitReason::Shutdown);
    }
}
