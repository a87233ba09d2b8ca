//! Perennial: an OTP-faithful supervised runtime for durable AI pipelines and agents.
//!
//! *What dies comes back.* A host embeds a [`Runtime`], starts workflow files as durable runs,
//! sends messages to its own supervised actors, and reads the supervision tree.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use perennial::{ProviderMode, Runtime, StartPipeline, Store};
//!
//! let runtime = Runtime::builder().store(Store::memory()).start().await?;
//! let document = b"workflow:\n  name: hello\n  steps:\n  - {name: greet, type: echo, value: hi}\n";
//! let start = StartPipeline::document("hello.yaml", document).mode(ProviderMode::Mock);
//! let run = runtime.pipelines().start(start).await?;
//! let outcome = run.outcome().await?;
//! assert_eq!(outcome.status(), "completed");
//! assert_eq!(outcome.result("greet"), Some(&"hi".into()));
//! println!("{}", perennial::inspect::to_text(&runtime.tree(), &Default::default()));
//! runtime.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! How a host is built with it, step by step, is told in the [`guide`].

#[doc = include_str!("../GUIDE.md")]
pub mod guide {}

mod pipelines;
mod runtime;
mod view;

/// Durable runs: what a workflow of the host's own implements.
pub use perennial_engine as engine;
/// The formats of the tree dump.
pub use perennial_inspect as inspect;
/// Supervision: what a host needs for children of its own.
pub use perennial_supervision as supervision;
/// Tools and providers.
pub use perennial_tools as tools;

pub use perennial_core::{
    ExitReason, Restart, Shutdown, Strategy,
    run::{RunId, RunState},
    tree::TreeSnapshot,
};
pub use perennial_engine::{
    DrainReport, DrainedAttempts, DrainedRun, EventFeed, LastFailure, RunFate, WaitsFor, WaitsWhy,
    scheduler::Adoption, sessions::Sessions, upkeep::Upkeep,
};
pub use perennial_pipeline::{
    Checked, Deployment, Diagnostic, EnvironmentMode, InvalidDefinition, InvalidDeployment,
    InvalidLeniency, Leniency, ProviderKind, Severity,
};
pub use perennial_store::{Retention, StoreError};
pub use perennial_supervision::{Address, CallError, ChildSpec};

pub use pipelines::{
    DefinitionError, InvalidBounds, MocksFileError, PipelineOutcome, PipelineRunHandle, Pipelines,
    Preflight, RegisterError, ResumePipeline, ResumePipelineError, StartPipeline,
    StartPipelineError,
};
pub use runtime::{
    Builder, Config, ConfigError, InvalidStoreUrl, InvalidWorkflows, LimitError, Limits,
    ProviderMode, Runtime, RuntimeError, ShutdownSummary, Store, StoreSettings, ThresholdSetting,
    WorkflowFault, declared_tree,
};
pub use view::View;

/// Services: external dependencies of runs, kept alive as long as somebody holds them.
pub mod service {
    pub use perennial_core::service::{
        Epoch, Holder, ServiceEvent, ServiceEventKind, ServiceKey, ServiceState, ServiceTerms,
        TermsFault,
    };
    pub use perennial_engine::external::{
        Admitted, External, Hold, InvalidServices, NotReady, OnUnavailable, Scope, ServiceDefaults,
        ServiceError, ServiceFault, ServiceNotice, ServicePermit, ServiceSpec, Then,
    };
    pub use perennial_tools::protection::{BreakerConfig, FailureRate, Limit, Rate};
    pub use perennial_tools::service::{
        ChildProcess, DriverFuture, HttpEndpoint, Instance, InstanceNote, InvalidEndpoint, Keeper,
        Probe, ProbeResult, ServiceDriver, StartError, StopError, StopMode,
    };
}

/// What is recorded of runs, for those who show it.
pub mod records {
    pub use perennial_core::{
        FailureClass, Timestamp,
        failure::Failure,
        run::{AttemptEnd, JobKind, JobState},
    };
    pub use perennial_engine::{
        RunError, RunHandle, RunWarning, WarningFeed,
        monitor::Monitoring,
        performance::{
            Performance, StepDetail, Thresholds, Warning, WarningKind,
            trace::{
                Component, DepthSummary, Finding as TraceFinding, FindingKind, Grade, Span,
                SpanKind, Trace, Verdict, Went, Word,
            },
        },
        upkeep::Check,
    };
    pub use perennial_pipeline::{
        BuiltPrompt, FILE_BYTES_MAX, FunctionEntry, Graph, Input, InputErrors, InputType, KeyEntry,
        MemorySources, PartText, Pipeline, Plan, PlannedJob, ReadFile, RerunWhy, ResumePlan,
        ResumedStep, SourceFile, SourceLoader, StepExplanation, StepFate, StepState, StepTypeEntry,
        functions, nearest, render, report_json, schema, step_types, yaml_text,
    };
    pub use perennial_store::{
        Accepted, AttemptRecord, BeatRecord, CallRecord, CheckpointRecord, ConcurrencyKey,
        Deferral, EventRecord, JobRecord, Keyed, NewWait, NodeRecord, RemovedRun, Retained, Rule,
        RunRecord, RunSummary, RunView, SignalKind, SignalRecord, Turn, TurnHolder, VerifyStep,
        Violation, WaitEnd, WaitKind, WaitRecord,
    };
}
