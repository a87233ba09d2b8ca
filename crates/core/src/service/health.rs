//! What a probe found, and for whom that is news.

use std::{sync::Arc, time::Duration};

use super::Epoch;
use crate::Uptime;

/// What a probe found. An answer that is unknown, late or missing is never [`Healthy`](Self::Healthy).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It serves.
    Healthy,
    /// It lives and does not serve, for this reason.
    Unready(Arc<str>),
    /// It does not show that it lives, for this reason.
    Unresponsive(Arc<str>),
    /// It is not there any more: a process that has exited, a container in a crash loop.
    Gone(Arc<str>),
}

impl Verdict {
    /// Its name, as the tree shows it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unready(_) => "unready",
            Self::Unresponsive(_) => "unresponsive",
            Self::Gone(_) => "gone",
        }
    }

    /// Why it is not healthy.
    pub fn reason(&self) -> Option<&Arc<str>> {
        match self {
            Self::Healthy => None,
            Self::Unready(why) | Self::Unresponsive(why) | Self::Gone(why) => Some(why),
        }
    }

    /// Whether it lives.
    pub const fn lives(&self) -> bool {
        match self {
            Self::Healthy | Self::Unready(_) => true,
            Self::Unresponsive(_) | Self::Gone(_) => false,
        }
    }
}

/// A verdict and what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// What was found.
    pub verdict: Verdict,
    /// The life that was probed.
    pub epoch: Epoch,
    /// When the probe began: what it says about a later moment is a guess.
    pub taken: Uptime,
}

impl Health {
    /// Whether it may decide an admission at `now` to `epoch` of somebody who needs the service since `needed`: it is
    /// younger than `ttl`, of that life, and was taken after the need (DUR-84).
    ///
    /// ```
    /// use std::time::Duration;
    /// use perennial_core::{Uptime, service::{Epoch, Health, Verdict}};
    ///
    /// let at = |secs| Uptime::new(Duration::from_secs(secs));
    /// let (epoch, ttl) = (Epoch::ZERO.next(), Duration::from_secs(30));
    /// let health = Health { verdict: Verdict::Healthy, epoch, taken: at(10) };
    /// assert!(health.counts(at(39), epoch, at(10), ttl));
    /// assert!(!health.counts(at(40), epoch, at(10), ttl)); // too old
    /// assert!(!health.counts(at(39), epoch.next(), at(10), ttl)); // of another life
    /// assert!(!health.counts(at(39), epoch, at(11), ttl)); // from before the need
    /// ```
    pub fn counts(&self, now: Uptime, epoch: Epoch, needed: Uptime, ttl: Duration) -> bool {
        self.epoch == epoch && self.taken >= needed && now.since(self.taken) < ttl
    }
}
