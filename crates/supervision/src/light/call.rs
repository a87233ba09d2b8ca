//! Calls to a light server: the common way, without meeting the incarnation first.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::{Cell, desk::Phase};
use crate::{
    CallError, CastError, ReplyPort,
    address::{Refused, room_of},
    deadline,
    process::here,
    waits::Waiting,
};

/// What is at `cell` as seen by a caller.
enum There {
    Up,
    Nothing,
}

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
        match there(cell).await {
            There::Up => (),
            There::Nothing => return Err(CallError::NoProc),
        }
        let place = match cell.room() {
            None => None,
            Some(_) => {
                let life = Box::pin(cell.current()).await.ok_or(CallError::NoProc)?;
                room_of(cell.room(), life.process()).await.map_err(CallError::Exited)?
            }
        };
        let (caller, reply) = oneshot::channel();
        let incarnation = match cell.post(None, request(P::to(caller)), place) {
            Ok(incarnation) => incarnation,
            Err(Refused::Full | Refused::Dropped) => return Err(CallError::Full),
            Err(Refused::NoProc | Refused::Stranger) => return Err(CallError::NoProc),
        };
        // Only processes of a tree are shown as waiting, and then for somebody who is known.
        let target = here(|_| true).then(|| cell.process()).flatten();
        let _waiting = target.as_ref().map(Waiting::begin);
        answer(cell, incarnation, reply).await
    });
    deadline::within(within, attempt).await.unwrap_or(Err(CallError::Timeout))
}

/// Waits for the answer of `incarnation`. A port that was dropped says nothing; the end does.
async fn answer<M: Send + 'static, R>(
    cell: &Cell<M>,
    incarnation: u32,
    mut reply: oneshot::Receiver<R>,
) -> Result<R, CallError> {
    let ended = cell.until(|desk| desk.end_of(incarnation));
    let mut closed = false;
    let reason = {
        tokio::pin!(ended);
        loop {
            tokio::select! {
                biased;
                answer = &mut reply, if !closed => match answer {
                    Ok(answer) => return Ok(answer),
                    Err(_) => closed = true,
                },
                reason = &mut ended => break reason,
            }
        }
    };
    // What was replied before the end counts.
    if closed {
        return Err(CallError::Exited(reason));
    }
    reply.try_recv().map_err(|_| CallError::Exited(reason))
}

/// Waits while nothing is there and something is coming.
async fn there<M: Send + 'static>(cell: &Cell<M>) -> There {
    let phase = cell.desk().phase();
    if phase.is_up() {
        return There::Up;
    }
    let look = cell.until(|desk| match desk.phase() {
        Phase::Starting | Phase::Running | Phase::Ending => Some(There::Up),
        Phase::Between { comes_back: true } if !desk.is_doomed() => None,
        Phase::Between { .. } | Phase::Over => Some(There::Nothing),
    });
    Box::pin(look).await
}

/// See [`Address::cast`](crate::Address::cast).
pub(crate) fn cast<M: Send + 'static>(cell: &Cell<M>, message: M) -> Result<(), CastError> {
    match cell.post(None, message, None) {
        Ok(_) | Err(Refused::Dropped) => Ok(()),
        Err(Refused::Full) => Err(CastError::Full),
        Err(Refused::NoProc | Refused::Stranger) => Err(CastError::NoProc),
    }
}
