//! What is executed for a job, and how a group becomes children and one outcome.

use std::{future::Future, marker::PhantomData, sync::Arc};

use perennial_core::{
    FailureClass,
    failure::Failure,
    retry::RetryPolicy,
    run::{JobKey, SkipReason},
    service::ServiceKey,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{ErasedActivity, ErasedGroup, Timeouts};
use crate::workflow::{AttemptCx, BoxFuture, Outcome, Unavailable, Wait};

/// Code that an attempt executes. It may be executed more than once: whatever it does outside has to be told the
/// [`idempotency key`](AttemptCx::idempotency_key), or to be made by [`AttemptCx::call`].
///
/// ```
/// use perennial::engine::{AttemptCx, staged::{Activity, ActivityError, Ended}};
///
/// #[derive(Debug)]
/// struct Shout;
///
/// impl Activity for Shout {
///     const NAME: &'static str = "shout";
///     type In = String;
///     type Out = String;
///
///     async fn run(&self, _: &AttemptCx, text: String) -> Result<Ended<String>, ActivityError> {
///         Ok(if text.is_empty() { Ended::Skipped("nothing to say".into()) } else { Ended::Done(text.to_uppercase()) })
///     }
/// }
/// ```
pub trait Activity: Send + Sync + 'static {
    /// Its name, which runs are recorded with.
    const NAME: &'static str;
    /// What it is given.
    type In: DeserializeOwned + Send;
    /// What it gives.
    type Out: Serialize;

    /// One attempt. The future may be dropped at any await.
    fn run(
        &self,
        cx: &AttemptCx,
        input: Self::In,
    ) -> impl Future<Output = Result<Ended<Self::Out>, ActivityError>> + Send;
}

/// How an attempt ended well.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended<T> {
    /// With that.
    Done(T),
    /// With a part of it, which is a success as well; and what is missing.
    Partial(T, Vec<String>),
    /// There was nothing to do, for that reason.
    Skipped(String),
    /// It waits, and the next attempt is told what ended that.
    Suspend(Wait),
}

/// How an attempt did not end well.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ActivityError {
    /// Its class says whether it is tried again.
    #[error("{}", .0.message)]
    Failed(Failure),
    /// What it needs is not there: it is tried again when it may be, and no attempt is used.
    #[error("`{}` is not available", .0.what)]
    Unavailable(Unavailable),
}

impl From<Failure> for ActivityError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Unavailable> for ActivityError {
    fn from(missing: Unavailable) -> Self {
        Self::Unavailable(missing)
    }
}

pub(super) struct ActivityOf<A>(pub(super) A);

impl<A: Activity> ErasedActivity for ActivityOf<A> {
    fn run(self: Arc<Self>, cx: AttemptCx) -> BoxFuture<'static, Outcome> {
        Box::pin(async move {
            let input = match serde_json::from_value(cx.input().clone()) {
                Ok(input) => input,
                Err(error) => return Outcome::Failed(unreadable("its input", &error)),
            };
            let ended = match self.0.run(&cx, input).await {
                Ok(ended) => ended,
                Err(ActivityError::Failed(failure)) => return Outcome::Failed(failure),
                Err(ActivityError::Unavailable(missing)) => return Outcome::Unavailable(missing),
            };
            let (value, missing) = match ended {
                Ended::Done(value) => (value, None),
                Ended::Partial(value, missing) => (value, Some(missing)),
                Ended::Skipped(why) => {
                    let record = Value::String(why);
                    return Outcome::Skipped { reason: SkipReason::NotApplicable, record };
                }
                Ended::Suspend(wait) => return Outcome::Suspend(wait),
            };
            match (serde_json::to_value(value), missing) {
                (Err(error), _) => Outcome::Failed(unreadable("its result", &error)),
                (Ok(record), None) => Outcome::Succeeded(record),
                (Ok(record), Some(missing)) => {
                    missing.into_iter().for_each(|what| cx.warnings.push(&what));
                    Outcome::Partial(record)
                }
            }
        })
    }
}

