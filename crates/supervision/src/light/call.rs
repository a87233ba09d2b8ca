//! Calls to a light server: the common way, without meeting the incarnation first.

use std::{
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::{Poll, Waker},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{Cell, cell::Parcel};
use crate::{
    CallError, CastError, ReplyPort,
    address::{Expected, Held, Refused, room_of, slot},
    load::Place,
    process::here,
    waits::Waiting,
};

/// See [`Address::call`](crate::Address::call).
pub(crate) async fn call<M: Send + 'static, P: ReplyPort>(
    cell: &Arc<Cell<M>>,
    request: impl FnOnce(P) -> M,
    within: Duration,
) -> Result<P::Reply, CallError> {
    let attempt = pin!(async {
        if here(|here| here.is_light(cell)) {
            return Err(CallError::CallingSelf);
        }
        let (to, place) = match cell.room() {
            None => (None, None),
            Some(_) => {
                let (present, process) = Box::pin(cell.present()).await.ok_or(CallError::NoProc)?;
                let place = room_of(cell.room(), &process).await.map_err(CallError::Exited)?;
                (Some(present), place)
            }
        };
        let caller = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let (port, held, mut answer) = Answer::of(caller);
        let parcel = Parcel { message: request(port), held };
        let incarnation = send(cell, to, parcel, place).await?;
        // Only processes of a tree are shown as waiting, and then for somebody who is known.
        let target = here(|_| true).then(|| cell.process()).flatten();
        let _waiting = target.as_ref().map(Waiting::begin);
        if let Answer::Slot(expected) = &mut answer
            && let Some(answer) = poll_fn(|cx| expected.poll(cx)).await
        {
            return Ok(answer);
        }
        Box::pin(late(cell, incarnation, answer)).await
    });
    cell.home().within(within, attempt).await.unwrap_or(Err(CallError::Timeout))
}

/// Where the answer to a call arrives.
enum Answer<R> {
    Slot(Expected<R>),
    /// Of a port that is not ours.
    Port(oneshot::Receiver<R>),
}

impl<R: Send + 'static> Answer<R> {
    fn of<P: ReplyPort<Reply = R>>(caller: Waker) -> (P, Held, Self) {
        let (port, held, expected) = slot(caller);
        match P::at(port) {
            Ok(port) => (port, held, Self::Slot(expected)),
            Err(_) => {
                let (caller, reply) = oneshot::channel();
                (P::to(caller), Held::nothing(), Self::Port(reply))
            }
        }
    }

    /// Never comes where the port was dropped: that says nothing.
    async fn given(&mut self) -> R {
        match self {
            Self::Slot(expected) => poll_fn(|cx| expected.poll_late(cx)).await,
            Self::Port(port) => match port.await {
                Ok(answer) => answer,
                Err(_) => std::future::pending().await,
            },
        }
    }

    fn now(&mut self) -> Option<R> {
        match self {
            Self::Slot(expected) => expected.now(),
            Self::Port(port) => port.try_recv().ok(),
        }
    }
}

/// Sends to `to`, or to whichever incarnation is there; waits while nothing is and something is coming. Answers
/// to which it was sent: one that has ended meanwhile has an end to be told of.
async fn send<M: Send + 'static>(
    cell: &Cell<M>,
    to: Option<u32>,
    parcel: Parcel<M>,
    place: Option<Place<'_>>,
) -> Result<u32, CallError> {
    let full = |why| match why {
        Refused::Full | Refused::Dropped => true,
        Refused::NoProc | Refused::Stranger => false,
    };
    match (cell.put(to, parcel, place), to) {
        (Ok(incarnation), _) => Ok(incarnation),
        (Err((why, _)), _) if full(why) => Err(CallError::Full),
        (Err(_), Some(to)) => Ok(to),
        (Err((_, parcel)), None) => {
            let there = Box::pin(cell.until(|desk| desk.there())).await.ok_or(CallError::NoProc)?;
            match cell.put(Some(there), parcel, None) {
                Err((why, _)) if full(why) => Err(CallError::Full),
                Ok(_) | Err(_) => Ok(there),
            }
        }
    }
}

/// Waits for the answer of `incarnation`, which has let go of the request: it is given by whoever has the port,
/// or the end comes. A port that was dropped says nothing; the end does.
async fn late<M: Send + 'static, R: Send + 'static>(
    cell: &Cell<M>,
    incarnation: u32,
    mut answer: Answer<R>,
) -> Result<R, CallError> {
    let reason = tokio::select! {
        biased;
        answer = answer.given() => return Ok(answer),
        reason = cell.until(|desk| desk.end_of(incarnation)) => reason,
    };
    // What was replied before the end counts.
    answer.now().ok_or(CallError::Exited(reason))
}

/// See [`Address::cast`](crate::Address::cast).
pub(crate) fn cast<M: Send + 'static>(cell: &Cell<M>, message: M) -> Result<(), CastError> {
    match cell.post(None, message, None) {
        Ok(()) | Err(Refused::Dropped) => Ok(()),
        Err(Refused::Full) => Err(CastError::Full),
        Err(Refused::NoProc | Refused::Stranger) => Err(CastError::NoProc),
    }
}
