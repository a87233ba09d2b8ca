use perennial_core::{ExitReason, tree::NodeKind};

use super::{GenServer, MESSAGE};
use crate::panics::guard_blocking;

/// What a server or a task that ended abnormally tells about itself (GS-046, OBS-011, TSK-046). A kill
/// leaves no time for a report; its supervisor tells of that.
///
/// ```
/// use perennial_supervision::{CrashReport, LifecycleEvent};
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// let mut events = root.tree().lifecycle();
/// counter.cast(Ask::Fail)?;
/// let report: Box<CrashReport> = loop {
///     let told = events.next().await.expect("the tree is there");
///     if let LifecycleEvent::Crashed(report) = told.event { break report; }
/// };
/// assert_eq!((report.path.as_str(), report.reason.name()), ("/app/counter", "panic"));
/// assert_eq!(report.ancestors, ["/app"]);
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrashReport {
    /// What it was.
    pub kind: NodeKind,
    /// Its name in the tree, its path.
    pub path: String,
    /// Which incarnation it was, as a [`ProcessRef`](crate::ProcessRef) is printed.
    pub process: String,
    /// The label that it gave itself, or was given (OBS-013).
    pub label: Option<String>,
    /// Why it ended; a panic with its place.
    pub reason: ExitReason,
    /// What it was given to do last, as far as it describes its messages.
    pub last_message: Option<String>,
    /// Its state, as far as it formats it.
    pub state: String,
    /// Paths of its supervisors, the nearest first.
    pub ancestors: Vec<String>,
    /// Of a task: who asked for it, as a [`ProcessRef`](crate::ProcessRef) is printed, the nearest first
    /// (TSK-047).
    pub callers: Vec<String>,
    /// Messages that waited when it failed.
    pub mailbox_depth: u64,
    /// Paths of the processes it watched.
    pub linked: Vec<String>,
}

impl CrashReport {
    pub(crate) fn trace(&self) {
        tracing::error!(
            kind = ?self.kind,
            path = %self.path,
            process = %self.process,
            label = self.label,
            reason = %self.reason,
            last_message = self.last_message,
            state = %self.state,
            ancestors = ?self.ancestors,
            callers = ?self.callers,
            mailbox_depth = self.mailbox_depth,
            linked = ?self.linked,
            "process crashed"
        );
    }
}

/// The state as its owner formats it; a formatter that panics masks nothing (GS-047).
pub(super) fn status_of<S: GenServer>(state: &S) -> String {
    guard_blocking(|| state.format_status())
        .unwrap_or_else(|panic| format!("the state cannot be formatted: {panic}"))
}

/// Its kind, as its owner calls it.
pub(super) fn kind_of<S: GenServer>(message: &S::Message) -> &'static str {
    guard_blocking(|| S::message_kind(message)).unwrap_or(MESSAGE)
}

/// The message as its owner describes it.
pub(super) fn description_of<S: GenServer>(message: &S::Message) -> Option<String> {
    guard_blocking(|| S::describe_message(message))
        .unwrap_or_else(|panic| Some(format!("the message cannot be described: {panic}")))
}

/// Paths above `path`, the nearest first.
pub(crate) fn ancestors_of(path: &str) -> Vec<String> {
    let above = |path: &str| path.rsplit_once('/').map(|(above, _)| above.to_owned());
    let chain = std::iter::successors(above(path), |path| above(path));
    chain.take_while(|path| !path.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_has_no_ancestors() {
        assert_eq!(ancestors_of("/top/inner/a"), ["/top/inner", "/top"]);
        assert!(ancestors_of("/top").is_empty());
    }
}
