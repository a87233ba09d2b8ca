//! The life of one server: callbacks one after the other, cleanup, report.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::OptionFuture};
use perennial_core::{ExitReason, tree::NodeKind};

use super::{
    CrashReport, DebugStatus, Exit, GenServer, Inbox, Init, Letter, Next, ServerCx, Standing,
    WatchRef,
    debugger::Inspection,
    report::{ancestors_of, description_of, kind_of, status_of},
};
use crate::{
    LifecycleEvent, ProcessStatus,
    actor::ActorError,
    child::{StartCx, exit_of},
    panics::{call_quietly, guard, guard_blocking},
};

/// One life after its init.
pub(crate) struct Serving<S: GenServer> {
    state: S,
    first: Next<S::Message>,
    running: Running<S>,
}

/// The state while it serves.
struct Kept<S>(Option<S>);

impl<S> Drop for Kept<S> {
    /// Of one that was killed in a callback. Where dropping that panics already, a second panic would
    /// abort the program.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let state = self.0.take();
            call_quietly("the drop of a state", move || drop(state));
        }
    }
}

struct Running<S: GenServer> {
    cx: ServerCx<S>,
    inbox: Inbox<S>,
    start: StartCx,
    /// Why it was asked to stop.
    asked: Box<dyn Fn() -> ExitReason + Send + Sync>,
    standing: Arc<Standing>,
}

/// How a life ends.
enum End {
    Terminate(ExitReason),
    /// Without cleanup.
    Cut(ExitReason),
}

/// One callback of the user's server: a panic or an error is its typed reason.
async fn callback<T>(call: impl Future<Output = Result<T, ActorError>>) -> Result<T, End> {
    // What an error says of itself is the user's code as well.
    let typed = call.map(|answer| answer.map_err(|error| exit_of(Err(error))));
    guard(typed).await.flatten().map_err(End::Terminate)
}

impl<S: GenServer> Serving<S> {
    pub(crate) fn new(
        init: Init<S>,
        cx: ServerCx<S>,
        inbox: Inbox<S>,
        start: StartCx,
        asked: impl Fn() -> ExitReason + Send + Sync + 'static,
    ) -> Self {
        let Init { state, next: first } = init;
        let standing = cx.watches.standing.clone();
        standing.set(ProcessStatus::Running);
        let running = Running { cx, inbox, start, asked: Box::new(asked), standing };
        Self { state, first, running }
    }

    /// Serves until the end and says why it came. All that it held is dropped then, the mailbox
    /// last: what cleans up may still look at who waits.
    pub(crate) async fn serve(self) -> ExitReason {
        let Self { state, first, mut running } = self;
        let mut kept = Kept(None);
        let state = kept.0.insert(state);
        let (reason, cleanup) = match running.serve(state, first).await {
            End::Terminate(reason) => (reason, true),
            End::Cut(reason) => (reason, false),
        };
        running.standing.set(ProcessStatus::Stopping);
        let depth = running.inbox.depth();
        let mut status = reason.is_abnormal().then(|| status_of(state));
        let mut ended = reason;
        if cleanup {
            running.inbox.load().begin("terminate");
            let cx = &mut running.cx;
            let cleaned = callback(async { state.terminate(&ended, cx).await }).await;
            if let Err(End::Terminate(failure) | End::Cut(failure)) = cleaned {
                status.get_or_insert_with(|| status_of(state));
                ended = failure;
            }
        }
        // Dropping the state is the user's code as well.
        if let Err(panic) = guard_blocking(move || drop(kept)) {
            ended = panic;
        }
        if cleanup && ended.is_abnormal() {
            running.report(&ended, status.unwrap_or_default(), depth);
        }
        ended
    }
}

impl<S: GenServer> Running<S> {
    async fn serve(&mut self, state: &mut S, first: Next<S::Message>) -> End {
        let mut next = first;
        loop {
            let answer = match next {
                Next::Continue => self.turn(state, None).await,
                Next::Timeout(inactivity) => self.turn(state, Some(inactivity)).await,
                Next::Continuation(message) => self.handle(state, message).await,
                Next::Stop(reason) => return End::Terminate(reason),
            };
            match answer {
                Ok(answer) => next = answer,
                Err(end) => return end,
            }
        }
    }

