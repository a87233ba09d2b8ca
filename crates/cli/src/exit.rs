//! Exit codes by cause (CLI-1).

use perennial::{RunState, StartPipelineError, StoreError, records::RunError};

pub(crate) const COMPLETED: i32 = 0;
pub(crate) const RUN_FAILED: i32 = 1;
pub(crate) const USAGE: i32 = 2;
pub(crate) const INVALID: i32 = 3;
pub(crate) const DEADLINE: i32 = 5;
pub(crate) const CANCELLED: i32 = 6;
/// It waits for somebody.
pub(crate) const WAITING: i32 = 7;
pub(crate) const PROVIDER: i32 = 8;
pub(crate) const STORE: i32 = 9;
/// Two trees are not the same.
pub(crate) const DIFFERENT: i32 = 10;
/// Findings of the severity that was asked for.
pub(crate) const FINDINGS: i32 = 11;
pub(crate) const NOT_FOUND: i32 = 12;
/// 128 + SIGINT.
pub(crate) const INTERRUPTED: i32 = 130;
/// 128 + SIGTERM.
pub(crate) const TERMINATED: i32 = 143;

/// A failure of the command, with what helps.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) code: i32,
    text: String,
    /// A command that helps (CLI-4).
    pub(crate) help: Option<String>,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failed {}

/// A failure with its code.
pub(crate) fn failed(code: i32, text: impl ToString) -> anyhow::Error {
    Failed { code, text: text.to_string(), help: None }.into()
}

/// A failure with its code and the command that helps.
pub(crate) fn failed_with(code: i32, text: impl ToString, help: String) -> anyhow::Error {
    Failed { code, text: text.to_string(), help: Some(help) }.into()
}

/// The code of a run that has ended.
pub(crate) fn of_state(state: RunState) -> i32 {
    match state {
        RunState::Succeeded | RunState::PartiallySucceeded => COMPLETED,
        RunState::TimedOut => DEADLINE,
        RunState::Cancelled => CANCELLED,
        RunState::Failed
        | RunState::CompensationFailed
        | RunState::Pending
        | RunState::Running
        | RunState::Paused
        | RunState::Cancelling
        | RunState::Compensating => RUN_FAILED,
    }
}

/// The code of a store's refusal.
pub(crate) fn of_store(error: &StoreError) -> i32 {
    match error {
        StoreError::NotFound { .. } | StoreError::Removed { .. } => NOT_FOUND,
        // The command line named a run that is another one.
        StoreError::KeyReused(_) | StoreError::InvalidName { .. } => USAGE,
        StoreError::Conflict { .. }
        | StoreError::StaleAttempt { .. }
        | StoreError::InvalidState(_)
        | StoreError::Busy
        | StoreError::Closed
        | StoreError::ReadOnly
        | StoreError::OlderSchema { .. }
        | StoreError::Full(_)
        | StoreError::Unavailable(_)
        | StoreError::Corrupt { .. }
        | StoreError::NewerSchema { .. }
        | StoreError::Locked { .. }
        | StoreError::TooLarge { .. }
        | StoreError::Unreadable { .. }
        | _ => STORE,
    }
}

/// The code of an engine's refusal.
pub(crate) fn of_run_error(error: &RunError) -> i32 {
    match error {
        RunError::Store(error) => of_store(error),
        RunError::InvalidRunId(_) | RunError::Ended { .. } | RunError::Undone { .. } => USAGE,
        RunError::Engine(_)
        | RunError::NotRunnable(_)
        | RunError::OwnedElsewhere { .. }
        | RunError::ShuttingDown
        | RunError::ShutDown { .. }
        | _ => RUN_FAILED,
    }
}

/// The code of a run that was not continued.
pub(crate) fn of_resume(error: &perennial::ResumePipelineError) -> i32 {
    use perennial::ResumePipelineError as Error;
    match error {
        Error::Run(error) => of_run_error(error),
        Error::Document(error) => of_start(error),
        Error::Preflight(_) => PROVIDER,
        Error::Files(_) => INVALID,
        Error::OtherWorkflow { .. }
        | Error::Inputs(_)
        | Error::Rewrites(_)
        | Error::NoSuchStep { .. }
        | Error::UnderWay { .. }
        | Error::Taken { .. } => USAGE,
        Error::Definition(_) | Error::Settings(_) | Error::Bounds(_) | _ => RUN_FAILED,
    }
}

/// The code of a start that was refused.
pub(crate) fn of_start(error: &StartPipelineError) -> i32 {
    match error {
        StartPipelineError::Source(_) | StartPipelineError::Invalid(_) => INVALID,
        StartPipelineError::Inputs(_)
        | StartPipelineError::Mocks(_)
        | StartPipelineError::NotRegistered { .. } => USAGE,
        StartPipelineError::Preflight(refusals) => {
            let provider = |refusal: &perennial::Preflight| {
                matches!(refusal, perennial::Preflight::Provider { .. })
            };
            if refusals.iter().any(provider) { PROVIDER } else { INVALID }
        }
        StartPipelineError::Files(_) => INVALID,
        StartPipelineError::Store(error) => of_store(error),
        StartPipelineError::Run(error) => of_run_error(error),
        _ => RUN_FAILED,
    }
}
