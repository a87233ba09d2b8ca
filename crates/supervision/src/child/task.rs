//! Children that are futures.

use std::sync::Arc;

use perennial_core::{ChildId, ExitReason, tree::NodeKind};
use tokio_util::sync::CancellationToken;

use super::{ChildSpec, Outcome, StartCx};
use crate::{
    StopToken,
    life::{Control, Life},
    panics::contain,
    process::CURRENT,
};

/// What a task's output says about its end.
pub(crate) fn exit_of(output: Result<(), Box<dyn std::error::Error + Send + Sync>>) -> ExitReason {
    match output {
        Ok(()) => ExitReason::Normal,
        Err(error) => ExitReason::from_boxed(error),
    }
}

impl ChildSpec {
    /// A permanent child that is a future: a loop, or work that ends. A stop drops it at its next
    /// await, as an OTP task that does not trap exits; see
    /// [`cooperative_task`](Self::cooperative_task) for one that winds up.
    pub fn task<F, E>(id: impl Into<ChildId>, build: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        Self::worker(id.into(), NodeKind::Task, move |cx| {
            let work = build();
            let exit = async move { exit_of(work.await.map_err(Into::into)) };
            Box::pin(std::future::ready(Ok(Outcome::Up(start(&cx, None, exit)))))
        })
    }

    /// A permanent child that is a future and watches its stop token: it gets the time of its
    /// shutdown option to wind up, and is dropped after that.
    pub fn cooperative_task<F, E>(
        id: impl Into<ChildId>,
        build: impl Fn(StopToken) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        Self::worker(id.into(), NodeKind::Task, move |cx| {
            let stop = StopToken::new();
            let work = build(stop.clone());
            let exit = async move { exit_of(work.await.map_err(Into::into)) };
            Box::pin(std::future::ready(Ok(Outcome::Up(start(&cx, Some(stop), exit)))))
        })
    }
}

/// Starts `work` for a supervisor of tasks: a stop drops it.
pub(crate) fn start_once(
    cx: &StartCx,
    work: impl Future<Output = ExitReason> + Send + 'static,
) -> Life {
    start(cx, None, work)
}

/// Starts `work`; with a token it winds up by itself, without one a stop drops it.
pub(crate) fn start(
    cx: &StartCx,
    cooperative: Option<StopToken>,
    work: impl Future<Output = ExitReason> + Send + 'static,
) -> Life {
    let control = TaskControl {
        drops_on_stop: cooperative.is_none(),
        stop: cooperative.unwrap_or_default(),
        kill: CancellationToken::new(),
        #[cfg(feature = "testing")]
        crash: CancellationToken::new(),
    };
    let control = Arc::new(control);
    let life = Life { process: cx.process.clone(), control: control.clone() };
    cx.drive(
        &life,
        CURRENT.scope(cx.process.clone(), async move {
            let mut work = contain(work);
            let ended = tokio::select! {
                biased;
                () = control.kill.cancelled() => ExitReason::Killed,
                () = control.stop.stopped(), if control.drops_on_stop => ExitReason::Normal,
                reason = control.crashed() => reason,
                exit = &mut work => exit.unwrap_or_else(|panic| panic),
            };
            // Before the end is announced. A cleanup in a drop that fails becomes the reason, as one
            // of an actor does; a kill stays a kill.
            let ended = match work.discard() {
                Err(panic) if ended != ExitReason::Killed => panic,
                Ok(()) | Err(_) => ended,
            };
            match control.stop.reason() {
                // Somebody else's failure is none of its own: it was dropped because of it.
                Some(asked) if asked.is_abnormal() && control.drops_on_stop => ExitReason::Killed,
                Some(asked) if ended == ExitReason::Normal => asked.clone(),
                Some(_) | None => ended,
            }
        }),
    );
    life
}

struct TaskControl {
    drops_on_stop: bool,
    stop: StopToken,
    kill: CancellationToken,
    #[cfg(feature = "testing")]
    crash: CancellationToken,
}

impl TaskControl {
    #[cfg(feature = "testing")]
    async fn crashed(&self) -> ExitReason {
        self.crash.cancelled().await;
        match contain(async { panic!("injected crash") }).await {
            Ok(()) => ExitReason::Normal,
            Err(reason) => reason,
        }
    }

    #[cfg(not(feature = "testing"))]
    async fn crashed(&self) -> ExitReason {
        std::future::pending().await
    }
}

impl Control for TaskControl {
    fn stop(&self, reason: &ExitReason) {
        self.stop.stop_for(reason);
    }

    fn kill(&self) {
        self.kill.cancel();
    }

    #[cfg(feature = "testing")]
    fn crash(&self) {
        self.crash.cancel();
    }
}