fn unreadable(what: &str, error: &serde_json::Error) -> Failure {
    Failure::new(FailureClass::Permanent, "PL699", format!("{what} cannot be read: {error}"))
}

/// A job that expands into children and joins them once. Both are pure.
pub trait Group: Send + Sync + 'static {
    /// Its name, which runs are recorded with.
    const NAME: &'static str;
    /// What it is given.
    type In: DeserializeOwned;
    /// What it gives.
    type Out: Serialize;

    /// Its children. What cannot be resolved is a [`Child::skipped`]: nothing vanishes from a plan.
    fn expand(&self, input: &Self::In) -> Vec<Child>;

    /// What comes of it, asked once all of them have ended, whatever the order.
    fn join(&self, input: &Self::In, children: &[ChildOutcome]) -> Joined<Self::Out>;

    /// When the rest of its children is given up.
    fn policy(&self) -> JoinPolicy {
        JoinPolicy::AllSettled
    }
}

/// What comes of a group.
#[derive(Clone, Debug, PartialEq)]
pub enum Joined<T> {
    /// With that.
    Done(T),
    /// With a part of it, which is a success as well; and what is missing.
    Partial(T, Vec<String>),
    /// There was nothing to do, for that reason.
    Skipped(String),
    /// Nothing worth having came of its children.
    Failed(Failure),
}

/// When the rest of a group's children is given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JoinPolicy {
    /// Never.
    #[default]
    AllSettled,
    /// With the first that fails.
    FailFast,
    /// As soon as so many have succeeded, or can no longer succeed.
    Quorum(u32),
}

/// A job of a group.
#[derive(Clone, Debug)]
pub struct Child(pub(crate) ChildPlan);

/// A child as the engine makes it.
#[derive(Clone, Debug)]
pub(crate) struct ChildPlan {
    pub(crate) key: String,
    pub(crate) work: super::Work,
    pub(crate) input: Result<Value, String>,
    /// Without it the engine's setting.
    pub(crate) retry: Option<RetryPolicy>,
    pub(crate) timeouts: Timeouts,
    pub(crate) required: bool,
    pub(crate) skipped: Option<SkipReason>,
    pub(crate) uses: Vec<ServiceKey>,
    pub(crate) keyed: Option<(String, u32)>,
}

impl Child {
    fn new(key: impl Into<String>, work: super::Work, input: Result<Value, String>) -> Self {
        Self(ChildPlan {
            key: key.into(),
            work,
            input,
            retry: None,
            timeouts: Timeouts::default(),
            required: false,
            skipped: None,
            uses: Vec::new(),
            keyed: None,
        })
    }

    /// An activity, under a key that no other child of the group has.
    pub fn activity<A: Activity>(key: impl Into<String>, input: &impl Serialize) -> Self {
        let input = serde_json::to_value(input).map_err(|error| error.to_string());
        Self::new(key, super::Work::Activity(A::NAME), input)
    }

    /// A group below the group.
    pub fn group<G: Group>(key: impl Into<String>, input: &impl Serialize) -> Self {
        let input = serde_json::to_value(input).map_err(|error| error.to_string());
        Self::new(key, super::Work::Group(G::NAME), input)
    }

    /// What is not done, and why.
    pub fn skipped(key: impl Into<String>, why: SkipReason) -> Self {
        let mut child = Self::new(key, super::Work::Activity(""), Ok(Value::Null));
        child.0.skipped = Some(why);
        child
    }

