//! Why a service cannot be held.

use perennial_core::service::{NotFailed, ServiceKey};
use perennial_store::StoreError;
use perennial_supervision::{CallError, RequestError};

use super::Scope;

/// Why a service cannot be held, or started.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// It is not declared.
    #[error("there is no service `{name}`{}", .nearest.as_ref().map(|near| format!(": did you mean `{near}`?")).unwrap_or_default())]
    Unknown {
        /// What was asked for.
        name: String,
        /// The declared one that is nearest to it.
        nearest: Option<String>,
    },
    /// A shared service was asked for with a key, or a keyed one without.
    #[error("`{key}` cannot be held: the service is declared as {scope:?}")]
    Scope {
        /// What was asked for.
        key: ServiceKey,
        /// How it is declared.
        scope: Scope,
    },
    /// As many instances as may are there; when one is given back there is room.
    #[error("`{key}` has to wait: {max} instances of its service are there, and no more may be")]
    InstancesFull {
        /// What was asked for.
        key: ServiceKey,
        /// The limit.
        max: usize,
    },
    /// It has not failed.
    #[error(transparent)]
    NotFailed(#[from] NotFailed),
    /// Its actor did not start.
    #[error("the actor of the service did not start: {0}")]
    NotStarted(#[from] RequestError),
    /// Its actor did not answer.
    #[error("the actor of the service gave no answer: {0}")]
    Away(#[from] CallError),
    /// The hold could not be written, or whose it was to be has ended.
    #[error("the hold could not be kept: {0}")]
    NotKept(#[from] StoreError),
}
