//! Where what an attempt did is kept.

use std::{fmt, time::Duration};

use perennial_core::{Digest, failure::Failure, run::IdempotencyKey};
use serde_json::Value;

use super::{BoxFuture, NewNumber, NewVersion, SlotGiven, SlotPool, SlotTaken, numbers};

/// Where external calls are journaled.
///
/// A journal in memory, for tests of a workflow without an engine:
///
/// ```
/// use std::{collections::BTreeMap, sync::{Arc, Mutex}};
/// use perennial::engine::{AttemptCx, CallJournal, Definition, workflow::{BoxFuture, IdempotencyKey, JobKey}};
/// use perennial::{RunId, records::{Failure, Timestamp}};
/// use serde_json::{Value, json};
///
/// #[derive(Debug, Default)]
/// struct InMemory(Mutex<BTreeMap<String, Value>>);
///
/// impl CallJournal for InMemory {
///     fn begin<'a>(
///         &'a self,
///         name: &'a str,
///         _key: &'a IdempotencyKey,
///     ) -> BoxFuture<'a, Result<Option<Value>, Failure>> {
///         Box::pin(async move { Ok(self.0.lock().expect("no panic").get(name).cloned()) })
///     }
///
///     fn record<'a>(&'a self, name: &'a str, reply: Value) -> BoxFuture<'a, Result<(), Failure>> {
///         Box::pin(async move {
///             self.0.lock().expect("no panic").insert(name.to_owned(), reply);
///             Ok(())
///         })
///     }
///
///     fn settle<'a>(&'a self, _name: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
///         Box::pin(async { Ok(()) })
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let journal = Arc::new(InMemory::default());
/// let request = Definition::new(b"what is the time?".to_vec());
/// for attempt in [1, 2] {
///     let (run, job, now) = (RunId::parse("r1")?, JobKey::new("ask"), Timestamp::from_micros(0));
///     let key = IdempotencyKey::new("w", &run, "steps", &job);
///     let cx = AttemptCx::new(run, now, now, job, attempt, Arc::default(), Arc::default(), key, journal.clone());
///     let replied = cx.call(request.digest, async |_| Ok(json!("noon"))).await?;
///     assert_eq!((replied.value, replied.replayed), (json!("noon"), attempt == 2));
/// }
/// # Ok(())
/// # }
/// ```
pub trait CallJournal: Send + Sync + fmt::Debug {
    /// Before the call; `Some` is the reply recorded earlier.
    fn begin<'a>(
        &'a self,
        name: &'a str,
        key: &'a IdempotencyKey,
    ) -> BoxFuture<'a, Result<Option<Value>, Failure>>;
    /// After a complete reply.
    fn record<'a>(&'a self, name: &'a str, reply: Value) -> BoxFuture<'a, Result<(), Failure>>;
    /// After a failure that is known.
    fn settle<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), Failure>>;

    /// The result kept under `key`, recorded as the reply of the call `name`; a journal that keeps
    /// nothing has none.
    fn reuse<'a>(
        &'a self,
        _name: &'a str,
        _key: Digest,
    ) -> BoxFuture<'a, Result<Option<Value>, Failure>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Keeps a result under `key`; whether it is kept.
    fn keep<'a>(
        &'a self,
        _key: Digest,
        _value: Value,
        _within: Duration,
    ) -> BoxFuture<'a, Result<bool, Failure>> {
        Box::pin(std::future::ready(Ok(false)))
    }

    /// Saves a value for later attempts of the job. A journal that saves nothing refuses.
    fn save<'a>(
        &'a self,
        name: &'a str,
        _value: Value,
        _keep: bool,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        let text = format!("checkpoint `{name}` cannot be saved: this journal saves none");
        let failure = Failure::new(perennial_core::FailureClass::Store, "PL901", text);
        Box::pin(std::future::ready(Err(failure)))
    }

    /// The value that was saved under that name.
    fn saved<'a>(&'a self, _name: &'a str) -> BoxFuture<'a, Result<Option<Value>, Failure>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// The number of a key; a journal that gives none refuses.
    fn allocate(&self, _new: NewNumber) -> BoxFuture<'_, Result<u64, Failure>> {
        numbers::gives_none()
    }

    /// The version of a key; a journal that gives none refuses.
    fn allocate_version(&self, _new: NewVersion) -> BoxFuture<'_, Result<u32, Failure>> {
        numbers::gives_none()
    }

    /// Takes a number of a pool, or has it under that name already; a journal that gives none refuses.
    fn slot_take<'a>(
        &'a self,
        _pool: &'a SlotPool,
        _name: &'a str,
    ) -> BoxFuture<'a, Result<SlotTaken, Failure>> {
        numbers::gives_none()
    }

    /// Gives a number back; whether it was held.
    fn slot_give<'a>(
        &'a self,
        _pool: &'a str,
        _number: u32,
        _why: SlotGiven,
    ) -> BoxFuture<'a, Result<bool, Failure>> {
        numbers::gives_none()
    }

    /// Notes how far the attempt is; a journal may leave that out.
    fn beat<'a>(&'a self, _progress: Value) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
