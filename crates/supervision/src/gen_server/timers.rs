//! Messages that a server sends to itself later. They live and end with the incarnation.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    time::Duration,
};

use perennial_core::Uptime;
use tokio::time::Sleep;

use super::{GenServer, ServerCx};
use crate::Clock;

/// Timers that one server may have set at a time.
///
/// ```
/// assert_eq!(perennial_supervision::TIMERS_MAX, 65_536);
/// ```
pub const TIMERS_MAX: usize = 65_536;

/// One timer of one server. It means nothing to another server, nor to the next incarnation.
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::{*, actor::ActorError};
/// use perennial_supervision::TimerRef;
///
/// /// Flushes a second after the last write.
/// struct Writer { flush: Option<TimerRef> }
/// enum Message { Write, Flush }
/// impl GenServer for Writer {
///     type Arguments = ();
///     type Message = Message;
///
///     async fn handle(&mut self, message: Message, cx: &mut ServerCx<Self>) -> Result<Next<Message>, ActorError> {
///         match message {
///             Message::Write => {
///                 if let Some(before) = self.flush.take() {
///                     cx.cancel_timer(before);
///                 }
///                 self.flush = Some(cx.send_after(Duration::from_secs(1), Message::Flush)?);
///                 Ok(Next::Continue)
///             }
///             Message::Flush => Ok(Next::Stop(ExitReason::Normal)),
///         }
///     }
/// #     async fn init((): (), _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> { Ok(Init::new(Self { flush: None })) }
/// }
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (writer, address) = ChildSpec::server::<Writer>("writer", || ());
/// let writer = writer.restart(Restart::Transient);
/// # let app = SupervisorSpec::new("app").child(writer);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// let mut monitor = address.monitor();
/// address.cast(Message::Write)?;
/// assert_eq!(monitor.down().await, ExitReason::Normal);
/// assert_eq!(root.tree().clock().now().elapsed(), Duration::from_secs(1));
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerRef(u64);

/// As many timers as allowed are set: [`TIMERS_MAX`].
///
/// ```
/// use perennial_supervision::TimersFull;
///
/// assert_eq!(TimersFull.to_string(), "a server may have no more than 65536 timers");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a server may have no more than {TIMERS_MAX} timers")]
pub struct TimersFull;

impl<S: GenServer> ServerCx<S> {
    /// Sends `message` to this incarnation when `delay` has passed: behind what waits then. It counts in
    /// no mailbox, is refused by none, and is gone with the incarnation: after a restart nothing of it
    /// arrives.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::{GenServer, Init, Next, ServerCx, actor::ActorError};
    /// struct Ticker;
    ///
    /// impl GenServer for Ticker {
    ///     type Arguments = ();
    ///     type Message = &'static str;
    ///
    ///     async fn init((): (), cx: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
    ///         cx.send_after(Duration::from_secs(1), "tick")?;
    ///         Ok(Init::new(Self))
    ///     }
    ///
    ///     async fn handle(
    ///         &mut self,
    ///         _: &'static str,
    ///         cx: &mut ServerCx<Self>,
    ///     ) -> Result<Next<&'static str>, ActorError> {
    ///         cx.send_after(Duration::from_secs(1), "tick")?;
    ///         Ok(Next::Continue)
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// When as many timers as allowed are set; `message` is dropped.
    pub fn send_after(
        &mut self,
        delay: Duration,
        message: S::Message,
    ) -> Result<TimerRef, TimersFull> {
        self.timers.set(delay, message)
    }

    /// Unsets a timer and gives its message back; none when that was handled. One that is due and waits
    /// in the mailbox does not arrive any more.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::{*, actor::ActorError};
    /// # struct Worker;
    /// # impl GenServer for Worker {
    /// #     type Arguments = ();
    /// #     type Message = ();
    /// #     async fn handle(&mut self, (): (), _: &mut ServerCx<Self>) -> Result<Next<()>, ActorError> { Ok(Next::Continue) }
    /// async fn init((): (), cx: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
    ///     let timer = cx.send_after(Duration::from_secs(1), ())?;
    ///     assert_eq!(cx.cancel_timer(timer), Some(())); // its message, which does not arrive
    ///     assert_eq!(cx.cancel_timer(timer), None);
    ///     Ok(Init::new(Self))
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (worker, _) = ChildSpec::server::<Worker>("worker", || ());
    /// # let app = SupervisorSpec::new("app").child(worker);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn cancel_timer(&mut self, timer: TimerRef) -> Option<S::Message> {
        self.timers.take(timer)
    }

    /// How long it takes until a timer is due: no time when it waits in the mailbox, none when it was
    /// handled or unset.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::{*, actor::ActorError};
    /// # struct Worker;
    /// # impl GenServer for Worker {
    /// #     type Arguments = ();
    /// #     type Message = ();
    /// #     async fn handle(&mut self, (): (), _: &mut ServerCx<Self>) -> Result<Next<()>, ActorError> { Ok(Next::Continue) }
    /// async fn init((): (), cx: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
    ///     let timer = cx.send_after(Duration::from_secs(60), ())?;
    ///     tokio::time::sleep(Duration::from_secs(20)).await; // paused clock
    ///     assert_eq!(cx.timer_left(timer), Some(Duration::from_secs(40)));
    ///     Ok(Init::new(Self))
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (worker, _) = ChildSpec::server::<Worker>("worker", || ());
    /// # let app = SupervisorSpec::new("app").child(worker);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn timer_left(&self, timer: TimerRef) -> Option<Duration> {
        self.timers.left(timer)
    }
}

