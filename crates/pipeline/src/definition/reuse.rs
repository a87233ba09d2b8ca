//! Whether the result of a step is kept for later runs (1.7, `cache`).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::expression::Template;

/// How long a result is reused when nobody says so.
pub(crate) const CACHE_TTL_MS: u64 = 3_600_000;

/// How the result of a step is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cache {
    /// What stands for everything that goes into the result; the whole request when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<Template>,
    /// How long it may be reused.
    pub(crate) ttl_ms: u64,
}

impl Cache {
    pub(crate) fn ttl(&self) -> Duration {
        Duration::from_millis(self.ttl_ms)
    }
}
