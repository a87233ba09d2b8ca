//! Callbacks of applications whose types are forgotten, called so that nothing of theirs gets out.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use perennial_core::ExitReason;

use super::{Application, Env, EnvChange, spec::callback_of};
use crate::{ChildSpec, actor::ActorError, panics::contain};

pub(crate) type Called<T> = BoxFuture<'static, Result<T, ActorError>>;

/// An application that does not run, or the part of it that does not change.
pub(crate) trait Callbacks: Send + Sync {
    /// What its start callback is called in reports.
    fn called(&self) -> Arc<str>;
    fn start(self: Arc<Self>, env: Env) -> Called<(ChildSpec, Box<dyn Live>)>;
    fn config_change(self: Arc<Self>, change: EnvChange) -> Called<()>;
}

/// An application that was started, with its state.
pub(crate) trait Live: Send {
    fn phase<'a>(&'a mut self, phase: &'a str) -> BoxFuture<'a, Result<(), ActorError>>;
    fn prep_stop(&mut self) -> BoxFuture<'_, Result<(), ActorError>>;
    fn stop(self: Box<Self>) -> Called<()>;
}

struct Started<A: Application> {
    application: Arc<A>,
    state: A::State,
}

impl<A: Application> Callbacks for A {
    fn called(&self) -> Arc<str> {
        callback_of::<A>("start")
    }

    fn start(self: Arc<Self>, env: Env) -> Called<(ChildSpec, Box<dyn Live>)> {
        Box::pin(async move {
            let (top, state) = Application::start(&*self, &env).await?;
            let live: Box<dyn Live> = Box::new(Started { application: self, state });
            Ok((top, live))
        })
    }

    fn config_change(self: Arc<Self>, change: EnvChange) -> Called<()> {
        Box::pin(async move { Application::config_change(&*self, change).await })
    }
}

impl<A: Application> Live for Started<A> {
    fn phase<'a>(&'a mut self, phase: &'a str) -> BoxFuture<'a, Result<(), ActorError>> {
        Box::pin(async move { self.application.start_phase(phase, &mut self.state).await })
    }

    fn prep_stop(&mut self) -> BoxFuture<'_, Result<(), ActorError>> {
        Box::pin(async move { self.application.prep_stop(&mut self.state).await })
    }

    fn stop(self: Box<Self>) -> Called<()> {
        let Self { application, state } = *self;
        Box::pin(async move { application.stop(state).await })
    }
}

/// Waits for a callback: an error, a panic and a deadline that has passed are exit reasons.
pub(crate) async fn called<T>(
    within: Duration,
    callback: impl Future<Output = Result<T, ActorError>>,
) -> Result<T, ExitReason> {
    // What an error says of itself is the user's code as well.
    let typed = contain(async move { callback.await.map_err(ExitReason::from_boxed) });
    match tokio::time::timeout(within, typed).await {
        Ok(answer) => answer.flatten(),
        Err(_) => Err(ExitReason::Timeout),
    }
}
