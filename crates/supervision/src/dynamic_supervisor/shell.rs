//! The mind of a dynamic supervisor.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::join_all;
use perennial_core::{ExitReason, RestartIntensity, Verdict, child::AfterExit};
use tokio::sync::mpsc;

use super::{ChildRef, DynamicSupervisorSpec, Request};
use crate::{
    ChildSpec, LifecycleEvent, RequestError, StartError, StopToken,
    child::{Reaper, StartCx},
    context::Context,
    life::{Life, Pid},
    node::Node,
    stopping,
    supervisor::{Acknowledge, Shell as ShellSeam, SupervisorMail, Waiting},
};

type Mail = SupervisorMail<Request>;

/// Invariant: `entries` holds every child that runs or waits for its restart, by start order.
pub(super) struct Shell {
    context: Context,
    node: Arc<Node>,
    reaper: Reaper,
    mail: mpsc::UnboundedSender<Mail>,
    spec: DynamicSupervisorSpec,
    intensity: RestartIntensity,
    entries: BTreeMap<u64, Entry>,
    next_order: u64,
    next_generation: u64,
    waiting: Waiting,
}

struct Entry {
    spec: ChildSpec,
    node: Arc<Node>,
    budget: Option<RestartIntensity>,
    status: Status,
}

enum Status {
    Running(Life),
    Restarting { generation: u64 },
}

struct GiveUp;

impl Shell {
    pub(super) fn new(
        cx: StartCx,
        spec: DynamicSupervisorSpec,
        mail: mpsc::UnboundedSender<Mail>,
        reaper: Reaper,
    ) -> Self {
        Self {
            context: cx.context,
            node: cx.node,
            reaper,
            mail,
            intensity: RestartIntensity::new(spec.intensity),
            spec,
            entries: BTreeMap::new(),
            next_order: 1,
            next_generation: 1,
            waiting: Waiting::default(),
        }
    }

    async fn start_child(&mut self, mut spec: ChildSpec) -> Result<ChildRef, RequestError> {
        if self.entries.len() >= self.spec.max_children {
            return Err(RequestError::MaxChildren(self.spec.max_children));
        }
        spec.child_ids_repeat = true;
        let order = self.next_order;
        self.next_order += 1;
        let node = self.node.add_child(spec.clone(), order);
        match self.start(&spec, &node, order).await {
            Ok(life) => {
                let (id, first) = (spec.id.clone(), life.clone());
                let child = ChildRef { node: Arc::downgrade(&node), order, id, first };
                let budget = self.spec.child_budget.map(RestartIntensity::new);
                let status = Status::Running(life);
                self.entries.insert(order, Entry { spec, node, budget, status });
                Ok(child)
            }
            Err(error) => {
                node.gone();
                self.node.remove_child(order);
                Err(error.into())
            }
        }
    }

    async fn start(
        &self,
        spec: &ChildSpec,
        node: &Arc<Node>,
        order: u64,
    ) -> Result<Life, StartError> {
        let mail = self.mail.clone();
        // A supervisor that has ended needs no news of its children: its reaper has them.
        let report = move |pid, reason| drop(mail.send(Mail::Exited { order, pid, reason }));
        let cx = StartCx {
            context: self.context.clone(),
            node: node.clone(),
            reaper: self.reaper.clone(),
            report: Arc::new(report),
        };
        let begun = spec.start(cx).await?;
        begun.life.ok_or_else(|| StartError::new(&spec.id, ExitReason::NoProc))
    }

    async fn exited(&mut self, order: u64, pid: Pid, reason: ExitReason) -> Result<(), GiveUp> {
        let Some(entry) = self.entries.get(&order) else { return Ok(()) };
        match &entry.status {
            Status::Running(life) if life.pid == pid => (),
            Status::Running(_) | Status::Restarting { .. } => return Ok(()),
        }
        match entry.spec.restart.after(&reason).then {
            AfterExit::Keep | AfterExit::Drop => self.forget(order),
            AfterExit::Restart if entry.spec.restart_delay.is_some() => {
                self.wait_to_restart(order);
            }
            AfterExit::Restart => return self.restart_step(order).await,
        }
        Ok(())
    }

    async fn retry(&mut self, order: u64, generation: u64) -> Result<(), GiveUp> {
        match self.entries.get(&order).map(|entry| &entry.status) {
            Some(Status::Restarting { generation: own }) if *own == generation => {
                self.restart_step(order).await
            }
            // Terminated, or restarted, meanwhile (DYN-032).
            Some(Status::Restarting { .. } | Status::Running(_)) | None => Ok(()),
        }
    }

