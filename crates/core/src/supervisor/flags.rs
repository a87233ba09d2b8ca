//! What a supervisor and its children are declared to be, and what is refused.

use std::{collections::HashSet, time::Duration};

use crate::{ChildId, Overflow, Restart, Strategy, intensity::IntensityLimit, retry::Backoff};

/// When the end of significant children stops their supervisor.
///
/// ```
/// use perennial_core::AutoShutdown;
///
/// # fn main() -> Result<(), serde_json::Error> {
/// assert_eq!(AutoShutdown::default(), AutoShutdown::Never);
/// assert_eq!(serde_json::to_value(AutoShutdown::AnySignificant)?, "any_significant");
/// # Ok(()) }
/// ```
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum AutoShutdown {
    /// It does not (SUP-209).
    #[default]
    Never,
    /// When any of them ends by itself (SUP-212, 214).
    AnySignificant,
    /// When the last of them that runs ends by itself (SUP-216).
    AllSignificant,
}

/// What a supervisor is declared to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// What happens to the siblings of a child that is restarted.
    pub strategy: Strategy,
    /// How many restarts are tolerated, and in what time.
    pub intensity: IntensityLimit,
    /// When significant children take it with them.
    pub auto_shutdown: AutoShutdown,
}

/// What decisions need to know of a child's specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Its id.
    pub id: ChildId,
    /// When it is restarted.
    pub restart: Restart,
    /// Whether its end may stop the supervisor.
    pub significant: bool,
    /// How long each restart waits; few have a delay.
    pub delay: Option<Box<RestartDelay>>,
    /// A restart budget of its own, instead of the supervisor's.
    pub budget: Option<IntensityLimit>,
}

/// How long restarts wait. Not OTP's: its restarts are immediate (SUP-120).
///
/// ```
/// use perennial_core::supervisor::RestartDelay;
/// use std::time::Duration;
///
/// let seconds = Duration::from_secs;
/// let patient = RestartDelay { first: seconds(1), max: seconds(5), reset_after: seconds(60) };
/// let waits: Vec<Duration> = (0..4).map(|nth| patient.before(nth)).collect();
/// assert_eq!(waits, [seconds(1), seconds(2), seconds(4), seconds(5)]);
/// assert_eq!(RestartDelay::constant(seconds(3)).before(7), seconds(3));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartDelay {
    /// Before the first restart.
    pub first: Duration,
    /// Each further one waits twice as long, at most this.
    pub max: Duration,
    /// A life of this length begins the count anew.
    pub reset_after: Duration,
}

impl RestartDelay {
    /// The same wait before each restart.
    pub fn constant(delay: Duration) -> Self {
        Self { first: delay, max: delay, reset_after: Duration::ZERO }
    }

    /// The wait before restart number `nth`, from 0, in a row.
    pub fn before(&self, nth: u32) -> Duration {
        let backoff = Backoff::doubling(self.first, self.max);
        backoff.longest(nth.saturating_add(1))
    }
}

/// Why a specification is refused.
///
/// ```
/// use perennial_core::{Restart, supervisor::{Rules, SpecError}};
///
/// let rules = |id: &str| Rules {
///     id: id.into(),
///     restart: Restart::Permanent,
///     significant: false,
///     delay: None,
///     budget: None,
/// };
/// let refused = Rules::check_all(&[rules("cache"), rules("cache")], None);
/// assert_eq!(refused, Err(SpecError::DuplicateChild("cache".into())));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// Ids tell the children of a supervisor apart (SUP-030).
    #[error("two children have the id `{0}`")]
    DuplicateChild(ChildId),
    /// An id without text names nothing (SUP-041).
    #[error("a child has an empty id")]
    MissingId,
    /// A name without text names nobody (GS-016).
    #[error("the name of child `{0}` is empty; a child without a name is one that is given none")]
    EmptyName(ChildId),
    /// A window without length counts nothing (SUP-027).
    #[error("supervisor_data: the period of the restart intensity is zero")]
    ZeroPeriod,
    /// A permanent child never ends for good (SUP-051).
    #[error("child `{0}` is permanent, so it cannot be significant")]
    SignificantPermanent(ChildId),
    /// Its supervisor never shuts down by itself (SUP-052).
    #[error("child `{0}` is significant, but its supervisor never shuts down by itself")]
    SignificantNeverShutsDown(ChildId),
    /// A kind of supervisor whose children are never significant (DYN-016).
    #[error("child `{0}` cannot be significant here")]
    SignificantHere(ChildId),
    /// A mailbox without room takes nothing.
    #[error("the mailbox of child `{0}` has no room: its capacity is zero")]
    ZeroMailbox(ChildId),
    /// What takes no messages has no mailbox.
    #[error("child `{0}` takes no messages, so it has no mailbox")]
    NoMailbox(ChildId),
    /// What stands in the mailbox of a ractor actor cannot be taken out again.
    #[error("the mailbox of child `{id}` cannot have the policy {policy}")]
    MailboxPolicy {
        /// Which child.
        id: ChildId,
        /// What was asked for.
        policy: Overflow,
    },
}

impl Flags {
    /// Refuses what no supervisor can do.
    ///
    /// # Errors
    ///
    /// [`SpecError::ZeroPeriod`].
    pub fn check(&self) -> Result<(), SpecError> {
        if self.intensity.within.is_zero() {
            return Err(SpecError::ZeroPeriod);
        }
        Ok(())
    }
}

impl Rules {
    /// Refuses what a supervisor cannot do with this child; with `auto_shutdown`, where that is
    /// known.
    ///
    /// # Errors
    ///
    /// See [`SpecError`].
    pub fn check(&self, auto_shutdown: Option<AutoShutdown>) -> Result<(), SpecError> {
        if self.id.as_str().is_empty() {
            return Err(SpecError::MissingId);
        }
        if self.budget.is_some_and(|budget| budget.within.is_zero()) {
            return Err(SpecError::ZeroPeriod);
        }
        match auto_shutdown {
            Some(AutoShutdown::Never) if self.significant => {
                Err(SpecError::SignificantNeverShutsDown(self.id.clone()))
            }
            Some(_) if self.significant && self.restart == Restart::Permanent => {
                Err(SpecError::SignificantPermanent(self.id.clone()))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Refuses a list of children that no supervisor can have: the first fault in start order,
    /// before anything is started (SUP-030, 031, 049). Significance is checked against
    /// `auto_shutdown`, where it is known (SUP-050).
    ///
    /// # Errors
    ///
    /// See [`SpecError`].
    pub fn check_all<'a>(
        rules: impl IntoIterator<Item = &'a Self>,
        auto_shutdown: Option<AutoShutdown>,
    ) -> Result<(), SpecError> {
        let mut ids = HashSet::new();
        for rules in rules {
            rules.check(auto_shutdown)?;
            if !ids.insert(&rules.id) {
                return Err(SpecError::DuplicateChild(rules.id.clone()));
            }
        }
        Ok(())
    }
}
