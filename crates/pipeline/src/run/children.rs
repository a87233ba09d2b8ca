//! Children that become known while a run is under way.
//!
//! Their definitions stand in the records of the jobs that opened them: that is what counts. Here they are kept as
//! they were read, so that a walk through the tree of steps reads each of them once in a process.

use std::{fmt, rc::Rc, sync::OnceLock};

use serde_json::Value;

use crate::definition::{Child, InvalidDefinition, Loaded, Model, Nested};

/// Models, by their digest and file. None of them ever goes, so that whoever walks may hold on to them.
#[derive(Default)]
pub(crate) struct Children {
    first: Link,
}

type Link = OnceLock<Box<Entry>>;

struct Entry {
    digest: String,
    model: Model,
    next: Link,
}

impl Drop for Children {
    /// One after another: each would else go within the drop of the one before it.
    fn drop(&mut self) {
        let mut next = self.first.take();
        while let Some(mut entry) = next {
            next = entry.next.take();
        }
    }
}

impl fmt::Debug for Children {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|entry| &entry.model.name)).finish()
    }
}

impl Children {
    /// The child that an opening has recorded; none when it has recorded none.
    ///
    /// # Errors
    ///
    /// When what is recorded cannot be read.
    pub(crate) fn recorded(&self, record: &Value) -> Result<Option<&Model>, InvalidDefinition> {
        if let Some((digest, file)) = Loaded::key(record) {
            let known = |entry: &&Entry| entry.digest == digest && entry.model.file == file;
            if let Some(entry) = self.iter().find(known) {
                return Ok(Some(&entry.model));
            }
        }
        let Some(loaded) = Loaded::read(record)? else { return Ok(None) };
        let model = loaded.model()?;
        Ok(Some(self.keep(loaded.digest.to_string(), model)))
    }

    fn iter(&self) -> impl Iterator<Item = &Entry> {
        let mut link = &self.first;
        std::iter::from_fn(move || {
            let entry = link.get()?;
            link = &entry.next;
            Some(&**entry)
        })
    }

    /// Two who keep the same at the same time keep it twice, which does no harm.
    fn keep(&self, digest: String, model: Model) -> &Model {
        let mut entry = Some(Box::new(Entry { digest, model, next: Link::new() }));
        let mut link = &self.first;
        loop {
            let kept = link.get_or_init(|| match entry.take() {
                Some(entry) => entry,
                None => unreachable!("it is taken once, and then the loop ends"),
            });
            if entry.is_none() {
                return &kept.model;
            }
            link = &kept.next;
        }
    }
}

/// A pipeline, and those in whose definition it stands, for whoever looks at definitions without running them.
#[derive(Clone)]
pub(crate) struct Site<'a> {
    pub(crate) model: &'a Model,
    outer: Option<Rc<Self>>,
}

impl<'a> Site<'a> {
    /// A pipeline that stands in no other.
    pub(crate) fn of(model: &'a Model) -> Self {
        Self { model, outer: None }
    }

    /// The pipeline `model`, which stands in this one.
    pub(crate) fn inside(&self, model: &'a Model) -> Self {
        Self { model, outer: Some(Rc::new(self.clone())) }
    }

    /// The pipeline that stands that many levels outside.
    pub(crate) fn again(&self, levels: usize) -> Option<Self> {
        let mut found = self;
        for _ in 0..levels {
            found = found.outer.as_deref()?;
        }
        Some(found.clone())
    }

    /// The child of `nested`, a step of this one, whose opening has left `record`.
    pub(crate) fn child(
        &self,
        nested: &'a Nested,
        record: Option<&Value>,
        children: &'a Children,
    ) -> Option<Self> {
        match &nested.child {
            Child::Known(model) => Some(self.inside(model)),
            Child::Again(again) => self.again(again.again),
            Child::Later(_) => children.recorded(record?).ok()?.map(Self::of),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Pipeline;

    fn record(name: &str) -> Value {
        let text = format!(
            "workflow:\n  name: {name}\n  steps:\n    - {{name: a, type: echo, value: 1}}\n"
        );
        let checked = Pipeline::check(&format!("{name}.yaml"), text.as_bytes());
        let mut record = json!({});
        Loaded::of(&checked.pipeline.expect("it is valid")).put(&mut record);
        record
    }

    #[test]
    fn a_child_is_read_once_and_stays_where_it_is() {
        let children = Children::default();
        let (a, b) = (record("a"), record("b"));
        let first = children.recorded(&a).expect("it is whole").expect("it is there");
        let other = children.recorded(&b).expect("it is whole").expect("it is there");
        let again = children.recorded(&a).expect("it is whole").expect("it is there");
        assert_eq!((first.name.as_str(), other.name.as_str()), ("a", "b"));
        assert!(std::ptr::eq(first, again), "it was read twice");
        assert_eq!(
            first.steps[0].location.as_ref().map(ToString::to_string).as_deref(),
            Some("a.yaml:4")
        );
        assert_eq!(children.iter().count(), 2);
    }

    #[test]
    fn what_is_recorded_otherwise_than_it_was_hashed_is_no_child() {
        let children = Children::default();
        assert!(children.recorded(&json!({ "inputs": {} })).is_ok_and(|child| child.is_none()));
        let mut damaged = record("a");
        let text =
            damaged["child"]["definition"].as_str().expect("a text").replace("\"a\"", "\"b\"");
        damaged["child"]["definition"] = text.into();
        assert!(matches!(children.recorded(&damaged), Err(InvalidDefinition::NotCanonical)));
        damaged["child"] = json!({ "digest": 7 });
        assert!(matches!(children.recorded(&damaged), Err(InvalidDefinition::Json(_))));
    }
}
