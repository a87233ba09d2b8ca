//! Reaches out: tools and providers, and the rules for calling them. The only crate that talks to
//! the outside world.
//!
//! | room | what it knows |
//! |---|---|
//! | [`provider`] | what a provider is, and how one call is made and collected |
//! | [`provider::anthropic`] | Anthropic's Messages API |
//! | [`provider::mock`] | replies that are made up, the same for the same call |
//! | [`provider::error_table`] | what an answer that is no reply means |
//! | [`provider::sse`] | server-sent events |
//! | [`registry`] | which tools exist, and whether each may be called now |
//! | [`protection`] | what guards a call: limiters, permits |
//! | [`tool`] | what a tool is |
//! | [`service`] | how an external dependency is started, looked at and stopped |
//! | [`files`] | the files of a run: below its directories, and nowhere else |
//! | [`secret`] | credentials, and their removal from texts |

pub mod files;
pub mod protection;
pub mod provider;
pub mod registry;
pub mod secret;
pub mod service;
pub mod source;
pub mod tool;

/// The neutral model of a call, for those who write providers.
pub use perennial_core::llm;
pub use provider::{
    CallCx, EventStream, Provider, ProviderEvent,
    anthropic::{Anthropic, AnthropicConfig, AnthropicConfigError},
    complete,
    mock::{MockProvider, MockRules, MockRulesError},
};
pub use registry::{
    AcquireError, AlreadyRegistered, Permit, ToolCallError, ToolRegistry, ToolStatus,
};
pub use secret::{ApiKey, Redactor};
pub use source::{FoundFile, SourceError, SourceFiles, read_source};
pub use tool::{Tool, ToolError, ToolFuture, ToolName, tool_fn};
