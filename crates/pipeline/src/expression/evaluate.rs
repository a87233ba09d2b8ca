//! The value of an expression. Missing is a value of its own, apart from null; an operation on
//! what is missing is undecided, and goes through and, or and not by Kleene's logic (YC-3).

mod elements;
mod meter;

use std::borrow::Cow;

use serde_json::{Map, Value};

use self::{elements::Frame, meter::Meter};
use super::{
    Expression, Path, Segment,
    function::Work,
    path::step,
    pattern::Pattern,
    syntax::{Argument, Call, Comparison, Test},
    value::{Fault, Trouble, calculate, equal, is_empty, is_true, order},
};
use crate::source::Extent;

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

    fn warn(&self, text: String);

    fn undecided(&self) -> Undecided;
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
    Evaluator::new(names, place).value(expression, None).map(Cow::into_owned)
}

/// Whether the condition `expression` is true.
///
/// # Errors
///
/// When it stays undecided, or fails.
pub(crate) fn holds(expression: &Expression, names: &dyn Names) -> Result<bool, Stop> {
    Evaluator::new(names, Place::Condition).truth(expression, None)
}

/// One evaluation.
struct Evaluator<'n> {
    names: &'n dyn Names,
    place: Place,
    meter: Meter,
}

impl<'n> Evaluator<'n> {
    fn new(names: &'n dyn Names, place: Place) -> Self {
        Self { names, place, meter: Meter::default() }
    }

    fn value<'v>(
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
                let operator = super::syntax::Arithmetic::Subtract;
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

