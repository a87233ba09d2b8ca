//! What the tree dump shows of a component: the value it published last.

use std::sync::{Mutex, PoisonError};

use serde_json::Value;

/// One value, replaced whole. Reading it asks nobody.
#[derive(Debug, Default)]
pub(crate) struct Published(Mutex<Value>);

impl Published {
    pub(crate) fn publish(&self, value: Value) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = value;
    }

    pub(crate) fn read(&self) -> Value {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
