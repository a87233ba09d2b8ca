//! `${NAME}` inside of texts and expressions: a path into `env`, with a default of its own.

use serde_json::Value;

use super::{Missing, Names, Path, Segment, Stop};
use crate::{
    environment::{Word, typed},
    source::Extent,
};

/// A word of the environment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Variable {
    pub(crate) path: Path,
    word: Word,
}

impl Variable {
    /// The variable that `word` names; `extent` is where it stands.
    pub(super) fn of(word: Word, extent: Extent) -> Self {
        let name = Segment::Field { name: word.name.clone(), extent };
        let path =
            Path { root: "env".to_owned(), root_extent: extent, segments: vec![name], extent };
        Self { path, word }
    }

    /// Whether it has a text of its own when the variable is not set.
    pub(super) fn has_default(&self) -> bool {
        self.word.default.is_some()
    }

    /// Its text.
    ///
    /// # Errors
    ///
    /// When it is not set and has no default.
    pub(super) fn text(&self, names: &dyn Names) -> Result<String, Stop> {
        self.word.text_of(names.variable(&self.word.name)).ok_or_else(|| {
            let path = format!("env.{}", self.word.name);
            Stop::Missing(Missing { path, available: Some(Vec::new()) })
        })
    }

    /// Its value (YF-41).
    ///
    /// # Errors
    ///
    /// As [`Self::text`].
    pub(super) fn value(&self, names: &dyn Names) -> Result<Value, Stop> {
        self.text(names).map(|text| typed(&self.word.name, &text))
    }
}
