//! The mind of a supervisor with declared children.

use std::sync::Arc;

use perennial_core::{
    ChildId, ExitReason, Restart, RestartIntensity, Strategy, Verdict, child::AfterExit,
    supervisor::SpecError,
};
use tokio::sync::mpsc;

use super::{
    Acknowledge, Reply, Request, RequestError, SupervisorMail, SupervisorSpec, Waiting, incarnation,
};
use crate::{
    ChildSpec, LifecycleEvent, StartError, StartFault, StopToken,
    child::{Reaper, StartCx},
    context::Context,
    life::{Life, Pid},
    node::Node,
    stopping,
};

type Mail = SupervisorMail<Request>;

/// Invariant: `entries` is in start order, and holds every child that is specified now.
pub(super) struct Shell {
    context: Context,
    node: Arc<Node>,
    reaper: Reaper,
    mail: mpsc::UnboundedSender<Mail>,
    strategy: Strategy,
    intensity: RestartIntensity,
    declared: Vec<ChildSpec>,
    entries: Vec<Entry>,
    /// Number of the next child; never used twice.
    next_order: u64,
    /// Number of the next restart that waits; stale ones are recognised by theirs.
    next_generation: u64,
    waiting: Waiting,
}

struct Entry {
    order: u64,
    spec: ChildSpec,
    node: Arc<Node>,
    status: Status,
}

enum Status {
    Running(Life),
    Restarting { generation: u64 },
    Stopped,
}

/// The supervisor gives up.
struct GiveUp;

impl Shell {
    pub(super) fn new(
        cx: StartCx,
        spec: SupervisorSpec,
        mail: mpsc::UnboundedSender<Mail>,
        reaper: Reaper,
    ) -> Self {
        Self {
            context: cx.context,
            node: cx.node,
            reaper,
            mail,
            strategy: spec.strategy,
            intensity: RestartIntensity::new(spec.intensity),
            declared: spec.children,
            entries: Vec::new(),
            next_order: 1,
            next_generation: 1,
            waiting: Waiting::default(),
        }
    }

