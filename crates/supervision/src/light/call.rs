//! Calls to a light server: the common way, without meeting the incarnation first.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::Cell;
use crate::{
    CallError, CastError, ReplyPort,
    address::{Refused, room_of},
    deadline,
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
        let mut incarnation = there(cell).await.ok_or(CallError::NoProc)?;
        let place = match cell.room() {
            None => None,
            Some(_) => {
                let (present, process) = Box::pin(cell.present()).await.ok_or(CallError::NoProc)?;
                incarnation = present;
                room_of(cell.room(), &process).await.map_err(CallError::Exited)?
            }
        };
        let (caller, reply) = oneshot::channel();
        match cell.post(Some(incarnation), request(P::to(caller)), place) {
            // One that has ended meanwhile has an end to be told of.
            Ok(()) | Err(Refused::NoProc | Refused::Stranger) => (),
            Err(Refused::Full | Refused::Dropped) => return Err(CallError::Full),
        }
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

/// The incarnation that is there; waits while nothing is and something is coming.
async fn there<M: Send + 'static>(cell: &Cell<M>) -> Option<u32> {
    let there = cell.desk().there();
    match there {
        Some(there) => there,
        None => Box::pin(cell.until(|desk| desk.there())).await,
    }
}

/// See [`Address::cast`](crate::Address::cast).
pub(crate) fn cast<M: Send + 'static>(cell: &Cell<M>, message: M) -> Result<(), CastError> {
    match cell.post(None, message, None) {
        Ok(()) | Err(Refused::Dropped) => Ok(()),
        Err(Refused::Full) => Err(CastError::Full),
        Err(Refused::NoProc | Refused::Stranger) => Err(CastError::NoProc),
    }
}
