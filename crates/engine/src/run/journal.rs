//! The journal of an attempt's external calls, on the store.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use perennial_core::{
    Digest, FailureClass, Timestamp,
    failure::Failure,
    run::{IdempotencyKey, SlotPool},
};
use perennial_store::{
    CallStart, Lease, NewCheckpoint, NewNumber, NewVersion, SlotGiven, SlotTaken, Store, StoreError,
};
use serde_json::Value;

use crate::{
    patience::{STORE_WITHIN, persistently},
    progress::Progress,
    workflow::{BoxFuture, CallJournal},
};

/// Writes under the lease of one attempt: what a stale attempt writes is refused.
#[derive(Debug)]
pub(super) struct LeaseJournal {
    pub(super) store: Arc<dyn Store>,
    pub(super) lease: Lease,
    pub(super) progress: Progress,
    /// How often its progress is kept at most.
    pub(super) keep_every: Duration,
    /// When its progress was kept last.
    pub(super) kept_at: Mutex<Option<Timestamp>>,
}

fn failed(error: &StoreError) -> Failure {
    Failure::new(FailureClass::Store, "PL901", format!("the call could not be journaled: {error}"))
}

fn not_saved(name: &str, error: &StoreError) -> Failure {
    let text = format!("checkpoint `{name}` could not be saved: {error}");
    Failure::new(FailureClass::Store, "PL901", text)
}

fn not_given(what: &str, error: &StoreError) -> Failure {
    let text = format!("{what}: {error}");
    let is_asked_wrongly = matches!(
        error,
        StoreError::InvalidName { .. } | StoreError::TooLarge { .. } | StoreError::NotFound { .. }
    );
    if is_asked_wrongly {
        Failure::new(FailureClass::Internal, "PL699", text)
    } else {
        Failure::new(FailureClass::Store, "PL901", text)
    }
}

impl LeaseJournal {
    fn is_to_be_kept(&self) -> bool {
        let now = self.store.now();
        let mut kept_at = self.kept_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = kept_at.is_none_or(|at| at.after(self.keep_every) <= now);
        if is_due {
            *kept_at = Some(now);
        }
        is_due
    }
}

impl CallJournal for LeaseJournal {
    fn begin<'a>(
        &'a self,
        name: &'a str,
        key: &'a IdempotencyKey,
    ) -> BoxFuture<'a, Result<Option<Value>, Failure>> {
        Box::pin(async move {
            let begin = || {
                let call =
                    CallStart { name: name.to_owned(), idempotency_key: key.as_str().to_owned() };
                self.store.begin_call(&self.lease, call)
            };
            persistently(STORE_WITHIN, begin).await.map_err(|error| failed(&error))
        })
    }

    fn record<'a>(&'a self, name: &'a str, reply: Value) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            let record = || self.store.record_call(&self.lease, name, reply.clone());
            persistently(STORE_WITHIN, record).await.map_err(|error| failed(&error))
        })
    }

    fn reuse<'a>(
        &'a self,
        name: &'a str,
        key: Digest,
    ) -> BoxFuture<'a, Result<Option<Value>, Failure>> {
        Box::pin(async move {
            let reuse = || self.store.reuse(&self.lease, name, key);
            persistently(STORE_WITHIN, reuse).await.map_err(|error| failed(&error))
        })
    }

    fn keep<'a>(
        &'a self,
        key: Digest,
        value: Value,
        within: Duration,
    ) -> BoxFuture<'a, Result<bool, Failure>> {
        Box::pin(async move {
            let keep = || self.store.keep(&self.lease, key, value.clone(), within);
            persistently(STORE_WITHIN, keep).await.map_err(|error| failed(&error))
        })
    }

    fn save<'a>(
        &'a self,
        name: &'a str,
        value: Value,
        keep: bool,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            let new = NewCheckpoint { name: name.to_owned(), value, keep };
            let save = || self.store.save(&self.lease, new.clone());
            persistently(STORE_WITHIN, save).await.map_err(|error| not_saved(name, &error))
        })
    }

    fn saved<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Value>, Failure>> {
        Box::pin(async move {
            let read = || self.store.saved(self.lease.job, name);
            persistently(STORE_WITHIN, read).await.map_err(|error| {
                let text = format!("checkpoint `{name}` cannot be read: {error}");
                Failure::new(FailureClass::Store, "PL901", text)
            })
        })
    }

    fn allocate(&self, new: NewNumber) -> BoxFuture<'_, Result<u64, Failure>> {
        Box::pin(async move {
            let allocate = || self.store.allocate(&self.lease, new.clone());
            persistently(STORE_WITHIN, allocate).await.map_err(|error| {
                let NewNumber { sequence, scope, .. } = &new;
                not_given(&format!("no number of `{sequence}` in `{scope}` was given"), &error)
            })
        })
    }

    fn allocate_version(&self, new: NewVersion) -> BoxFuture<'_, Result<u32, Failure>> {
        Box::pin(async move {
            let allocate = || self.store.allocate_version(&self.lease, new.clone());
            persistently(STORE_WITHIN, allocate).await.map_err(|error| {
                let NewVersion { sequence, scope, number, .. } = &new;
                let what =
                    format!("no version of number {number} of `{sequence}` in `{scope}` was given");
                not_given(&what, &error)
            })
        })
    }

    fn slot_take<'a>(
        &'a self,
        pool: &'a SlotPool,
        name: &'a str,
    ) -> BoxFuture<'a, Result<SlotTaken, Failure>> {
        Box::pin(async move {
            let take = || self.store.slot_take(&self.lease, pool, name);
            persistently(STORE_WITHIN, take).await.map_err(|error| {
                not_given(&format!("no number of the pool `{}` was taken", pool.name()), &error)
            })
        })
    }

    fn slot_give<'a>(
        &'a self,
        pool: &'a str,
        number: u32,
        why: SlotGiven,
    ) -> BoxFuture<'a, Result<bool, Failure>> {
        Box::pin(async move {
            let give = || self.store.slot_give(&self.lease, pool, number, why);
            persistently(STORE_WITHIN, give).await.map_err(|error| {
                not_given(
                    &format!("number {number} of the pool `{pool}` was not given back"),
                    &error,
                )
            })
        })
    }

    fn beat<'a>(&'a self, progress: Value) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            self.progress.says(&self.lease, &progress);
            if !self.is_to_be_kept() {
                return Ok(());
            }
            let beat = || self.store.beat(&self.lease, progress.clone());
            persistently(STORE_WITHIN, beat).await.map_err(|error| {
                let text = format!("progress could not be kept: {error}");
                Failure::new(FailureClass::Store, "PL901", text)
            })
        })
    }

    fn settle<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            let settle = || self.store.settle_call(&self.lease, name);
            persistently(STORE_WITHIN, settle).await.map_err(|error| failed(&error))
        })
    }
}
