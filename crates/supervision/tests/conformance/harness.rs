//! How a test says what it proves, and how it is run.

use std::{
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::mpsc,
    thread,
    time::Duration,
};

use libtest_mimic::Failed;
use tokio::runtime::{Builder, Runtime};

use crate::report::Claim;

/// Real time a test may take. A paused clock jumps over every wait, so who needs longer hangs.
const WATCHDOG: Duration = Duration::from_secs(60);

/// As [`WATCHDOG`], for those that may do work of real length: the first run of the compiler on
/// programs that must not compile checks all dependencies.
const WATCHDOG_OF_REAL_TIME: Duration = Duration::from_secs(600);

/// Registers the `async fn` of that name in the same file as a test that proves catalogue ids: it
/// fails when any of those rows, as they are written, does not hold.
///
/// ```ignore
/// proves!(children_start_in_order, ["SUP-002"]);
/// async fn children_start_in_order() { .. }
///
/// proves!(ten_thousand_children_stop_fast, real_time, ["DYN-050"]);
/// proves!(every_policy_meets_every_reason, ["SUP-057", .. 12 ids], because = "one table");
/// ```
///
/// A test runs on a paused clock, on one thread; `real_time` is for what a paused clock cannot show:
/// figures of scale, and code that does not yield. More than four ids need a sentence that says why
/// one test can assert so much.
macro_rules! proves {
    ($test:ident, real_time, [$($id:literal),+ $(,)?] $(, because = $why:literal)? $(,)?) => {
        $crate::harness::proves!(@ $test, RealTime, [$($id),+] $(, $why)?);
    };
    ($test:ident, [$($id:literal),+ $(,)?] $(, because = $why:literal)? $(,)?) => {
        $crate::harness::proves!(@ $test, Paused, [$($id),+] $(, $why)?);
    };
    (@ $test:ident, $pace:ident, [$($id:literal),+] $(, $why:literal)?) => {
        inventory::submit! {
            $crate::harness::Proof {
                module: module_path!(),
                test: stringify!($test),
                ids: &[$($id),+],
                because: &[$($why)?],
                pace: $crate::harness::Pace::$pace,
                body: || Box::pin($test()),
            }
        }
    };
}
pub(crate) use proves;

/// A registered test.
pub(crate) struct Proof {
    pub(crate) module: &'static str,
    pub(crate) test: &'static str,
    pub(crate) ids: &'static [&'static str],
    /// Why so many ids; none or one.
    pub(crate) because: &'static [&'static str],
    pub(crate) pace: Pace,
    pub(crate) body: fn() -> Pin<Box<dyn Future<Output = ()>>>,
}

/// The time a test runs in.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// A clock that jumps to the next thing to wait for; one thread.
    Paused,
    /// The clock of the machine; two threads.
    RealTime,
}

inventory::collect!(Proof);

/// All registered tests, by name.
pub(crate) fn proofs() -> Vec<&'static Proof> {
    let mut proofs: Vec<&Proof> = inventory::iter::<Proof>().collect();
    proofs.sort_by_key(|proof| proof.name());
    proofs
}

impl Proof {
    /// `file::test`.
    pub(crate) fn name(&self) -> String {
        let file = self.module.split_once("::").map_or(self.module, |(_, file)| file);
        format!("{file}::{}", self.test)
    }

    pub(crate) fn claim(&self) -> Claim {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let because: Vec<String> = owned(self.because);
        Claim { test: self.name(), ids: owned(self.ids), because: because.into_iter().next() }
    }

    pub(crate) fn run(&self) -> Result<(), Failed> {
        self.run_within(match self.pace {
            Pace::Paused => WATCHDOG,
            Pace::RealTime => WATCHDOG_OF_REAL_TIME,
        })
    }

    /// Runs it on a thread of its own, which is left behind if it does not come to an end.
    pub(crate) fn run_within(&self, limit: Duration) -> Result<(), Failed> {
        let (pace, body) = (self.pace, self.body);
        let (done, outcome) = mpsc::sync_channel(1);
        let work = move || drop(done.send(attempt(pace.runtime(), body)));
        #[expect(clippy::disallowed_methods, reason = "not part of a tree, and it may hang")]
        let spawned = thread::Builder::new().name(self.name()).spawn(work);
        spawned?;
        match outcome.recv_timeout(limit) {
            Ok(outcome) => outcome.map_err(Failed::from),
            Err(_) => Err(format!("hangs: not done after {limit:?} of real time").into()),
        }
    }
}

impl Pace {
    fn runtime(self) -> Runtime {
        let runtime = match self {
            Self::Paused => Builder::new_current_thread().enable_all().start_paused(true).build(),
            Self::RealTime => Builder::new_multi_thread().worker_threads(2).enable_all().build(),
        };
        runtime.unwrap()
    }
}

fn attempt(
    runtime: Runtime,
    body: fn() -> Pin<Box<dyn Future<Output = ()>>>,
) -> Result<(), String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| runtime.block_on(body())));
    outcome.map_err(|_| {
        let noted = LAST_PANIC.with_borrow_mut(Option::take);
        noted.unwrap_or_else(|| "panicked on another thread".to_owned())
    })
}

thread_local! {
    /// The last panic of this thread, with its place.
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Notes panics for the failures they cause. They are printed only on demand: half of the tests make
/// something panic on purpose.
pub(crate) fn note_panics(print: bool) {
    let earlier = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.to_string();
        // A panic while the thread's storage is being torn down belongs to no test.
        let _ = LAST_PANIC.try_with(|last| *last.borrow_mut() = Some(text));
        if print {
            earlier(panic);
        }
    }));
}
