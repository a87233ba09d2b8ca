//! What components publish about themselves, read with a deadline: it is the host's code, and one that
//! waits for a lock that a hanging actor holds must not take the dump with it.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Sender},
    },
    time::{Duration, Instant},
};

use perennial_core::tree::TreeNode;
use serde_json::{Value, json};

use crate::panics::{call_quietly, guard_blocking};

/// How long a dump waits for all details together.
///
/// ```
/// assert_eq!(perennial_supervision::DETAILS_WITHIN.as_millis(), 500);
/// ```
pub const DETAILS_WITHIN: Duration = Duration::from_millis(500);
/// After this time without an answer another reader goes on with the rest.
const NEXT_READER_AFTER: Duration = Duration::from_millis(25);
/// Readers of one dump. As many details can hang before the others are not asked any more.
const READERS_MAX: usize = 16;
/// Dumps that may read one detail at a time. One that hangs holds no more threads than this.
const READINGS_MAX: usize = 4;

/// The host's way to tell what a component is at.
pub(crate) struct Detail {
    read: Box<dyn Fn() -> Value + Send + Sync>,
    readings: AtomicUsize,
}

impl Detail {
    pub(crate) fn new(read: impl Fn() -> Value + Send + Sync + 'static) -> Self {
        Self { read: Box::new(read), readings: AtomicUsize::new(0) }
    }

    /// One that panics spoils only its own line of the dump; nothing when it hangs elsewhere already.
    fn read(&self) -> Option<Value> {
        let before = self.readings.fetch_add(1, Ordering::AcqRel);
        let value = (before < READINGS_MAX).then(|| {
            guard_blocking(|| (self.read)()).unwrap_or_else(|panic| {
                Value::String(format!("the detail cannot be read: {panic}"))
            })
        });
        self.readings.fetch_sub(1, Ordering::AcqRel);
        value
    }
}

impl Drop for Detail {
    /// What it captured may panic in its drop.
    fn drop(&mut self) {
        let read = std::mem::replace(&mut self.read, Box::new(|| Value::Null));
        call_quietly("the drop of a specification", move || drop(read));
    }
}

/// Whose detail is to be read, by their place in the dump.
pub(super) type Asked = VecDeque<(usize, Arc<Detail>)>;
type Answer = (usize, Option<Value>);

/// Fills in the details of `nodes`; what is not there in time is said to be unavailable.
pub(super) fn fill(nodes: &mut [TreeNode], asked: Asked, within: Duration) {
    let mut missing: Vec<usize> = asked.iter().map(|(place, _)| *place).collect();
    if missing.is_empty() {
        return;
    }
    let (teller, answers) = mpsc::channel();
    let asked = Arc::new(Mutex::new(asked));
    let begun = now();
    let mut readers = 0;
    while !missing.is_empty() {
        let left = within.saturating_sub(now().duration_since(begun));
        let pause = if readers < READERS_MAX { NEXT_READER_AFTER.min(left) } else { left };
        if left.is_zero() {
            break;
        }
        if readers == 0 {
            readers += 1;
            start_reader(&asked, &teller);
        }
        match answers.recv_timeout(pause) {
            Ok((place, detail)) => {
                missing.retain(|it| *it != place);
                nodes[place].detail = detail.unwrap_or_else(unavailable);
            }
            Err(_) if readers < READERS_MAX => {
                readers += 1;
                start_reader(&asked, &teller);
            }
            Err(_) => break,
        }
    }
    // Readers that come back find nothing left.
    asked.lock().unwrap_or_else(PoisonError::into_inner).clear();
    for place in missing {
        nodes[place].detail = unavailable();
    }
}

fn unavailable() -> Value {
    json!({ "unavailable": "deadline" })
}

/// A thread and no task: the executor may be what hangs, and the caller need not be on one. Where none
/// can be had, nobody answers, and that is told.
fn start_reader(asked: &Arc<Mutex<Asked>>, teller: &Sender<Answer>) {
    let (asked, teller) = (asked.clone(), teller.clone());
    // What reads a clock that a test has paused must find it.
    let executor = tokio::runtime::Handle::try_current().ok();
    let read = move || {
        let _entered = executor.as_ref().map(tokio::runtime::Handle::enter);
        loop {
            let next = asked.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some((place, detail)) = next else { return };
            // Nobody waits any more: the next round ends.
            let _ = teller.send((place, detail.read()));
        }
    };
    #[expect(clippy::disallowed_methods, reason = "ends by itself, unless the host's code hangs")]
    let started = std::thread::Builder::new().name("perennial-dump".to_owned()).spawn(read);
    drop(started);
}

/// Real time: a test that has paused its clock waits for real threads here.
#[expect(clippy::disallowed_methods, reason = "see above")]
fn now() -> Instant {
    Instant::now()
}
