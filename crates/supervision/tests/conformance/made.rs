//! Children whose init and end are what a test says, and what was told of them.

use std::{sync::Arc, time::Duration};

use perennial_core::ExitReason;
use perennial_supervision::{
    ChildSpec, Lifecycle, LifecycleEvent, LifecycleStream,
    ractor::{Actor, ActorProcessingErr, ActorRef},
};

/// What an init or a cleanup answers.
pub(crate) type Answer = Result<(), ActorProcessingErr>;

struct Made {
    end: ExitReason,
    cleanup_takes: Duration,
}

/// Gone once it has been called: what it captured does not outlive the start.
type Init = Box<dyn FnOnce() -> Answer + Send>;

impl Actor for Made {
    type Msg = ();
    type State = ();
    type Arguments = Init;

    async fn pre_start(&self, _: ActorRef<()>, init: Init) -> Answer {
        init()
    }

    async fn post_stop(&self, _: ActorRef<()>, (): &mut ()) -> Answer {
        let wait = std::future::pending::<()>();
        if !self.cleanup_takes.is_zero() {
            drop(tokio::time::timeout(self.cleanup_takes, wait).await);
        }
        if self.end == ExitReason::Shutdown { Ok(()) } else { Err(self.end.clone().into()) }
    }
}

/// A child with this init.
pub(crate) fn child(id: &str, init: impl Fn() -> Answer + Send + Sync + 'static) -> ChildSpec {
    with_end(id, ExitReason::Shutdown, Duration::ZERO, init)
}

/// A child that ends for this reason when it is asked to stop.
pub(crate) fn ends_with(id: &str, reason: ExitReason) -> ChildSpec {
    with_end(id, reason, Duration::ZERO, || Ok(()))
}

/// As [`ends_with`], after so much time.
pub(crate) fn ends_slowly(id: &str, reason: ExitReason, takes: Duration) -> ChildSpec {
    with_end(id, reason, takes, || Ok(()))
}

fn with_end(
    id: &str,
    end: ExitReason,
    cleanup_takes: Duration,
    init: impl Fn() -> Answer + Send + Sync + 'static,
) -> ChildSpec {
    let init = Arc::new(init);
    let build = move || {
        let init = init.clone();
        let made = Made { end: end.clone(), cleanup_takes };
        (made, Box::new(move || init()) as Init)
    };
    ChildSpec::actor(id, build).0
}

/// What is told until something ends at `path`, that included.
pub(crate) async fn until_exit(of: &mut LifecycleStream, path: &str) -> Vec<Lifecycle> {
    let mut told = Vec::new();
    loop {
        let event = of.next().await.unwrap();
        let last = event.path == path && matches!(event.event, LifecycleEvent::Exited { .. });
        told.push(event);
        if last {
            return told;
        }
    }
}

/// Who ended for which reason, in order.
pub(crate) fn exits(told: &[Lifecycle]) -> Vec<(&str, ExitReason)> {
    let exit = |told: &Lifecycle| {
        let LifecycleEvent::Exited { reason, .. } = &told.event else { return None };
        Some(reason.clone())
    };
    told.iter().filter_map(|told| Some((told.path.as_str(), exit(told)?))).collect()
}
