//! A pause that one caller was told and all keep.

use crate::Uptime;

/// Until when nobody may call, because the other side said so. It is only ever extended (INV-RL-8).
///
/// ```
/// use perennial_core::Uptime;
/// use perennial_core::protection::limiter::BackoffWindow;
/// use std::time::Duration;
///
/// let second = |secs| Uptime::new(Duration::from_secs(secs));
/// let mut window = BackoffWindow::default();
/// assert_eq!(window.closed_until(second(0)), None);
/// assert!(window.extend(second(9)));
/// assert!(!window.extend(second(3))); // never shortened
/// assert_eq!(window.closed_until(second(8)), Some(second(9)));
/// assert_eq!(window.closed_until(second(9)), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackoffWindow {
    until: Option<Uptime>,
}

impl BackoffWindow {
    /// Nobody may call before `until`; whether that is later than what was known.
    pub fn extend(&mut self, until: Uptime) -> bool {
        let later = self.until.is_none_or(|known| known < until);
        if later {
            self.until = Some(until);
        }
        later
    }

    /// The latest end that was said, which may be over.
    pub fn latest(&self) -> Option<Uptime> {
        self.until
    }

    /// When calls may be made again; `None` when they may be made `now`. Who sleeps until then asks again after it.
    pub fn closed_until(&self, now: Uptime) -> Option<Uptime> {
        self.until.filter(|until| now < *until)
    }
}
