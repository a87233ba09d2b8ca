//! Children that are futures.

use std::sync::{Arc, OnceLock};

use perennial_core::{ChildId, ExitReason, Restart, tree::NodeKind};
use tokio_util::sync::CancellationToken;

use super::{ChildSpec, Outcome, StartCx};
use crate::{
    CrashReport, LifecycleEvent, ProcessRef, StopToken,
    gen_server::ancestors_of,
    life::{Control, Life},
    panics::contain,
    process::{CALLERS, CURRENT, Here},
};

/// What a task's output says about its end.
pub(crate) fn exit_of(output: Result<(), Box<dyn std::error::Error + Send + Sync>>) -> ExitReason {
    match output {
        Ok(()) => ExitReason::Normal,
        Err(error) => ExitReason::from_boxed(error),
    }
}

impl ChildSpec {
    /// A temporary child that is a future: work that ends (TSK-045); a loop is one with
    /// [`Restart::Permanent`]. A stop drops it at its next await, as an OTP task that does not trap exits; see
    /// [`cooperative_task`](Self::cooperative_task) for one that winds up.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// // Work that ends, and stays where it ended; an error would be its reason.
    /// let once = ChildSpec::task("migrate", || async { Ok::<(), String>(()) });
    /// // A loop, which comes back.
    /// let beat = ChildSpec::task("beat", || async {
    ///     let mut ticks = tokio::time::interval(Duration::from_secs(60));
    ///     loop {
    ///         ticks.tick().await;
    /// #         if false { return Ok::<(), String>(()); }
    ///     }
    /// });
    /// let beat = beat.restart(Restart::Permanent);
    /// # let app = SupervisorSpec::new("app").child(once).child(beat);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// assert_eq!(root.supervisor().which_child("beat")?.status, ChildStatus::Running);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn task<F, E>(id: impl Into<ChildId>, build: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        Self::worker(id.into(), NodeKind::Task, move |cx| {
            let work = build();
            let exit = async move { exit_of(work.await.map_err(Into::into)) };
            Box::pin(std::future::ready(Ok(Outcome::Up(start(&cx, None, About::default(), exit)))))
        })
        .restart(Restart::Temporary)
    }

    /// A temporary child that is a future and watches its stop token: it gets the time of its
    /// shutdown option to wind up, and is dropped after that.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # use std::sync::{Arc, atomic::{AtomicBool, Ordering}};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let flushed = Arc::new(AtomicBool::new(false));
    /// # let flag = flushed.clone();
    /// let writer = ChildSpec::cooperative_task("writer", move |stop| {
    /// #   let flag = flag.clone();
    ///     async move {
    ///         stop.stopped().await;
    ///         // Here is the place to flush; after 2 s it is dropped.
    /// #       flag.store(true, Ordering::SeqCst);
    ///         Ok::<(), String>(())
    ///     }
    /// });
    /// let writer = writer.shutdown(Shutdown::Timeout(Duration::from_secs(2)));
    /// # let app = SupervisorSpec::new("app").child(writer);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// root.shutdown().await;
    /// # assert!(flushed.load(Ordering::SeqCst));
    /// # Ok(()) }
    /// ```
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
            Box::pin(std::future::ready(Ok(Outcome::Up(start(
                &cx,
                Some(stop),
                About::default(),
                exit,
            )))))
        })
        .restart(Restart::Temporary)
    }
}

/// Starts `work` for a supervisor of tasks: a stop drops it.
pub(crate) fn start_once(
    cx: &StartCx,
    about: About,
    work: impl Future<Output = ExitReason> + Send + 'static,
) -> Life {
    start(cx, None, about, work)
}

/// What is known of a task beside its place.
#[derive(Clone, Default)]
pub(crate) struct About {
    /// Who asked for it, the nearest first.
    pub(crate) callers: Arc<[ProcessRef]>,
    /// What reports call it.
    pub(crate) label: Option<Arc<str>>,
}

