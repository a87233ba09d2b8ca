//! Connections that perform operations: one transaction after the other, done again where another one was in
//! the way, and resolved where the connection was lost.

use std::{
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use perennial_core::retry::{Backoff, Growth, Jitter};
use tokio::runtime::{Builder, Runtime};

use super::{
    Shared,
    failure::Trouble,
    session::{Fate, Mark, Session},
    together::{self, Ended, Joint},
};
use crate::{
    StoreError,
    backend::Access,
    queue::{Queue, Stopper, Wake},
    request::Request,
    transaction::Tx,
};

/// How often an operation is done again because of other transactions (STO-10).
const AGAIN_MAX: u32 = 5;
/// How often an operation is begun again because its connection was lost before its commit.
const LOST_MAX: u32 = 2;
/// How often a transaction that has not ended is asked for.
const ASKED_MAX: u32 = 20;
/// Before an operation is done again.
const CONFLICT: Backoff = backoff(Growth::Exponential, 4, 64);
/// Between attempts to connect.
const RECONNECT: Backoff = backoff(Growth::Exponential, 50, 5_000);
/// Between questions after a transaction that has not ended.
const FATE: Backoff = backoff(Growth::Linear, 50, 500);

/// Half of each pause is left to chance.
const fn backoff(growth: Growth, base_ms: u64, cap_ms: u64) -> Backoff {
    let (base, cap) = (Duration::from_millis(base_ms), Duration::from_millis(cap_ms));
    Backoff { growth, base, factor_percent: 200, cap, jitter: Jitter::Factor(50) }
}
/// How long a connection sleeps at most; then it looks whether the server is still there.
const IDLE: Duration = Duration::from_secs(1);

/// A loop that performs operations; see [`PostgresStore::connection`](super::PostgresStore::connection).
///
/// It blocks its thread until it is stopped. Without a server it tries again and again, with pauses; what it
/// held when the connection was lost is begun anew, resolved, or answered with
/// [`StoreError::Unavailable`], and what still waited is served later, or by another loop.
#[must_use = "nothing is performed until it runs"]
pub struct ConnectionLoop {
    shared: Arc<Shared>,
    stopped: Arc<AtomicBool>,
}

/// What one try at an operation came to.
enum Outcome {
    /// It has its answer: committed, or refused by itself.
    Done,
    /// Nothing is written, and nothing will be; the error would be the answer.
    Not(StoreError),
    /// The same, and another try may go better; without an error the operation has one of its own.
    Again(Option<StoreError>),
    /// The same, and the connection is gone.
    Lost(StoreError),
    /// The connection is gone, and the answer to the commit with it.
    Open(Mark),
}

impl ConnectionLoop {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, stopped: Arc::default() }
    }

    /// What ends this loop.
    pub fn stopper(&self) -> Stopper {
        Stopper::new(Arc::clone(&self.stopped), Arc::clone(&self.shared.queue))
    }

    /// Performs operations until it is stopped; then what is waiting, if there is a connection, and returns.
    ///
    /// # Errors
    ///
    /// When the store is closed, or the thread has no descriptors for a connection.
    pub fn run(self) -> Result<(), StoreError> {
        let shared = &*self.shared;
        if shared.queue.is_closed() {
            return Err(StoreError::Closed);
        }
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let mut dice = Dice::new();
        let mut server = Server { shared, runtime: &runtime, session: None };
        let mut failed = 0;
        loop {
            if let Err(error) = server.session() {
                shared.unreachable(&error);
                if shared.unseen() > shared.options.patience {
                    shared.queue.refuse(&StoreError::Unavailable(error.to_string()));
                }
                failed += 1;
                if shared.queue.rest(&self.stopped, dice.pause(&RECONNECT, failed)) {
                    return Ok(());
                }
                continue;
            }
            failed = 0;
            let woken = if shared.options.commits_together() > 1 {
                shared.queue.wait_sparingly(&self.stopped, IDLE)
            } else {
                shared.queue.wait(&self.stopped, IDLE)
            };
            match woken {
                Wake::Stop => return Ok(()),
                Wake::Idle => server.look(),
                Wake::Request(request) => {
                    // Also when it panics.
                    let sparing = shared.options.commits_together() > 1 && request.is_joint();
                    let _served = sparing.then(|| Served(&shared.queue));
                    if !request.is_abandoned() {
                        server.serve_first(request, &mut dice);
                    }
                }
            }
        }
    }
}

impl fmt::Debug for ConnectionLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionLoop")
            .field("address", &self.shared.address)
            .finish_non_exhaustive()
    }
}

/// Says when it goes that joint requests are served.
struct Served<'a>(&'a Queue);

impl Drop for Served<'_> {
    fn drop(&mut self) {
        self.0.has_served();
    }
}

