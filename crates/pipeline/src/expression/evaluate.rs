//! The value of an expression. Missing is a value of its own, apart from null; an operation on
//! what is missing is undecided, and goes through and, or and not by Kleene's logic (YC-3).

mod comparison;
mod elements;
mod meter;
mod ways;

use std::{borrow::Cow, cell::Cell};

use serde_json::{Map, Value};

use self::{comparison::is_between, elements::Frame, meter::Meter};
use super::{
    Expression, Path,
    function::Work,
    syntax::{Argument, Arithmetic, Call},
    value::{Fault, Trouble, calculate, is_empty, is_true},
};
use crate::definition::MissingHole;

/// Most bytes that one evaluation builds.
pub(super) const BUILT_BYTES_MAX: usize = 64 << 20;

/// Where an expression stands: names are looked up in another order (YT-13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Template,
    Condition,
}

/// How an undecided comparison of a condition is read (YC-4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Undecided {
    /// As false, with a warning.
    #[default]
    Legacy,
    /// As undecided; a condition that stays so fails its step.
    Error,
}

impl Undecided {
    pub(crate) fn is_legacy(&self) -> bool {
        *self == Self::Legacy
    }
}

/// What names mean, and what else an expression asks of its surroundings.
pub(crate) trait Names {
    /// The value at a path of definite segments.
    ///
    /// # Errors
    ///
    /// Where it ended.
    fn find(&self, path: &Path, place: Place) -> Result<Cow<'_, Value>, Missing>;

    /// A new unique id; the same ones in the same order whenever the step is evaluated again.
    fn uuid(&self) -> String;

    /// The instant of the attempt, as RFC 3339; the same whenever it is asked.
    fn now(&self) -> String;

    fn warn(&self, text: String);

    /// The text of a variable of the environment, when it is set.
    fn variable(&self, name: &str) -> Option<String> {
        let _ = name;
        None
    }

    fn undecided(&self) -> Undecided;

    /// Whether there are values that must not be shown.
    fn has_secrets(&self) -> bool {
        false
    }

    /// Whether a text in `value` holds one of them.
    fn is_secret(&self, value: &Value) -> bool {
        let _ = value;
        false
    }

    /// `value`, which a function has made of such a value: it must not be shown either.
    ///
    /// # Errors
    ///
    /// When that cannot be seen to.
    fn derived(&self, value: Value) -> Result<Value, Fault> {
        Ok(value)
    }

    /// What stands for a hole whose value is missing.
    fn missing_hole(&self) -> MissingHole {
        MissingHole::Error
    }
}

/// A path that leads nowhere.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Missing {
    /// The path as far as it is known.
    pub(crate) path: String,
    /// Fields of the value at which it ended; none when that is no object.
    pub(crate) available: Option<Vec<String>>,
}

impl Missing {
    /// What could have been named instead.
    pub(crate) fn fields(&self) -> String {
        match &self.available {
            None => "none (response is not a map/object)".to_owned(),
            Some(fields) if fields.is_empty() => "none".to_owned(),
            Some(fields) => fields.join(", "),
        }
    }
}

/// Why there is no value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Stop {
    /// The expression is a path that leads nowhere.
    Missing(Missing),
    /// An operation on a path that leads nowhere.
    Undecided(Missing),
    Fault(Fault),
}

type Evaluation<'v> = Result<Cow<'v, Value>, Stop>;

/// The value of `expression`.
///
/// # Errors
///
/// When there is none.
pub(crate) fn evaluate(
    expression: &Expression,
    names: &dyn Names,
    place: Place,
) -> Result<Value, Stop> {
    let evaluator = Evaluator::new(names, place);
    let found = evaluator.value(expression, None).map(Cow::into_owned);
    let made_of_secret = evaluator.applied.get() && evaluator.secret.get();
    match found {
        Ok(value) if made_of_secret => names.derived(value).map_err(Stop::Fault),
        found => found.map_err(|stop| evaluator.discreet(stop)),
    }
}

/// Whether the condition `expression` is true.
///
/// # Errors
///
/// When it stays undecided, or fails.
pub(crate) fn holds(expression: &Expression, names: &dyn Names) -> Result<bool, Stop> {
    let evaluator = Evaluator::new(names, Place::Condition);
    evaluator.truth(expression, None).map_err(|stop| evaluator.discreet(stop))
}

/// One evaluation.
struct Evaluator<'n> {
    names: &'n dyn Names,
    place: Place,
    meter: Meter,
    /// Whether a value that it read holds a secret.
    secret: Cell<bool>,
    /// Whether it applied a function that makes something of its arguments.
    applied: Cell<bool>,
}

impl<'n> Evaluator<'n> {
    fn new(names: &'n dyn Names, place: Place) -> Self {
        let (secret, applied) = (Cell::new(false), Cell::new(false));
        Self { names, place, meter: Meter::default(), secret, applied }
    }

