//! How one application is started and stopped: what takes time, in a task of its own.

use std::{sync::Arc, time::Duration};

use perennial_core::{
    ChildId, ChildType, ExitReason, Restart, Shutdown, application::ApplicationName,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    ApplicationSpec, ApplicationStartError, ApplicationStartFault, Env,
    callbacks::{Live, called},
    error::Failed,
    shared::{Mail, Up},
};
use crate::{
    ChildRef, ChildSpec, ChildStart, DynamicSupervisor, LifecycleEvent, Offender, RequestError,
    Supervisor, SupervisorSpec,
    child::StartCx,
    life::Life,
    panics::{call_quietly, contain},
    stopping::kill,
};

/// What all jobs know.
#[derive(Clone)]
pub(crate) struct Job {
    /// The controller's.
    pub(crate) cx: StartCx,
    pub(crate) applications: DynamicSupervisor,
    pub(crate) spec: ApplicationSpec,
    /// Cancelled when the system begins to go down.
    pub(crate) going: CancellationToken,
    /// How long a stop may take then.
    pub(crate) shutdown_timeout: Option<Duration>,
}

/// Owed to the controller whatever becomes of the task.
pub(crate) struct Owed {
    pub(crate) mail: mpsc::UnboundedSender<Mail>,
    pub(crate) otherwise: Option<Mail>,
}

impl Owed {
    pub(crate) fn pay(mut self, mail: Mail) {
        self.otherwise = Some(mail);
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        if let Some(mail) = self.otherwise.take() {
            // A controller that has ended needs no news.
            drop(self.mail.send(mail));
        }
    }
}

impl Job {
    fn name(&self) -> &ApplicationName {
        &self.spec.name
    }

    pub(crate) fn failed(&self, restart: Restart, fault: ApplicationStartFault) -> Failed {
        let (application, callback) = (self.name().clone(), self.spec.callbacks.called());
        Arc::new(ApplicationStartError { application, restart, callback, fault })
    }

    /// Starts it (APP-001). When this answers an error, nothing of it runs.
    pub(crate) async fn start(
        &self,
        env: Env,
        abort: &CancellationToken,
    ) -> Result<Up, ApplicationStartFault> {
        use ApplicationStartFault as Fault;
        let callbacks = self.spec.callbacks.clone();
        let making = called(self.spec.within, async move { callbacks.start(env).await });
        let made = abort.run_until_cancelled(making).await.ok_or(Fault::Aborted)?;
        let (top, live) = made.map_err(Fault::Callback)?;
        let mut up = match self.start_tree(top, abort).await {
            Ok((above, child, top_id, start)) => match start.process {
                Some(top) => Up { live, above, child, top, top_id },
                None => {
                    call_quietly("the drop of an application's state", move || drop(live));
                    self.stop_tree(&child.first).await;
                    return Err(Fault::Ignored(top_id));
                }
            },
            Err(fault) => {
                call_quietly("the drop of an application's state", move || drop(live));
                return Err(fault);
            }
        };
        for phase in &self.spec.phases {
            let done = called(self.spec.within, up.live.phase(phase));
            let fault = match abort.run_until_cancelled(done).await {
                Some(Ok(())) => continue,
                Some(Err(reason)) => Fault::Phase { phase: phase.clone(), reason },
                None => Fault::Aborted,
            };
            self.stop(up).await;
            return Err(fault);
        }
        Ok(up)
    }

    /// Starts the tree below a supervisor that is the application's own, so that a slow start is in
    /// nobody's way and a failed one takes nobody with it.
    async fn start_tree(
        &self,
        top: ChildSpec,
        abort: &CancellationToken,
    ) -> Result<(Supervisor, ChildRef, ChildId, ChildStart), ApplicationStartFault> {
        use ApplicationStartFault as Fault;
        if top.get_type() != ChildType::Supervisor {
            return Err(Fault::NotASupervisor(top.id().clone()));
        }
        // Nothing is restarted here: its top supervisor is temporary (APP-030).
        let above = SupervisorSpec::new(self.name().as_str()).restart(Restart::Temporary);
        let (spec, above) = Supervisor::child_spec(above);
        let child = self.applications.start_child(spec).await.map_err(Fault::Refused)?;
        let top_id = top.id().clone();
        let starting = above.start_child(top.restart(Restart::Temporary));
        let started = abort.run_until_cancelled(starting).await;
        let fault = match started {
            Some(Ok(start)) => return Ok((above, child, top_id, start)),
            Some(Err(RequestError::StartFailed(error))) => Fault::Tree(error),
            Some(Err(refused)) => Fault::Refused(refused),
            None => Fault::Aborted,
        };
        self.in_time(&child, self.stop_tree(&child.first)).await;
        Err(fault)
    }

    /// Stops it, or what its top supervisor has left when that ended by itself (APP-014, 015, 018, 025).
    /// Nothing of it runs when this returns, but what cannot be killed.
    pub(crate) async fn stop(&self, up: Up) {
        let Up { mut live, child, .. } = up;
        let orderly = async {
            let prepared = called(self.spec.within, live.prep_stop()).await;
            self.report("prep_stop", prepared);
            self.stop_tree(&child.first).await;
            self.stop_callback(live).await;
        };
        self.in_time(&child, orderly).await;
    }

    async fn stop_callback(&self, live: Box<dyn Live>) {
        let stopped = called(self.spec.within, async move { live.stop().await }).await;
        self.report("stop", stopped);
    }

    /// Stops the tree, then what is linked to it elsewhere (APP-019).
    async fn stop_tree(&self, above: &Life) {
        above.control.stop(&ExitReason::Shutdown);
        above.ended().wait().await;
        self.kill_members().await;
    }

    async fn kill_members(&self) {
        let context = &self.cx.context;
        context.members().kill(context, self.name().as_str()).await;
    }

    /// While the system goes down a stop may have a limit; after that what is left is killed, and none
    /// of its callbacks are called any more (APP-022).
    async fn in_time(&self, child: &ChildRef, orderly: impl Future<Output = ()>) {
        let hurried = async {
            match self.shutdown_timeout {
                Some(within) => {
                    self.going.cancelled().await;
                    tokio::time::sleep(within).await;
                }
                None => std::future::pending().await,
            }
        };
        // What is given up half-way holds the application's state.
        let mut orderly = contain(orderly);
        tokio::select! {
            biased;
            _ = &mut orderly => return,
            () = hurried => (),
        }
        drop(orderly);
        let above = &child.first;
        match child.node.upgrade() {
            Some(node) => drop(kill(&self.cx.context, &node, above).await),
            // Its supervisor has forgotten it: it has ended.
            None => drop(above.ended().wait().await),
        }
        self.kill_members().await;
        let offender = Box::new(Offender {
            id: ChildId::from(self.name().as_str()),
            process: Some(above.process.clone()),
            restart: Restart::Temporary,
            shutdown: self.shutdown_timeout.map_or(Shutdown::Infinity, Shutdown::Timeout),
            significant: false,
            child_type: ChildType::Supervisor,
        });
        self.tell(LifecycleEvent::ShutdownError { reason: ExitReason::Killed, offender });
    }

    fn report(&self, callback: &'static str, outcome: Result<(), ExitReason>) {
        if let Err(reason) = outcome {
            let application = self.name().clone();
            self.tell(LifecycleEvent::ApplicationFault { application, callback, reason });
        }
    }

    fn tell(&self, event: LifecycleEvent) {
        self.cx.context.tell(&self.cx.node, Some(&self.cx.process), event);
    }
}