/// Starts `work`; with a token it winds up by itself, without one a stop drops it.
pub(crate) fn start(
    cx: &StartCx,
    cooperative: Option<StopToken>,
    about: About,
    work: impl Future<Output = ExitReason> + Send + 'static,
) -> Life {
    let control = TaskControl {
        drops_on_stop: cooperative.is_none(),
        stop: cooperative.unwrap_or_default(),
        severed: OnceLock::new(),
        kill: CancellationToken::new(),
        #[cfg(feature = "testing")]
        crash: CancellationToken::new(),
    };
    let control = Arc::new(control);
    let life = Life { process: cx.process.clone(), control: control.clone() };
    let own = cx.clone();
    cx.drive(
        &life,
        CURRENT.scope(Here::Process(cx.process.clone()), async move {
            let mut work = contain(CALLERS.scope(about.callers.clone(), work));
            let mut failed = None;
            let ended = tokio::select! {
                biased;
                () = control.kill.cancelled() => ExitReason::Killed,
                () = control.stop.stopped(), if control.drops_on_stop => ExitReason::Normal,
                reason = control.crashed() => reason,
                exit = &mut work => {
                    let exit = exit.unwrap_or_else(|panic| panic);
                    failed = exit.is_abnormal().then(|| exit.clone());
                    exit
                }
            };
            // Before the end is announced. A cleanup in a drop that fails becomes the reason, as one
            // of an actor does; a kill stays a kill.
            let ended = match work.discard() {
                Err(panic) if ended != ExitReason::Killed => {
                    failed = Some(panic.clone());
                    panic
                }
                Ok(()) | Err(_) => ended,
            };
            if let Some(reason) = failed {
                about.report(&own, reason);
            }
            match control.stop.reason() {
                // Of what it is linked to: its own, as of any process (TSK-016).
                Some(asked)
                    if ended != ExitReason::Killed && control.severed.get() == Some(asked) =>
                {
                    asked.clone()
                }
                // Somebody else's failure is none of its own: it was dropped because of it.
                Some(asked) if asked.is_abnormal() && control.drops_on_stop => ExitReason::Killed,
                Some(asked) if ended == ExitReason::Normal => asked.clone(),
                Some(_) | None => ended,
            }
        }),
    );
    life
}

impl About {
    /// The one report of a task that failed by itself (TSK-046).
    fn report(&self, cx: &StartCx, reason: ExitReason) {
        if !cx.context.is_heard() {
            return;
        }
        let path = cx.process.path().to_owned();
        let report = CrashReport {
            kind: cx.node.spec().kind,
            ancestors: ancestors_of(&path),
            callers: self.callers.iter().map(ToString::to_string).collect(),
            path,
            process: cx.process.to_string(),
            label: self.label.as_deref().map(str::to_owned),
            reason,
            last_message: None,
            state: String::new(),
            mailbox_depth: 0,
            linked: Vec::new(),
        };
        let event = LifecycleEvent::Crashed(Box::new(report));
        cx.context.tell(&cx.node, Some(&cx.process), event);
    }
}

struct TaskControl {
    drops_on_stop: bool,
    stop: StopToken,
    /// Why something ended that it is linked to.
    severed: OnceLock<ExitReason>,
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

    fn sever(&self, _: &ProcessRef, reason: &ExitReason) {
        if *reason != ExitReason::Normal {
            self.severed.get_or_init(|| reason.clone());
            self.stop.stop_for(reason);
        }
    }

    fn ending(&self) -> Option<ExitReason> {
        if self.kill.is_cancelled() {
            return Some(ExitReason::Killed);
        }
        self.stop.reason().filter(|_| self.drops_on_stop).cloned()
    }

    fn kill(&self) {
        self.kill.cancel();
    }

    #[cfg(feature = "testing")]
    fn crash(&self) {
        self.crash.cancel();
    }
}