    /// How often it is tried; as [`EngineSettings::retry`](crate::EngineSettings::retry) says, 3 times, with growing pauses.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.0.retry = Some(policy);
        self
    }

    /// How long an attempt of it, and all of them, may take; never longer than what is left of its group's time.
    #[must_use]
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.0.timeouts = timeouts;
        self
    }

    /// It needs that instance of a service, as the jobs of a stage by [`Stage::uses`](super::Stage::uses). Only this child
    /// waits for it (DUR-43). One that the host does not have skips the child.
    #[must_use]
    pub fn uses(mut self, service: ServiceKey) -> Self {
        self.0.uses.push(service);
        self
    }

    /// Of all jobs of the store with that key, in whatever run, at most `most` are under way at a time, as of those of a stage
    /// by [`Stage::concurrency_key`](super::Stage::concurrency_key). A key of none or of more than 256 bytes, of 0 jobs, or the
    /// one of a group around it, fails the group. Groups that keep each other's keys from their children wait until their time is
    /// over: give keys in one order.
    #[must_use]
    pub fn concurrency_key(mut self, key: impl Into<String>, most: u32) -> Self {
        self.0.keyed = Some((key.into(), most));
        self
    }

    /// Without its success the group fails, unless its join says otherwise.
    #[must_use]
    pub fn required(mut self) -> Self {
        self.0.required = true;
        self
    }
}

/// How a child ended.
#[derive(Clone, Debug, PartialEq)]
pub struct ChildOutcome {
    /// Its key in the group.
    pub key: String,
    /// How it ended.
    pub end: ChildEnd,
    /// Whether it was declared as required.
    pub required: bool,
    /// Attempts that it used.
    pub attempts: u32,
}

/// How a child ended.
#[derive(Clone, Debug, PartialEq)]
pub enum ChildEnd {
    /// With that.
    Done(Value),
    /// With a part of it.
    Partial(Value),
    /// For good.
    Failed(Failure),
    /// It was not done.
    Skipped(SkipReason),
    /// With its run, or because its group did not need it any more.
    Cancelled,
    /// Its time was over.
    TimedOut(Failure),
    /// Its process died with it too often.
    Lost(Failure),
}

impl ChildOutcome {
    /// Whether it succeeded, wholly or in part.
    pub fn is_success(&self) -> bool {
        matches!(self.end, ChildEnd::Done(_) | ChildEnd::Partial(_))
    }

    /// What it gave, as a `T`.
    pub fn output<T: DeserializeOwned>(&self) -> Option<T> {
        match &self.end {
            ChildEnd::Done(value) | ChildEnd::Partial(value) => {
                serde_json::from_value(value.clone()).ok()
            }
            ChildEnd::Failed(_)
            | ChildEnd::Skipped(_)
            | ChildEnd::Cancelled
            | ChildEnd::TimedOut(_)
            | ChildEnd::Lost(_) => None,
        }
    }
}

impl<T> Joined<T> {
    /// What comes of children by their ends alone (SM-44): nothing to do when there are none, or only neutrally
    /// skipped ones; a failure when a required one, or each, has not succeeded; a part when any is missing; else
    /// `value`.
    ///
    /// ```
    /// use perennial::engine::staged::{ChildEnd, ChildOutcome, Joined};
    ///
    /// let end = |key: &str, end| ChildOutcome { key: key.into(), end, required: false, attempts: 1 };
    /// let children = [end("a", ChildEnd::Done(1.into())), end("b", ChildEnd::Cancelled)];
    /// assert_eq!(Joined::by_ends(&children, 7), Joined::Partial(7, vec!["b was cancelled".to_owned()]));
    /// ```
    pub fn by_ends(children: &[ChildOutcome], value: T) -> Self {
        let is_neutral = |child: &ChildOutcome| match &child.end {
            ChildEnd::Skipped(why) => !why.degrades(),
            ChildEnd::Done(_)
            | ChildEnd::Partial(_)
            | ChildEnd::Failed(_)
            | ChildEnd::Cancelled
            | ChildEnd::TimedOut(_)
            | ChildEnd::Lost(_) => false,
        };
        if children.iter().all(is_neutral) {
            return Self::Skipped("there was nothing to do".to_owned());
        }
        let missing: Vec<String> = children.iter().filter_map(ChildOutcome::missing).collect();
        let failed = |text: String| {
            let class = children.iter().find_map(ChildOutcome::failure).map(|it| it.class);
            let class = class.unwrap_or(FailureClass::Permanent);
            Self::Failed(Failure::new(class, "PL699", text))
        };
        let needed = children.iter().filter(|child| child.required && !child.is_success());
        let needed: Vec<&str> = needed.map(|child| child.key.as_str()).collect();
        if !needed.is_empty() {
            return failed(format!("required: {}", missing.join(", ")));
        }
        if !children.iter().any(ChildOutcome::is_success) {
            return failed(format!("none succeeded: {}", missing.join(", ")));
        }
        if missing.is_empty() { Self::Done(value) } else { Self::Partial(value, missing) }
    }
}