    fn compared<'v>(
        &'v self,
        compared: &'v Comparison,
        at: Option<&'v Frame<'v>>,
    ) -> Result<bool, Stop> {
        let side = |expression| match self.value(expression, at) {
            // Missing equals null and nothing else (YC-3).
            Err(Stop::Missing(_)) if compared.test == Test::Equal => Ok(Cow::Owned(Value::Null)),
            found => found.map_err(undecided),
        };
        let (left, right) = (side(&compared.left)?, side(&compared.right)?);
        let held = self.test(compared.test, &left, &right, compared.pattern.as_ref())?;
        Ok(held != compared.negated)
    }

    fn test(
        &self,
        test: Test,
        left: &Value,
        right: &Value,
        pattern: Option<&Pattern>,
    ) -> Result<bool, Stop> {
        let ordered =
            |wanted: fn(std::cmp::Ordering) -> bool| order(left, right).is_some_and(wanted);
        let texts = |asked: fn(&str, &str) -> bool| match (left, right) {
            (Value::String(left), Value::String(right)) => asked(left, right),
            _ => false,
        };
        Ok(match test {
            Test::Equal => equal(left, right),
            Test::Less => ordered(std::cmp::Ordering::is_lt),
            Test::LessOrEqual => ordered(std::cmp::Ordering::is_le),
            Test::Greater => ordered(std::cmp::Ordering::is_gt),
            Test::GreaterOrEqual => ordered(std::cmp::Ordering::is_ge),
            Test::Contains => contains(left, right),
            Test::In => contains(right, left),
            Test::StartsWith => texts(|left, right| left.starts_with(right)),
            Test::EndsWith => texts(|left, right| left.ends_with(right)),
            Test::Matches => return self.matches(left, right, pattern),
        })
    }

    fn matches(
        &self,
        text: &Value,
        source: &Value,
        pattern: Option<&Pattern>,
    ) -> Result<bool, Stop> {
        let (Value::String(text), Value::String(source)) = (text, source) else { return Ok(false) };
        let computed;
        let pattern = match pattern {
            Some(pattern) => pattern,
            None => match Pattern::new(source) {
                Ok(pattern) => {
                    computed = pattern;
                    &computed
                }
                Err(fault) => {
                    let text = format!("the computed regular expression is invalid: {fault}");
                    self.names.warn(text);
                    return Ok(false);
                }
            },
        };
        pattern.is_in(text).map_err(|_| {
            meter::limit("a regular expression takes more than 1,000,000 steps".to_owned())
        })
    }

    fn between<'v>(
        &'v self,
        value: &'v Expression,
        low: &'v Expression,
        high: &'v Expression,
        at: Option<&'v Frame<'v>>,
    ) -> Result<bool, Stop> {
        let value = self.operand(value, at)?;
        let (low, high) = (self.operand(low, at)?, self.operand(high, at)?);
        Ok(is_between(&value, &low, &high))
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

    fn path<'v>(&'v self, path: &'v Path, at: Option<&'v Frame<'v>>) -> Evaluation<'v> {
        if let Some(value) = elements::bound(path, at) {
            return self.follow(value, &path.segments, &path.root, at);
        }
        if path.segments.iter().all(Segment::is_definite) {
            return self.names.find(path, self.place).map_err(Stop::Missing);
        }
        // Names see the path up to the first segment that leads to many values.
        let mut known = Path { segments: Vec::new(), ..path.clone() };
        let mut rest = path.segments.as_slice();
        while let Some((segment, behind)) = rest.split_first() {
            known.segments.push(match segment {
                Segment::Computed(inner) => self.computed(inner, at)?,
                Segment::All | Segment::Filter(_) => break,
                Segment::Field { .. } | Segment::Index { .. } => segment.clone(),
            });
            rest = behind;
        }
        let found = self.names.find(&known, self.place).map_err(Stop::Missing)?;
        self.follow(found, rest, &known.to_string(), at)
    }

    fn computed<'v>(
        &'v self,
        inner: &'v Expression,
        at: Option<&'v Frame<'v>>,
    ) -> Result<Segment, Stop> {
        let extent = Extent::new(0, 0);
        let value = self.operand(inner, at)?;
        if let Some(name) = value.as_str() {
            return Ok(Segment::Field { name: name.to_owned(), extent });
        }
        match value.as_i64() {
            Some(place) => Ok(Segment::Index { place, extent }),
            None => Err(Stop::Missing(Missing { path: format!("[{value}]"), available: None })),
        }
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

    /// Follows `segments` into `value`, which stands at `from`.
    fn follow<'v>(
        &'v self,
        value: Cow<'v, Value>,
        segments: &'v [Segment],
        from: &str,
        at: Option<&'v Frame<'v>>,
    ) -> Evaluation<'v> {
        let mut found = vec![value];
        let mut many = false;
        for (place, segment) in segments.iter().enumerate() {
            let computed = match segment {
                Segment::Computed(inner) => Some(self.computed(inner, at)?),
                Segment::Field { .. }
                | Segment::Index { .. }
                | Segment::All
                | Segment::Filter(_) => None,
            };
            let mut next = Vec::new();
            for value in found {
                let available = match segment {
                    Segment::All => self.all_of(value, &mut next)?,
                    Segment::Filter(condition) => self.some_of(value, condition, at, &mut next)?,
                    Segment::Field { .. } | Segment::Index { .. } | Segment::Computed(_) => {
                        let segment = computed.as_ref().unwrap_or(segment);
                        step(value, segment).map(|value| next.push(value)).err()
                    }
                };
                if let Some(available) = available.filter(|_| !many) {
                    let way: String = segments[..=place].iter().map(ToString::to_string).collect();
                    return Err(Stop::Missing(Missing { path: format!("{from}{way}"), available }));
                }
            }
            many |= matches!(segment, Segment::All | Segment::Filter(_));
            found = next;
        }
        match (many, found.pop()) {
            (false, Some(value)) => Ok(value),
            (_, last) => {
                found.extend(last);
                self.built(found.into_iter().map(Cow::into_owned).collect())
            }
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

fn is_between(value: &Value, low: &Value, high: &Value) -> bool {
    order(low, value).is_some_and(std::cmp::Ordering::is_le)
        && order(value, high).is_some_and(std::cmp::Ordering::is_le)
}

/// A part of a text, an element of a list, or a key of an object (YC-7).
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::String(whole), Value::String(part)) => whole.contains(part.as_str()),
        (Value::Array(items), part) => items.iter().any(|item| equal(item, part)),
        (Value::Object(map), Value::String(key)) => map.contains_key(key),
        _ => false,
    }
}
