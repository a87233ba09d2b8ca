//! Decisions that wait at the same time, committed in one transaction: the server prepares each statement once for
//! all of them, and flushes its log once.
//!
//! Whatever is out of the ordinary is not dealt with here. An operation that asks or writes anything unforeseen is
//! performed alone, and when the transaction fails, all of them are: each then has an answer of its own.

use super::{
    Shared,
    session::{Foreseen, Mark, Performed, Session},
};
use crate::{backend::Access, request::Request, transaction::Tx};

/// What became of operations that were to be performed together.
pub(super) struct Joint {
    /// They have to be performed alone.
    pub(super) alone: Vec<Box<dyn Request>>,
    /// They refused by themselves, which is their answer.
    pub(super) refused: Vec<Box<dyn Request>>,
    /// They were in the transaction.
    pub(super) members: Vec<Box<dyn Request>>,
    pub(super) ended: Ended,
}

/// How the transaction ended.
pub(super) enum Ended {
    Committed,
    /// Nothing of it is there.
    Not,
    /// The connection is gone, and the answer to the commit with it.
    Open(Mark),
}

/// One try, in one transaction.
pub(super) fn attempt(
    session: &Session<'_>,
    shared: &Shared,
    requests: Vec<Box<dyn Request>>,
) -> Joint {
    let openings = shared.meta.openings;
    let mut joint =
        Joint { alone: Vec::new(), refused: Vec::new(), members: Vec::new(), ended: Ended::Not };
    session.begin(Access::Write);
    let (mut joined, mut foreseen): (Vec<Box<dyn Request>>, Vec<Foreseen>) = Default::default();
    for mut request in requests {
        let asks = session.foresee(|| {
            request.perform(&Tx::on_server(session, openings));
        });
        request.forget();
        match asks.filter(|asks| foreseen.iter().all(|other| other.goes_with(asks))) {
            Some(asks) => {
                joined.push(request);
                foreseen.push(asks);
            }
            None => joint.alone.push(request),
        }
    }
    let told = if joined.len() < 2 { None } else { session.begin_together(foreseen).ok() };
    let Some(told) = told else {
        session.roll_back();
        joint.alone.extend(joined);
        return joint;
    };
    let mut wanted = Vec::new();
    for (mut request, told) in joined.into_iter().zip(told) {
        let Some(told) = told else {
            joint.alone.push(request);
            continue;
        };
        let tx = Tx::on_server(session, openings);
        match session.perform_told(told, || request.perform(&tx)) {
            Performed::Wants(changes) => {
                wanted.push(changes);
                joint.members.push(request);
            }
            Performed::Refused if !tx.is_overtaken() => joint.refused.push(request),
            Performed::Refused | Performed::Strayed => {
                request.forget();
                joint.alone.push(request);
            }
        }
    }
    if joint.members.is_empty() {
        session.roll_back();
        return joint;
    }
    joint.ended = match session.commit_together(wanted) {
        Ok(()) => Ended::Committed,
        Err(error) => {
            tracing::debug!(%error, "decisions are made one by one");
            match session.lost_with() {
                Some(mark) => Ended::Open(mark),
                None => {
                    session.roll_back();
                    Ended::Not
                }
            }
        }
    };
    joint
}
