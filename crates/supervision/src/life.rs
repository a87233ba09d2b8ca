//! One incarnation as everybody else sees it: it can be asked to stop, killed, and its end seen.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock, PoisonError, Weak},
    time::Duration,
};

use perennial_core::ExitReason;
use tokio_util::sync::CancellationToken;

use crate::{
    Clock, ProcessRef,
    load::Seen,
    panics::call_quietly,
    sync::{
        Condvar, Mutex, MutexGuard, Notify,
        atomic::{AtomicBool, Ordering},
    },
    waits::Waits,
};

type Wake = Box<dyn FnOnce() + Send>;
type Tell = Box<dyn FnOnce(&ExitReason) + Send>;

/// Told to whoever must wind up: cancelled when a stop is asked for.
///
/// Cheap to clone. For futures, await [`StopToken::stopped`]; for blocking loops, pause with
/// [`StopToken::wait`], or register what wakes them with [`StopToken::on_stop`].
///
/// ```
/// use perennial_supervision::StopToken;
///
/// let stop = StopToken::new();
/// let seen = stop.clone(); // in the hands of whoever must wind up
/// assert!(!seen.is_stopped());
/// stop.stop();
/// assert!(seen.is_stopped());
/// ```
#[derive(Clone, Default)]
pub struct StopToken {
    token: CancellationToken,
    shared: Arc<StopShared>,
}

#[derive(Default)]
struct StopShared {
    callbacks: Mutex<Vec<Wake>>,
    /// With the lock of `callbacks`: threads that wait.
    woken: Condvar,
    reason: OnceLock<ExitReason>,
}

impl StopToken {
    /// A token that nothing has stopped yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a stop was asked for.
    pub fn is_stopped(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Returns once a stop was asked for.
    ///
    /// ```
    /// use perennial_supervision::StopToken;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let stop = StopToken::new();
    /// stop.stop();
    /// let work = std::future::pending::<()>();
    /// let done = tokio::select! {
    ///     () = stop.stopped() => false,
    ///     () = work => true,
    /// };
    /// assert!(!done);
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is lost.
    pub async fn stopped(&self) {
        self.token.cancelled().await;
    }

    /// Blocks the thread until a stop is asked for, but no longer than `within`; answers whether one
    /// was. The pause of a blocking loop: `while !stop.wait(period) { .. }`.
    ///
    /// ```
    /// use perennial_supervision::StopToken;
    /// use std::time::Duration;
    ///
    /// let stop = StopToken::new();
    /// assert!(!stop.wait(Duration::from_millis(1))); // the time is over, go on
    /// stop.stop();
    /// assert!(stop.wait(Duration::from_secs(60))); // returns at once
    /// ```
    pub fn wait(&self, within: Duration) -> bool {
        let callbacks = self.callbacks();
        let waits = |_: &mut Vec<Wake>| !self.token.is_cancelled();
        // A poisoned lock holds callbacks like any other.
        drop(self.shared.woken.wait_timeout_while(callbacks, within, waits));
        self.is_stopped()
    }

    /// Calls `wake` when a stop is asked for, at once if it already was. It must not block.
    ///
    /// ```
    /// use perennial_supervision::StopToken;
    ///
    /// let stop = StopToken::new();
    /// // A loop that blocks on a queue is woken by a message.
    /// let (wake, queue) = std::sync::mpsc::channel::<Option<u32>>();
    /// stop.on_stop(move || drop(wake.send(None)));
    /// stop.stop();
    /// assert_eq!(queue.recv(), Ok(None));
    /// ```
    pub fn on_stop(&self, wake: impl FnOnce() + Send + 'static) {
        {
            let mut callbacks = self.callbacks();
            if !self.token.is_cancelled() {
                callbacks.push(Box::new(wake));
                return;
            }
        }
        wake();
    }

    /// Why a stop was asked for, once it was.
    ///
    /// ```
    /// use perennial_supervision::{ExitReason, StopToken};
    ///
    /// let stop = StopToken::new();
    /// assert_eq!(stop.reason(), None);
    /// stop.stop();
    /// assert_eq!(stop.reason(), Some(&ExitReason::Shutdown));
    /// ```
    pub fn reason(&self) -> Option<&ExitReason> {
        self.shared.reason.get()
    }

    /// Asks for the stop.
    ///
    /// ```
    /// use perennial_supervision::StopToken;
    ///
    /// // In a test of code that winds up: it need not be a child.
    /// let stop = StopToken::new();
    /// let loops = |stop: &StopToken| (0..).take_while(|_| !stop.is_stopped()).take(3).count();
    /// assert_eq!(loops(&stop), 3);
    /// stop.stop();
    /// assert_eq!(loops(&stop), 0);
    /// ```
    pub fn stop(&self) {
        self.stop_for(&ExitReason::Shutdown);
    }

    /// Asks for the stop; the first reason counts.
    pub(crate) fn stop_for(&self, reason: &ExitReason) {
        let callbacks = {
            let mut callbacks = self.callbacks();
            self.shared.reason.get_or_init(|| reason.clone());
            self.token.cancel();
            self.shared.woken.notify_all();
            std::mem::take(&mut *callbacks)
        };
        for wake in callbacks {
            call_quietly("on_stop", wake);
        }
    }

    fn callbacks(&self) -> MutexGuard<'_, Vec<Wake>> {
        self.shared.callbacks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for StopToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StopToken").field("stopped", &self.is_stopped()).finish_non_exhaustive()
    }
}

