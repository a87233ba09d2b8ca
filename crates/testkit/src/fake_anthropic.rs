//! A server that speaks Anthropic's Messages API and does what it is told.
//!
//! It listens on a free port of this machine, answers every prompt with `reply to: <prompt>` unless
//! a script says otherwise, and keeps a ledger: who called with which `idempotency-key`, and which
//! replies were sent to their end. It runs on a thread of its own, so that synchronous tests and
//! tests with a paused clock can use it; dropping it ends the thread and breaks open connections.
//!
//! ```
//! use perennial_testkit::{FakeAnthropic, FakeReply};
//!
//! let fake = FakeAnthropic::start();
//! fake.script("translate", [FakeReply::overloaded(), FakeReply::text("übersetzt")]);
//! assert!(fake.base_url().starts_with("http://127.0.0.1:"));
//! assert!(fake.calls().is_empty());
//! ```

mod ledger;
mod reply;
mod script;
mod server;
mod wire;

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::oneshot;

use self::server::Shared;
pub use self::{
    ledger::{Call, KeyRecord},
    reply::FakeReply,
};
use crate::deadline::{Deadline, TooLate};

/// The server. It lives as long as this value.
#[derive(Debug)]
pub struct FakeAnthropic {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FakeAnthropic {
    /// A server without scripts and delays.
    ///
    /// # Panics
    ///
    /// When this machine has no free port or no further thread.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port of this machine");
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Shared::default());
        let (stop, stopped) = oneshot::channel();
        let thread = server::thread(listener, shared.clone(), stopped);
        Self { address, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// Where it is: the base URL of an adapter.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Prompts that contain `words` get `replies`: one per request of the same idempotency key,
    /// the last one repeated. The longest fitting words decide, among equals the newest.
    ///
    /// # Panics
    ///
    /// When there are no replies.
    pub fn script(
        &self,
        words: impl Into<String>,
        replies: impl IntoIterator<Item = FakeReply>,
    ) -> &Self {
        let replies: Vec<FakeReply> = replies.into_iter().collect();
        assert!(!replies.is_empty(), "a script has at least one reply");
        self.shared.scripts().add(words.into(), replies);
        self
    }

    /// Waits this long before every answer.
    pub fn delay(&self, delay: Duration) -> &Self {
        self.shared.scripts().delay = delay;
        self
    }

    /// Holds every answer back until [`FakeAnthropic::release`].
    pub fn hold(&self) -> &Self {
        self.shared.held.send_replace(true);
        self
    }

    /// Lets the answers held back go.
    pub fn release(&self) -> &Self {
        self.shared.held.send_replace(false);
        self
    }

    /// All requests, oldest first.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.ledger().calls.clone()
    }

    /// What was seen per idempotency key, in the order of first requests.
    pub fn keys(&self) -> Vec<KeyRecord> {
        self.shared.ledger().keys()
    }

    /// What was seen of `key`.
    pub fn key(&self, key: &str) -> Option<KeyRecord> {
        self.keys().into_iter().find(|record| record.key == key)
    }

    /// Blocks until `count` requests have come. A caller on the same single-threaded runtime
    /// cannot send while this thread is blocked.
    ///
    /// # Errors
    ///
    /// When they have not come within `within`.
    pub fn wait_for_requests(&self, count: usize, within: Duration) -> Result<(), TooLate> {
        self.wait(&format!("{count} requests"), within, |calls| calls.len() >= count)
    }

    /// Blocks until `count` replies were sent to their end.
    ///
    /// # Errors
    ///
    /// When they were not within `within`.
    pub fn wait_for_replies(&self, count: usize, within: Duration) -> Result<(), TooLate> {
        let replied = |calls: &[Call]| calls.iter().filter(|call| call.completed).count() >= count;
        self.wait(&format!("{count} complete replies"), within, replied)
    }

    /// Blocks until no answer is under way: all were sent, broken, or left by their callers.
    ///
    /// # Errors
    ///
    /// When one is still under way after `within`.
    pub fn wait_for_quiet(&self, within: Duration) -> Result<(), TooLate> {
        self.wait("quiet", within, |calls| calls.iter().all(|call| call.ended))
    }

    fn wait(
        &self,
        what: &str,
        within: Duration,
        done: impl Fn(&[Call]) -> bool,
    ) -> Result<(), TooLate> {
        let deadline = Deadline::after(within);
        let changed = &self.shared.changed;
        if deadline.wait_until(self.shared.ledger(), changed, |ledger| done(&ledger.calls)) {
            return Ok(());
        }
        let calls = self.calls();
        let replied = calls.iter().filter(|call| call.completed).count();
        Err(deadline.missed(what, format!("{} requests, {replied} replies", calls.len())))
    }
}

impl Drop for FakeAnthropic {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The thread may have ended by a panic, which its join reports.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the fake server panicked");
        }
    }
}
