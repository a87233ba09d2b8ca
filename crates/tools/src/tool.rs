//! What a tool is: a name, a description, a schema of its arguments, and code.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use perennial_core::Digest;
use serde_json::{Value, json};

/// The name of a tool, unique in a registry.
///
/// ```
/// use perennial_tools::ToolName;
///
/// assert_eq!(ToolName::new("length"), "length".into());
/// ```
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct ToolName(String);

impl ToolName {
    /// A tool name.
    ///
    /// ```
    /// use perennial_tools::ToolName;
    ///
    /// assert_eq!(ToolName::new("length").to_string(), "length");
    /// ```
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// Its text.
    ///
    /// ```
    /// use perennial_tools::ToolName;
    ///
    /// assert_eq!(ToolName::new("length").as_str(), "length");
    /// ```
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ToolName {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl fmt::Display for ToolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a tool gave no result; the text is shown to who asked, a model included.
///
/// ```
/// use perennial_tools::ToolError;
///
/// let error = ToolError::new("`text` is needed");
/// assert_eq!(error.to_string(), "`text` is needed");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ToolError {
    /// One line.
    pub message: String,
}

impl ToolError {
    /// A tool's own failure.
    ///
    /// ```
    /// use perennial_tools::ToolError;
    ///
    /// assert_eq!(ToolError::new("no line").message, "no line");
    /// ```
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

impl From<serde_json::Error> for ToolError {
    fn from(error: serde_json::Error) -> Self {
        Self::new(error.to_string())
    }
}

/// The future of one call of a tool.
pub type ToolFuture = Pin<Box<dyn Future<Output = Result<Value, ToolError>> + Send>>;

type Handler = Arc<dyn Fn(Value) -> ToolFuture + Send + Sync>;

/// One tool. Cheap to clone.
///
/// ```
/// use perennial_tools::tool_fn;
/// use serde_json::{Value, json};
/// use std::time::Duration;
///
/// let length = tool_fn("length", "Counts the bytes of a text", async |args: Value| {
///     Ok(json!(args["text"].as_str().map(str::len)))
/// })
/// .input_schema(json!({"type": "object", "required": ["text"]}))
/// .calls_max(2)
/// .within(Duration::from_secs(5));
/// assert_eq!((length.limit(), length.deadline()), (2, Duration::from_secs(5)));
/// ```
#[derive(Clone)]
pub struct Tool {
    name: ToolName,
    description: String,
    input_schema: Value,
    calls_max: u32,
    within: Duration,
    handler: Handler,
}

/// A tool that is a function: any object as arguments, 4 calls at a time, 60 seconds each
/// (TOOL-9, TOOL-10).
///
/// ```
/// use perennial_tools::{ToolError, tool_fn};
/// use serde_json::{Value, json};
///
/// let shout = tool_fn("shout", "says it louder", async |args: Value| {
///     let text = args["text"].as_str().ok_or_else(|| ToolError::new("`text` is needed"))?;
///     Ok(json!(text.to_uppercase()))
/// });
/// assert_eq!(shout.name().as_str(), "shout");
/// ```
pub fn tool_fn<F, Fut>(name: impl Into<String>, description: impl Into<String>, handler: F) -> Tool
where
    F: Fn(Value) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Value, ToolError>> + Send + 'static,
{
    Tool {
        name: ToolName::new(name),
        description: description.into(),
        input_schema: json!({"type": "object"}),
        calls_max: 4,
        within: Duration::from_secs(60),
        handler: Arc::new(move |arguments| Box::pin(handler(arguments))),
    }
}

impl Tool {
    /// The same with another JSON Schema of its arguments.
    ///
    /// ```
    /// use perennial_tools::tool_fn;
    /// use serde_json::{Value, json};
    ///
    /// let schema = json!({"type": "object", "required": ["text"]});
    /// let tool = tool_fn("t", "does it", async |args: Value| Ok(args)).input_schema(schema.clone());
    /// assert_eq!(tool.describe()["input_schema"], schema);
    /// ```
    #[must_use]
    pub fn input_schema(mut self, schema: Value) -> Self {
        self.input_schema = schema;
        self
    }

    /// The same with at most `calls_max` calls at a time.
    ///
    /// ```
    /// use perennial_tools::tool_fn;
    /// use serde_json::Value;
    ///
    /// let alone = tool_fn("t", "does it", async |args: Value| Ok(args)).calls_max(1);
    /// assert_eq!(alone.limit(), 1);
    /// ```
    ///
    /// # Panics
    ///
    /// When that is none.
    #[must_use]
    pub fn calls_max(mut self, calls_max: u32) -> Self {
        assert!(calls_max > 0, "a tool that may never be called is none");
        self.calls_max = calls_max;
        self
    }

    /// The same with another time for one call, waiting for its turn included.
    ///
    /// ```
    /// use perennial_tools::tool_fn;
    /// use serde_json::Value;
    /// use std::time::Duration;
    ///
    /// let quick = tool_fn("t", "does it", async |args: Value| Ok(args)).within(Duration::from_secs(1));
    /// assert_eq!(quick.deadline(), Duration::from_secs(1));
    /// ```
    #[must_use]
    pub fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// Its name.
    pub fn name(&self) -> &ToolName {
        &self.name
    }

    /// How many calls may run at a time.
    pub fn limit(&self) -> u32 {
        self.calls_max
    }

    /// How long one call may take.
    pub fn deadline(&self) -> Duration {
        self.within
    }

    /// The exact JSON a model sees (TOOL-3).
    ///
    /// ```
    /// use perennial_tools::tool_fn;
    /// use serde_json::{Value, json};
    ///
    /// let tool = tool_fn("t", "does it", async |args: Value| Ok(args));
    /// assert_eq!(
    ///     tool.describe(),
    ///     json!({"name": "t", "description": "does it", "input_schema": {"type": "object"}})
    /// );
    /// ```
    pub fn describe(&self) -> Value {
        json!({
            "name": self.name,
            "description": self.description,
            "input_schema": self.input_schema,
        })
    }

    /// The digest of its definition (TOOL-8); the code is not part of it.
    ///
    /// ```
    /// use perennial_tools::tool_fn;
    /// use serde_json::Value;
    ///
    /// let tool = |does| tool_fn("t", does, async |args: Value| Ok(args));
    /// assert_eq!(tool("it").digest(), tool("it").calls_max(9).digest()); // no model sees the limit
    /// assert_ne!(tool("it").digest(), tool("more").digest());
    /// ```
    pub fn digest(&self) -> Digest {
        Digest::of_json(&self.describe())
    }

    /// Runs its code, without permit and deadline.
    pub(crate) fn run(&self, arguments: Value) -> ToolFuture {
        (self.handler)(arguments)
    }
}

impl fmt::Debug for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tool")
            .field("name", &self.name)
            .field("calls_max", &self.calls_max)
            .field("within", &self.within)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_what_a_model_sees_and_what_the_digest_covers() {
        let tool = |text: &str| tool_fn("t", text, async |args: Value| Ok(args));
        let schema = json!({"type": "object", "required": ["x"]});
        let described = tool("d").input_schema(schema.clone()).describe();
        assert_eq!(described, json!({"name": "t", "description": "d", "input_schema": schema}));
        assert_eq!(tool("d").digest(), tool("d").calls_max(9).digest());
        assert_ne!(tool("d").digest(), tool("e").digest());
    }
}