/// How a kind of child is stopped, killed and, in tests, crashed. None of these waits.
pub(crate) trait Control: Send + Sync {
    /// Asks for the end; the first reason counts.
    fn stop(&self, reason: &ExitReason);
    fn kill(&self);
    /// `from`, which it is linked to, ended. A normal end is nothing to it; of any other it ends as
    /// well, unless it is told of exits instead.
    fn sever(&self, from: &ProcessRef, reason: &ExitReason) {
        let _ = from;
        if *reason != ExitReason::Normal {
            self.stop(reason);
        }
    }
    /// Whether it is told of exits instead of ending with what it is linked to.
    fn traps_exits(&self) -> bool {
        false
    }
    /// Why it is being ended from outside, in the middle of what it does: then what it holds is dropped
    /// because of that, and not because it wants no more of it.
    fn ending(&self) -> Option<ExitReason> {
        None
    }
    /// What it has to do and what it is at, where it has a mailbox.
    fn load(&self) -> Option<Seen> {
        None
    }
    /// Makes the child panic in its own code path.
    #[cfg(feature = "testing")]
    fn crash(&self);
}

pub(crate) use perennial_core::supervisor::Pid;

/// One incarnation.
#[derive(Clone)]
pub(crate) struct Life {
    pub(crate) process: ProcessRef,
    pub(crate) control: Arc<dyn Control>,
}

impl Life {
    pub(crate) fn pid(&self) -> Pid {
        self.process.pid()
    }

    pub(crate) fn ended(&self) -> &Ended {
        self.process.ended()
    }
}

/// Who an incarnation is, and where its end appears, once.
#[derive(Clone)]
pub(crate) struct Ended(Arc<EndedInner>);

struct EndedInner {
    path: Arc<str>,
    pid: Pid,
    reason: OnceLock<ExitReason>,
    told: Notify,
    /// Its obituary is owed; nobody else announces the end.
    driven: AtomicBool,
    /// How those reach it that are linked to it.
    control: OnceLock<Weak<dyn Control>>,
    /// Whom it waits for; absent as long as it has not waited.
    waits: OnceLock<Box<Waits>>,
    /// Those who want to be told; empty once the reason is set.
    watchers: Mutex<Watchers>,
}

#[derive(Default)]
struct Watchers {
    next: u64,
    tells: BTreeMap<u64, Tell>,
}

/// Somebody who is told of an end. Dropping it withdraws that.
pub(crate) struct Watch {
    ended: Weak<EndedInner>,
    number: u64,
}