    /// Starts the declared children in order; at the first that fails, stops the started ones in
    /// reverse and answers its error (SUP-001, 008–011).
    async fn start_declared(&mut self) -> Result<(), StartFault> {
        let declared = std::mem::take(&mut self.declared);
        let mut ids: Vec<&ChildId> = declared.iter().map(|spec| &spec.id).collect();
        ids.sort();
        if let Some(twice) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(SpecError::DuplicateChild(twice[0].clone()).into());
        }
        for spec in declared {
            let entry = self.specify(spec);
            match self.start(&entry.spec, &entry.node, entry.order).await {
                Ok(life) => self.entries.push(Entry { status: Status::Running(life), ..entry }),
                Err(error) => {
                    self.stop_all().await;
                    return Err(StartFault::Child(Box::new(error)));
                }
            }
        }
        Ok(())
    }

    fn specify(&mut self, spec: ChildSpec) -> Entry {
        let order = self.next_order;
        self.next_order += 1;
        let node = self.node.add_child(spec.clone(), order);
        Entry { order, spec, node, status: Status::Stopped }
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
        let Some(place) = self.place(|entry| entry.order == order) else { return Ok(()) };
        match &self.entries[place].status {
            Status::Running(life) if life.pid == pid => (),
            // Stopped by this supervisor, or an incarnation that has been replaced (SUP-078).
            Status::Running(_) | Status::Restarting { .. } | Status::Stopped => return Ok(()),
        }
        let entry = &mut self.entries[place];
        match entry.spec.restart.after(&reason).then {
            AfterExit::Keep => {
                entry.status = Status::Stopped;
                entry.node.gone();
            }
            AfterExit::Drop => self.forget(place),
            AfterExit::Restart => {
                entry.status = Status::Stopped;
                if entry.spec.restart_delay.is_some() {
                    self.wait_to_restart(place);
                } else {
                    return self.restart_step(place).await;
                }
            }
        }
        Ok(())
    }

    async fn retry(&mut self, order: u64, generation: u64) -> Result<(), GiveUp> {
        let current = |entry: &Entry| {
            entry.order == order
                && matches!(entry.status, Status::Restarting { generation: own } if own == generation)
        };
        match self.place(current) {
            Some(place) => self.restart_step(place).await,
            None => Ok(()),
        }
    }

    /// Table 5.3.
    async fn restart_step(&mut self, place: usize) -> Result<(), GiveUp> {
        let verdict = self.intensity.record(self.context.clock().now());
        self.node.publish_intensity(&self.intensity);
        match verdict {
            Verdict::GiveUp => {
                self.entries[place].status = Status::Stopped;
                self.node.gave_up();
                self.context.tell(&self.node, LifecycleEvent::GaveUp);
                return Err(GiveUp);
            }
            Verdict::Restart => (),
        }
        let group = self.strategy.group(place, self.entries.len());
        for entry in self.entries[group.clone()].iter_mut().rev() {
            if let Status::Running(life) = &entry.status {
                stopping::stop(&self.context, &entry.node, &self.reaper, &entry.spec, life).await;
            }
            entry.status = Status::Stopped;
            entry.node.coming();
        }
        let orders: Vec<u64> =
            self.entries[group.clone()].iter().map(|entry| entry.order).collect();
        for place in group.rev() {
            if self.entries[place].spec.restart == Restart::Temporary {
                self.forget(place); // SUP-071, 072
            }
        }
        for order in orders {
            let Some(place) = self.place(|entry| entry.order == order) else { continue };
            let entry = &self.entries[place];
            match self.start(&entry.spec, &entry.node, order).await {
                Ok(life) => self.entries[place].status = Status::Running(life),
                Err(_reported) => {
                    // The attempt ends here; the rest of the group waits for the retry (SUP-098).
                    self.wait_to_restart(place);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Restarts the child later: behind what is in the mailbox, and after its delay if it has one.
    fn wait_to_restart(&mut self, place: usize) {
        let generation = self.next_generation;
        self.next_generation += 1;
        let entry = &mut self.entries[place];
        entry.status = Status::Restarting { generation };
        entry.node.backing_off();
        match entry.spec.restart_delay {
            Some(delay) => {
                self.waiting.add(self.context.clock(), delay, entry.order, generation);
            }
            // The shell holds the receiver's other end.
            None => drop(self.mail.send(Mail::Retry { order: entry.order, generation })),
        }
    }

    fn forget(&mut self, place: usize) {
        let entry = self.entries.remove(place);
        entry.node.gone();
        self.node.remove_child(entry.order);
    }

    fn place(&self, is: impl Fn(&Entry) -> bool) -> Option<usize> {
        self.entries.iter().position(is)
    }

    fn find(&self, id: &ChildId) -> Result<usize, RequestError> {
        let place = self.place(|entry| entry.spec.id == *id);
        place.ok_or_else(|| RequestError::NotFound(id.clone()))
    }

    /// Table 5.5. Callers that have left do not matter (SUP-206).
    async fn serve(&mut self, request: Request) {
        match request {
            Request::StartChild { spec, reply } => answer(reply, self.start_child(*spec).await),
            Request::TerminateChild { id, reply } => answer(reply, self.terminate(&id).await),
            Request::RestartChild { id, reply } => answer(reply, self.restart_child(&id).await),
            Request::DeleteChild { id, reply } => answer(reply, self.delete_child(&id)),
        }
    }

    async fn start_child(&mut self, spec: ChildSpec) -> Result<(), RequestError> {
        if let Ok(place) = self.find(&spec.id) {
            return Err(match self.entries[place].status {
                Status::Running(_) => RequestError::AlreadyStarted(spec.id),
                Status::Restarting { .. } | Status::Stopped => {
                    RequestError::AlreadyPresent(spec.id)
                }
            });
        }
        let entry = self.specify(spec);
        match self.start(&entry.spec, &entry.node, entry.order).await {
            Ok(life) => {
                self.entries.push(Entry { status: Status::Running(life), ..entry });
                Ok(())
            }
            Err(error) => {
                entry.node.gone();
                self.node.remove_child(entry.order);
                Err(error.into())
            }
        }
    }

    async fn terminate(&mut self, id: &ChildId) -> Result<(), RequestError> {
        let place = self.find(id)?;
        let entry = &mut self.entries[place];
        if let Status::Running(life) = &entry.status {
            stopping::stop(&self.context, &entry.node, &self.reaper, &entry.spec, life).await;
        }
        // A restart that waits is stale from here on: for good (SUP-111).
        entry.status = Status::Stopped;
        entry.node.stopped();
        entry.node.gone();
        if entry.spec.restart == Restart::Temporary {
            self.forget(place);
        }
        self.give_up_waiting();
        Ok(())
    }

    /// Those that stopped for a restart that no longer comes do not keep their callers waiting.
    fn give_up_waiting(&self) {
        let mut comes = vec![false; self.entries.len()];
        let waits =
            |place: &usize| matches!(self.entries[*place].status, Status::Restarting { .. });
        for place in (0..self.entries.len()).filter(waits) {
            comes[self.strategy.group(place, self.entries.len())].fill(true);
        }
        for (entry, comes) in self.entries.iter().zip(comes) {
            if let (Status::Stopped, false) = (&entry.status, comes) {
                entry.node.gone();
            }
        }
    }

    async fn restart_child(&mut self, id: &ChildId) -> Result<(), RequestError> {
        let place = self.find(id)?;
        let entry = &self.entries[place];
        match entry.status {
            Status::Running(_) => Err(RequestError::Running(id.clone())),
            Status::Restarting { .. } => Err(RequestError::Restarting(id.clone())),
            Status::Stopped => {
                entry.node.coming();
                match self.start(&entry.spec, &entry.node, entry.order).await {
                    Ok(life) => {
                        self.entries[place].status = Status::Running(life);
                        Ok(())
                    }
                    Err(error) => {
                        self.entries[place].node.gone();
                        Err(error.into())
                    }
                }
            }
        }
    }

    fn delete_child(&mut self, id: &ChildId) -> Result<(), RequestError> {
        let place = self.find(id)?;
        match self.entries[place].status {
            Status::Running(_) => Err(RequestError::Running(id.clone())),
            Status::Restarting { .. } => Err(RequestError::Restarting(id.clone())),
            Status::Stopped => {
                self.forget(place);
                Ok(())
            }
        }
    }

    /// Reverse start order, one at a time, each awaited (SUP-136, 137). Whether the children come
    /// back is decided above: their addresses wait until then.
    async fn stop_all(&mut self) {
        while let Some(entry) = self.entries.pop() {
            if let Status::Running(life) = &entry.status {
                stopping::stop(&self.context, &entry.node, &self.reaper, &entry.spec, life).await;
            }
            entry.node.stopped();
            entry.node.coming();
        }
    }
}

fn answer<T>(reply: Reply<T>, result: Result<T, RequestError>) {
    // A caller that has left does not want it.
    drop(reply.send(result));
}

impl incarnation::Shell for Shell {
    type Request = Request;

    async fn run(
        mut self,
        mut inbox: mpsc::UnboundedReceiver<Mail>,
        stop: StopToken,
        starting: Acknowledge,
    ) -> ExitReason {
        if let Err(fault) = self.start_declared().await {
            let reason = fault.exit_reason();
            starting.fails(fault);
            return reason;
        }
        self.node.publish_intensity(&self.intensity);
        starting.works();
        loop {
            let clock = self.context.clock();
            let mail = tokio::select! {
                biased;
                () = stop.stopped() => break,
                (order, generation) = self.waiting.next(clock) => {
                    // Behind what is in the mailbox (SUP-106): a restart that is due again and again
                    // lets everybody else have a turn.
                    drop(self.mail.send(Mail::Retry { order, generation }));
                    continue;
                }
                Some(mail) = inbox.recv() => mail,
            };
            let step = match mail {
                Mail::Exited { order, pid, reason } => self.exited(order, pid, reason).await,
                Mail::Retry { order, generation } => self.retry(order, generation).await,
                Mail::Request(request) => {
                    self.serve(request).await;
                    Ok(())
                }
            };
            if let Err(GiveUp) = step {
                break;
            }
        }
        self.stop_all().await;
        ExitReason::Shutdown // SUP-128
    }
}
