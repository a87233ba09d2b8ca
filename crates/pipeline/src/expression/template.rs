//! Texts with holes, and trees of them.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::{Map, Number, Value};

use super::{
    Expression, Names, Path, Place, Stop, SyntaxError, Variable, evaluate,
    parser::{self, Ground, Origin},
    syntax::{Part, Standing, only_paths},
    to_text,
};
use crate::{environment, source::Extent};

/// A text with holes, kept with the text it was read from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template {
    source: String,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(String),
    /// An expression, and where it stands in the source, braces included.
    Hole(Expression, Extent),
    Variable(Variable),
}

impl Template {
    /// Parses `source`.
    ///
    /// # Errors
    ///
    /// Every hole that is no hole; never empty.
    pub(crate) fn parse(source: &str) -> Result<Self, Vec<SyntaxError>> {
        Self::parse_on(source, Ground::default())
    }

    /// Parses `source`, which stands on `ground`.
    pub(super) fn parse_on(source: &str, ground: Ground) -> Result<Self, Vec<SyntaxError>> {
        let (template, errors) = Self::read(source, ground);
        if errors.is_empty() {
            Ok(template)
        } else {
            Err(errors.into_iter().map(|e| e.1).collect())
        }
    }

    /// Parses `source`; holes whose fault `stays` accepts are text, as if they were escaped.
    ///
    /// # Errors
    ///
    /// Every other hole that is no hole.
    pub(crate) fn parse_leniently(
        source: &str,
        stays: impl Fn(&SyntaxError) -> bool,
    ) -> Result<Self, Vec<SyntaxError>> {
        let mut escaped = source.to_owned();
        loop {
            let (template, mut errors) = Self::read(&escaped, Ground::default());
            let Some(place) = errors.iter().rposition(|(_, error)| stays(error)) else {
                return if errors.is_empty() {
                    Ok(template)
                } else {
                    // Their places are those in the source that was written.
                    let (_, faults) = Self::read(source, Ground::default());
                    Err(faults.into_iter().map(|e| e.1).filter(|error| !stays(error)).collect())
                };
            };
            // From the last to the first, so that the places before it stay true.
            for (open, error) in errors.drain(..=place).rev() {
                if stays(&error) {
                    escaped.insert(open, '\\');
                }
            }
        }
    }

    /// The pieces of `source`, and what is wrong with its holes, each with where it opens.
    fn read(source: &str, ground: Ground) -> (Self, Vec<(usize, SyntaxError)>) {
        let mut pieces = Pieces::default();
        let mut errors = Vec::new();
        let mut at = 0;
        while let Some(found) = source[at..].find("{{") {
            let open = at + found;
            if source[at..open].ends_with('\\') {
                pieces.text(source, at, open - 1, ground.origin);
                pieces.literal("{{");
                at = open + 2;
                continue;
            }
            pieces.text(source, at, open, ground.origin);
            match parser::parse_hole(source, open + 2, ground) {
                Ok((expression, behind)) => {
                    pieces.push(Piece::Hole(expression, Extent::new(open, behind)));
                    at = behind;
                }
                Err(mut error) => {
                    if error.extent.start == error.extent.end {
                        error.extent = ground.origin.place(Extent::new(open, open + 2));
                    }
                    errors.push((open, error));
                    let Some(close) = source[open..].find("}}") else {
                        at = source.len();
                        break;
                    };
                    at = open + close + 2;
                }
            }
        }
        pieces.text(source, at, source.len(), ground.origin);
        (Self { source: source.to_owned(), pieces: pieces.finish() }, errors)
    }

    /// A text in which variables of the environment are replaced, and nothing else.
    pub(crate) fn plain(source: &str) -> Self {
        Self::without_holes(source, Origin::default())
    }

    pub(super) fn without_holes(source: &str, origin: Origin) -> Self {
        let mut pieces = Pieces::default();
        pieces.text(source, 0, source.len(), origin);
        Self { source: source.to_owned(), pieces: pieces.finish() }
    }

    /// The text it was read from.
    pub(crate) fn shown(&self) -> &str {
        &self.source
    }

    pub(crate) fn paths<'e>(&'e self, standing: Standing, see: &mut dyn FnMut(&'e Path, Standing)) {
        self.parts(standing, &mut only_paths(see));
    }

    pub(super) fn parts<'e>(&'e self, standing: Standing, see: &mut dyn FnMut(Part<'e>, Standing)) {
        for piece in &self.pieces {
            match piece {
                Piece::Text(_) => (),
                Piece::Hole(expression, _) => expression.parts(standing, see),
                Piece::Variable(variable) => variable.parts(standing, see),
            }
        }
    }

    /// The text it was read from.
    pub(crate) fn written(&self) -> &str {
        &self.source
    }

