//! How a stream runs, and how it fails.

use std::{sync::Arc, time::Duration};

use perennial_core::{ChildId, ExitReason, Shutdown};

use crate::{CALL_WITHIN, RequestError};

/// How a stream of tasks runs.
///
/// | option | default |
/// |---|---|
/// | [`max_concurrency`](Self::max_concurrency) | as many as the executor has workers |
/// | [`ordered`](Self::ordered) | yes |
/// | [`timeout`](Self::timeout) | 5 s per element |
/// | [`on_timeout`](Self::on_timeout) | the stream fails |
/// | [`shutdown`](Self::shutdown) | 5 s |
/// | [`pooled`](Self::pooled) | no |
///
/// An unknown value cannot be written; the one that can is refused when the stream is made (STR-019).
#[derive(Clone, Debug)]
pub struct StreamOptions {
    pub(super) id: ChildId,
    pub(super) label: Option<Arc<str>>,
    pub(super) max_concurrency: Option<usize>,
    pub(super) ordered: bool,
    pub(super) timeout: Option<Duration>,
    pub(super) on_timeout: OnItemTimeout,
    pub(super) shutdown: Shutdown,
    pub(super) pooled: bool,
    pub(super) linked: bool,
}

/// What becomes of an element that takes too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnItemTimeout {
    /// The stream fails with [`StreamError::Timeout`], and all of its tasks are killed (STR-007).
    #[default]
    Exit,
    /// Its task is killed and its place has [`ExitReason::Timeout`]; the others go on (STR-008).
    KillTask,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            id: "stream".into(),
            label: None,
            max_concurrency: None,
            ordered: true,
            timeout: Some(CALL_WITHIN),
            on_timeout: OnItemTimeout::Exit,
            shutdown: Shutdown::WORKER_DEFAULT,
            pooled: false,
            linked: true,
        }
    }
}

impl StreamOptions {
    /// The defaults above.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what the stream is called in the tree, below its task supervisor; several may share it.
    #[must_use]
    pub fn id(mut self, id: impl Into<ChildId>) -> Self {
        self.id = id.into();
        self
    }

    /// Sets what reports of crashes call its tasks, beside their path.
    #[must_use]
    pub fn label(mut self, label: impl Into<Arc<str>>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Sets how many elements are worked on at any moment (STR-003).
    #[must_use]
    pub fn max_concurrency(mut self, tasks: usize) -> Self {
        self.max_concurrency = Some(tasks);
        self
    }

    /// Sets whether results come in the order of the elements, or as they are done (STR-004).
    #[must_use]
    pub fn ordered(mut self, ordered: bool) -> Self {
        self.ordered = ordered;
        self
    }

    /// Sets how long one element may take; `None` for as long as it likes (STR-009). It counts from the
    /// start of its task on, whether the consumer looks or not.
    #[must_use]
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// Sets what becomes of one that takes longer.
    #[must_use]
    pub fn on_timeout(mut self, on_timeout: OnItemTimeout) -> Self {
        self.on_timeout = on_timeout;
        self
    }

    /// Sets how the task supervisor stops the stream: its tasks are dropped at their next await, with
    /// [`ExitReason::Shutdown`], or [`ExitReason::Killed`] after a brutal kill.
    #[must_use]
    pub fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.shutdown = shutdown;
        self
    }

    /// Lets elements that are worked on one after the other share a process, instead of being one each.
    /// Cheaper for small elements. A panic of one is still an end of that one alone, as is a kill; but
    /// who looks at the process of one, or is linked to it, sees the next one in it.
    #[must_use]
    pub fn pooled(mut self) -> Self {
        self.pooled = true;
        self
    }

    /// Sets whether the tasks are linked to the consumer: see [`TaskStream`](crate::TaskStream).
    #[must_use]
    pub fn linked(mut self, linked: bool) -> Self {
        self.linked = linked;
        self
    }

    pub(super) fn check(&self) -> Result<(), StreamSpecError> {
        match self.max_concurrency {
            Some(0) => Err(StreamSpecError::NoConcurrency),
            Some(_) | None => Ok(()),
        }
    }
}

/// Why a stream is refused before anything of it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamSpecError {
    /// With no task at a time it would never end.
    #[error("max_concurrency must be at least 1")]
    NoConcurrency,
}

/// Why a stream has no value: for one element, or from here on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError<I> {
    /// The task of this element ended without a value. The stream goes on.
    #[error("an element has no value: {reason}")]
    Exit {
        /// The element, where that was asked for (STR-010).
        input: Option<I>,
        /// Why its task ended; [`ExitReason::Timeout`] when it took too long.
        reason: ExitReason,
    },
    /// An element took too long. The stream has ended.
    #[error("an element was not done in time")]
    Timeout,
    /// A linked task failed, and with it the consumer, which does not trap exits. The stream has ended.
    #[error("a task that is linked to the consumer failed: {0}")]
    Failed(ExitReason),
    /// No more tasks can be started: as many as allowed run (STR-020), or the task supervisor is gone.
    /// The stream has ended.
    #[error("the stream cannot start its tasks: {0}")]
    Refused(#[source] RequestError),
}

impl<I> StreamError<I> {
    /// As the reason that a process ends with because of it.
    pub fn exit_reason(&self) -> ExitReason {
        match self {
            Self::Exit { reason, .. } | Self::Failed(reason) => reason.clone(),
            Self::Timeout => ExitReason::Timeout,
            Self::Refused(refusal) => ExitReason::error(refusal),
        }
    }

    /// Whether more elements may follow.
    pub fn goes_on(&self) -> bool {
        match self {
            Self::Exit { .. } => true,
            Self::Timeout | Self::Failed(_) | Self::Refused(_) => false,
        }
    }
}
