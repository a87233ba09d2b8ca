//! Asking again until something is there.

use std::time::Duration;

use perennial_core::{Uptime, protection::InvalidConfig, retry::Backoff};
use perennial_supervision::Clock;

use super::chance::Chance;

/// Asks again, with pauses, until there is an answer.
///
/// ```
/// use perennial_core::retry::Backoff;
/// use perennial_supervision::Clock;
/// use perennial_tools::protection::{Polled, Poller};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let clock = Clock::start();
/// let poller = Poller::new(Backoff::EXPONENTIAL, clock)?;
/// let deadline = clock.now() + Duration::from_secs(60);
/// let built = poller
///     .poll(deadline, async |number| {
///         if number < 3 { Polled::<_, _, &str>::Again("building") } else { Polled::Ready("built") }
///     })
///     .await;
/// assert_eq!(built, Ok("built"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Poller {
    backoff: Backoff,
    polls_max: u32,
    clock: Clock,
    chance: Chance,
}

/// What a question found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Polled<T, S, E> {
    /// It is there.
    Ready(T),
    /// Not yet; how far it is.
    Again(S),
    /// Not yet, and it makes no sense to ask before.
    AgainIn(S, Duration),
    /// It will never be there.
    Failed(E),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PollError<S, E> {
    /// It will never be there.
    #[error("failed at question {polls}: {error}")]
    Failed {
        /// The error, as it was.
        error: E,
        /// How often it was asked.
        polls: u32,
    },
    /// It is not there by the deadline; no pause was begun that would end after it.
    #[error("not there by the deadline, after {polls} questions")]
    TimedOut {
        /// How far it was when it was last told.
        last: Option<S>,
        /// How often it was asked.
        polls: u32,
    },
    /// It was asked as often as it may be.
    #[error("not there after {polls} questions")]
    TooManyPolls {
        /// How far it was.
        last: S,
        /// How often it was asked.
        polls: u32,
    },
}

impl Poller {
    /// Asks with pauses of `backoff`, as often as the deadline allows.
    ///
    /// # Errors
    ///
    /// When a setting cannot be used; the error names it.
    pub fn new(backoff: Backoff, clock: Clock) -> Result<Self, InvalidConfig> {
        backoff.check()?;
        Ok(Self { backoff, polls_max: u32::MAX, clock, chance: Chance::default() })
    }

    /// Asks at most so often, and at least once.
    #[must_use]
    pub fn polls_max(mut self, polls_max: u32) -> Self {
        self.polls_max = polls_max.max(1);
        self
    }

    /// Asks until there is an answer. `ask` is told the number of the question, from 1; it may take time, and one that has
    /// not ended at `deadline` is dropped.
    ///
    /// # Errors
    ///
    /// When it will never be there, is not there by `deadline`, or was asked too often.
    ///
    /// # Cancel safety
    ///
    /// Dropped in a pause, nothing is asked any more.
    pub async fn poll<T, S, E>(
        &self,
        deadline: Uptime,
        mut ask: impl AsyncFnMut(u32) -> Polled<T, S, E>,
    ) -> Result<T, PollError<S, E>> {
        let (mut polls, mut last) = (0, None);
        loop {
            polls += 1;
            let left = deadline.since(self.clock.now());
            let (state, told) = match tokio::time::timeout(left, ask(polls)).await {
                Ok(Polled::Ready(value)) => return Ok(value),
                Ok(Polled::Failed(error)) => return Err(PollError::Failed { error, polls }),
                Ok(Polled::Again(state)) => (state, None),
                Ok(Polled::AgainIn(state, pause)) => (state, Some(pause)),
                Err(_elapsed) => return Err(PollError::TimedOut { last, polls }),
            };
            if polls >= self.polls_max {
                return Err(PollError::TooManyPolls { last: state, polls });
            }
            last = Some(state);
            let pause = told.unwrap_or_else(|| self.backoff.pause(polls, self.chance.draw()));
            if pause >= deadline.since(self.clock.now()) {
                return Err(PollError::TimedOut { last, polls });
            }
            tokio::time::sleep(pause).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use perennial_core::retry::Jitter;

    use super::*;

    type Found = Polled<u32, &'static str, &'static str>;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    /// Half a second, one, two, …
    fn poller() -> (Clock, Poller) {
        let clock = Clock::start();
        (clock, Poller::new(Backoff::EXPONENTIAL.jitter(Jitter::None), clock).unwrap())
    }

    /// Proves C9.24, C9.27, C9.8.
    #[tokio::test(start_paused = true)]
    async fn it_asks_again_with_pauses_and_awaits_each_question() {
        let (clock, poller) = poller();
        let mut asked = Vec::new();
        let found = poller.poll(clock.now() + secs(60), async |number| {
            asked.push(clock.now().elapsed().as_millis());
            // A question takes a second, on a paused clock.
            tokio::time::sleep(secs(1)).await;
            match number {
                1 | 2 => Found::Again("building"),
                3 => Found::AgainIn("nearly", secs(7)),
                _ => Found::Ready(number),
            }
        });
        assert_eq!(found.await, Ok(4));
        assert_eq!(asked, [0, 1_500, 3_500, 11_500]);
    }

    /// Proves C9.25, C9.26.
    #[tokio::test(start_paused = true)]
    async fn it_ends_at_its_deadline_or_its_number_with_the_last_state() {
        let (clock, poller) = poller();
        let timed_out =
            poller.poll(clock.now() + secs(3), async |_| Found::Again("building")).await;
        assert_eq!(timed_out, Err(PollError::TimedOut { last: Some("building"), polls: 3 }));
        assert_eq!(clock.now(), Uptime::new(Duration::from_millis(1_500)), "no pause in vain");
        let hangs = poller.poll(clock.now() + secs(3), async |number| match number {
            1 => Found::Again("building"),
            _ => std::future::pending().await,
        });
        assert_eq!(hangs.await, Err(PollError::TimedOut { last: Some("building"), polls: 2 }));
        let poller = poller.polls_max(2);
        let far = clock.now() + secs(60);
        let often = poller.poll(far, async |_| Found::Again("building")).await;
        assert_eq!(often, Err(PollError::TooManyPolls { last: "building", polls: 2 }));
        let failed = poller.poll(far, async |_| Found::Failed("gone")).await;
        assert_eq!(failed, Err(PollError::Failed { error: "gone", polls: 1 }));
    }

    /// Proves C9.28.
    #[tokio::test(start_paused = true)]
    async fn who_is_dropped_in_a_pause_asks_no_more() {
        let (clock, poller) = poller();
        let mut asked = 0;
        let polling = poller.poll(clock.now() + secs(60), async |_| {
            asked += 1;
            Found::Again("building")
        });
        assert!(tokio::time::timeout(Duration::from_millis(100), polling).await.is_err());
        assert_eq!(asked, 1);
    }
}
