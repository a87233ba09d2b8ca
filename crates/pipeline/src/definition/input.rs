//! What a run is given.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Ordered;

/// One input of a pipeline.
///
/// ```
/// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
/// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
/// let who = &pipeline.inputs()[0];
/// assert_eq!((who.name.as_str(), who.required, who.declared), ("who", true, true));
/// assert_eq!(who.default_value(), None);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// Its name; `global_vars.x` for a constant that only a parent or the command line can give.
    pub name: String,
    /// What it must be.
    pub kind: InputType,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whether a run cannot start without it.
    pub required: bool,
    /// Whether the document declares it; otherwise it is implied by its use.
    pub declared: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) default: Option<Ordered>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) allowed: Option<Ordered>,
}

/// The declared type of an input.
///
/// ```
/// use perennial_pipeline::InputType;
///
/// assert!(InputType::Integer.accepts(&3.into()));
/// assert!(!InputType::Integer.accepts(&"many".into()));
/// assert_eq!(InputType::Integer.name(), "integer");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputType {
    /// A text.
    String,
    /// Any number.
    Number,
    /// A number without fraction.
    Integer,
    /// True or false.
    Boolean,
    /// A map.
    Object,
    /// A list.
    Array,
    /// Anything.
    Any,
}

impl InputType {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::String,
        Self::Number,
        Self::Integer,
        Self::Boolean,
        Self::Object,
        Self::Array,
        Self::Any,
    ];

    /// Its name in a document.
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Number => "number",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::Object => "object",
            Self::Array => "array",
            Self::Any => "any",
        }
    }

    /// Whether `value` is of this type.
    ///
    /// ```
    /// use perennial_pipeline::InputType;
    ///
    /// assert!(InputType::String.accepts(&"Ada".into()) && !InputType::String.accepts(&7.into()));
    /// ```
    pub fn accepts(self, value: &Value) -> bool {
        match self {
            Self::String => value.is_string(),
            Self::Number => value.is_number(),
            Self::Integer => value.is_i64() || value.is_u64(),
            Self::Boolean => value.is_boolean(),
            Self::Object => value.is_object(),
            Self::Array => value.is_array(),
            Self::Any => true,
        }
    }
}

/// The type of a value, in the words of the language.
pub(crate) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

impl Input {
    /// An input that is used and bound nowhere (YT-14).
    pub(crate) fn implied(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind: InputType::Any,
            description: None,
            required: true,
            declared: false,
            default: None,
            allowed: None,
        }
    }

    /// Its value when none is given.
    ///
    /// ```
    /// use perennial_pipeline::Pipeline;
    ///
    /// let text = b"workflow: {name: w, inputs: {n: {type: integer, default: 3}}, steps: [{name: a, type: echo, value: '{{ inputs.n }}'}]}";
    /// let pipeline = Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// assert_eq!(pipeline.inputs()[0].default_value(), Some(&3.into()));
    /// ```
    pub fn default_value(&self) -> Option<&Value> {
        self.default.as_ref().map(|default| &default.0)
    }

    /// What is wrong with `value` for this input.
    pub(crate) fn fault(&self, value: &Value) -> Option<String> {
        if !self.kind.accepts(value) {
            return Some(format!("expected {}, got {}", self.kind.name(), type_of(value)));
        }
        let Some(Value::Array(allowed)) = self.allowed.as_ref().map(|allowed| &allowed.0) else {
            return None;
        };
        if allowed.contains(value) {
            return None;
        }
        let shown: Vec<String> = allowed.iter().map(Value::to_string).collect();
        Some(format!("must be one of: {}, got: {value}", shown.join(", ")))
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "type": self.kind.name(),
            "description": self.description,
            "required": self.required,
            "declared": self.declared,
            "default": self.default_value(),
        })
    }
}
