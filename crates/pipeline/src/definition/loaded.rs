//! A child that was loaded while its run was under way, as it is recorded: from then on it is what it was, whatever
//! its file says.

use perennial_core::{Digest, digest::canonical_json};
use perennial_engine::Definition;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{InvalidDefinition, LANGUAGE, Model, Pipeline};

/// A definition, and where it stood.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Loaded {
    /// Of the definition.
    pub(crate) digest: Digest,
    /// The file it was read from.
    pub(crate) file: String,
    /// Where its steps stand.
    pub(crate) places: Vec<String>,
    /// Canonical bytes.
    pub(crate) definition: String,
    /// Of the bytes of the file. Older versions have not recorded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<Digest>,
}

/// The file of a child that was read while its run was under way, as the opening of the child has recorded it.
///
/// ```
/// use perennial_pipeline::ReadFile;
///
/// let opening = serde_json::json!({"child": {"file": "/flows/part.yaml"}});
/// let read = ReadFile::recorded(&opening).expect("the opening has read a file");
/// assert_eq!(read.file(), "/flows/part.yaml");
/// assert!(ReadFile::recorded(&serde_json::json!({"round": 2})).is_none());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadFile {
    file: String,
    source: Option<Digest>,
}

impl ReadFile {
    /// What `opening`, the record of a job that opened a child, says of its file; nothing when it has read none.
    ///
    /// ```
    /// # use perennial_pipeline::ReadFile;
    /// let opening = serde_json::json!({"child": {"file": "/flows/part.yaml"}});
    /// assert!(ReadFile::recorded(&opening).is_some());
    /// ```
    pub fn recorded(opening: &Value) -> Option<Self> {
        let child = opening.get(CHILD)?;
        let source = child.get("source").and_then(|source| Digest::deserialize(source).ok());
        Some(Self { file: child["file"].as_str()?.to_owned(), source })
    }

    /// The file that was taken.
    ///
    /// ```
    /// # use perennial_pipeline::ReadFile;
    /// let opening = serde_json::json!({"child": {"file": "/flows/part.yaml"}});
    /// assert_eq!(ReadFile::recorded(&opening).unwrap().file(), "/flows/part.yaml");
    /// ```
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Whether `bytes`, which the file has now, are others than those that were read; nothing when that was not
    /// recorded. Files that it extends or includes are not looked at.
    ///
    /// ```
    /// # use perennial_pipeline::ReadFile;
    /// let opening = serde_json::json!({"child": {"file": "/flows/part.yaml"}});
    /// assert_eq!(ReadFile::recorded(&opening).unwrap().differs(b"workflow: {}"), None);
    /// ```
    pub fn differs(&self, bytes: &[u8]) -> Option<bool> {
        self.source.map(|source| source != Digest::of(bytes))
    }
}

impl Loaded {
    /// What is recorded of `pipeline`.
    pub(crate) fn of(pipeline: &Pipeline) -> Self {
        let bytes = &pipeline.definition().bytes;
        Self {
            digest: pipeline.definition().digest,
            file: pipeline.file().to_owned(),
            places: pipeline.places(),
            // What is canonical is UTF-8.
            definition: String::from_utf8_lossy(bytes).into_owned(),
            source: None,
        }
    }

    /// What the record of an opening says of its child, when that was not known before.
    ///
    /// # Errors
    ///
    /// When it is not what was recorded.
    pub(crate) fn read(record: &Value) -> Result<Option<Self>, InvalidDefinition> {
        Ok(record.get(CHILD).map(Self::deserialize).transpose()?)
    }

    /// Its digest and its file, without the rest of it.
    pub(crate) fn key(record: &Value) -> Option<(&str, &str)> {
        let child = record.get(CHILD)?;
        Some((child["digest"].as_str()?, child["file"].as_str()?))
    }

    /// Puts it into the record of an opening.
    pub(crate) fn put(self, record: &mut Value) {
        record[CHILD] = serde_json::to_value(self).expect("its keys are texts");
    }

    /// The pipeline.
    ///
    /// # Errors
    ///
    /// When it is not what was recorded, or of a newer build.
    pub(crate) fn model(&self) -> Result<Model, InvalidDefinition> {
        let mut model: Model = serde_json::from_str(&self.definition)?;
        if model.language > LANGUAGE {
            return Err(InvalidDefinition::Newer { found: model.language });
        }
        if Definition::new(self.definition.clone().into_bytes()).digest != self.digest {
            return Err(InvalidDefinition::NotCanonical);
        }
        model.file.clone_from(&self.file);
        let places = &mut self.places.iter().map(|place| super::Location::read(place));
        model.place(places);
        Ok(model)
    }
}

/// The key of the record of an opening.
const CHILD: &str = "child";

impl Model {
    /// What tells it from other pipelines when it is a child: what is the run's own is left out.
    pub(crate) fn identity(&self) -> Digest {
        let mut value = serde_json::to_value(self).expect("a model has text keys only");
        if let Some(map) = value.as_object_mut() {
            for key in OF_THE_RUN {
                map.remove(key);
            }
        }
        Digest::of(canonical_json(&value).as_bytes())
    }
}

/// What only the pipeline of the run has.
const OF_THE_RUN: [&str; 4] = ["environment", "empty_when_missing", "deployed", "within_ms"];
