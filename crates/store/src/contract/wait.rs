//! What jobs wait for, and what runs are sent.

use std::{fmt, str::FromStr};

use perennial_core::{
    Timestamp,
    run::{RunId, UnknownState},
};
use serde_json::Value;

/// What a deferred job waits for.
///
/// ```
/// use perennial_core::Timestamp;
/// use perennial_store::{AfterWait, Deferral};
///
/// let at = Timestamp::from_micros;
/// let down = Deferral { cause: "the printer".into(), wake_at: at(5), until: at(90), then: AfterWait::Skip };
/// assert!(down.wake_at <= down.until);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Deferral {
    /// What is not available.
    pub cause: String,
    /// When it is tried again.
    pub wake_at: Timestamp,
    /// When it is not waited for any longer; not before `wake_at`.
    pub until: Timestamp,
    /// What becomes of the job then.
    pub then: AfterWait,
}

/// What becomes of a job when it has waited in vain.
///
/// ```
/// use perennial_store::AfterWait;
///
/// assert_eq!("skip".parse(), Ok(AfterWait::Skip));
/// assert_eq!(AfterWait::default(), AfterWait::Fail);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterWait {
    /// It fails.
    #[default]
    Fail,
    /// It is skipped, which takes something from the success of its run.
    Skip,
}

/// What a suspended job waits for.
///
/// ```
/// use perennial_store::WaitKind;
///
/// assert_eq!("answer".parse(), Ok(WaitKind::Answer));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitKind {
    /// A signal of that name.
    Signal,
    /// The answer to the question of that name: there is at most one.
    Answer,
    /// An instant.
    Timer,
}

/// What happens when nobody ends a wait in time.
///
/// ```
/// use perennial_store::WaitDefault;
///
/// assert_eq!(WaitDefault::Resume("no".into()).name(), "resume");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum WaitDefault {
    /// The job goes on with this value.
    Resume(Value),
    /// It is skipped.
    Skip,
    /// It fails.
    Fail,
}

/// A wait that begins.
///
/// ```
/// use perennial_core::Timestamp;
/// use perennial_store::{NewWait, WaitDefault, WaitKind};
///
/// let (name, about) = ("agree?".to_owned(), "Shall it be sent?".into());
/// let until = Timestamp::from_micros(90);
/// let wait = NewWait { kind: WaitKind::Answer, name, about, until, or: WaitDefault::Skip };
/// assert_eq!(wait.or.value(), None);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct NewWait {
    /// What for.
    pub kind: WaitKind,
    /// Which signal or question; what the instant is for.
    pub name: String,
    /// What those who can end it should know, for example the question itself.
    pub about: Value,
    /// Its deadline.
    pub until: Timestamp,
    /// What happens then.
    pub or: WaitDefault,
}

/// What ended a wait.
///
/// ```
/// use perennial_store::WaitEnded;
///
/// assert_eq!("deadline".parse(), Ok(WaitEnded::Deadline));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitEnded {
    /// The signal or the answer came.
    Sent,
    /// It did not come in time.
    Deadline,
    /// The instant that it was waited for.
    Timer,
    /// Its job is not to wait any more.
    Cancelled,
}

/// How a wait ended.
///
/// ```
/// use perennial_store::{WaitEnd, WaitEnded};
///
/// assert_eq!(WaitEnd::set_free().how, WaitEnded::Cancelled);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct WaitEnd {
    /// What ended it.
    pub how: WaitEnded,
    /// Who sent what it waited for.
    pub by: Option<String>,
    /// What the next attempt is handed, if there is one.
    pub answer: Option<Value>,
}

impl WaitEnd {
    /// The end of a wait whose job is not to wait any more.
    pub fn set_free() -> Self {
        Self { how: WaitEnded::Cancelled, by: None, answer: None }
    }
}

/// What a job waits for, or waited for last.
///
/// ```
#[doc = include_str!("../../doc/recorded.txt")]
/// assert!(store.run(&run).await?.waits.is_empty()); // no job of it has been suspended
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct WaitRecord {
    /// The job's row.
    pub job: i64,
    /// What it waits for.
    pub wait: NewWait,
    /// Since when.
    pub since: Timestamp,
    /// How it ended.
    pub ended: Option<WaitEnd>,
}

/// What is sent to a run.
///
/// ```
/// use perennial_store::SignalKind;
///
/// assert_eq!(SignalKind::Answer.name(), "answer");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalKind {
    /// A signal: each is taken by one job, in the order in which they came.
    Signal,
    /// The answer to a question: the first one counts.
    Answer,
}

/// Something to be sent to a run.
#[derive(Clone, Debug, PartialEq)]
pub struct NewSignal {
    /// The run.
    pub run: RunId,
    /// Tells a repetition from a further one.
    pub request: String,
    /// What it is.
    pub kind: SignalKind,
    /// Which signal, or which question it answers.
    pub name: String,
    /// What the job is handed.
    pub payload: Value,
    /// Who sends it.
    pub by: String,
    /// Why.
    pub why: String,
}

/// What a run was sent.
///
/// ```
#[doc = include_str!("../../doc/recorded.txt")]
/// assert!(store.run(&run).await?.signals.is_empty()); // nothing is kept for it
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct SignalRecord {
    /// Its request.
    pub request: String,
    /// What it is.
    pub kind: SignalKind,
    /// Which signal, or which question it answers.
    pub name: String,
    /// What the job is handed.
    pub payload: Value,
    /// Who sent it.
    pub by: String,
    /// When it came.
    pub at: Timestamp,
}

/// What became of something that was sent.
///
/// ```
/// use perennial_store::Accepted;
///
/// let accepted = Accepted { seq: 7, changed: true, woken: None };
/// assert_eq!(accepted.woken, None); // it is kept for the job that will ask for it
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Number of its event in the run.
    pub seq: u64,
    /// Whether it is new; the same request before it was answered like this.
    pub changed: bool,
    /// The row of the job that goes on with it.
    pub woken: Option<i64>,
}

macro_rules! words {
    ($name:ident, $what:literal, $($variant:ident => $text:literal),+) => {
        impl $name {
            /// The short text that is stored and shown.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl FromStr for $name {
            type Err = UnknownState;
            fn from_str(text: &str) -> Result<Self, UnknownState> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(UnknownState { what: $what, text: text.to_owned() }),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

words!(AfterWait, "deferral", Fail => "fail", Skip => "skip");
words!(WaitKind, "wait", Signal => "signal", Answer => "answer", Timer => "timer");
words!(WaitEnded, "wait that ended", Sent => "sent", Deadline => "deadline", Timer => "timer",
    Cancelled => "cancelled");
words!(SignalKind, "signal", Signal => "signal", Answer => "answer");

impl WaitDefault {
    /// The short text that is stored and shown.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Resume(_) => "resume",
            Self::Skip => "skip",
            Self::Fail => "fail",
        }
    }

    /// What the next attempt is handed.
    pub fn value(&self) -> Option<&Value> {
        match self {
            Self::Resume(value) => Some(value),
            Self::Skip | Self::Fail => None,
        }
    }
}

impl SignalKind {
    /// The kind of wait that it ends.
    pub fn ends(self) -> WaitKind {
        match self {
            Self::Signal => WaitKind::Signal,
            Self::Answer => WaitKind::Answer,
        }
    }
}
