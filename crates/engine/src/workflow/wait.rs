//! What an attempt may ask its job to wait for, and what ended such a wait.

use std::time::Duration;

use perennial_core::{FailureClass, Timestamp, failure::Failure};
pub use perennial_store::{AfterWait, WaitDefault, WaitEnded};
use perennial_store::{Deferral, NewWait, WaitKind};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Longest name of a wait.
const NAME_BYTES_MAX: usize = 256;
/// How soon something is tried again of which nobody knows when it is there.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// No sooner is it tried again.
const LOOK_AGAIN_MIN: Duration = Duration::from_secs(1);

/// Something that an attempt needs is not available: its job is deferred, and none of its attempts is used.
///
/// ```
/// use std::time::Duration;
/// use perennial::engine::{AfterWait, Outcome, Unavailable};
///
/// fn printed(reply: Option<&str>) -> Outcome {
///     match reply {
///         Some(text) => Outcome::Succeeded(text.into()),
///         None => Outcome::Unavailable(
///             Unavailable::new("the printer").at_most(Duration::from_secs(600)).then(AfterWait::Skip),
///         ),
///     }
/// }
/// assert_ne!(printed(None), printed(Some("done")));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    /// What is not available.
    pub what: String,
    /// When it may be there, if that is known; else it is looked for every 30 s.
    pub retry_at: Option<Timestamp>,
    /// How long it is waited for, over all attempts in between; as long as
    /// [`EngineSettings::defer_max_wait`](crate::EngineSettings::defer_max_wait) says, 30 min.
    pub max_wait: Option<Duration>,
    /// What becomes of the job then: it fails.
    pub then: AfterWait,
}

impl Unavailable {
    /// `what` is not available now.
    ///
    /// ```
    /// use perennial::engine::Unavailable;
    ///
    /// assert_eq!(Unavailable::new("the printer").max_wait, None);
    /// ```
    pub fn new(what: impl Into<String>) -> Self {
        let what = what.into();
        Self { what, retry_at: None, max_wait: None, then: AfterWait::Fail }
    }

    /// It may be there then.
    ///
    /// ```
    /// use perennial::{engine::Unavailable, records::Timestamp};
    ///
    /// let later = Timestamp::from_micros(7);
    /// assert_eq!(Unavailable::new("the printer").retry_at(later).retry_at, Some(later));
    /// ```
    #[must_use]
    pub fn retry_at(mut self, at: Timestamp) -> Self {
        self.retry_at = Some(at);
        self
    }

    /// It is waited for so long and no longer, counted from the first attempt that missed it.
    ///
    /// ```
    /// use std::time::Duration;
    /// use perennial::engine::Unavailable;
    ///
    /// let short = Unavailable::new("the printer").at_most(Duration::from_secs(60));
    /// assert_eq!(short.max_wait.unwrap().as_secs(), 60);
    /// ```
    #[must_use]
    pub fn at_most(mut self, max_wait: Duration) -> Self {
        self.max_wait = Some(max_wait);
        self
    }

    /// What becomes of the job when it has waited in vain.
    ///
    /// ```
    /// use perennial::engine::{AfterWait, Unavailable};
    ///
    /// assert_eq!(Unavailable::new("the printer").then(AfterWait::Skip).then, AfterWait::Skip);
    /// ```
    #[must_use]
    pub fn then(mut self, then: AfterWait) -> Self {
        self.then = then;
        self
    }

    /// The wait as it is kept; nothing when it has been waited for long enough, since `since`; `usual` unless it says
    /// how long.
    pub(crate) fn deferral(
        &self,
        since: Timestamp,
        now: Timestamp,
        usual: Duration,
    ) -> Option<Deferral> {
        let until = since.after(self.max_wait.unwrap_or(usual));
        if until <= now {
            return None;
        }
        let retry_at = self.retry_at.unwrap_or_else(|| now.after(LOOK_AGAIN));
        let wake_at = retry_at.max(now.after(LOOK_AGAIN_MIN)).min(until);
        Some(Deferral { cause: self.what.clone(), wake_at, until, then: self.then })
    }
}

