//! The table of limits and defaults, and who is stronger (1.11, 6.6).

use serde::{Deserialize, Serialize};

use super::EnvironmentMode;

/// A limit with a number. Each has the name that documents, options and configurations give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Limit {
    /// How deep children may stand.
    MaxNestingDepth,
    /// Steps of all children together.
    MaxTotalSteps,
    /// Jobs of a run tree.
    MaxStepExecutions,
    /// What the results of a run tree may need.
    MemoryLimitMb,
    /// Deadline of a child, in seconds.
    NestedTimeoutSeconds,
    /// Deadline of a run, in seconds.
    MaxExecutionSeconds,
    /// Deadline of a call of the Gemini types, in milliseconds.
    GeminiCallMs,
    /// `file_ops` steps of a run tree; bounded in a sandbox only.
    MaxFileOperations,
}

/// A default that is on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Switch {
    /// Whether a child works in a fresh directory.
    ScratchWorkspace,
    /// Whether that directory goes after a failure.
    CleanupOnError,
    /// Whether checkpoints are exported.
    CheckpointEnabled,
    /// Whether steps are sandboxed.
    SandboxMode,
}

/// `max_file_operations` of a sandboxed run.
pub(super) const SANDBOXED_OPERATIONS: u64 = 1_000;

/// One row of the table: what is built in, and what each mode makes of it.
struct Row<T> {
    built_in: T,
    development: T,
    test: T,
    production: T,
}

impl<T: Copy> Row<T> {
    const fn of(built_in: T, development: T, test: T, production: T) -> Self {
        Self { built_in, development, test, production }
    }

    const fn same(value: T) -> Self {
        Self::of(value, value, value, value)
    }

    fn column(&self, mode: Option<EnvironmentMode>) -> T {
        match mode {
            None => self.built_in,
            Some(EnvironmentMode::Development) => self.development,
            Some(EnvironmentMode::Test) => self.test,
            Some(EnvironmentMode::Production) => self.production,
        }
    }
}

/// Name of each limit, who sets it, and its row: built in, development, test, production.
const LIMITS: [(Limit, &str, Row<u64>); 8] = [
    (Limit::MaxNestingDepth, "max_nesting_depth", Row::of(10, 15, 5, 8)),
    (Limit::MaxTotalSteps, "max_total_steps", Row::of(1_000, 2_000, 100, 500)),
    (Limit::MaxStepExecutions, "max_step_executions", Row::same(100_000)),
    (Limit::MemoryLimitMb, "memory_limit_mb", Row::of(1_024, 2_048, 512, 1_024)),
    (Limit::NestedTimeoutSeconds, "nested_timeout_seconds", Row::of(300, 600, 30, 300)),
    (Limit::MaxExecutionSeconds, "max_execution_time_s", Row::same(86_400)),
    (Limit::GeminiCallMs, "gemini_call_ms", Row::of(300_000, 600_000, 30_000, 1_800_000)),
    (Limit::MaxFileOperations, "max_file_operations", Row::same(SANDBOXED_OPERATIONS)),
];

const SWITCHES: [(Switch, Row<bool>); 4] = [
    (Switch::ScratchWorkspace, Row::same(false)),
    (Switch::CleanupOnError, Row::of(true, true, false, true)),
    (Switch::CheckpointEnabled, Row::of(false, false, false, true)),
    (Switch::SandboxMode, Row::of(false, false, false, true)),
];

impl Limit {
    /// All of them, in the order of the table.
    pub(crate) const ALL: [Self; 8] = [
        Self::MaxNestingDepth,
        Self::MaxTotalSteps,
        Self::MaxStepExecutions,
        Self::MemoryLimitMb,
        Self::NestedTimeoutSeconds,
        Self::MaxExecutionSeconds,
        Self::GeminiCallMs,
        Self::MaxFileOperations,
    ];

    /// Those that documents, options and configurations can set: the others are defaults of steps.
    pub(crate) const SETTABLE: [Self; 6] = [
        Self::MaxNestingDepth,
        Self::MaxTotalSteps,
        Self::MaxStepExecutions,
        Self::MemoryLimitMb,
        Self::MaxExecutionSeconds,
        Self::MaxFileOperations,
    ];

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        LIMITS[self as usize].1
    }

    /// The limit of this name that can be set.
    pub(crate) fn settable(name: &str) -> Option<Self> {
        Self::SETTABLE.into_iter().find(|limit| limit.name() == name)
    }

    /// What the table says.
    pub(super) fn usual(self, mode: Option<EnvironmentMode>) -> u64 {
        LIMITS[self as usize].2.column(mode)
    }

    /// The largest value that can be meant.
    pub(crate) fn most(self) -> u64 {
        match self {
            // Thirty days.
            Self::MaxExecutionSeconds => 2_592_000,
            Self::MaxNestingDepth
            | Self::MaxTotalSteps
            | Self::MaxStepExecutions
            | Self::MemoryLimitMb
            | Self::NestedTimeoutSeconds
            | Self::GeminiCallMs
            | Self::MaxFileOperations => u32::MAX.into(),
        }
    }

    /// The variable of the environment that sets it.
    pub(crate) fn variable(self) -> Option<&'static str> {
        match self {
            Self::MaxExecutionSeconds => Some("PIPELINE_TIMEOUT"),
            Self::MaxNestingDepth
            | Self::MaxTotalSteps
            | Self::MaxStepExecutions
            | Self::MemoryLimitMb
            | Self::NestedTimeoutSeconds
            | Self::GeminiCallMs
            | Self::MaxFileOperations => None,
        }
    }
}

impl Switch {
    /// What the table says.
    pub(super) fn usual(self, mode: Option<EnvironmentMode>) -> bool {
        SWITCHES[self as usize].1.column(mode)
    }
}

/// What each source says of one limit or of the mode, strongest first (YF-48).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Said<T> {
    /// The command line, or the host.
    pub(crate) option: Option<T>,
    /// The document.
    pub(crate) document: Option<T>,
    /// A variable of the environment.
    pub(crate) variable: Option<T>,
    /// The configuration file.
    pub(crate) file: Option<T>,
}

impl<T> Said<T> {
    /// What the strongest source says.
    pub(crate) fn strongest(self) -> Option<T> {
        self.option.or(self.document).or(self.variable).or(self.file)
    }
}

/// What becomes of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Settled {
    /// Nobody names it.
    Usual,
    /// It is this.
    Named(u64),
    /// More was asked for than the configuration lets anybody have.
    Narrowed {
        /// What was asked for.
        asked: u64,
        /// What the configuration enforces, which holds.
        to: u64,
    },
}

impl Settled {
    /// The value that somebody named.
    pub(crate) fn value(self) -> Option<u64> {
        match self {
            Self::Usual => None,
            Self::Named(value) | Self::Narrowed { to: value, .. } => Some(value),
        }
    }
}

/// The strongest source decides; what a configuration enforces, nobody passes.
pub(crate) fn settle(said: Said<u64>, enforced: bool) -> Settled {
    match (said.strongest(), said.file.filter(|_| enforced)) {
        (Some(asked), Some(to)) if asked > to => Settled::Narrowed { asked, to },
        (Some(value), _) => Settled::Named(value),
        (None, _) => Settled::Usual,
    }
}