impl ChildOutcome {
    /// How its group tells that something of it is missing, if it is.
    fn missing(&self) -> Option<String> {
        let Self { key, end, required, .. } = self;
        match end {
            ChildEnd::Done(_) => None,
            ChildEnd::Partial(_) => Some(format!("{key} ended in part")),
            ChildEnd::Failed(failure) => Some(format!("{key} failed: {}", failure.message)),
            ChildEnd::Skipped(why) if why.degrades() || *required => {
                Some(format!("{key} was skipped: {}", why.name()))
            }
            ChildEnd::Skipped(_) => None,
            ChildEnd::Cancelled => Some(format!("{key} was cancelled")),
            ChildEnd::TimedOut(failure) => {
                Some(format!("{key} took too long: {}", failure.message))
            }
            ChildEnd::Lost(failure) => Some(format!("{key} was lost: {}", failure.message)),
        }
    }

    fn failure(&self) -> Option<&Failure> {
        match &self.end {
            ChildEnd::Failed(failure) | ChildEnd::TimedOut(failure) | ChildEnd::Lost(failure) => {
                Some(failure)
            }
            ChildEnd::Done(_)
            | ChildEnd::Partial(_)
            | ChildEnd::Skipped(_)
            | ChildEnd::Cancelled => None,
        }
    }
}

/// What a group came to, as the engine records it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum GroupEnd {
    Done(Value),
    Partial(Value, Vec<String>),
    Skipped(String),
    Failed(Failure),
}

pub(super) struct GroupOf<G>(pub(super) G, pub(super) PhantomData<fn()>);

impl<G: Group> ErasedGroup for GroupOf<G> {
    fn expand(&self, input: &Value) -> Result<Vec<ChildPlan>, Failure> {
        let input = read::<G>(input)?;
        Ok(self.0.expand(&input).into_iter().map(|child| child.0).collect())
    }

    fn join(&self, input: &Value, children: &[ChildOutcome]) -> Result<GroupEnd, Failure> {
        let input = read::<G>(input)?;
        let kept = |value| serde_json::to_value(value).map_err(|it| unreadable("its result", &it));
        Ok(match self.0.join(&input, children) {
            Joined::Done(value) => GroupEnd::Done(kept(value)?),
            Joined::Partial(value, missing) => GroupEnd::Partial(kept(value)?, missing),
            Joined::Skipped(why) => GroupEnd::Skipped(why),
            Joined::Failed(failure) => GroupEnd::Failed(failure),
        })
    }

    fn policy(&self) -> JoinPolicy {
        self.0.policy()
    }
}

fn read<G: Group>(input: &Value) -> Result<G::In, Failure> {
    serde_json::from_value(input.clone()).map_err(|error| unreadable("its input", &error))
}

/// The key of a child in its group.
pub(crate) fn own_key(group: &JobKey, child: &JobKey) -> String {
    let own = child.as_str().strip_prefix(group.as_str()).and_then(|rest| rest.strip_prefix('/'));
    own.unwrap_or(child.as_str()).to_owned()
}
