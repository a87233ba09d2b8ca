use super::Address;
use crate::ProcessRef;

/// What is known of a process without its cooperation: it may hang, and is seen all the same
/// (OBS-009).
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// counter.cast(Ask::Add(1))?;
/// let info = counter.info().expect("it runs");
/// assert_eq!(info.process.path(), "/app/counter");
/// assert_eq!(info.mailbox_depth, 1); // it has had no time yet
/// assert!(info.watches.is_empty());
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Which it is; its path is its name.
    pub process: ProcessRef,
    /// What it is at.
    pub status: ProcessStatus,
    /// Messages that wait.
    pub mailbox_depth: u64,
    /// The processes it monitors or is linked to, in the order in which it began.
    pub watches: Vec<ProcessRef>,
}

/// What a process is at.
///
/// ```
/// use perennial_supervision::{Debugger, ProcessStatus};
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// let status = || counter.info().map(|info| info.status);
/// assert_eq!(status(), Some(ProcessStatus::Running));
/// Debugger::<Counter>::of(&counter).suspend(Duration::from_secs(1)).await?;
/// assert_eq!(status(), Some(ProcessStatus::Suspended));
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessStatus {
    /// Its init runs.
    Starting,
    /// It handles messages, or waits for them.
    Running,
    /// A debugger suspended it.
    Suspended,
    /// Its cleanup runs.
    Stopping,
}

impl<M: Send + 'static> Address<M> {
    /// What is known of the present incarnation, if there is one now. Asks nobody.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// assert_eq!(counter.info().expect("it runs").mailbox_depth, 0);
    /// root.shutdown().await;
    /// assert_eq!(counter.info(), None);
    /// # Ok(()) }
    /// ```
    pub fn info(&self) -> Option<ProcessInfo> {
        let incarnation = self.to.now()?;
        let (status, mailbox_depth, watches) = incarnation.look();
        Some(ProcessInfo { process: incarnation.process().clone(), status, mailbox_depth, watches })
    }
}
