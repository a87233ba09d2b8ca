//! Fields that a schema rules out: those of an object that is closed (YT-16).

use serde_json::Value;

use super::faults::target;

/// References that follow each other, at most.
const HOPS_MAX: usize = 16;

/// What a schema says about the fields of values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Closed(Value);

/// One place in a schema.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spot<'s> {
    root: &'s Value,
    schema: &'s Value,
}

impl Closed {
    /// Of `schema`, which is one.
    pub(crate) fn of(schema: &Value) -> Self {
        Self(schema.clone())
    }

    /// Where values as a whole are described.
    pub(crate) fn spot(&self) -> Spot<'_> {
        Spot { root: &self.0, schema: &self.0 }.followed()
    }
}

impl<'s> Spot<'s> {
    /// The names of the only properties that there can be, when the object is closed.
    pub(crate) fn only(self) -> Option<Vec<&'s str>> {
        let is_closed = self.schema["type"] == "object"
            && self.schema["additionalProperties"] == false
            && self.schema.get("patternProperties").is_none();
        let names = || self.schema["properties"].as_object().into_iter().flatten();
        is_closed.then(|| names().map(|(name, _)| name.as_str()).collect())
    }

    /// Where the property `name` is described.
    pub(crate) fn property(self, name: &str) -> Option<Self> {
        let schema = self.schema["properties"].get(name)?;
        Some(Self { schema, ..self }.followed())
    }

    /// Where all items of a list are described.
    pub(crate) fn items(self) -> Option<Self> {
        if self.schema.get("prefixItems").is_some() {
            return None;
        }
        let schema = self.schema.get("items")?;
        Some(Self { schema, ..self }.followed())
    }

    /// A description that only refers to another one is that one.
    fn followed(self) -> Self {
        let mut here = self;
        for _ in 0..HOPS_MAX {
            let Some(reference) = here.schema["$ref"].as_str() else { return here };
            if !reference.starts_with("#/") {
                return here;
            }
            let Some(schema) = target(here.root, reference) else { return here };
            here = Self { schema, ..here };
        }
        here
    }
}
