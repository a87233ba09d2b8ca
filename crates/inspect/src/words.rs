//! The words of the dump's closed lists, as they stand in its JSON and as people type them.

use perennial_core::{
    Restart, Strategy,
    tree::{NodeKind, NodeState, Severity},
};

/// The word for a kind.
///
/// ```
/// use perennial_inspect::{kind_word, NodeKind};
///
/// assert_eq!(kind_word(NodeKind::Supervisor), "supervisor");
/// ```
pub fn kind_word(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::Supervisor => "supervisor",
        NodeKind::DynamicSupervisor => "dynamic_supervisor",
        NodeKind::TaskSupervisor => "task_supervisor",
        NodeKind::Worker => "worker",
        NodeKind::Task => "task",
        NodeKind::Thread => "thread",
    }
}

/// The word for a state.
///
/// ```
/// use perennial_inspect::{NodeState, state_word};
///
/// assert_eq!(state_word(NodeState::BackingOff), "backing_off");
/// ```
pub fn state_word(state: NodeState) -> &'static str {
    match state {
        NodeState::Declared => "declared",
        NodeState::Starting => "starting",
        NodeState::Running => "running",
        NodeState::BackingOff => "backing_off",
        NodeState::Stopping => "stopping",
        NodeState::Stopped => "stopped",
        NodeState::Unkillable => "unkillable",
        NodeState::GaveUp => "gave_up",
    }
}

/// The word for a severity.
///
/// ```
/// use perennial_inspect::{Severity, severity_word};
///
/// assert_eq!(severity_word(Severity::Error), "error");
/// ```
pub fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warn => "warn",
        Severity::Error => "error",
    }
}

pub(crate) fn restart_word(restart: Restart) -> &'static str {
    match restart {
        Restart::Permanent => "permanent",
        Restart::Transient => "transient",
        Restart::Temporary => "temporary",
    }
}

pub(crate) fn strategy_word(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::OneForOne => "one_for_one",
        Strategy::OneForAll => "one_for_all",
        Strategy::RestForOne => "rest_for_one",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_words_are_those_of_the_document() {
        use NodeKind::{DynamicSupervisor, Supervisor, Task, TaskSupervisor, Thread, Worker};
        use NodeState::{
            BackingOff, Declared, GaveUp, Running, Starting, Stopped, Stopping, Unkillable,
        };
        for kind in [Supervisor, DynamicSupervisor, TaskSupervisor, Worker, Task, Thread] {
            assert_eq!(json!(kind), json!(kind_word(kind)));
        }
        for state in
            [Declared, Starting, Running, BackingOff, Stopping, Stopped, Unkillable, GaveUp]
        {
            assert_eq!(json!(state), json!(state_word(state)));
        }
        for severity in [Severity::Info, Severity::Warn, Severity::Error] {
            assert_eq!(json!(severity), json!(severity_word(severity)));
        }
        for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
            assert_eq!(json!(restart), json!(restart_word(restart)));
        }
        for strategy in [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne] {
            assert_eq!(json!(strategy), json!(strategy_word(strategy)));
        }
    }
}
