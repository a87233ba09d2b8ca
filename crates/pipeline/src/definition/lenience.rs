//! Named departures from the strict reading (1.9): from the document, or stronger, from outside.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// An option: its values, the default first.
#[derive(Debug)]
pub(crate) struct Leeway {
    pub(crate) name: &'static str,
    pub(crate) values: &'static [&'static str],
    strictest: &'static str,
}

const fn leeway(
    name: &'static str,
    values: &'static [&'static str],
    strictest: &'static str,
) -> Leeway {
    Leeway { name, values, strictest }
}

/// The options of this version.
pub(crate) const LEEWAYS: &[Leeway] = &[
    leeway("unknown_keys", &["error", "warn", "ignore"], "error"),
    leeway("duplicate_keys", &["error", "last_wins"], "error"),
    leeway("string_prompts", &["accept", "error"], "error"),
    leeway("missing_templates", &["error", "empty", "literal", "legacy"], "error"),
    leeway("unknown_functions", &["error", "literal"], "error"),
    leeway(UNDECIDED, &["legacy", "error"], "error"),
    leeway("missing_files", &["preflight", "at_use"], "preflight"),
    leeway("read_outside_roots", &["false", "true"], "false"),
    leeway(MISSING_ENV, &["error", "empty"], "error"),
    leeway("post_processing", &["warn", "error"], "error"),
];

/// Its default depends on the language of the document, so it has a field of its own.
pub(crate) const UNDECIDED: &str = "undecided_conditions";

/// It is recorded with the names of the environment.
const MISSING_ENV: &str = "missing_env";

/// What a command line or a host says about leniency. It is stronger than the document.
///
/// ```
/// use perennial_pipeline::Leniency;
///
/// let strict_but_for_keys = Leniency::as_written().strict().with("unknown_keys", "warn")?;
/// assert_ne!(strict_but_for_keys, Leniency::as_written().strict());
/// # Ok::<(), perennial_pipeline::InvalidLeniency>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leniency {
    strict: bool,
    environment_later: bool,
    options: BTreeMap<&'static str, &'static str>,
}

/// An option that does not exist, or has no such value.
///
/// ```
/// use perennial_pipeline::{InvalidLeniency, Leniency};
///
/// let refused = Leniency::as_written().with("unknown_keys", "perhaps").unwrap_err();
/// assert!(matches!(refused, InvalidLeniency::Value { option: "unknown_keys", .. }));
/// assert_eq!(refused.to_string(), "unknown_keys must be one of: error, warn, ignore, got: perhaps");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLeniency {
    /// There is no such option.
    #[error("unknown leniency `{option}`; there are: {}", names().join(", "))]
    Option {
        /// What was given.
        option: String,
    },
    /// It has no such value.
    #[error("{option} must be one of: {}, got: {value}", values.join(", "))]
    Value {
        /// The option.
        option: &'static str,
        /// Its values.
        values: &'static [&'static str],
        /// What was given.
        value: String,
    },
}

fn names() -> Vec<&'static str> {
    LEEWAYS.iter().map(|leeway| leeway.name).collect()
}

impl Leniency {
    /// Everything as the document says.
    ///
    /// ```
    /// use perennial_pipeline::Leniency;
    ///
    /// assert_eq!(Leniency::as_written(), Leniency::default());
    /// ```
    pub fn as_written() -> Self {
        Self::default()
    }

    /// The strictest value of every option, whatever the document says.
    ///
    /// ```
    /// use perennial_pipeline::{Leniency, Pipeline};
    ///
    /// let text = b"workflow: {name: w, lenient: {unknown_keys: ignore}, colour: red, steps: [{name: a, type: echo, value: 1}]}";
    /// assert!(Pipeline::check("w.yaml", text).pipeline.is_some());
    /// let strict = Leniency::as_written().strict();
    /// assert!(Pipeline::check_with("w.yaml", text, &strict).pipeline.is_none());
    /// ```
    #[must_use]
    pub fn strict(self) -> Self {
        Self { strict: true, ..self }
    }

    /// Variables of the environment that are not set are notes: for a document that is looked at where
    /// it does not run. What is found valid so is no proof that a run can start here.
    ///
    /// ```
    /// use perennial_pipeline::{Leniency, MemorySources, Pipeline};
    ///
    /// let text = "workflow: {name: w, steps: [{name: a, type: echo, value: '${GREETING}'}]}";
    /// let sources = MemorySources::new().file("w.yaml", text); // the variable is not set
    /// let later = Leniency::as_written().environment_later();
    /// assert!(Pipeline::load(&sources.root("w.yaml")?, &sources).pipeline.is_none());
    /// assert!(Pipeline::load_with(&sources.root("w.yaml")?, &sources, &later).pipeline.is_some());
    /// # Ok::<(), perennial_pipeline::SourceFault>(())
    /// ```
    #[must_use]
    pub fn environment_later(self) -> Self {
        Self { environment_later: true, ..self }
    }

