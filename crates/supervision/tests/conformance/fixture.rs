//! Children whose init is the test's own, gates to hold one at, and what was told so far.

use std::sync::Arc;

use futures_util::{FutureExt, future::BoxFuture};
use perennial_core::ExitReason;
use perennial_supervision::{
    ChildSpec, Ignore, Lifecycle, LifecycleEvent, LifecycleStream, RequestError, StartError,
    ractor::{Actor, ActorProcessingErr, ActorRef},
};
use tokio::sync::Semaphore;

/// What an init answers.
pub(crate) type Answer = Result<(), ActorProcessingErr>;

type Init = Arc<dyn Fn() -> BoxFuture<'static, Answer> + Send + Sync>;

struct Child(Init);

impl Actor for Child {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Answer {
        (self.0)().await
    }
}

/// A child whose init is `init`.
pub(crate) fn child<F>(id: &str, init: impl Fn() -> F + Send + Sync + 'static) -> ChildSpec
where
    F: Future<Output = Answer> + Send + 'static,
{
    let init: Init = Arc::new(move || init().boxed());
    ChildSpec::actor(id, move || (Child(init.clone()), ())).0
}

/// A child whose init always answers ignore.
pub(crate) fn ignores(id: &str) -> ChildSpec {
    child(id, || async { Err(Ignore.into()) })
}

/// Holds who passes it until it is opened, once for each opening.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Gate {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    pub(crate) fn open(&self) {
        self.0.add_permits(1);
    }

    pub(crate) async fn pass(&self) {
        self.0.acquire().await.unwrap().forget();
    }

    /// A child whose every init passes it.
    pub(crate) fn child(&self, id: &str) -> ChildSpec {
        let gate = self.clone();
        child(id, move || {
            let gate = gate.clone();
            async move {
                gate.pass().await;
                Ok(())
            }
        })
    }
}

/// Lets everybody else run as far as they get by themselves.
pub(crate) async fn idle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// What was told and not read yet.
pub(crate) fn told(lifecycle: &mut LifecycleStream) -> Vec<Lifecycle> {
    std::iter::from_fn(|| lifecycle.try_next()).collect()
}

/// Of those, the reports of supervisors about a child: their OTP name, the child and the reason.
pub(crate) fn reports(lifecycle: &mut LifecycleStream) -> Vec<(&'static str, String, ExitReason)> {
    let report = |told: Lifecycle| {
        let (name, offender, reason) =
            if let LifecycleEvent::ChildTerminated { reason, offender } = told.event {
                ("child_terminated", offender, reason)
            } else if let LifecycleEvent::StartError { reason, offender } = told.event {
                ("start_error", offender, reason)
            } else if let LifecycleEvent::ShutdownError { reason, offender } = told.event {
                ("shutdown_error", offender, reason)
            } else {
                return None;
            };
        Some((name, offender.id.to_string(), reason))
    };
    told(lifecycle).into_iter().filter_map(report).collect()
}

/// The start error that a refusal is about.
pub(crate) fn start_error(refused: RequestError) -> StartError {
    let RequestError::StartFailed(error) = refused else { panic!("{refused:?}") };
    error
}
