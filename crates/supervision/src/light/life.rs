//! The task of a light server: init, messages, cleanup, and again from init while its supervisor lets it.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use perennial_core::{ExitReason, intensity::RestartIntensity};
use tokio::time::Sleep;

use super::{Cell, Flow, LightCx, LightServer, desk::Todo, home::Fate};
use crate::{
    Ignore,
    child::exit_of,
    panics::{guard, guard_blocking},
};

/// What became of an incarnation.
pub(super) enum Came {
    /// It ran, and ended for this reason.
    Ran(ExitReason),
    /// Its init answered that it need not run.
    Ignored,
    /// Its init failed.
    Failed(ExitReason),
}

/// What is remembered of a child from one restart to the next.
pub(super) struct History {
    /// Where it has a restart budget of its own.
    pub(super) budget: Option<Box<RestartIntensity>>,
    /// Restarts in a row, for the delay before the next.
    pub(super) in_a_row: u32,
}

/// Lives all incarnations of the child at `cell`.
pub(super) async fn live<S: LightServer>(
    cell: Arc<Cell<S::Message>>,
    arguments: S::Arguments,
    mut history: History,
) {
    let mut owed = Owed(Some(&cell));
    let mut number = 1;
    loop {
        let came = incarnation::<S>(&cell, number, &arguments).await;
        match cell.home().settle(&cell, number, came, &mut history) {
            Fate::Over => break,
            Fate::Again(None) => (),
            Fate::Again(Some(delay)) => pause(&cell, delay).await,
        }
        if !cell.begin_again() {
            break;
        }
        number += 1;
        // One that fails at once and is restarted at once lets others go on.
        tokio::task::coop::consume_budget().await;
    }
    cell.home().remove(&cell);
    owed.0 = None;
}

/// The end of a task that its executor dropped is announced all the same (trap 29).
struct Owed<'a, M: Send + 'static>(Option<&'a Arc<Cell<M>>>);

impl<M: Send + 'static> Drop for Owed<'_, M> {
    fn drop(&mut self) {
        if let Some(cell) = self.0 {
            // The host's trace subscriber may be gone as well, and this must not panic.
            let _ = guard_blocking(|| cell.home().abandoned(cell));
        }
    }
}

async fn incarnation<S: LightServer>(
    cell: &Arc<Cell<S::Message>>,
    number: u32,
    arguments: &S::Arguments,
) -> Came {
    let cx = LightCx { cell: cell.clone(), incarnation: number };
    let begun = {
        let init = pin!(Some(async {
            // What an error says of itself is the user's code as well.
            S::init(arguments, &cx)
                .await
                .map_err(|error| (!error.is::<Ignore>()).then(|| exit_of(Err(error))))
        }));
        guarded(cell, number, Some(cell.home().spec().start_within), init).await
    };
    let mut state = match begun {
        Ok(Ok(state)) => state,
        Ok(Err(None)) => return Came::Ignored,
        Ok(Err(Some(reason))) | Err(reason) => return Came::Failed(reason),
    };
    cell.home().begun(cell, number);
    let ended = {
        let serving = pin!(Some(turns(&mut state, &cx)));
        guarded(cell, number, None, serving).await
    };
    // Before anybody learns of the end.
    let dropped = guard_blocking(move || drop(state));
    Came::Ran(match (ended, dropped) {
        (Ok(reason), Ok(())) | (Err(reason), Ok(())) => reason,
        (Err(ExitReason::Killed), Err(_)) => ExitReason::Killed,
        (Ok(_) | Err(_), Err(panic)) => panic,
    })
}

async fn turns<S: LightServer>(state: &mut S, cx: &LightCx<S>) -> ExitReason {
    let reason = loop {
        let message = match next(&cx.cell).await {
            Todo::Handle(message) => message,
            Todo::Stop(reason) => break reason,
            Todo::Nothing => continue,
        };
        let kind = guard_blocking(|| S::message_kind(&message));
        cx.cell.handles(kind.unwrap_or(crate::gen_server::MESSAGE));
        let failed = match guard(async { state.handle(message, cx).await }).await {
            Ok(Ok(Flow::Continue)) => continue,
            Ok(Ok(Flow::Stop(reason))) => reason,
            Ok(Err(error)) => exit_of(Err(error)),
            Err(panic) => panic,
        };
        cx.cell.ending();
        break failed;
    };
    match guard(async { state.terminate(&reason, cx).await }).await {
        Ok(Ok(())) => reason,
        Ok(Err(error)) => exit_of(Err(error)),
        Err(panic) => panic,
    }
}

/// The next thing to do. One that always has something to do lets others go on now and then.
async fn next<M: Send + 'static>(cell: &Cell<M>) -> Todo<M> {
    tokio::task::coop::consume_budget().await;
    poll_fn(|_| match cell.next() {
        Todo::Nothing => Poll::Pending,
        todo @ (Todo::Handle(_) | Todo::Stop(_)) => Poll::Ready(todo),
    })
    .await
}

/// Polls the user's code: a panic is a reason, a kill ends it here, and so does the end of its time. What is
/// left of it is dropped before this returns.
fn guarded<'a, M, F>(
    cell: &'a Cell<M>,
    number: u32,
    within: Option<Duration>,
    mut work: Pin<&'a mut Option<F>>,
) -> impl Future<Output = Result<F::Output, ExitReason>> + 'a
where
    M: Send + 'static,
    F: Future + 'a,
{
    // Made only for what is not done at once: most inits are.
    let mut late: Option<Pin<Box<Sleep>>> = None;
    poll_fn(move |cx| {
        cell.attend(cx.waker());
        let output = if cell.is_killed(number) {
            Err(ExitReason::Killed)
        } else {
            match guard_blocking(|| polled(cell, number, work.as_mut(), cx)) {
                Err(panic) => Err(panic),
                Ok(Poll::Ready(output)) => Ok(output),
                Ok(Poll::Pending) => {
                    let Some(within) = within else { return Poll::Pending };
                    let late = late.get_or_insert_with(|| Box::pin(tokio::time::sleep(within)));
                    match late.as_mut().poll(cx) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(()) => Err(ExitReason::Timeout),
                    }
                }
            }
        };
        match guard_blocking(|| work.set(None)) {
            Err(panic) if !matches!(output, Err(ExitReason::Killed)) => Poll::Ready(Err(panic)),
            Ok(()) | Err(_) => Poll::Ready(output),
        }
    })
}

fn polled<M: Send + 'static, F: Future>(
    cell: &Cell<M>,
    number: u32,
    work: Pin<&mut Option<F>>,
    cx: &mut std::task::Context<'_>,
) -> Poll<F::Output> {
    #[cfg(feature = "testing")]
    if cell.is_crashed(number) {
        panic!("injected crash");
    }
    #[cfg(not(feature = "testing"))]
    let _ = (cell, number);
    match work.as_pin_mut() {
        Some(work) => work.poll(cx),
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
