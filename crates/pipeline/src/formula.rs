//! Templates and conditions on their own, without a document and a run.

use std::{borrow::Cow, fmt, ops::Range, sync::Mutex};

use perennial_core::Timestamp;
use serde_json::Value;

use crate::expression::{
    ConditionText, Missing, Names, Path, Place, Stop, SyntaxError, Template, Undecided, fields,
    holds, walk,
};

/// Warnings that one evaluation keeps; the others say no more.
const WARNINGS_MAX: usize = 20;

/// A template or a condition, to be evaluated on values at hand: for editors, for tests of the
/// documents of a host, for measuring.
///
/// In a run, steps are evaluated with the same code; what differs is what names mean. Here the
/// fields of an object are the names, and `steps.a` is the field `a` where no field `steps` is.
///
/// ```
/// use perennial_pipeline::Formula;
/// use serde_json::json;
///
/// let names = json!({ "review": { "score": 8 }, "who": "Ada" });
/// let text = Formula::template("{{ who | upper }} gave {{ steps.review.score + 1 }}")?;
/// assert_eq!(text.value(&names)?.value, "ADA gave 9");
///
/// let gate = Formula::condition("review.score > 7 and who matches '^A'")?;
/// assert_eq!(gate.value(&names)?.value, true);
///
/// let wrong = Formula::condition("review.score >").unwrap_err();
/// assert_eq!(wrong.faults[0].at, 14..14);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Formula {
    form: Form,
    now: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
enum Form {
    Template(Template),
    Condition(ConditionText),
}

/// What a formula gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluated {
    /// Its value; of a condition, whether it holds.
    pub value: Value,
    /// What it warned of, at most 20 texts: a comparison of something missing that was read as
    /// false, a division by zero.
    pub warnings: Vec<String>,
}

/// A text that is no template or no condition; every fault in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", list(.faults))]
pub struct InvalidFormula {
    /// In the order of the text; never empty.
    pub faults: Vec<FormulaFault>,
}

/// One fault in a formula.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormulaFault {
    /// What is wrong.
    pub message: String,
    /// What would be right, when that is known.
    pub hint: Option<String>,
    /// The bytes of the text that are wrong; empty at its end.
    pub at: Range<usize>,
}

/// Why a formula has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoValue {
    /// It names something that is not there.
    #[error("Missing value `{path}`. Available fields: {available}")]
    Missing {
        /// The path as far as it is known.
        path: String,
        /// What is there instead.
        available: String,
    },
    /// It cannot be evaluated, or takes too much.
    #[error("{message}")]
    Fault {
        /// The code of the language, such as `PL604`.
        code: &'static str,
        /// What is wrong.
        message: String,
    },
}

impl Formula {
    /// Reads a template.
    ///
    /// ```
    /// use perennial_pipeline::Formula;
    ///
    /// assert!(Formula::template("hello {{ name }}").is_ok());
    /// assert!(Formula::template("hello {{ name").is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// Every hole that is no hole.
    pub fn template(text: &str) -> Result<Self, InvalidFormula> {
        let form = Template::parse(text).map(Form::Template);
        form.map(Self::of).map_err(InvalidFormula::of)
    }

    /// Reads a condition.
    ///
    /// ```
    /// use perennial_pipeline::Formula;
    ///
    /// assert!(Formula::condition("count > 3").is_ok());
    /// assert!(Formula::condition("count >").is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// Its first fault.
    pub fn condition(text: &str) -> Result<Self, InvalidFormula> {
        let form = ConditionText::parse(text).map(Form::Condition);
        form.map(Self::of).map_err(|error| InvalidFormula::of(vec![error]))
    }

    /// The same formula, in which `now()` is this instant. Without it, it is the beginning of 1970:
    /// no clock is read.
    #[must_use]
    pub fn at(self, now: Timestamp) -> Self {
        Self { now, ..self }
    }

    fn of(form: Form) -> Self {
        Self { form, now: Timestamp::default() }
    }

    /// Its value, with the fields of `names` as names.
    ///
    /// # Errors
    ///
    /// What is missing, or what is wrong. In a condition, a comparison with something missing is
    /// false and warned of.
    pub fn value(&self, names: &Value) -> Result<Evaluated, NoValue> {
        let table = Table { names, now: self.now, told: Mutex::default() };
        let value = match &self.form {
            Form::Template(template) => template.value(&table),
            Form::Condition(condition) => holds(&condition.expression, &table).map(Value::Bool),
        };
        let told = table.told.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        match value {
            Ok(value) => Ok(Evaluated { value, warnings: told.warnings }),
            Err(Stop::Missing(found) | Stop::Undecided(found)) => {
                let available = found.fields();
                Err(NoValue::Missing { path: found.path, available })
            }
            Err(Stop::Fault(fault)) => {
                Err(NoValue::Fault { code: fault.code, message: fault.message })
            }
        }
    }
}

impl InvalidFormula {
    fn of(errors: Vec<SyntaxError>) -> Self {
        let fault = |error: SyntaxError| FormulaFault {
            at: error.extent.start..error.extent.end,
            hint: error.hint,
            message: error.message,
        };
        Self { faults: errors.into_iter().map(fault).collect() }
    }
}

impl fmt::Display for FormulaFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: {}", self.at.start, self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

fn list(faults: &[FormulaFault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The names of one evaluation.
struct Table<'v> {
    names: &'v Value,
    now: Timestamp,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    warnings: Vec<String>,
    ids: u64,
}

impl Table<'_> {
    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Names for Table<'_> {
    fn find(&self, path: &Path, _: Place) -> Result<Cow<'_, Value>, Missing> {
        let found = match (self.names.get(&path.root), path.root.as_str()) {
            (Some(value), _) => walk(Cow::Borrowed(value), &path.segments),
            (None, "steps") => walk(Cow::Borrowed(self.names), &path.segments),
            (None, _) => Err(fields(self.names)),
        };
        found.map_err(|available| Missing { path: path.to_string(), available })
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.names.get("env")?.get(name).map(crate::expression::to_text)
    }

    /// Counted: nothing here is to differ from one evaluation to the next.
    fn uuid(&self) -> String {
        let mut told = self.told();
        told.ids += 1;
        format!("00000000-0000-8000-a000-{:012x}", told.ids)
    }

    fn now(&self) -> String {
        self.now.to_rfc3339()
    }

    fn warn(&self, text: String) {
        let warnings = &mut self.told().warnings;
        if warnings.len() < WARNINGS_MAX && !warnings.contains(&text) {
            warnings.push(text);
        }
    }

    fn undecided(&self) -> Undecided {
        Undecided::Legacy
    }
}
