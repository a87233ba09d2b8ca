//! Children that are operating-system threads: blocking loops and what is not `Send`.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use perennial_core::{ChildId, ExitReason, tree::NodeKind};
use tokio::sync::oneshot;

use super::{ChildSpec, Outcome, StartCx, StartFault, task::exit_of};
use crate::{
    StopToken,
    life::{Control, Life},
    panics::guard_blocking,
};

impl ChildSpec {
    /// A permanent child that is a thread running `work`, which must return when its token stops.
    ///
    /// A thread cannot be killed: one that does not return is reported unkillable after the kill
    /// deadline, and no longer waited for.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let poll = ChildSpec::thread("poll", |stop| {
    ///     while !stop.wait(Duration::from_secs(1)) { /* look whether there is something to do */ }
    ///     Ok::<(), String>(())
    /// });
    /// # let app = SupervisorSpec::new("app").child(poll);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let report = root.shutdown().await; // ends the wait at once
    /// assert!(report.unkillable.is_empty());
    /// # Ok(()) }
    /// ```
    pub fn thread<E>(
        id: impl Into<ChildId>,
        work: impl Fn(StopToken) -> Result<(), E> + Send + Sync + 'static,
    ) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        let (id, work) = (id.into(), Arc::new(work));
        let name = id.clone();
        Self::worker(id, NodeKind::Thread, move |cx| {
            let work = work.clone();
            let run = move |stop| exit_of(work(stop).map_err(Into::into));
            let started = start(&cx, name.as_str(), run)
                .map(Outcome::Up)
                .map_err(|error| StartFault::Failed(ExitReason::error(&error)));
            Box::pin(std::future::ready(started))
        })
    }
}

fn start(
    cx: &StartCx,
    name: &str,
    run: impl FnOnce(StopToken) -> ExitReason + Send + 'static,
) -> std::io::Result<Life> {
    let control = Arc::new(ThreadControl::default());
    let (end, ended) = oneshot::channel();
    let shared = control.clone();
    let body = move || {
        let exit = guard_blocking(|| {
            let exit = run(shared.stop.clone());
            assert!(!shared.crash.load(Ordering::SeqCst), "injected crash");
            exit
        });
        // The driver may be gone with its executor.
        drop(end.send(exit.unwrap_or_else(|panic| panic)));
    };
    #[expect(clippy::disallowed_methods, reason = "supervised by the driver below")]
    std::thread::Builder::new().name(nameable(name)).spawn(body)?;
    let life = Life { process: cx.process.clone(), control: control.clone() };
    cx.drive(&life, async move {
        let exit = ended.await.unwrap_or(ExitReason::Killed);
        if control.killed.load(Ordering::SeqCst) {
            return ExitReason::Killed;
        }
        match control.stop.reason() {
            Some(asked) if exit == ExitReason::Normal => asked.clone(),
            Some(_) | None => exit,
        }
    });
    Ok(life)
}

/// An id as the operating system can take it: it ends a name at the first NUL, and the standard
/// library refuses one.
fn nameable(id: &str) -> String {
    id.replace('\0', "\u{fffd}")
}

#[derive(Default)]
struct ThreadControl {
    stop: StopToken,
    killed: AtomicBool,
    /// Set by fault injection only: the loop is woken, and then panics instead of returning.
    crash: AtomicBool,
}

impl Control for ThreadControl {
    fn stop(&self, reason: &ExitReason) {
        self.stop.stop_for(reason);
    }

    /// All that can be done to a thread is to ask it.
    fn kill(&self) {
        self.killed.store(true, Ordering::SeqCst);
        self.stop.stop();
    }

    #[cfg(feature = "testing")]
    fn crash(&self) {
        self.crash.store(true, Ordering::SeqCst);
        self.stop.stop();
    }
}
