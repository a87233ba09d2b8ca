//! A provider that answers at once, but for questions with the word `wait`: those wait until the
//! test opens the gate.

use std::time::Duration;

use perennial::tools::{
    CallCx, EventStream, Provider, ProviderEvent,
    llm::{ChatRequest, FinishReason},
    provider::Opening,
};
use tokio::sync::watch;

/// Far more than anything here takes; a test that needs it has failed.
pub(crate) const SOON: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Gate {
    open: watch::Receiver<bool>,
    /// Counts the calls that were made.
    calls: watch::Sender<usize>,
}

/// What the test holds.
#[derive(Clone, Debug)]
pub(crate) struct Keeper {
    open: watch::Sender<bool>,
    calls: watch::Receiver<usize>,
}

impl Gate {
    pub(crate) fn new() -> (Self, Keeper) {
        let (open, opened) = watch::channel(false);
        let (calls, called) = watch::channel(0);
        (Self { open: opened, calls }, Keeper { open, calls: called })
    }
}

impl Keeper {
    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    /// Waits until this many calls were made.
    pub(crate) async fn called(&self, count: usize) {
        let mut calls = self.calls.clone();
        let called = calls.wait_for(|calls| *calls >= count);
        let called = tokio::time::timeout(SOON, called).await;
        called.unwrap_or_else(|_| panic!("not called {count} times")).unwrap();
    }

    pub(crate) fn calls(&self) -> usize {
        *self.calls.borrow()
    }
}

impl Provider for Gate {
    fn name(&self) -> &str {
        "gate"
    }

    fn chat<'a>(&'a self, request: &'a ChatRequest, _: &'a CallCx) -> Opening<'a> {
        let waits = request.messages.iter().any(|message| message.text.contains("wait"));
        let mut open = self.open.clone();
        self.calls.send_modify(|calls| *calls += 1);
        Box::pin(async move {
            if waits {
                // A gate that is gone is open.
                drop(open.wait_for(|open| *open).await);
            }
            let text = ProviderEvent::TextDelta { index: 0, text: "said".to_owned() };
            let end = ProviderEvent::Finished { reason: FinishReason::Stop, cost_nano_usd: None };
            let events: EventStream = Box::pin(futures_util::stream::iter([text, end]));
            Ok(events)
        })
    }
}
