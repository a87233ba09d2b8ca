//! The journal of an attempt's external calls, on the store.

use std::{sync::Arc, time::Duration};

use perennial_core::{Digest, FailureClass, failure::Failure, run::IdempotencyKey};
use perennial_store::{CallStart, Lease, Store, StoreError};
use serde_json::Value;

use crate::{
    patience::{STORE_WITHIN, patiently},
    workflow::{BoxFuture, CallJournal},
};

/// Writes under the lease of one attempt: what a stale attempt writes is refused.
#[derive(Debug)]
pub(super) struct LeaseJournal {
    pub(super) store: Arc<dyn Store>,
    pub(super) lease: Lease,
}

fn failed(error: &StoreError) -> Failure {
    Failure::new(FailureClass::Store, "PL901", format!("the call could not be journaled: {error}"))
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
            patiently(STORE_WITHIN, begin).await.map_err(|error| failed(&error))
        })
    }

    fn record<'a>(&'a self, name: &'a str, reply: Value) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            let record = || self.store.record_call(&self.lease, name, reply.clone());
            patiently(STORE_WITHIN, record).await.map_err(|error| failed(&error))
        })
    }

    fn reuse<'a>(
        &'a self,
        name: &'a str,
        key: Digest,
    ) -> BoxFuture<'a, Result<Option<Value>, Failure>> {
        Box::pin(async move {
            let reuse = || self.store.reuse(&self.lease, name, key);
            patiently(STORE_WITHIN, reuse).await.map_err(|error| failed(&error))
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
            patiently(STORE_WITHIN, keep).await.map_err(|error| failed(&error))
        })
    }

    fn settle<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            let settle = || self.store.settle_call(&self.lease, name);
            patiently(STORE_WITHIN, settle).await.map_err(|error| failed(&error))
        })
    }
}
