//! A request on its way to the thread that performs it: an operation with its type erased.

use tokio::sync::oneshot;

use crate::{
    StoreError,
    backend::{Access, Turn},
    transaction::Tx,
};

/// One operation and who waits for its outcome.
pub(crate) trait Request: Send {
    /// Performs it inside `tx`; whether it may be committed. Again only when what the last time wrote is not
    /// committed and never will be.
    fn perform(&mut self, tx: &Tx<'_>) -> bool;

    /// Forgets what the last time came to, which says only that a connection was lost.
    #[cfg(feature = "postgres")]
    fn forget(&mut self);

    /// Whether it may write.
    #[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "files have two queues"))]
    fn access(&self) -> Access;

    /// When it is performed.
    fn turn(&self) -> Turn;

    /// Whether it can be performed together with others.
    #[cfg(feature = "postgres")]
    fn is_joint(&self) -> bool {
        self.turn() == Turn::Joint
    }

    /// Answers with the outcome; only after the commit.
    fn answer(self: Box<Self>);

    /// Answers that nothing was committed: with its own error, if that is why, else with `error`.
    fn refuse(self: Box<Self>, error: StoreError);

    /// Whether nobody waits any more.
    fn is_abandoned(&self) -> bool;
}

/// The request of `operation` and the receiver of its outcome.
pub(crate) fn request<T, F>(
    turn: Turn,
    access: Access,
    operation: F,
) -> (Box<dyn Request>, oneshot::Receiver<Result<T, StoreError>>)
where
    T: Send + 'static,
    F: Fn(&Tx<'_>) -> Result<T, StoreError> + Send + 'static,
{
    let (reply, outcome) = oneshot::channel();
    (Box::new(Pending { turn, access, operation, outcome: None, reply }), outcome)
}

struct Pending<T, F> {
    turn: Turn,
    access: Access,
    operation: F,
    outcome: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Request for Pending<T, F>
where
    T: Send,
    F: Fn(&Tx<'_>) -> Result<T, StoreError> + Send,
{
    fn perform(&mut self, tx: &Tx<'_>) -> bool {
        self.outcome.insert((self.operation)(tx)).is_ok()
    }

    #[cfg(feature = "postgres")]
    fn forget(&mut self) {
        self.outcome = None;
    }

    fn access(&self) -> Access {
        self.access
    }

    fn turn(&self) -> Turn {
        self.turn
    }

    fn answer(self: Box<Self>) {
        if let Some(outcome) = self.outcome {
            // A caller that left does not hear the outcome; it can read it.
            self.reply.send(outcome).ok();
        }
    }

    fn refuse(self: Box<Self>, error: StoreError) {
        // Any other outcome rests on writes that were never committed.
        let error = match self.outcome {
            Some(Err(own)) if own.is_transient() => own,
            Some(_) | None => error,
        };
        // As above.
        self.reply.send(Err(error)).ok();
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }
}