impl Watch {
    /// It is told, whatever becomes of this.
    pub(crate) fn keep(mut self) {
        self.ended = Weak::new();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(ended) = self.ended.upgrade() {
            let tell = ended.watchers().tells.remove(&self.number);
            drop(tell);
        }
    }
}

impl EndedInner {
    fn watchers(&self) -> MutexGuard<'_, Watchers> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ended {
    pub(crate) fn new(path: Arc<str>, pid: Pid) -> Self {
        Self(Arc::new(EndedInner {
            path,
            pid,
            reason: OnceLock::new(),
            told: Notify::new(),
            driven: AtomicBool::new(false),
            control: OnceLock::new(),
            waits: OnceLock::new(),
            watchers: Mutex::default(),
        }))
    }

    pub(crate) fn path(&self) -> &str {
        &self.0.path
    }

    /// Makes another incarnation of it, where nobody has seen this one that could tell them apart.
    /// What reaches it stays.
    pub(crate) fn renew(&mut self, pid: Pid) -> bool {
        let Some(inner) = Arc::get_mut(&mut self.0) else { return false };
        inner.pid = pid;
        inner.waits = OnceLock::new();
        // Whoever wanted to be told of the end was, when it was announced; without anybody it need not have been.
        inner.reason = OnceLock::new();
        true
    }

    /// Whether nobody can see its end any more: nobody else has it, and nobody is to be told.
    pub(crate) fn is_unseen(&mut self) -> bool {
        let Some(inner) = Arc::get_mut(&mut self.0) else { return false };
        let watchers = inner.watchers.get_mut().unwrap_or_else(PoisonError::into_inner);
        watchers.tells.is_empty()
    }

    pub(crate) fn shared_path(&self) -> Arc<str> {
        self.0.path.clone()
    }

    pub(crate) fn pid(&self) -> Pid {
        self.0.pid
    }

