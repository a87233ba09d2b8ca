//! What an attempt saves for later attempts of its job, and what it says of how far it is.

use std::time::Duration;

use perennial_core::{FailureClass, failure::Failure};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::sync::Notify;

use super::AttemptCx;

/// Signs of life of one attempt.
#[derive(Debug, Default)]
pub(crate) struct Pulse(Notify);

impl Pulse {
    pub(super) fn beat(&self) {
        self.0.notify_one();
    }

    /// Returns once there was no sign of life for `within`.
    ///
    /// # Cancel safety
    ///
    /// Dropping it forgets the signs so far.
    pub(crate) async fn falls_silent(&self, within: Duration) {
        while tokio::time::timeout(within, self.0.notified()).await.is_ok() {}
    }
}

impl AttemptCx {
    /// Saves `value` under `name` for later attempts of this job, in place of what has the name: it is
    /// durable when this returns. It is dropped when the job has succeeded.
    ///
    /// Between the work and the return of this the process may die: what was done for `value` is then
    /// done again, with the same [`idempotency_key`](Self::idempotency_key).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[doc = include_str!("../../doc/attempts.txt")]
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// /// Reads ten pages, and none of them twice, however often its process dies.
    /// async fn attempt(cx: AttemptCx) -> Result<serde_json::Value, Failure> {
    ///     let mut read: Vec<u32> = cx.restored("pages").await?.unwrap_or_default();
    ///     while read.len() < 10 {
    ///         let page = read.len() as u32; // read it here
    ///         read.push(page);
    ///         cx.checkpoint("pages", &read).await?;
    ///         cx.heartbeat(serde_json::json!({"pages": read.len()})).await?;
    ///     }
    ///     Ok(read.len().into())
    /// }
    /// # let workflow = Arc::new(Greet(Definition::new(b"greet 1".to_vec())));
    /// # let settings = serde_json::json!({});
    /// # let run = runtime.runs().start(StartRun { run: None, workflow, settings, within: None, priority: Default::default() }).await?;
    /// # let outcome = run.outcome().await?;
    /// assert_eq!(outcome.view.jobs[0].result, Some(10.into()));
    /// assert!(outcome.view.saved.is_empty()); // nobody needs it any more
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// A failure of class `internal` when `value` is no JSON, of class `store` when it cannot be saved: the
    /// store is away, the value too large, or the job is not this attempt's any more.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open whether it was saved; saving it again does no harm.
    pub async fn checkpoint<T: Serialize + ?Sized>(
        &self,
        name: &str,
        value: &T,
    ) -> Result<(), Failure> {
        self.save(name, value, false).await
    }

    /// As [`checkpoint`](Self::checkpoint); it stays with the run when the job has succeeded.
    ///
    /// ```
    /// use perennial::{engine::AttemptCx, records::Failure};
    ///
    /// async fn attempt(cx: AttemptCx) -> Result<(), Failure> {
    ///     cx.checkpoint_to_keep("seen", &["a", "b"]).await
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`checkpoint`](Self::checkpoint).
    ///
    /// # Cancel safety
    ///
    /// As [`checkpoint`](Self::checkpoint).
    pub async fn checkpoint_to_keep<T: Serialize + ?Sized>(
        &self,
        name: &str,
        value: &T,
    ) -> Result<(), Failure> {
        self.save(name, value, true).await
    }

    async fn save<T: Serialize + ?Sized>(
        &self,
        name: &str,
        value: &T,
        keep: bool,
    ) -> Result<(), Failure> {
        self.pulse.beat();
        let value = json(name, value)?;
        self.journal.save(name, value, keep).await
    }

    /// What an attempt of this job, this one or an earlier one, has saved under `name`.
    ///
    /// ```
    /// use perennial::{engine::AttemptCx, records::Failure};
    ///
    /// async fn attempt(cx: AttemptCx) -> Result<u64, Failure> {
    ///     Ok(cx.restored("sum").await?.unwrap_or(0))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// A failure of class `internal` when it is no `T`, of class `store` when it cannot be read.
    ///
    /// # Cancel safety
    ///
    /// Safe: reading changes nothing.
    pub async fn restored<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Failure> {
        let Some(value) = self.journal.saved(name).await? else { return Ok(None) };
        serde_json::from_value(value).map(Some).map_err(|error| {
            let text = format!("checkpoint `{name}` is something else than expected: {error}");
            Failure::new(FailureClass::Internal, "PL699", text)
        })
    }

    /// Says that this attempt lives, and how far it is, in its own words. That is shown, and kept about every two
    /// seconds; what is said meanwhile is a sign of life all the same.
    ///
    /// An attempt whose plan has [`heartbeat_within`](super::JobPlan::heartbeat_within) has to say so in
    /// time: else it has timed out.
    ///
    /// ```
    /// use perennial::{engine::AttemptCx, records::Failure};
    ///
    /// async fn attempt(cx: AttemptCx) -> Result<(), Failure> {
    ///     for page in 1..=10 {
    ///         // Read it here.
    ///         cx.heartbeat(serde_json::json!({"page": page, "of": 10})).await?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// A failure of class `store` when it is to be kept and cannot be: the store is away, what is said has more
    /// than 4 KiB as JSON, or the job is not this attempt's any more.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open whether it was kept.
    pub async fn heartbeat(&self, progress: Value) -> Result<(), Failure> {
        self.pulse.beat();
        self.journal.beat(progress).await
    }
}

fn json<T: Serialize + ?Sized>(name: &str, value: &T) -> Result<Value, Failure> {
    serde_json::to_value(value).map_err(|error| {
        let text = format!("checkpoint `{name}` is no JSON: {error}");
        Failure::new(FailureClass::Internal, "PL699", text)
    })
}
