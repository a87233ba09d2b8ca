//! Deadlines of calls.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::PoisonError,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

use crate::{Clock, sync::Mutex};

/// What `work` comes to; none when it takes longer than `time`. [`Duration::MAX`] is no deadline, and costs no
/// timer: a third of a call that is answered at once.
///
/// # Cancel safety
///
/// As safe as `work`.
pub(crate) async fn within<T, F: Future<Output = T>>(
    time: Duration,
    work: Pin<&mut F>,
) -> Option<T> {
    if time == Duration::MAX {
        return Some(work.await);
    }
    tokio::time::timeout(time, work).await.ok()
}

/// Timers that are kept: as many as wait at once, mostly.
const SPARES_MAX: usize = 64;

/// Timers that nobody needs at the moment and that are set still, all of one executor.
///
/// Whoever sets a timer may have to wake who sleeps until the next one, which costs more than a call. One of
/// these is left as it is where it is due before it is needed: it is set anew only when it is due, and that is
/// once in the time of a deadline and not once in a call.
#[derive(Default)]
pub(crate) struct Spares(Mutex<Vec<Pin<Box<Sleep>>>>);

impl Spares {
    /// As [`within`]; to be polled where all these timers are from.
    ///
    /// # Cancel safety
    ///
    /// As safe as `work`.
    pub(crate) async fn within<T, F: Future<Output = T>>(
        &self,
        time: Duration,
        mut work: Pin<&mut F>,
    ) -> Option<T> {
        let mut timer: Option<Lent<'_>> = None;
        poll_fn(|cx| {
            if let Poll::Ready(output) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            timer.get_or_insert_with(|| self.lend(time)).poll(cx).map(|()| None)
        })
        .await
    }

    fn lend(&self, time: Duration) -> Lent<'_> {
        let due = Clock::after(time);
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let timer = match spare {
            Some(mut timer) => {
                if timer.is_elapsed() || timer.deadline() > due {
                    timer.as_mut().reset(due);
                }
                timer
            }
            None => Box::pin(tokio::time::sleep_until(due)),
        };
        Lent { from: self, due, timer: Some(timer) }
    }

    fn take_back(&self, timer: Pin<Box<Sleep>>) {
        let mut spares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spares.len() < SPARES_MAX {
            spares.push(timer);
        }
    }
}

/// A timer on loan.
struct Lent<'a> {
    from: &'a Spares,
    /// When it is due to whoever has it: not before it goes off.
    due: Instant,
    /// Present until it is given back.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Lent<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(timer) = &mut self.timer else { return Poll::Ready(()) };
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= self.due {
                return Poll::Ready(());
            }
            timer.as_mut().reset(self.due);
        }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        // Whoever had it last may be woken once more for nothing: to change that, it would have to be polled
        // here, which its executor may not live to see.
        if let Some(timer) = self.timer.take().filter(|timer| !timer.is_elapsed()) {
            self.from.take_back(timer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    fn spares(of: &Spares) -> usize {
        of.0.lock().unwrap().len()
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_is_lent_again_is_due_when_its_borrower_says() {
        let spares_of = Spares::default();
        let begun = Clock::after(Duration::ZERO);
        for (place, millis) in [5_000, 7_000, 3_000, 3_000, 9_000].into_iter().enumerate() {
            let work = pin!(async {
                tokio::task::yield_now().await;
                place
            });
            let answered = spares_of.within(Duration::from_millis(millis), work);
            assert_eq!(answered.await, Some(place));
            assert_eq!(spares(&spares_of), 1, "one is enough for them all");
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        assert_eq!(begun.elapsed(), Duration::from_millis(500));
        for millis in [4_000, 1_000, 8_000] {
            let begun = Clock::after(Duration::ZERO);
            let never = pin!(std::future::pending::<()>());
            assert_eq!(spares_of.within(Duration::from_millis(millis), never).await, None);
            assert_eq!(begun.elapsed().as_millis(), u128::from(millis));
            let soon = pin!(tokio::task::yield_now());
            assert_eq!(spares_of.within(Duration::from_secs(60), soon).await, Some(()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_timers_are_kept_than_the_limit() {
        let spares_of = Spares::default();
        let all = (0..2 * SPARES_MAX).map(|_| {
            let pause = tokio::time::sleep(Duration::from_millis(1)); // paused clock
            let spares_of = &spares_of;
            async move { spares_of.within(Duration::from_secs(1), pin!(pause)).await }
        });
        let all = futures_util::future::join_all(all).await;
        assert!(all.iter().all(Option::is_some));
        assert_eq!(spares(&spares_of), SPARES_MAX);
    }
}