    /// Counts, then restarts. The limit of children does not apply to restarts (DYN-024).
    async fn restart_step(&mut self, order: u64) -> Result<(), GiveUp> {
        let now = self.context.clock().now();
        let Some(entry) = self.entries.get_mut(&order) else { return Ok(()) };
        match &mut entry.budget {
            Some(budget) => match budget.record(now) {
                Verdict::Restart => (),
                Verdict::GiveUp => {
                    self.context.tell(&entry.node, LifecycleEvent::GaveUp);
                    self.forget(order);
                    return Ok(());
                }
            },
            None => {
                let verdict = self.intensity.record(now);
                self.node.publish_intensity(&self.intensity);
                match verdict {
                    Verdict::Restart => (),
                    Verdict::GiveUp => {
                        self.node.gave_up();
                        self.context.tell(&self.node, LifecycleEvent::GaveUp);
                        self.forget(order);
                        return Err(GiveUp);
                    }
                }
            }
        }
        let (spec, node) = (entry.spec.clone(), entry.node.clone());
        node.coming();
        match self.start(&spec, &node, order).await {
            Ok(life) => {
                if let Some(entry) = self.entries.get_mut(&order) {
                    entry.status = Status::Running(life);
                }
            }
            Err(_reported) => self.wait_to_restart(order),
        }
        Ok(())
    }

    fn wait_to_restart(&mut self, order: u64) {
        let generation = self.next_generation;
        self.next_generation += 1;
        let Some(entry) = self.entries.get_mut(&order) else { return };
        entry.status = Status::Restarting { generation };
        entry.node.backing_off();
        match entry.spec.restart_delay {
            Some(delay) => {
                self.waiting.add(self.context.clock(), delay, order, generation);
            }
            // The shell holds the receiver's other end.
            None => drop(self.mail.send(Mail::Retry { order, generation })),
        }
    }

    fn forget(&mut self, order: u64) {
        if let Some(entry) = self.entries.remove(&order) {
            entry.node.gone();
            self.node.remove_child(order);
        }
    }

    async fn terminate(&mut self, child: ChildRef) -> Result<(), RequestError> {
        let order = child.order;
        let is_it = |entry: &&Entry| std::ptr::eq(Arc::as_ptr(&entry.node), child.node.as_ptr());
        let entry = self.entries.get(&order).filter(is_it);
        let entry = entry.ok_or_else(|| RequestError::NotFound(child.id.clone()))?;
        if let Status::Running(life) = &entry.status {
            stopping::stop(&self.context, &entry.node, &self.reaper, &entry.spec, life).await;
        }
        self.forget(order);
        Ok(())
    }

    /// All at once, each under its own timer (DYN-039).
    async fn stop_all(&mut self) {
        let entries = std::mem::take(&mut self.entries);
        join_all(entries.values().map(|entry| async {
            if let Status::Running(life) = &entry.status {
                stopping::stop(&self.context, &entry.node, &self.reaper, &entry.spec, life).await;
            }
        }))
        .await;
        // Children of a dynamic supervisor do not come back with it.
        for (order, entry) in entries {
            entry.node.gone();
            self.node.remove_child(order);
        }
    }
}

impl ShellSeam for Shell {
    type Request = Request;

    async fn run(
        mut self,
        mut inbox: mpsc::UnboundedReceiver<Mail>,
        stop: StopToken,
        starting: Acknowledge,
    ) -> ExitReason {
        self.node.publish_intensity(&self.intensity);
        starting.works();
        loop {
            let clock = self.context.clock();
            let mail = tokio::select! {
                biased;
                () = stop.stopped() => break,
                (order, generation) = self.waiting.next(clock) => {
                    // Behind what is in the mailbox, as every retry.
                    drop(self.mail.send(Mail::Retry { order, generation }));
                    continue;
                }
                Some(mail) = inbox.recv() => mail,
            };
            let step = match mail {
                Mail::Exited { order, pid, reason } => self.exited(order, pid, reason).await,
                Mail::Retry { order, generation } => self.retry(order, generation).await,
                // Callers that have left do not matter (SUP-206).
                Mail::Request(Request::StartChild { spec, reply }) => {
                    drop(reply.send(self.start_child(*spec).await));
                    Ok(())
                }
                Mail::Request(Request::TerminateChild { child, reply }) => {
                    drop(reply.send(self.terminate(child).await));
                    Ok(())
                }
            };
            if let Err(GiveUp) = step {
                break;
            }
        }
        self.stop_all().await;
        ExitReason::Shutdown
    }
}
