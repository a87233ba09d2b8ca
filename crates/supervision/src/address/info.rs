use super::Address;
use crate::ProcessRef;

/// What is known of a process without its cooperation: it may hang, and is seen all the same
/// (OBS-009).
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
    pub fn info(&self) -> Option<ProcessInfo> {
        let incarnation = self.to.now()?;
        let (status, mailbox_depth, watches) = incarnation.look();
        Some(ProcessInfo { process: incarnation.process().clone(), status, mailbox_depth, watches })
    }
}