    /// Waits for what concerns the user's code, and lets it handle that.
    async fn turn(
        &mut self,
        state: &mut S,
        inactivity: Option<Duration>,
    ) -> Result<Next<S::Message>, End> {
        let mut idle = pin!(OptionFuture::from(inactivity.map(tokio::time::sleep)));
        loop {
            // A mailbox that is never empty must not keep its worker thread from everybody else.
            tokio::task::coop::consume_budget().await;
            let suspended = self.standing.is_suspended();
            let letter = tokio::select! {
                biased;
                // Behind what the dead had sent, which waits already.
                Some(watched) = self.cx.watches.next() => {
                    self.inbox.put(Letter::Exit(watched));
                    continue;
                }
                timer = self.cx.timers.ring() => {
                    self.inbox.put(Letter::Timer(timer));
                    continue;
                }
                letter = self.inbox.next(suspended) => letter,
                _ = &mut idle, if inactivity.is_some() && !suspended => {
                    self.cx.events.add("timeout");
                    self.inbox.load().begin("timeout");
                    let cx = &mut self.cx;
                    let answer = callback(async { state.handle_timeout(cx).await }).await;
                    self.inbox.load().end();
                    return answer;
                }
            };
            match letter {
                Letter::Message(message) => return self.handle(state, message).await,
                Letter::Timer(timer) => {
                    // Unless it was unset while it waited.
                    if let Some(message) = self.cx.timers.take(timer) {
                        return self.handle(state, message).await;
                    }
                }
                Letter::Exit(watched) => {
                    if let Some((exit, linked)) = self.cx.watches.settle(watched) {
                        return self.exit(state, exit, linked).await;
                    }
                }
                Letter::Severed(process, reason) => {
                    let watch = WatchRef::of_others();
                    return self.exit(state, Exit { watch, process, reason }, true).await;
                }
                Letter::Stop => {
                    self.cx.events.add("stop");
                    return Err(End::Terminate((self.asked)()));
                }
                Letter::Inspect(inspection) => {
                    self.inbox.load().begin("inspection");
                    call_quietly("an inspection", || self.inspect(state, inspection));
                    self.inbox.load().end();
                }
                #[cfg(feature = "testing")]
                Letter::Crash => return callback(async { panic!("injected crash") }).await,
            }
        }
    }

    async fn handle(
        &mut self,
        state: &mut S,
        message: S::Message,
    ) -> Result<Next<S::Message>, End> {
        let kind = kind_of::<S>(&message);
        match description_of::<S>(&message) {
            Some(description) => self.cx.events.add(description),
            None => self.cx.events.add("message"),
        }
        self.inbox.load().begin(kind);
        let cx = &mut self.cx;
        let answer = callback(async { state.handle(message, cx).await }).await;
        self.inbox.load().end();
        answer
    }

    async fn exit(
        &mut self,
        state: &mut S,
        exit: Exit,
        linked: bool,
    ) -> Result<Next<S::Message>, End> {
        self.cx.events.add(format!("exit of {}: {}", exit.process, exit.reason));
        if linked && !S::TRAPS_EXITS {
            let harmless = exit.reason == ExitReason::Normal;
            return if harmless { Ok(Next::Continue) } else { Err(End::Cut(exit.reason)) };
        }
        self.inbox.load().begin("exit");
        let cx = &mut self.cx;
        let answer = callback(async { state.handle_exit(exit, cx).await }).await;
        self.inbox.load().end();
        answer
    }

    /// Serves a debugger, who may have given up meanwhile.
    fn inspect(&mut self, state: &mut S, inspection: Inspection<S>) {
        match inspection {
            Inspection::Suspend(reply) => {
                self.standing.set(ProcessStatus::Suspended);
                let _ = reply.send(());
            }
            Inspection::Resume(reply) => {
                self.standing.set(ProcessStatus::Running);
                let _ = reply.send(());
            }
            Inspection::Status(reply) => drop(reply.send(self.status(state))),
            Inspection::State(visit) => visit(state),
        }
    }

    fn status(&self, state: &S) -> DebugStatus {
        let path = self.cx.process().path().to_owned();
        DebugStatus {
            parent: ancestors_of(&path).into_iter().next(),
            path,
            label: self.cx.label.clone(),
            state: status_of(state),
            suspended: self.standing.is_suspended(),
            mailbox_depth: self.inbox.depth(),
            events: self.cx.events.all(),
            linked: self.cx.watches.paths(),
        }
    }

    fn report(&self, reason: &ExitReason, state: String, mailbox_depth: u64) {
        let path = self.cx.process().path().to_owned();
        let report = CrashReport {
            kind: NodeKind::Worker,
            ancestors: ancestors_of(&path),
            callers: Vec::new(),
            path,
            process: self.cx.process().to_string(),
            label: self.cx.label.clone(),
            reason: reason.clone(),
            last_message: self.cx.events.last(),
            state,
            mailbox_depth,
            linked: self.cx.watches.paths(),
        };
        let event = LifecycleEvent::Crashed(Box::new(report));
        self.start.context.tell(&self.start.node, Some(&self.start.process), event);
    }
}
