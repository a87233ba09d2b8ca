//! What an incarnation leaves behind where a message overtakes its end.

use perennial_core::tree::NodeKind;

use super::*;
use crate::{Clock, Options};

/// Holds the last sender of a mailbox in which lies what panics in its drop.
struct Last;

impl Drop for Last {
    fn drop(&mut self) {
        panic!("drop panics");
    }
}

impl Control for Last {
    fn stop(&self, _: &ExitReason) {}

    fn kill(&self) {}

    #[cfg(feature = "testing")]
    fn crash(&self) {}
}

#[tokio::test]
async fn an_end_is_announced_whatever_is_dropped_with_it() {
    let spec =
        ChildSpec::worker("a".into(), NodeKind::Worker, |_| Box::pin(std::future::pending()));
    let context = Context::new(Clock::start(), Options::default());
    let cx = StartCx::new(&context, &Node::root(Arc::new(spec)), true, None);
    let process = cx.process.clone();
    let obituary = cx.exists(&Life { process: process.clone(), control: Arc::new(Last) });
    obituary.announce(&ExitReason::Killed);
    assert_eq!(process.exit_reason(), Some(ExitReason::Killed));
}
