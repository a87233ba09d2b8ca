//! Deadlines of calls: one timer of a thread, moved from call to call.
//!
//! A timer that is made for each call is entered into the wheel of the executor and taken out again, behind
//! its lock, and wakes whoever sleeps in its driver: a third of what a call costs. One that is only moved to
//! a later time costs a store. It stays in the wheel between two calls, wakes nobody there, and goes with its
//! thread.

use std::{
    cell::Cell,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    runtime::{Handle, Id},
    time::{Instant, Sleep, sleep},
};

/// A timer for more than this is not kept.
const KEPT_MAX: Duration = Duration::from_secs(60);

thread_local! {
    static SPARE: Cell<Option<Timer>> = const { Cell::new(None) };
}

/// A timer of one executor.
struct Timer {
    of: Id,
    sleep: Pin<Box<Sleep>>,
}

/// A timer in use. Dropping it makes it the spare one of the thread.
struct Armed {
    timer: Option<Timer>,
    is_kept: bool,
}

/// What `work` comes to; none when it takes longer than `time`.
///
/// # Panics
///
/// Outside of an executor, as any timer.
///
/// # Cancel safety
///
/// As safe as `work`.
pub(crate) async fn within<T, F: Future<Output = T>>(
    time: Duration,
    mut work: Pin<&mut F>,
) -> Option<T> {
    let mut armed: Option<Armed> = None;
    poll_fn(|cx| {
        if let Poll::Ready(output) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        armed.get_or_insert_with(|| Armed::new(time)).poll(cx).map(|()| None)
    })
    .await
}

impl Armed {
    fn new(time: Duration) -> Self {
        let of = Handle::current().id();
        let spare = SPARE.try_with(Cell::take).ok().flatten().filter(|spare| spare.of == of);
        #[expect(clippy::disallowed_methods, reason = "a timer is set by the executor's clock")]
        let next = Instant::now().checked_add(time);
        let timer = match (spare, next) {
            (Some(mut spare), Some(next)) => {
                spare.sleep.as_mut().reset(next);
                spare
            }
            (Some(_) | None, _) => Timer { of, sleep: Box::pin(sleep(time)) },
        };
        Self { timer: Some(timer), is_kept: time <= KEPT_MAX }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.timer {
            Some(timer) => timer.sleep.as_mut().poll(cx),
            // Not reached: it is taken in the drop.
            None => Poll::Ready(()),
        }
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        if let Some(mut timer) = self.timer.take()
            && self.is_kept
            && !timer.sleep.is_elapsed()
        {
            // It must not keep the task that it was for. One that is due now is not asked again.
            let nobody = &mut Context::from_waker(Waker::noop());
            if timer.sleep.as_mut().poll(nobody).is_pending() {
                // A thread that ends takes it with it.
                let _ = SPARE.try_with(|spare| spare.set(Some(timer)));
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests of timers look at the executor's clock")]
mod tests {
    use std::{future::pending, pin::pin};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_has_its_own_time_whatever_was_before() {
        for seconds in [5, 1, 3, 100, 2, 7] {
            let (begun, time) = (Instant::now(), Duration::from_secs(seconds));
            assert_eq!(within(time, pin!(pending::<()>())).await, None);
            assert_eq!(begun.elapsed(), time);
            let done = async {
                sleep(time / 2).await; // paused clock
                seconds
            };
            assert_eq!(within(time, pin!(done)).await, Some(seconds));
        }
        assert_eq!(within(Duration::MAX, pin!(async { 1 })).await, Some(1));
        let long = async { sleep(Duration::from_secs(1)).await }; // paused clock
        assert_eq!(within(Duration::MAX, pin!(long)).await, Some(()));
    }

    #[tokio::test(start_paused = true)]
    async fn two_at_a_time_do_not_share_one() {
        let (begun, long) = (Instant::now(), Duration::from_secs(9));
        let two = async {
            let (first, second) = (pin!(pending::<()>()), pin!(pending::<()>()));
            let (one, other) = (Duration::from_secs(1), Duration::from_secs(2));
            tokio::join!(within(one, first), within(other, second))
        };
        assert_eq!(within(long, pin!(two)).await, Some((None, None)));
        assert_eq!(begun.elapsed(), Duration::from_secs(2));
    }

    /// The spare of an executor that is gone is nothing to the next one on the same thread.
    #[test]
    fn executors_do_not_share_one() {
        for _ in 0..2 {
            let builder = &mut tokio::runtime::Builder::new_current_thread();
            let executor = builder.enable_all().start_paused(true).build().unwrap();
            executor.block_on(async {
                let time = Duration::from_secs(5);
                let waits = async { sleep(time / 2).await }; // paused clock
                assert_eq!(within(time, pin!(waits)).await, Some(()));
                assert_eq!(within(time, pin!(pending::<()>())).await, None);
            });
        }
    }
}
