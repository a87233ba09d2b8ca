//! Limits across runs, as a plan declares them.

use std::{fmt, num::NonZeroU32};

use perennial_core::{FailureClass, failure::Failure};
use perennial_store::ConcurrencyKey;
use serde_json::Value;

use super::Stage;
use crate::run::Guard;

/// By what the jobs of a stage are limited across runs.
#[derive(Clone, Copy)]
pub(crate) struct KeyedBy {
    key: fn(&Value) -> String,
    pub(crate) most: u32,
}

impl fmt::Debug for KeyedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedBy").field("most", &self.most).finish_non_exhaustive()
    }
}

impl KeyedBy {
    /// The limit of a job with that input; else why it has none.
    pub(crate) fn of(&self, input: &Value) -> Result<ConcurrencyKey, Failure> {
        concurrency_key(Guard::key(self.key, input)?, self.most)
    }
}

impl Stage {
    /// Of all jobs of the store with the same key, in whatever run, at most `most` are under way at a time: an app that is
    /// analysed for somebody is analysed for nobody else meanwhile. `key` gives it, from the input of a job: 1 to 256 bytes. It
    /// is pure; a job of which it gives none, because it panics, fails.
    ///
    /// Whoever finds its key full waits, deferred, in the order in which they came: that uses no attempt, no place, and nothing
    /// waits behind it. An attempt keeps its turn until it ends, a group until all of its children have; children have keys of
    /// their own ([`Child::concurrency_key`](crate::staged::Child::concurrency_key)). Two groups of which each has the key that the
    /// children of the other want wait for each other until somebody cancels one, or its time is over: an explanation of such a child
    /// tells who has its key.
    ///
    /// ```
    /// use perennial::engine::staged::{Feed, JobSpec, Stage};
    /// # use perennial::engine::{AttemptCx, staged::{Activity, ActivityError, Ended}};
    /// # #[derive(Debug)] struct Ask;
    /// # impl Activity for Ask {
    /// #     const NAME: &'static str = "ask";
    /// #     type In = String;
    /// #     type Out = String;
    /// #     async fn run(&self, _: &AttemptCx, text: String) -> Result<Ended<String>, ActivityError> { Ok(Ended::Done(text)) }
    /// # }
    /// fn app_of(input: &serde_json::Value) -> String {
    ///     format!("app/{}", input.as_str().unwrap_or_default())
    /// }
    /// let jobs = Feed::jobs([JobSpec::new("a", &"shop"), JobSpec::new("b", &"shop")]);
    /// let asked = Stage::activity::<Ask>("asked").concurrency_key(app_of, 1).feed(jobs);
    /// # drop(asked);
    /// ```
    #[must_use]
    pub fn concurrency_key(mut self, key: fn(&Value) -> String, most: u32) -> Self {
        self.keyed = Some(KeyedBy { key, most });
        self
    }
}

/// That key, if it is one.
pub(crate) fn concurrency_key(key: String, most: u32) -> Result<ConcurrencyKey, Failure> {
    let refuse = |text: String| Err(Failure::new(FailureClass::Permanent, "PL699", text));
    let Some(most) = NonZeroU32::new(most) else {
        return refuse(format!(
            "of the concurrency key `{key}` 0 may be under way: none of its jobs begins"
        ));
    };
    if key.is_empty() || key.len() > ConcurrencyKey::BYTES_MAX {
        let (have, max) = (key.len(), ConcurrencyKey::BYTES_MAX);
        return refuse(format!("a concurrency key has 1 to {max} bytes, and this one {have}"));
    }
    Ok(ConcurrencyKey { key, most })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_a_length_and_a_number() {
        for (length, most, is_one) in
            [(0, 1, false), (1, 1, true), (256, 9, true), (257, 1, false), (3, 0, false)]
        {
            let key = concurrency_key("k".repeat(length), most);
            assert_eq!(key.is_ok(), is_one, "{length} {most}");
            assert!(key.is_ok_and(|it| it.most.get() == most) || !is_one);
        }
        let odd = KeyedBy { key: |_| panic!("no key"), most: 1 };
        let failure = odd.of(&Value::Null).unwrap_err();
        assert!(failure.message.contains("no key"), "{failure:?}");
    }
}
