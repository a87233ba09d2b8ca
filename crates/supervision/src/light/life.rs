//! The task of a light server: init, messages, cleanup, and again from init while its supervisor lets it.

#![expect(clippy::manual_async_fn, reason = "an async fn keeps each of its arguments twice")]

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use perennial_core::{ExitReason, intensity::RestartIntensity};
use tokio::time::Sleep;

use super::{Cell, Flow, LightCx, LightServer, cell::Parcel, desk::Todo, home::Fate};
use crate::{
    Address, Ignore,
    child::exit_of,
    gen_server::MESSAGE,
    panics::{call_quietly, drop_each, guard, guard_blocking},
    process::{CURRENT, Here},
};

/// What became of an incarnation.
pub(crate) enum Came {
    /// It ran, and ended for this reason.
    Ran(ExitReason),
    /// Its init answered that it need not run.
    Ignored,
    /// Its init failed.
    Failed(ExitReason),
}

/// What is remembered of a child from one restart to the next, where anything is.
pub(super) struct History {
    /// Where it has a restart budget of its own.
    pub(super) budget: Option<RestartIntensity>,
    /// Restarts in a row, for the delay before the next.
    pub(super) in_a_row: u32,
}

/// Lives all incarnations of the child at `cell`.
///
/// Functions that return blocks, here and below, instead of `async fn`s: this is most of what a light server
/// weighs.
pub(super) fn live<S: LightServer>(
    cell: Arc<Cell<S::Message>>,
    arguments: S::Arguments,
    mut history: Option<Box<History>>,
) -> impl Future<Output = ()> + Send {
    let mut owed = Owed { cell, is_paid: false };
    async move {
        let mut number = 1;
        loop {
            let fate = {
                let came = incarnation::<S>(&owed.cell, number, &arguments).await;
                owed.cell.home().settle(&owed.cell, number, came, &mut history)
            };
            match fate {
                Fate::Over => break,
                Fate::Again(None) => (),
                Fate::Again(Some(delay)) => pause(&owed.cell, delay).await,
            }
            if !owed.cell.begin_again() {
                break;
            }
            number += 1;
            // One that fails at once and is restarted at once lets others go on.
            tokio::task::coop::consume_budget().await;
        }
        // Nothing of it is left before that is told.
        call_quietly("the drop of arguments", move || drop(arguments));
        owed.is_paid = true;
        owed.cell.home().remove(&owed.cell);
    }
}

/// The end of a task that its executor dropped is announced all the same (trap 29).
struct Owed<M: Send + 'static> {
    cell: Arc<Cell<M>>,
    is_paid: bool,
}

impl<M: Send + 'static> Drop for Owed<M> {
    fn drop(&mut self) {
        if !self.is_paid {
            // The host's trace subscriber may be gone as well, and this must not panic.
            let _ = guard_blocking(|| self.cell.home().abandoned(&self.cell));
        }
    }
}

fn incarnation<'a, S: LightServer>(
    cell: &'a Arc<Cell<S::Message>>,
    number: u32,
    arguments: &'a S::Arguments,
) -> impl Future<Output = Came> + Send + 'a {
    let cx = LightCx::<S> { cell: cell.clone(), incarnation: number, address: None };
    async move {
        let state = match begin(&cx, arguments).await {
            Ok(state) => state,
            Err(came) => return came,
        };
        cx.cell.home().begun(&cx.cell, cx.incarnation);
        Came::Ran(serve(state, &cx).await)
    }
}

/// One incarnation that is supervised as any child: its init is done.
pub(crate) struct Served<S: LightServer> {
    cx: LightCx<S>,
    state: S,
}

impl<S: LightServer> Served<S> {
    /// Its init. It runs in the task of whoever starts it, which is not its own.
    pub(crate) async fn begin(
        cell: Arc<Cell<S::Message>>,
        address: Address<S::Message>,
        arguments: &S::Arguments,
    ) -> Result<Self, Came> {
        let cx = LightCx::<S> { cell, incarnation: 1, address: Some(Box::new(address)) };
        let state = begin(&cx, arguments).await?;
        cx.cell.started();
        Ok(Self { cx, state })
    }