    /// Whether variables may be set when a run starts.
    pub(crate) fn waits_for_environment(&self) -> bool {
        self.environment_later
    }

    /// Sets one option; it is stronger than [`strict`](Self::strict).
    ///
    /// ```
    /// use perennial_pipeline::Leniency;
    ///
    /// assert!(Leniency::as_written().with("missing_templates", "empty").is_ok());
    /// assert!(Leniency::as_written().with("missing_template", "empty").is_err()); // misspelt
    /// ```
    ///
    /// # Errors
    ///
    /// When there is no such option, or it has no such value.
    pub fn with(mut self, option: &str, value: &str) -> Result<Self, InvalidLeniency> {
        let known = LEEWAYS.iter().find(|leeway| leeway.name == option);
        let Leeway { name, values, .. } =
            known.ok_or_else(|| InvalidLeniency::Option { option: option.to_owned() })?;
        let found = values.iter().find(|known| **known == value).ok_or_else(|| {
            InvalidLeniency::Value { option: name, values, value: value.to_owned() }
        })?;
        self.options.insert(name, found);
        Ok(self)
    }

    /// Whether variables of the environment may be missing when the document says so.
    pub(crate) fn lets_environment_be_empty(&self) -> bool {
        let leeway = LEEWAYS.iter().find(|leeway| leeway.name == MISSING_ENV);
        leeway.and_then(|leeway| self.value(leeway)) != Some("error")
    }

    fn value(&self, leeway: &Leeway) -> Option<&'static str> {
        let strictest = self.strict.then_some(leeway.strictest);
        self.options.get(leeway.name).copied().or(strictest)
    }
}

/// The options of a document that deviate from their defaults; part of its definition (YF-37).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Lenience(BTreeMap<String, String>);

/// What becomes of a hole without a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum MissingHole {
    /// It is an error.
    #[default]
    Error,
    /// Nothing.
    Empty,
    /// Its own text.
    Literal,
    /// Its own text for `steps`, `inputs` and `global_vars`, else nothing.
    Legacy,
}

impl Lenience {
    /// The options: `outside` first, then `document`, which gives the value of an option, then
    /// those of the document `around`.
    pub(crate) fn of(
        outside: &Leniency,
        document: impl Fn(&str) -> Option<String>,
        around: &Self,
    ) -> Self {
        let mut deviations = BTreeMap::new();
        for leeway in LEEWAYS {
            let written = || document(leeway.name);
            let known = |value: &String| leeway.values.contains(&value.as_str());
            let value = outside.value(leeway).map(str::to_owned).or_else(written).filter(known);
            let value = value.or_else(|| around.0.get(leeway.name).cloned());
            if let Some(value) = value.filter(|value| value != leeway.values[0]) {
                deviations.insert(leeway.name.to_owned(), value);
            }
        }
        // Recorded on its own, with the default of the document's language.
        deviations.remove(UNDECIDED);
        Self(deviations)
    }

    /// What `outside` says of undecided conditions.
    pub(crate) fn undecided(outside: &Leniency) -> Option<&'static str> {
        let leeway = LEEWAYS.iter().find(|leeway| leeway.name == UNDECIDED)?;
        outside.value(leeway)
    }

    /// Whether `option` has this value, which is not its default.
    pub(crate) fn is(&self, option: &str, value: &str) -> bool {
        self.0.get(option).is_some_and(|found| found == value)
    }

    /// Whether every option has its default.
    pub(crate) fn is_strict(&self) -> bool {
        self.0.is_empty()
    }

    /// What becomes of holes without a value.
    pub(crate) fn missing_hole(&self) -> MissingHole {
        match self.0.get("missing_templates").map(String::as_str) {
            Some("empty") => MissingHole::Empty,
            Some("literal") => MissingHole::Literal,
            Some("legacy") => MissingHole::Legacy,
            Some(_) | None => MissingHole::Error,
        }
    }
}

impl MissingHole {
    /// The text of the hole `source`, which names what begins with `root`.
    pub(crate) fn text(self, source: &str, root: &str) -> Option<String> {
        let literal = || Some(source.to_owned());
        match self {
            Self::Error => None,
            Self::Empty => Some(String::new()),
            Self::Literal => literal(),
            Self::Legacy if matches!(root, "steps" | "inputs" | "global_vars") => literal(),
            Self::Legacy => Some(String::new()),
        }
    }
}