    /// `stop` without what was made of a secret on the way.
    fn discreet(&self, stop: Stop) -> Stop {
        match stop {
            Stop::Fault(fault) if self.applied.get() && self.secret.get() => {
                let message = "a function fails on what is made of a secret".to_owned();
                Stop::Fault(Fault { message, ..fault })
            }
            Stop::Missing(_) | Stop::Undecided(_) | Stop::Fault(_) => stop,
        }
    }

    /// The value of `expression`, which is noted when it is read and holds a secret.
    fn value<'v>(
        &'v self,
        expression: &'v Expression,
        at: Option<&'v Frame<'v>>,
    ) -> Evaluation<'v> {
        let found = self.worked_out(expression, at);
        if self.names.has_secrets()
            && !self.secret.get()
            && let Ok(value) = &found
        {
            self.secret.set(self.names.is_secret(value));
        }
        found
    }

    fn worked_out<'v>(
        &'v self,
        expression: &'v Expression,
        at: Option<&'v Frame<'v>>,
    ) -> Evaluation<'v> {
        self.meter.step()?;
        match expression {
            Expression::Literal(value) => Ok(Cow::Borrowed(value)),
            Expression::Text(template) => {
                template.text_at(self.names, self.place).map(text).map_err(undecided)
            }
            Expression::Path(path) => self.path(path, at),
            Expression::Variable(variable) => variable.value(self.names).map(Cow::Owned),
            Expression::Inside { of, segments } => {
                let value = self.value(of, at)?;
                self.follow(value, segments, "the value in brackets", at)
            }
            Expression::Optional(inner) => match self.value(inner, at) {
                Err(Stop::Missing(_) | Stop::Undecided(_)) => Ok(Cow::Owned(Value::Null)),
                found => found,
            },
            Expression::Coalesce(parts) => self.first_present(parts.iter(), at),
            Expression::Choice(parts) => {
                let [condition, then, otherwise] = parts.as_ref();
                let chosen = if self.truth(condition, at)? { then } else { otherwise };
                self.value(chosen, at)
            }
            Expression::Compare(compared) => self.decided(self.compared(compared, at)),
            Expression::Between { negated, parts } => {
                let [value, low, high] = parts.as_ref();
                self.decided(self.between(value, low, high, at).map(|held| held != *negated))
            }
            Expression::Exists { negated, of } => match self.value(of, at) {
                Err(Stop::Missing(_)) => Ok(truth(*negated)),
                found => found.map(|_| truth(!*negated)),
            },
            Expression::Empty { negated, of } => match self.value(of, at) {
                Err(Stop::Missing(_)) => Ok(truth(!*negated)),
                found => found.map(|value| truth(is_empty(&value) != *negated)),
            },
            Expression::Not(inner) => self.truth(inner, at).map(|held| truth(!held)),
            Expression::And(parts) => self.joined(parts, at, true),
            Expression::Or(parts) => self.joined(parts, at, false),
            Expression::Sum { first, rest } => {
                let mut sum = self.operand(first, at)?;
                for (operator, right) in rest {
                    self.meter.step()?;
                    let right = self.operand(right, at)?;
                    let result = self.settled(calculate(&sum, *operator, &right))?;
                    sum = self.built(result)?;
                }
                Ok(sum)
            }
            Expression::Negative(inner) => {
                let value = self.operand(inner, at)?;
                let zero = Value::from(0);
                let operator = Arithmetic::Subtract;
                self.settled(calculate(&zero, operator, &value)).map(Cow::Owned)
            }
            Expression::Call(call) => self.call(call, None, at),
            Expression::Piped { first, calls } => {
                let mut piped = self.value(first, at);
                for call in calls {
                    self.meter.step()?;
                    piped = self.call(call, Some(piped), at);
                }
                piped
            }
            Expression::List(parts) => {
                let values = parts.iter().map(|part| self.value(part, at).map(Cow::into_owned));
                self.built(Value::Array(values.collect::<Result<_, _>>()?))
            }
            Expression::Object(pairs) => {
                let mut map = Map::new();
                for (key, part) in pairs {
                    map.insert(key.clone(), self.value(part, at)?.into_owned());
                }
                self.built(Value::Object(map))
            }
        }
    }

    /// An operand of an operation: without it, the operation is undecided.
    fn operand<'v>(&'v self, operand: &'v Expression, at: Option<&'v Frame<'v>>) -> Evaluation<'v> {
        self.value(operand, at).map_err(undecided)
    }

    /// Whether `expression` is true. In a condition, what is missing is false.
    fn truth<'v>(
        &'v self,
        expression: &'v Expression,
        at: Option<&'v Frame<'v>>,
    ) -> Result<bool, Stop> {
        match self.value(expression, at) {
            Ok(value) => Ok(is_true(&value)),
            Err(Stop::Missing(_)) if self.place == Place::Condition => Ok(false),
            Err(Stop::Missing(missing) | Stop::Undecided(missing)) => {
                self.read_as_false(missing).map(|()| false)
            }
            Err(fault) => Err(fault),
        }
    }

    /// Whether an undecided comparison may be read as false.
    fn read_as_false(&self, missing: Missing) -> Result<(), Stop> {
        if self.place == Place::Template || self.names.undecided() == Undecided::Error {
            return Err(Stop::Undecided(missing));
        }
        self.names.warn(format!("`{}` is missing: its comparison is read as false", missing.path));
        Ok(())
    }

    fn decided<'v>(&self, outcome: Result<bool, Stop>) -> Evaluation<'v> {
        match outcome {
            Err(Stop::Undecided(missing)) => self.read_as_false(missing).map(|()| truth(false)),
            outcome => outcome.map(truth),
        }
    }

    /// All of `parts`, or any of them: one that decides counts, whatever is undecided beside it.
    fn joined<'v>(
        &'v self,
        parts: &'v [Expression],
        at: Option<&'v Frame<'v>>,
        all: bool,
    ) -> Evaluation<'v> {
        let mut open = None;
        for part in parts {
            match self.truth(part, at) {
                Ok(held) if held != all => return Ok(truth(held)),
                Ok(_) => (),
                Err(Stop::Undecided(missing)) => open = open.or(Some(missing)),
                Err(stop) => return Err(stop),
            }
        }
        match open {
            Some(missing) => Err(Stop::Undecided(missing)),
            None => Ok(truth(all)),
        }
    }

    fn first_present<'v>(
        &'v self,
        parts: impl Iterator<Item = &'v Expression>,
        at: Option<&'v Frame<'v>>,
    ) -> Evaluation<'v> {
        let mut last = Err(Stop::Missing(Missing::default()));
        for part in parts {
            last = self.value(part, at);
            if !matches!(last, Err(Stop::Missing(_) | Stop::Undecided(_))) {
                break;
            }
        }
        last
    }

    /// The result of `call`; `piped` stands before its `|`.
    fn call<'v>(
        &'v self,
        call: &'v Call,
        piped: Option<Evaluation<'v>>,
        at: Option<&'v Frame<'v>>,
    ) -> Evaluation<'v> {
        let expressions = call.arguments.iter().filter_map(|argument| match argument {
            Argument::Value(value) => Some(value),
            Argument::Element(_) => None,
        });
        if matches!(call.function.work, Work::FirstPresent) {
            return match piped {
                Some(Err(Stop::Missing(_) | Stop::Undecided(_))) | None => {
                    self.first_present(expressions, at)
                }
                Some(found) => found,
            };
        }
        self.applied.set(true);
        let given = piped.into_iter().chain(expressions.map(|value| self.value(value, at)));
        if let Work::Bearing(apply) = call.function.work {
            let mut values = Vec::new();
            for value in given {
                values.push(match value {
                    Err(Stop::Missing(_) | Stop::Undecided(_)) => None,
                    value => Some(value?),
                });
            }
            let borrowed: Vec<Option<&Value>> = values.iter().map(Option::as_deref).collect();
            return self.built(self.settled(apply(&borrowed))?);
        }
        if let Work::Elements(over) = call.function.work {
            let values = given.collect::<Vec<_>>();
            return self.over_elements(call, over, values, at);
        }
        let values = given.map(|value| value.map_err(undecided)).collect::<Result<Vec<_>, _>>();
        match call.function.work {
            Work::Test(test) => {
                self.decided(values.and_then(|values| {
                    self.test(test, &values[0], &values[1], call.pattern.as_ref())
                }))
            }
            Work::Between => {
                self.decided(values.map(|values| is_between(&values[0], &values[1], &values[2])))
            }
            Work::Uuid => Ok(Cow::Owned(self.names.uuid().into())),
            Work::Now => Ok(Cow::Owned(self.names.now().into())),
            Work::Values(apply) => {
                let values = values?;
                let borrowed: Vec<&Value> = values.iter().map(Cow::as_ref).collect();
                self.built(self.settled(apply(&borrowed))?)
            }
            Work::FirstPresent | Work::Bearing(_) | Work::Elements(_) => {
                unreachable!("returned above")
            }
        }
    }

    /// A value that was made here counts against what an evaluation may build.
    fn built<'v>(&self, value: Value) -> Evaluation<'v> {
        self.meter.build(&value)?;
        Ok(Cow::Owned(value))
    }

    fn settled(&self, outcome: Result<Value, Trouble>) -> Result<Value, Stop> {
        match outcome {
            Ok(value) => Ok(value),
            Err(Trouble::Null(text)) => {
                self.names.warn(text);
                Ok(Value::Null)
            }
            Err(Trouble::Instead(value, text)) => {
                self.names.warn(text);
                Ok(value)
            }
            Err(Trouble::Missing(path)) => Err(Stop::Missing(Missing { path, available: None })),
            Err(Trouble::Fault(fault)) => Err(Stop::Fault(fault)),
        }
    }
}

fn truth<'v>(held: bool) -> Cow<'v, Value> {
    Cow::Owned(Value::Bool(held))
}

fn text<'v>(text: String) -> Cow<'v, Value> {
    Cow::Owned(Value::String(text))
}

fn undecided(stop: Stop) -> Stop {
    match stop {
        Stop::Missing(missing) => Stop::Undecided(missing),
        stop @ (Stop::Undecided(_) | Stop::Fault(_)) => stop,
    }
}
