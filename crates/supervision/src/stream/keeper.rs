//! The node of a stream in the tree: it counts the time, ends what is late, and ends last.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use perennial_core::{ExitReason, Restart, tree::NodeKind};
use serde_json::json;

use super::{
    board::Closing,
    options::StreamOptions,
    shared::{Home, Order, Shared, Watch},
};
use crate::{
    ChildSpec, ProcessRef,
    child::{Outcome, StartCx},
    life::{Control, Life},
    process::{CURRENT, Here},
    task_supervisor::Place,
};

/// How the node of a stream is supervised.
pub(super) fn child_spec<I, T>(
    shared: &Arc<Shared<I, T>>,
    options: &StreamOptions,
    place: Place,
) -> ChildSpec
where
    I: Send + 'static,
    T: Send + 'static,
{
    let (own, seen) = (shared.clone(), Arc::downgrade(shared));
    let place = Mutex::new(Some(place));
    let spec = ChildSpec::worker(options.id.clone(), NodeKind::Task, move |cx| {
        // Temporary children are started once.
        let place = place.lock().unwrap_or_else(PoisonError::into_inner).take();
        let life = start(&cx, own.clone(), place);
        Box::pin(std::future::ready(Ok(Outcome::Up(life))))
    });
    let spec = spec.restart(Restart::Temporary).shutdown(options.shutdown);
    spec.detail(move || {
        let Some(shared) = seen.upgrade() else { return json!({ "over": true }) };
        let board = shared.board();
        let (tally, alive) = (board.tally, board.alive());
        drop(board);
        json!({
            "running": alive,
            "started": tally.started,
            "done": tally.done,
            "failed": tally.failed,
            "unkillable": tally.unkillable,
        })
    })
}

fn start<I, T>(cx: &StartCx, shared: Arc<Shared<I, T>>, place: Option<Place>) -> Life
where
    I: Send + 'static,
    T: Send + 'static,
{
    shared.settle_in(Home {
        context: cx.context.clone(),
        process: cx.process.clone(),
        node: Arc::downgrade(&cx.node),
    });
    let control = Arc::new(StreamControl {
        shared: shared.clone(),
        order: OnceLock::new(),
        kill: OnceLock::new(),
    });
    let life = Life { process: cx.process.clone(), control: control.clone() };
    let ends = Ends(shared);
    let keeper = async move {
        let reason = keep(&ends.0, &control).await;
        drop((ends, place));
        reason
    };
    cx.drive(&life, CURRENT.scope(Here::Process(cx.process.clone()), keeper));
    life
}

async fn keep<I, T>(shared: &Arc<Shared<I, T>>, control: &StreamControl<I, T>) -> ExitReason
where
    I: Send + 'static,
    T: Send + 'static,
{
    // A linked consumer that ends takes the stream with it, wherever that is now (STR-015).
    let consumer = shared.consumer().filter(|_| shared.rules.linked);
    let _bond = consumer.and_then(|consumer| {
        let (from, to) = (consumer.clone(), shared.home()?.process.clone());
        consumer.on_end(move |reason| to.sever(&from, reason))
    });
    loop {
        match shared.watch(control.order()) {
            Watch::Over(reason) => return reason,
            Watch::For(Some(time)) => {
                tokio::select! {
                    biased;
                    () = shared.attention.notified() => (),
                    () = tokio::time::sleep(time) => (),
                }
            }
            Watch::For(None) => shared.attention.notified().await,
        }
    }
}

/// When the keeper goes, by whatever way, nothing of the stream goes on.
struct Ends<I, T>(Arc<Shared<I, T>>);

impl<I, T> Drop for Ends<I, T> {
    fn drop(&mut self) {
        self.0.close(Closing::Stopped(ExitReason::Killed), &ExitReason::Killed);
    }
}

/// How a stream is reached from outside.
struct StreamControl<I, T> {
    shared: Arc<Shared<I, T>>,
    order: OnceLock<Order>,
    kill: OnceLock<Order>,
}

impl<I, T> StreamControl<I, T> {
    fn order(&self) -> Option<&Order> {
        self.kill.get().or(self.order.get())
    }

    /// The first counts.
    fn give(&self, order: Order) {
        self.order.get_or_init(|| order);
        self.shared.attention.notify_one();
    }
}

impl<I: Send + 'static, T: Send + 'static> Control for StreamControl<I, T> {
    fn stop(&self, reason: &ExitReason) {
        self.give(Order::Stop(reason.clone()));
    }

    fn sever(&self, _: &ProcessRef, reason: &ExitReason) {
        if *reason != ExitReason::Normal {
            self.give(Order::Sever(reason.clone()));
        }
    }

    fn kill(&self) {
        self.kill.get_or_init(|| Order::Kill);
        self.shared.attention.notify_one();
    }

    #[cfg(feature = "testing")]
    fn crash(&self) {
        self.kill();
    }
}
