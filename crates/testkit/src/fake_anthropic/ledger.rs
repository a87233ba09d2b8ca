//! What came and what was answered.

use serde_json::Value;

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Its `idempotency-key`; empty without one.
    pub key: String,
    /// The text of its last user message.
    pub prompt: String,
    /// The request itself.
    pub body: Value,
    /// Whether a reply was sent to its end; errors and broken replies are none.
    pub completed: bool,
    /// Whether nothing more will be sent.
    pub ended: bool,
}

/// What was seen of one idempotency key.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyRecord {
    /// The key.
    pub key: String,
    /// Requests seen.
    pub requests: usize,
    /// Complete replies sent.
    pub replied: usize,
    /// The first request.
    pub body: Value,
    /// Whether all its requests were the same.
    pub same: bool,
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) calls: Vec<Call>,
}

impl Ledger {
    pub(super) fn keys(&self) -> Vec<KeyRecord> {
        let mut keys: Vec<KeyRecord> = Vec::new();
        for call in &self.calls {
            let record = match keys.iter_mut().find(|record| record.key == call.key) {
                Some(record) => record,
                None => {
                    keys.push(KeyRecord {
                        key: call.key.clone(),
                        requests: 0,
                        replied: 0,
                        body: call.body.clone(),
                        same: true,
                    });
                    keys.last_mut().expect("just pushed")
                }
            };
            record.requests += 1;
            record.replied += usize::from(call.completed);
            record.same &= record.body == call.body;
        }
        keys
    }
}