    pub(crate) fn identity(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whom it waits for, where it notes that.
    pub(crate) fn waits(&self) -> &Waits {
        self.0.waits.get_or_init(|| Box::new(Waits::new(Clock::start())))
    }

    /// The identities of those that it waits for, and for how long.
    pub(crate) fn waits_for(&self) -> Vec<(usize, Duration)> {
        self.0.waits.get().map_or_else(Vec::new, |waits| waits.look())
    }

    /// From here on an obituary is owed: nothing else announces the end.
    pub(crate) fn drive(&self) {
        self.0.driven.store(true, Ordering::SeqCst);
    }

    /// From here on the ends of those that it is linked to reach it.
    pub(crate) fn reached_by(&self, control: &Arc<dyn Control>) {
        self.0.control.get_or_init(|| Arc::downgrade(control));
    }

    /// How it is reached, while it lives.
    pub(crate) fn control(&self) -> Option<Arc<dyn Control>> {
        self.0.control.get()?.upgrade()
    }

    pub(crate) fn is_driven(&self) -> bool {
        self.0.driven.load(Ordering::SeqCst)
    }

    /// Announces the end. The first announcement counts.
    pub(crate) fn announce(&self, reason: &ExitReason) {
        self.announce_after(reason, || ());
    }

    /// As [`announce`](Self::announce); `before` is called before anybody can see the end, and must
    /// neither block nor look at it.
    pub(crate) fn announce_after(&self, reason: &ExitReason, before: impl FnOnce()) {
        let watchers = {
            let mut watchers = self.0.watchers();
            let first = self.0.reason.get().is_none();
            if first {
                before();
                // Set under the lock only.
                let _ = self.0.reason.set(reason.clone());
            }
            if !first {
                return;
            }
            std::mem::take(&mut watchers.tells)
        };
        self.0.told.notify_waiters();
        for tell in watchers.into_values() {
            call_quietly("on_exit", || tell(reason));
        }
    }

    /// Whether it is announced, or is being announced at this moment: waits for the latter.
    pub(crate) fn is_being_announced(&self) -> bool {
        let announcing = self.0.watchers();
        let is_announced = self.0.reason.get().is_some();
        drop(announcing);
        is_announced
    }

    /// The reason, once there is one.
    pub(crate) fn reason(&self) -> Option<ExitReason> {
        self.0.reason.get().cloned()
    }

    /// Waits for the end.
    pub(crate) async fn wait(&self) -> ExitReason {
        loop {
            // Made before the look: an announcement after it is not missed.
            let told = self.0.told.notified();
            if let Some(reason) = self.0.reason.get() {
                return reason.clone();
            }
            told.await;
        }
    }

    /// Calls `tell` at the end; at once when it is past. `tell` must not block.
    pub(crate) fn on_end(&self, tell: impl FnOnce(&ExitReason) + Send + 'static) {
        if let Some(watch) = self.watch(tell) {
            watch.keep();
        }
    }

    /// As [`on_end`](Self::on_end), until what this returns is dropped; none when it is told.
    pub(crate) fn watch(&self, tell: impl FnOnce(&ExitReason) + Send + 'static) -> Option<Watch> {
        let past = {
            let mut watchers = self.0.watchers();
            match self.reason() {
                Some(reason) => reason,
                None => {
                    let number = watchers.next;
                    watchers.next += 1;
                    watchers.tells.insert(number, Box::new(tell));
                    return Some(Watch { ended: Arc::downgrade(&self.0), number });
                }
            }
        };
        tell(&past);
        None
    }
}

impl fmt::Debug for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ended").field(&self.reason()).finish()
    }
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Life")
            .field("pid", &self.pid())
            .field("ended", &self.ended().reason())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_watcher_of_the_dead_is_told_at_once_and_only_the_first_reason_counts() {
        let told = Arc::new(AtomicU32::new(0));
        let count = |told: &Arc<AtomicU32>| {
            let told = told.clone();
            move |reason: &ExitReason| {
                assert_eq!(*reason, ExitReason::Normal);
                told.fetch_add(1, Ordering::SeqCst);
            }
        };
        let ended = Ended::new("/app".into(), Pid(1));
        ended.on_end(count(&told));
        ended.announce(&ExitReason::Normal);
        ended.announce(&ExitReason::Killed);
        ended.on_end(count(&told));
        assert_eq!(told.load(Ordering::SeqCst), 2);
        assert_eq!(ended.wait().await, ExitReason::Normal);
    }

    #[test]
    fn an_end_that_somebody_waits_for_is_seen_and_the_next_incarnation_has_its_own() {
        let mut ended = Ended::new("/app".into(), Pid(1));
        assert!(ended.is_unseen());
        let told = Arc::new(AtomicU32::new(0));
        for pid in 2..4 {
            let count = told.clone();
            ended.on_end(move |_| {
                count.fetch_add(1, Ordering::SeqCst);
            });
            assert!(!ended.is_unseen(), "it is to be told, though nobody else has it");
            ended.announce(&ExitReason::Normal);
            assert_eq!(told.load(Ordering::SeqCst), pid - 1);
            assert!(ended.renew(Pid(pid.into())));
            assert_eq!(ended.reason(), None);
            assert!(ended.is_unseen());
        }
        let other = ended.clone();
        assert!(!ended.is_unseen() && !ended.renew(Pid(4)), "somebody has it");
        drop(other);
        assert!(ended.renew(Pid(4)));
    }

    #[test]
    fn a_thread_waits_for_a_stop_and_no_longer_than_it_wants_to() {
        let token = StopToken::new();
        assert!(!token.wait(Duration::ZERO));
        let (waits, waiting) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                waits.send(()).unwrap();
                token.wait(Duration::MAX)
            });
            waiting.recv().unwrap();
            token.stop();
            assert!(thread.join().unwrap());
        });
        assert!(token.wait(Duration::MAX), "at once when it is past");
    }

    #[test]
    fn a_stop_wakes_those_registered_before_and_after() {
        let woken = Arc::new(AtomicU32::new(0));
        let token = StopToken::new();
        for _ in 0..2 {
            let woken = woken.clone();
            token.on_stop(move || {
                woken.fetch_add(1, Ordering::SeqCst);
            });
            token.stop();
        }
        assert_eq!(woken.load(Ordering::SeqCst), 2);
    }
}
