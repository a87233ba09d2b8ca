//! Filters on their own, as the key `transform` of a prompt part has them: `trim | truncate(80)`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value;

use super::{
    Expression, Names, Path, Place, Standing, Stop, SyntaxError, evaluate,
    function::Takes,
    parser::parse_filters,
    pretty,
    syntax::{Call, only_paths},
};

/// One filter or more, kept with the text they were read from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Filters {
    source: String,
    calls: Vec<Call>,
}

impl Filters {
    /// Parses `source`. Beside the filters of templates it knows the named transforms (YP-4).
    ///
    /// # Errors
    ///
    /// The first fault.
    pub(crate) fn parse(source: &str) -> Result<Self, SyntaxError> {
        Ok(Self { source: source.to_owned(), calls: parse_filters(source)? })
    }

    /// Calls `see` with every path of their arguments.
    pub(crate) fn paths<'e>(&'e self, see: &mut dyn FnMut(&'e Path, Standing)) {
        let mut see = only_paths(see);
        self.calls.iter().for_each(|call| call.parts(false, Standing::default(), &mut see));
    }

    /// What they make of `value`. A filter of texts gets a list or an object as indented JSON.
    ///
    /// # Errors
    ///
    /// When one of them fails.
    pub(crate) fn apply(&self, value: Value, names: &dyn Names) -> Result<Value, Stop> {
        let texts = self.calls.first().is_some_and(|call| call.function.takes(0) == Takes::Text);
        let value = if texts { pretty(&value).into() } else { value };
        let first = Box::new(Expression::Literal(value));
        let piped = Expression::Piped { first, calls: self.calls.clone() };
        evaluate(&piped, names, Place::Template)
    }
}

impl Serialize for Filters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}

impl<'de> Deserialize<'de> for Filters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let source = String::deserialize(deserializer)?;
        Self::parse(&source).map_err(|error| D::Error::custom(error.message))
    }
}