/// The server as one loop has it.
struct Server<'a> {
    shared: &'a Shared,
    runtime: &'a Runtime,
    session: Option<Connected<'a>>,
}

/// A session that is counted.
struct Connected<'a> {
    session: Session<'a>,
    connected: &'a AtomicU64,
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.connected.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<'a> Server<'a> {
    /// The session, which is opened unless it is.
    fn session(&mut self) -> Result<&Session<'a>, StoreError> {
        self.leave_ended();
        if self.session.is_none() {
            let session = Session::open(self.shared, self.runtime)?;
            self.shared.reached();
            let connected = &self.shared.counters.connected;
            connected.fetch_add(1, Ordering::Relaxed);
            self.session = Some(Connected { session, connected });
        }
        self.shared.seen();
        match &self.session {
            Some(connected) => Ok(&connected.session),
            None => Err(StoreError::Unavailable("there is no connection".to_owned())),
        }
    }

    /// Notices the end of a connection that nothing is asked on.
    fn look(&mut self) {
        if let Some(connected) = &self.session {
            connected.session.look();
        }
        self.leave_ended();
    }

    fn leave_ended(&mut self) {
        if self.session.as_ref().is_some_and(|connected| connected.session.is_ended()) {
            self.session = None;
            self.shared.counters.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Performs `first`, and those that wait and can be performed with it.
    fn serve_first(&mut self, first: Box<dyn Request>, dice: &mut Dice) {
        let more = self.shared.options.commits_together() - 1;
        let mut requests = if more > 0 && first.is_joint() {
            self.shared.queue.take_joint(more)
        } else {
            Vec::new()
        };
        if requests.is_empty() {
            return self.serve(first, dice);
        }
        requests.insert(0, first);
        for alone in self.serve_together(requests, dice) {
            self.serve(alone, dice);
        }
    }

    /// Performs operations in one transaction. Returns those that have to be performed alone, of which nothing is there.
    fn serve_together(
        &mut self,
        requests: Vec<Box<dyn Request>>,
        dice: &mut Dice,
    ) -> Vec<Box<dyn Request>> {
        let shared = self.shared;
        let joint = match self.session() {
            Ok(session) => together::attempt(session, shared, requests),
            Err(_) => return requests,
        };
        let Joint { mut alone, refused, members, ended } = joint;
        let fate = match ended {
            Ended::Committed => Ok(Fate::Committed),
            Ended::Not => Ok(Fate::RolledBack),
            Ended::Open(mark) => self.resolve(&mark, dice),
        };
        let counters = &shared.counters;
        counters.requests.fetch_add((refused.len() + members.len()) as u64, Ordering::Relaxed);
        for request in refused {
            request.answer();
        }
        match fate {
            Ok(Fate::Committed) => {
                let count = members.len() as u64;
                counters.commits.fetch_add(count, Ordering::Relaxed);
                counters.shared.fetch_add(count, Ordering::Relaxed);
                shared.written.notify_one();
                for request in members {
                    request.answer();
                }
            }
            Ok(Fate::RolledBack) => alone.extend(members.into_iter().map(|mut request| {
                request.forget();
                request
            })),
            Ok(Fate::UnderWay | Fate::Unknown) => {
                unknown(shared, members, "the server does not tell");
            }
            Err(error) => unknown(shared, members, &error.to_string()),
        }
        alone
    }

    /// Performs one operation and answers it.
    fn serve(&mut self, mut request: Box<dyn Request>, dice: &mut Dice) {
        let (mut again, mut lost) = (0, 0);
        let shared = self.shared;
        let counters = &shared.counters;
        counters.requests.fetch_add(1, Ordering::Relaxed);
        loop {
            let outcome = match self.session() {
                Ok(session) => attempt(session, shared, &mut *request),
                // The connection went, and there is no other at once: whoever waits decides.
                Err(error) => return request.refuse(StoreError::Unavailable(error.to_string())),
            };
            let outcome = match outcome {
                Outcome::Open(mark) => match self.resolve(&mark, dice) {
                    Ok(Fate::Committed) => Outcome::Done,
                    Ok(Fate::RolledBack) => {
                        let cut = "the commit was cut off".to_owned();
                        Outcome::Again(Some(StoreError::Unavailable(cut)))
                    }
                    Ok(Fate::UnderWay | Fate::Unknown) => {
                        Outcome::Not(StoreError::Unknown("the server does not tell".to_owned()))
                    }
                    Err(error) => Outcome::Not(StoreError::Unknown(error.to_string())),
                },
                known
                @ (Outcome::Done | Outcome::Not(_) | Outcome::Again(_) | Outcome::Lost(_)) => known,
            };
            match outcome {
                Outcome::Done => {
                    if request.access() == Access::Write {
                        counters.commits.fetch_add(1, Ordering::Relaxed);
                        shared.written.notify_one();
                    }
                    return request.answer();
                }
                Outcome::Again(_) if again < AGAIN_MAX => {
                    again += 1;
                    counters.retries.fetch_add(1, Ordering::Relaxed);
                    let pause = dice.pause(&CONFLICT, again);
                    self.pause(pause);
                }
                Outcome::Lost(_) if lost < LOST_MAX => {
                    lost += 1;
                    request.forget();
                }
                Outcome::Again(None) => return request.answer(),
                Outcome::Not(error) | Outcome::Again(Some(error)) | Outcome::Lost(error) => {
                    counters.failed_commits.fetch_add(1, Ordering::Relaxed);
                    return request.refuse(error);
                }
                Outcome::Open(_) => return,
            }
        }
    }

    fn pause(&self, pause: Duration) {
        self.runtime.block_on(async { tokio::time::sleep(pause).await });
    }

    /// How a transaction ended whose end was not heard.
    fn resolve(&mut self, mark: &Mark, dice: &mut Dice) -> Result<Fate, StoreError> {
        let (mut fate, mut failed) = (Fate::UnderWay, None);
        for asked in 0..ASKED_MAX {
            if asked > 0 {
                let pause = dice.pause(&FATE, asked);
                self.pause(pause);
            }
            let asked = self.session().and_then(|session| {
                let fate = session.fate(mark)?;
                if fate == Fate::UnderWay {
                    session.cut_off(mark)?;
                }
                Ok(fate)
            });
            match asked {
                Ok(Fate::UnderWay) => (fate, failed) = (Fate::UnderWay, None),
                Ok(known) => return Ok(known),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(fate), Err)
    }
}

/// Answers those of whose commit nobody knows whether it is there.
fn unknown(shared: &Shared, members: Vec<Box<dyn Request>>, why: &str) {
    for request in members {
        shared.counters.failed_commits.fetch_add(1, Ordering::Relaxed);
        request.refuse(StoreError::Unknown(why.to_owned()));
    }
}

/// One try, in one transaction.
fn attempt(session: &Session<'_>, shared: &Shared, request: &mut dyn Request) -> Outcome {
    let failed = |error| match session.trouble() {
        Some(Trouble::Lost) => Outcome::Lost(error),
        Some(Trouble::Again) => Outcome::Again(Some(error)),
        Some(Trouble::Told) | None => Outcome::Not(error),
    };
    session.begin(request.access());
    let tx = Tx::on_server(session, shared.meta.openings);
    let wanted = request.perform(&tx);
    match session.trouble() {
        Some(Trouble::Lost) => {
            let lost = "the connection to the server was lost".to_owned();
            return Outcome::Lost(StoreError::Unavailable(lost));
        }
        Some(Trouble::Again) => {
            session.roll_back();
            let interfered = || StoreError::Unavailable("others were in the way".to_owned());
            // With the ends of streams locked, a key that is taken stays taken, and its own error says so.
            let own = !wanted && shared.options.row_locks;
            return Outcome::Again((!own).then(interfered));
        }
        // Its own error says it; should it have none, nothing may be committed either.
        Some(Trouble::Told) => {
            session.roll_back();
            if wanted {
                let failed = || StoreError::Unavailable("a statement of it failed".to_owned());
                return Outcome::Not(session.failure().unwrap_or_else(failed));
            }
            return Outcome::Done;
        }
        None => (),
    }
    // What it would answer rests on rows that were no longer so.
    let interfered = || StoreError::Unavailable("others were always faster".to_owned());
    if wanted && tx.is_overtaken() {
        // It made light of that; its transaction cannot be committed.
        session.roll_back();
        return Outcome::Again(Some(interfered()));
    }
    if !wanted {
        let overtaken = tx.is_overtaken() || session.has_moved();
        session.roll_back();
        return if overtaken { Outcome::Again(Some(interfered())) } else { Outcome::Done };
    }
    let Err(error) = session.commit() else { return Outcome::Done };
    if !session.has_written() {
        return Outcome::Done;
    }
    match (session.trouble(), session.traced()) {
        (Some(Trouble::Lost), Some(mark)) => Outcome::Open(mark),
        (Some(Trouble::Lost), None) => Outcome::Lost(error),
        (Some(Trouble::Again | Trouble::Told) | None, _) => {
            session.roll_back();
            // What a change found is no answer either: it rests on rows that were no longer so.
            if session.is_overtaken() { Outcome::Again(Some(interfered())) } else { failed(error) }
        }
    }
}

/// Numbers for pauses, so that those who met do not meet again.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        Self(RandomState::new().build_hasher().finish() | 1)
    }

    /// The pause after attempt number `used`.
    fn pause(&mut self, backoff: &Backoff, used: u32) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        backoff.pause(used, f64::from(u32::try_from(self.0 % 1000).unwrap_or(0)) / 1000.0)
    }
}