    /// All of it that is left; why it ended.
    pub(crate) async fn run(self) -> ExitReason {
        let Self { cx, state } = self;
        let mut closes = Closes { cell: &cx.cell, reason: ExitReason::Killed };
        closes.reason = serve(state, &cx).await;
        closes.reason.clone()
    }
}

/// Nothing waits any more in the mailbox of one that ended, or whose executor did.
struct Closes<'a, M: Send + 'static> {
    cell: &'a Cell<M>,
    reason: ExitReason,
}

impl<M: Send + 'static> Drop for Closes<'_, M> {
    fn drop(&mut self) {
        let messages = self.cell.close(&self.reason);
        drop_each(messages);
    }
}

/// From the init to the end.
fn serve<'a, S: LightServer>(
    mut state: S,
    cx: &'a LightCx<S>,
) -> impl Future<Output = ExitReason> + Send + 'a {
    async move {
        let failed = {
            let work = pin!(Some(turns(&mut state, cx)));
            guarded(cx, false, work).await.unwrap_or_else(Box::new)
        };
        // Nobody cleans up after a kill.
        let ended = if *failed == ExitReason::Killed && cx.cell.is_killed(cx.incarnation) {
            failed
        } else {
            cx.cell.ending();
            let cleaned = {
                let work = pin!(Some(cleanup(&mut state, &failed, cx)));
                guarded(cx, false, work).await.and_then(|cleaned| cleaned)
            };
            cleaned.map_or_else(Box::new, |()| failed)
        };
        // Before anybody learns of the end.
        let here = Here::Light(cx.cell.clone());
        let dropped = guard_blocking(move || CURRENT.sync_scope(here, move || drop(state)));
        match (*ended, dropped) {
            (reason, Ok(())) | (reason @ ExitReason::Killed, Err(_)) => reason,
            (_, Err(panic)) => panic,
        }
    }
}

/// The init of an incarnation.
fn begin<'a, S: LightServer>(
    cx: &'a LightCx<S>,
    arguments: &'a S::Arguments,
) -> impl Future<Output = Result<S, Came>> + Send + 'a {
    async move {
        let work = pin!(Some(async {
            // What an error says of itself is the user's code as well.
            S::init(arguments, cx)
                .await
                .map_err(|error| (!error.is::<Ignore>()).then(|| exit_of(Err(error))))
        }));
        match guarded(cx, true, work).await {
            Ok(Ok(state)) => Ok(state),
            Ok(Err(None)) => Err(Came::Ignored),
            Ok(Err(Some(reason))) | Err(reason) => Err(Came::Failed(reason)),
        }
    }
}

/// Handles messages until one ends it, or it is asked to end.
fn turns<'a, S: LightServer>(
    state: &'a mut S,
    cx: &'a LightCx<S>,
) -> impl Future<Output = Box<ExitReason>> + Send + 'a {
    async move {
        loop {
            // Held until it was handled: of what is open then, its caller is told.
            let Parcel { message, held: _held } = match next(&cx.cell, cx.incarnation).await {
                Todo::Handle(parcel) => parcel,
                Todo::Stop(reason) => return Box::new(reason),
                Todo::Nothing => continue,
            };
            let kind = guard_blocking(|| S::message_kind(&message));
            cx.cell.handles(kind.unwrap_or(MESSAGE));
            // Made apart: in a block that makes it, the message would lie twice.
            let handling = match guard_blocking(|| state.handle(message, cx)) {
                Ok(handling) => handling,
                Err(panic) => return Box::new(panic),
            };
            match guard(handling).await {
                Ok(Ok(Flow::Continue)) => (),
                Ok(Ok(Flow::Stop(reason))) | Err(reason) => return Box::new(reason),
                Ok(Err(error)) => return Box::new(exit_of(Err(error))),
            }
        }
    }
}

