//! Keeps alive: OTP's supervision on tokio and ractor. The only crate that spawns.
//!
//! | room | what it is |
//! |---|---|
//! | [`Root`] | the top of a tree: start, shut down, look at |
//! | [`Supervisor`] | children declared before the start, three strategies |
//! | [`DynamicSupervisor`] | children started on demand |
//! | [`LightSupervisor`] | very many small servers, each a few hundred bytes |
//! | [`PartitionSupervisor`] | one child several times, reached by keys |
//! | [`TaskSupervisor`] | futures started on demand, with their results |
//! | [`TaskStream`] | a function over many elements, in tasks, so many at a time |
//! | [`Scope`] | tasks that live no longer than the code that asked for them |
//! | [`System`] | several [`Application`]s in one tree, started after what they depend on |
//! | [`ChildSpec`] | how to start, restart and stop one child |
//! | [`GenServer`] | a server process as OTP has it; [`Agent`] for a plain state |
//! | [`Registry`] | which process has which keys, found without asking anybody |
//! | [`Debugger`] | looks into a server without its help |
//! | [`Address`] | where to send messages, whichever incarnation is alive |
//! | [`Mailbox`] | how many may wait, and what becomes of one more |
//! | [`Tree`] | the published picture of a tree; reading it asks nobody |
//! | [`Lifecycle`] | the stream of starts, exits and restarts |
//!
//! An exit travels one way: at the real end, when the state is dropped, whoever owes the obituary (a
//! driver, or the actor's own task as the last thing that it does) publishes it in the tree, tells
//! the child's address, and only then its supervisor.
//!
//! How all that is used, from the first supervisor on, is told in the [`guide`].

pub mod actor;
mod address;
mod agent;
mod application;
mod child;
mod clock;
mod context;
mod deadline;
mod dynamic_supervisor;
mod gen_server;
mod life;
mod lifecycle;
mod light;
mod load;
mod mailbox;
mod names;
mod node;
mod panics;
mod partition_supervisor;
mod presence;
mod process;
#[cfg(test)]
#[cfg(perennial_shuttle)]
mod races;
mod registry;
mod root;
mod scope;
mod stopping;
mod stream;
mod supervisor;
mod sync;
mod task;
mod task_supervisor;
mod template_supervisor;
#[cfg(feature = "testing")]
pub mod testing;
mod waits;

pub use perennial_core::tree::{Intensity, LastExit, NodeKind, NodeState, Restarts, TreeNode};
pub use perennial_core::{
    AutoShutdown, ChildId, ChildType, ExitReason, Overflow, Restart, Shutdown, Strategy, Uptime,
    supervisor::{RestartDelay, SpecError},
};
pub use ractor;

pub use address::{
    Address, CALL_WITHIN, CallError, CastError, Expired, Failed, PendingRequest, ProcessInfo,
    ProcessStatus, Reply, ReplyPort, RequestSet, SendError,
};
pub use agent::Agent;
pub use application::{
    Application, ApplicationError, ApplicationName, ApplicationPhase, ApplicationSpec,
    ApplicationStartError, ApplicationStartFault, Applications, CALLBACKS_WITHIN, Env, EnvChange,
    RunningApplication, System, SystemError, SystemSpec,
};
pub use child::{
    ChildSpec, Extra, Ignore, StartError, StartFault, extra_arguments, pass_to_starter,
};
pub use clock::Clock;
pub use context::Options;
pub use dynamic_supervisor::{ChildRef, DynamicSupervisor, DynamicSupervisorSpec};
pub use gen_server::{
    CrashReport, DebugError, DebugStatus, Debugger, Exit, GenServer, Init, Next, ServerCx,
    TIMERS_MAX, TimerRef, TimersFull, WatchRef,
};
pub use life::StopToken;
pub use lifecycle::{Lifecycle, LifecycleEvent, LifecycleSource, LifecycleStream, Offender};
pub use light::{Flow, LightCx, LightServer, LightSupervisor, LightSupervisorSpec};
pub use mailbox::{MAILBOX_MAX, Mailbox};
pub use names::{Name, Names};
pub use node::{ChildInfo, ChildStatus, Counts, DETAILS_WITHIN, Tree};
pub use panics::{Contained, contain};
pub use partition_supervisor::{
    Hashed, PartitionSpecError, PartitionSupervisor, PartitionSupervisorSpec, ResizeError,
    RouteError, RouteKey,
};
pub use process::{Monitor, ProcessRef, StopError, callers, current_process};
pub use registry::{
    DispatchError, Duplicate, LockError, Registered, Registry, RegistryError, RegistryEvent,
    RegistryKey, RegistrySpec, RegistrySpecError, Unique, Via,
};
pub use root::{Root, ShutdownReport};
pub use scope::Scope;
pub use supervisor::{ChildStart, RequestError, Supervisor, SupervisorSpec};
pub use template_supervisor::{TemplateSupervisor, TemplateSupervisorSpec};

pub use stream::{OnItemTimeout, StreamError, StreamOptions, StreamSpecError, TaskStream};
pub use task::{OnTimeout, Task, TaskError, TaskRef, Yielded, await_many, yield_many};
pub use task_supervisor::{TaskNotice, TaskSpec, TaskSupervisor, TaskSupervisorSpec};

#[doc = include_str!("../GUIDE.md")]
pub mod guide {}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