/// The timers of one incarnation.
pub(super) struct Timers<M> {
    clock: Clock,
    made: u64,
    /// By number; until they are handled.
    set: BTreeMap<u64, (Uptime, M)>,
    /// Those that have not rung, the next first.
    coming: BTreeSet<(Uptime, u64)>,
    /// Rings for the first of them.
    alarm: Option<(Uptime, Pin<Box<Sleep>>)>,
}

impl<M> Timers<M> {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, made: 0, set: BTreeMap::new(), coming: BTreeSet::new(), alarm: None }
    }

    fn set(&mut self, delay: Duration, message: M) -> Result<TimerRef, TimersFull> {
        if self.set.len() >= TIMERS_MAX {
            return Err(TimersFull);
        }
        let due = Uptime::new(self.clock.now().elapsed().saturating_add(delay));
        let number = self.made;
        self.made += 1;
        self.set.insert(number, (due, message));
        self.coming.insert((due, number));
        Ok(TimerRef(number))
    }

    /// Takes a timer out, whether it has rung or not.
    pub(super) fn take(&mut self, timer: TimerRef) -> Option<M> {
        let (due, message) = self.set.remove(&timer.0)?;
        self.coming.remove(&(due, timer.0));
        Some(message)
    }

    fn left(&self, timer: TimerRef) -> Option<Duration> {
        let (due, _) = self.set.get(&timer.0)?;
        Some(due.since(self.clock.now()))
    }

    /// Waits for the next timer that is due, and rings it; for ever when none is set.
    ///
    /// # Cancel safety
    ///
    /// Safe: no timer is lost.
    pub(super) async fn ring(&mut self) -> TimerRef {
        loop {
            let Some(&(due, number)) = self.coming.first() else {
                self.alarm = None;
                return std::future::pending().await;
            };
            let left = due.since(self.clock.now());
            if left.is_zero() {
                self.coming.pop_first();
                return TimerRef(number);
            }
            let alarm = match &mut self.alarm {
                Some((at, alarm)) if *at == due => alarm,
                Some(_) | None => {
                    &mut self.alarm.insert((due, Box::pin(tokio::time::sleep(left)))).1
                }
            };
            alarm.as_mut().await;
            self.alarm = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[tokio::test(start_paused = true)]
    async fn timers_ring_when_they_are_due_and_those_that_were_unset_never() {
        let mut timers = Timers::new(Clock::start());
        let late = timers.set(ms(30), "late").unwrap();
        let first = timers.set(ms(10), "first").unwrap();
        let second = timers.set(ms(10), "second").unwrap();
        let never = timers.set(Duration::MAX, "never").unwrap();
        assert_eq!(timers.left(late), Some(ms(30)));
        assert_eq!(timers.ring().await, first);
        assert_eq!((timers.left(first), timers.left(late)), (Some(ms(0)), Some(ms(20))));
        // It waits in the mailbox and is unset there.
        assert_eq!(timers.take(first), Some("first"));
        assert_eq!(timers.take(first), None);
        assert_eq!(timers.take(second), Some("second"));
        // Giving up the wait loses nothing.
        assert!(tokio::time::timeout(ms(5), timers.ring()).await.is_err());
        assert_eq!(timers.ring().await, late);
        assert_eq!(timers.clock.now().elapsed(), ms(30));
        assert!(tokio::time::timeout(ms(1_000_000), timers.ring()).await.is_err());
        assert_eq!(timers.take(never), Some("never"));
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_so_many_timers_and_no_more() {
        let mut timers = Timers::new(Clock::start());
        let first = timers.set(ms(1), 0).unwrap();
        for number in 1..TIMERS_MAX {
            timers.set(ms(1), number).unwrap();
        }
        assert_eq!(timers.set(ms(1), 0), Err(TimersFull));
        // One that has rung counts until it is handled.
        assert_eq!(timers.ring().await, first);
        assert_eq!(timers.set(ms(1), 0), Err(TimersFull));
        timers.take(first);
        assert!(timers.set(ms(1), 0).is_ok());
    }
}