/// What an attempt wants its job to wait for. The job then holds no place, no lease and no worker, and the
/// next attempt is told what ended the wait: see [`AttemptCx::resumed`](crate::AttemptCx::resumed).
///
/// ```
/// use std::time::Duration;
/// use perennial::engine::{AttemptCx, Outcome, Wait, WaitDefault};
/// use serde_json::json;
///
/// async fn attempt(cx: AttemptCx) -> Outcome {
///     match cx.resumed_with::<bool>() {
///         Ok(Some(agreed)) => Outcome::Succeeded(json!({ "agreed": agreed })),
///         Ok(None) | Err(_) => Outcome::Suspend(Wait::Answer {
///             name: "agree?".to_owned(),
///             question: json!("Shall it be sent?"),
///             until: cx.now.after(Duration::from_secs(3600)),
///             or: WaitDefault::Resume(json!(false)),
///         }),
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Wait {
    /// For a signal; what came before is taken first, in the order in which it came.
    Signal {
        /// Which one.
        name: String,
        /// Until when, at most [`EngineSettings::wait_max`](crate::EngineSettings::wait_max) from now.
        until: Timestamp,
        /// What happens then.
        or: WaitDefault,
    },
    /// For the answer to a question; the first one counts, also when it came before.
    Answer {
        /// The question's name, which nothing else of the run has.
        name: String,
        /// The question.
        question: Value,
        /// Until when, at most [`EngineSettings::wait_max`](crate::EngineSettings::wait_max) from now.
        until: Timestamp,
        /// What happens then.
        or: WaitDefault,
    },
    /// For an instant.
    Timer {
        /// What it is for.
        name: String,
        /// When, at most [`EngineSettings::wait_max`](crate::EngineSettings::wait_max) from now.
        at: Timestamp,
    },
}

impl Wait {
    /// The wait as it is kept; `most`: how long it may be.
    pub(crate) fn checked(&self, now: Timestamp, most: Duration) -> Result<NewWait, Failure> {
        let wait = match self.clone() {
            Self::Signal { name, until, or } => {
                NewWait { kind: WaitKind::Signal, name, about: Value::Null, until, or }
            }
            Self::Answer { name, question, until, or } => {
                NewWait { kind: WaitKind::Answer, name, about: question, until, or }
            }
            Self::Timer { name, at } => {
                let or = WaitDefault::Resume(Value::Null);
                NewWait { kind: WaitKind::Timer, name, about: Value::Null, until: at, or }
            }
        };
        let refused = |why: String| Err(Failure::new(FailureClass::Limit, "PL713", why));
        if wait.name.is_empty() || wait.name.len() > NAME_BYTES_MAX {
            let bytes = wait.name.len();
            return refused(format!(
                "the name of what is waited for has {bytes} bytes; 1 to {NAME_BYTES_MAX} are possible"
            ));
        }
        if wait.name.contains(char::is_control) {
            return refused(format!(
                "{:?} cannot name what is waited for: it has a line break or a control character",
                wait.name
            ));
        }
        if wait.until > now.after(most) {
            let (name, most) = (wait.name, spelt(most));
            return refused(format!("`{name}` is waited for at most {most}"));
        }
        Ok(wait)
    }
}

/// Whole days as such.
fn spelt(time: Duration) -> String {
    let (days, rest) = (time.as_secs() / 86_400, time.as_secs() % 86_400);
    if days > 0 && rest == 0 { format!("{days} days") } else { format!("{time:?}") }
}

/// What ended the wait that an earlier attempt of a job asked for.
///
/// ```
/// use perennial::engine::{AttemptCx, WaitEnded};
///
/// fn was_in_time(cx: &AttemptCx) -> bool {
///     cx.resumed().is_none_or(|resumed| resumed.how != WaitEnded::Deadline)
/// }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Resumed {
    /// Name of the signal, the question or the timer.
    pub name: String,
    /// What ended the wait.
    pub how: WaitEnded,
    /// Who sent what it waited for.
    pub by: Option<String>,
    /// What was sent, or the default; null for a timer.
    pub value: Value,
}

impl Resumed {
    /// The value as what the attempt expects.
    ///
    /// ```
    /// use perennial::engine::{Resumed, WaitEnded};
    ///
    /// let (name, how) = ("agree?".to_owned(), WaitEnded::Sent);
    /// let resumed = Resumed { name, how, by: Some("ada".to_owned()), value: true.into() };
    /// assert!(resumed.value_as::<bool>().unwrap());
    /// ```
    ///
    /// # Errors
    ///
    /// When it is something else.
    pub fn value_as<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(&self.value)
    }
}