    /// What stands in its holes.
    pub(crate) fn holes(&self) -> impl Iterator<Item = &Expression> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(_) | Piece::Variable(_) => None,
            Piece::Hole(expression, _) => Some(expression),
        })
    }

    /// Its value: that of its only hole, or a text (YT-2, YT-3).
    ///
    /// # Errors
    ///
    /// The first value that is missing.
    pub(crate) fn value(&self, names: &dyn Names) -> Result<Value, Stop> {
        if let [Piece::Variable(variable)] = self.pieces.as_slice() {
            return variable.value(names);
        }
        if let Some(hole) = self.only_hole() {
            return match self.evaluate(hole, names, Place::Template)? {
                Ok(value) => Ok(value),
                Err(text) => Ok(Value::String(text)),
            };
        }
        self.text(names).map(Value::String)
    }

    /// Its text.
    ///
    /// # Errors
    ///
    /// The first value that is missing.
    pub(crate) fn text(&self, names: &dyn Names) -> Result<String, Stop> {
        self.text_at(names, Place::Template)
    }

    /// Its text, with names as they are at `place`.
    pub(super) fn text_at(&self, names: &dyn Names, place: Place) -> Result<String, Stop> {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Hole(expression, at) => {
                    match self.evaluate((expression, *at), names, place)? {
                        Ok(value) => out.push_str(&to_text(&value)),
                        Err(text) => out.push_str(&text),
                    }
                }
                Piece::Variable(variable) => out.push_str(&variable.text(names)?),
            }
        }
        Ok(out)
    }

    /// The value of a hole, or the text that stands for a missing one.
    fn evaluate(
        &self,
        (expression, at): (&Expression, Extent),
        names: &dyn Names,
        place: Place,
    ) -> Result<Result<Value, String>, Stop> {
        match evaluate(expression, names, place) {
            Ok(value) => Ok(Ok(value)),
            Err(Stop::Missing(missing)) => {
                let root = missing.path.split(['.', '[']).next().unwrap_or_default();
                let text = names.missing_hole().text(&self.source[at.start..at.end], root);
                text.map(Err).ok_or(Stop::Missing(missing))
            }
            Err(stop) => Err(stop),
        }
    }

    fn only_hole(&self) -> Option<(&Expression, Extent)> {
        let mut only = None;
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) if text.trim().is_empty() => (),
                Piece::Text(_) | Piece::Variable(_) => return None,
                Piece::Hole(..) if only.is_some() => return None,
                Piece::Hole(expression, at) => only = Some((expression, *at)),
            }
        }
        only
    }
}

/// Pieces of a text that is read from the left.
#[derive(Default)]
struct Pieces {
    done: Vec<Piece>,
    text: String,
}

impl Pieces {
    fn literal(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn push(&mut self, piece: Piece) {
        if !self.text.is_empty() {
            self.done.push(Piece::Text(std::mem::take(&mut self.text)));
        }
        self.done.push(piece);
    }

    /// What stands between `start` and `end` of `source`, which has no holes.
    fn text(&mut self, source: &str, start: usize, end: usize, origin: Origin) {
        for piece in environment::pieces(&source[start..end]) {
            match piece {
                environment::Piece::Text(text) => self.literal(text),
                environment::Piece::Dollar => self.literal("${"),
                environment::Piece::Word(word) => {
                    let place = origin.place(word.extent.shifted(start));
                    self.push(Piece::Variable(Variable::of(word, place)));
                }
            }
        }
    }

    fn finish(mut self) -> Vec<Piece> {
        if !self.text.is_empty() {
            self.done.push(Piece::Text(self.text));
        }
        self.done
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let source = String::deserialize(deserializer)?;
        Self::parse(&source).map_err(|errors| D::Error::custom(&errors[0].message))
    }
}

/// A value with templates in its texts. It is written as the JSON text of what it was read from:
/// canonical JSON neither reorders a text nor nests with it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TemplateTree {
    Null,
    Bool(bool),
    Number(Number),
    Text(Template),
    List(Vec<TemplateTree>),
    Map(Vec<(String, TemplateTree)>),
}

impl Serialize for TemplateTree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.written())
    }
}

impl<'de> Deserialize<'de> for TemplateTree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let value: Value = serde_json::from_str(&text).map_err(D::Error::custom)?;
        Self::read(value).map_err(|error| D::Error::custom(error.message))
    }
}

impl TemplateTree {
    /// Calls `see` with every path in its texts.
    pub(crate) fn paths<'e>(&'e self, see: &mut dyn FnMut(&'e Path)) {
        match self {
            Self::Null | Self::Bool(_) | Self::Number(_) => (),
            Self::Text(template) => {
                template.paths(Standing::default(), &mut |path, _| see(path));
            }
            Self::List(items) => items.iter().for_each(|item| item.paths(see)),
            Self::Map(entries) => entries.iter().for_each(|(_, value)| value.paths(see)),
        }
    }

    /// What it was read from.
    /// As the document has it.
    pub(crate) fn written(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Number(number) => Value::Number(number.clone()),
            Self::Text(template) => Value::String(template.source.clone()),
            Self::List(items) => items.iter().map(Self::written).collect(),
            Self::Map(entries) => Value::Object(
                entries.iter().map(|(key, value)| (key.clone(), value.written())).collect(),
            ),
        }
    }

    fn read(value: Value) -> Result<Self, SyntaxError> {
        Ok(match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::Number(number) => Self::Number(number),
            Value::String(text) => {
                let parsed = Template::parse(&text);
                Self::Text(parsed.map_err(|mut errors| errors.swap_remove(0))?)
            }
            Value::Array(items) => {
                Self::List(items.into_iter().map(Self::read).collect::<Result<_, _>>()?)
            }
            Value::Object(map) => Self::Map(
                map.into_iter()
                    .map(|(key, value)| Ok((key, Self::read(value)?)))
                    .collect::<Result<_, SyntaxError>>()?,
            ),
        })
    }

    /// Its value.
    ///
    /// # Errors
    ///
    /// The first value that is missing.
    pub(crate) fn value(&self, names: &dyn Names) -> Result<Value, Stop> {
        Ok(match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Number(number) => Value::Number(number.clone()),
            Self::Text(template) => template.value(names)?,
            Self::List(items) => {
                Value::Array(items.iter().map(|item| item.value(names)).collect::<Result<_, _>>()?)
            }
            Self::Map(entries) => {
                let mut map = Map::new();
                for (key, value) in entries {
                    map.insert(key.clone(), value.value(names)?);
                }
                Value::Object(map)
            }
        })
    }
}