fn cleanup<'a, S: LightServer>(
    state: &'a mut S,
    reason: &'a ExitReason,
    cx: &'a LightCx<S>,
) -> impl Future<Output = Result<(), ExitReason>> + Send + 'a {
    async move { state.terminate(reason, cx).await.map_err(|error| exit_of(Err(error))) }
}

/// The next thing to do; nothing for one that is killed, which has been woken to learn of it. One that always
/// has something to do lets others go on now and then.
async fn next<M: Send + 'static>(cell: &Cell<M>, incarnation: u32) -> Todo<Parcel<M>> {
    tokio::task::coop::consume_budget().await;
    poll_fn(|_| {
        if cell.is_killed(incarnation) {
            return Poll::Pending;
        }
        match cell.next() {
            Todo::Nothing => Poll::Pending,
            todo @ (Todo::Handle(_) | Todo::Stop(_)) => Poll::Ready(todo),
        }
    })
    .await
}

/// Polls the user's code as that of `cx`: a panic is a reason, a kill ends it here, and so does the end of
/// the time for an init. What is left of it is dropped before this returns.
fn guarded<'a, S: LightServer, F: Future + 'a>(
    cx: &'a LightCx<S>,
    is_init: bool,
    mut work: Pin<&'a mut Option<F>>,
) -> impl Future<Output = Result<F::Output, ExitReason>> + 'a {
    // Made only for an init that is not done at once: most are.
    let mut late: Option<Pin<Box<Sleep>>> = None;
    poll_fn(move |task| {
        let LightCx { cell, incarnation, .. } = cx;
        // The init of one that is supervised elsewhere runs in another task than all that follows, and its
        // time is counted there.
        let is_elsewhere = is_init && cell.home().is_alone();
        if !is_elsewhere {
            cell.attend(task.waker());
        }
        CURRENT.sync_scope(Here::Light(cell.clone()), || {
            let output = if cell.is_killed(*incarnation) {
                Err(ExitReason::Killed)
            } else {
                match guard_blocking(|| polled(cx, work.as_mut(), task)) {
                    Err(panic) => Err(panic),
                    Ok(Poll::Ready(output)) => Ok(output),
                    Ok(Poll::Pending) if is_init && !is_elsewhere => {
                        let within = cell.home().spec().start_within;
                        let late = late.get_or_insert_with(|| Box::pin(tokio::time::sleep(within)));
                        match late.as_mut().poll(task) {
                            Poll::Pending => return Poll::Pending,
                            Poll::Ready(()) => Err(ExitReason::Timeout),
                        }
                    }
                    Ok(Poll::Pending) => return Poll::Pending,
                }
            };
            match guard_blocking(|| work.set(None)) {
                Err(panic) if !matches!(output, Err(ExitReason::Killed)) => {
                    // It may be a state.
                    call_quietly("the drop of what was made", move || drop(output));
                    Poll::Ready(Err(panic))
                }
                Ok(()) | Err(_) => Poll::Ready(output),
            }
        })
    })
}

fn polled<S: LightServer, F: Future>(
    cx: &LightCx<S>,
    work: Pin<&mut Option<F>>,
    task: &mut Context<'_>,
) -> Poll<F::Output> {
    #[cfg(feature = "testing")]
    if cx.cell.is_crashed(cx.incarnation) {
        panic!("injected crash");
    }
    #[cfg(not(feature = "testing"))]
    let _ = cx;
    match work.as_pin_mut() {
        Some(work) => work.poll(task),
        // Not reached: nobody polls what has returned.
        None => Poll::Pending,
    }
}

/// Waits so long, unless nothing is to follow.
async fn pause<M: Send + 'static>(cell: &Cell<M>, delay: Duration) {
    let mut due = Box::pin(tokio::time::sleep(delay));
    poll_fn(|cx| {
        cell.attend(cx.waker());
        if cell.desk().is_doomed() { Poll::Ready(()) } else { due.as_mut().poll(cx) }
    })
    .await;
}
