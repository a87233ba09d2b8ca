//! What becomes of a node, life after life: each step is published before anybody is told of it.

use std::time::Duration;

use perennial_core::{
    ExitReason, RestartIntensity, Uptime, child::AfterExit, intensity::Verdict, tree::NodeState,
};

use super::{Node, Written, picture::PastLife};
use crate::life::{Ended, Life, Pid};

impl Node {
    /// Its supervisor will start it again: those who call it wait.
    pub(crate) fn backing_off(&self) {
        let mut written = self.written();
        written.state = NodeState::BackingOff;
        written.pending = None;
        drop(written);
        self.coming();
    }

    /// It used up its own restart budget.
    pub(crate) fn parked(&self) {
        let mut written = self.written();
        written.state = NodeState::GaveUp;
        written.pending = None;
    }

    /// The life `pid` was asked to stop, unless it has ended already.
    pub(crate) fn stopping(&self, pid: Pid) {
        let mut written = self.written();
        if written.life.as_ref().is_some_and(|life| life.pid() == pid) {
            written.state = NodeState::Stopping;
        }
    }

    /// Nobody will start it any more, unless by hand.
    pub(crate) fn stopped(&self) {
        let mut written = self.written();
        written.pending = None;
        if matches!(
            written.state,
            NodeState::Declared | NodeState::Starting | NodeState::BackingOff
        ) {
            written.state = NodeState::Stopped;
        }
    }

    /// Its supervisor ended: what had been starting or waiting below it does so no longer.
    pub(crate) fn children_stopped(&self) {
        self.child_nodes().iter().for_each(|child| child.stopped());
    }

    pub(crate) fn gave_up(&self) {
        self.written().gave_up = true;
    }

    /// Whether it reached its restart intensity in its present life, or in its last one.
    pub(crate) fn has_given_up(&self) -> bool {
        self.written().gave_up
    }

    #[cfg(feature = "testing")]
    pub(crate) fn state(&self) -> NodeState {
        self.written().state
    }

    /// Another incarnation is about to start.
    pub(crate) fn begin_start(&self) {
        let mut written = self.written();
        written.state = NodeState::Starting;
        written.pending = None;
        written.started = false;
        written.gave_up = false;
        if written.incarnation > 0 {
            written.restarts += 1;
        }
        written.incarnation += 1;
    }

    pub(crate) fn attach(&self, life: Life, now: Uptime) {
        let mut written = self.written();
        written.life = Some(life);
        written.started_at = Some(now);
    }

    /// The present incarnation runs; answers its number.
    pub(crate) fn started(&self) -> u64 {
        let mut written = self.written();
        written.started = true;
        written.state = NodeState::Running;
        written.incarnation
    }

    /// Records the exit of `pid`, before anybody is told. Returns the incarnation's number, or
    /// nothing when it was never started or nobody waits for it any more.
    pub(crate) fn ended(&self, pid: Pid, reason: &ExitReason, now: Uptime) -> Option<u64> {
        let mut written = self.written();
        if written.life.as_ref().is_none_or(|life| life.pid() != pid) {
            return None;
        }
        let lived = written.started_at.map(|then| now.since(then)).unwrap_or_default();
        written.past(reason, lived, now);
        if written.state == NodeState::Running {
            written.pending = Some(match written.restart.after(reason).then {
                // Where ids repeat nothing is kept of what does not run.
                AfterExit::Keep if self.spec.child_ids_repeat => AfterExit::Drop,
                then @ (AfterExit::Restart | AfterExit::Keep | AfterExit::Drop) => then,
            });
        }
        written.state = if written.gave_up { NodeState::GaveUp } else { NodeState::Stopped };
        let life = written.forget_life();
        written.ending = life.as_ref().map(|life| life.ended().clone());
        let incarnation = written.started.then_some(written.incarnation);
        drop(written);
        drop(life);
        self.down(pid);
        // Looked at behind that: whoever abandons it at this very moment, on another thread of the
        // executor that goes, may have found it up and left the rest to its end.
        let abandoned = self.written().abandoned;
        if abandoned {
            self.spec.gone();
        }
        incarnation
    }

    /// Given up: its end, should it come, is no longer this node's. Answers whether it was there
    /// to be given up.
    pub(crate) fn give_up_on(&self, pid: Pid) -> bool {
        let mut written = self.written();
        if written.life.as_ref().is_none_or(|life| life.pid() != pid) {
            return false;
        }
        written.state = NodeState::Unkillable;
        let life = written.forget_life();
        drop(written);
        drop(life);
        self.down(pid);
        true
    }

    fn down(&self, pid: Pid) {
        if let Some(presence) = &self.spec.presence {
            presence.ended(pid);
        }
    }

    /// So many messages were dropped with the mailbox of a life.
    pub(crate) fn undelivered(&self, count: u64) {
        self.written().undelivered += count;
    }

    pub(crate) fn start_failed(&self, reason: &ExitReason, now: Uptime) {
        let mut written = self.written();
        written.past(reason, Duration::ZERO, now);
        if written.state != NodeState::Unkillable {
            written.state = NodeState::Stopped;
        }
    }

    /// Its init answered that it need not run.
    pub(crate) fn ignored(&self) {
        let mut written = self.written();
        written.state = NodeState::Stopped;
        drop(written);
        self.gone();
    }

    pub(crate) fn publish_intensity(&self, intensity: &RestartIntensity) {
        self.written().intensity = Some(Box::new(intensity.clone()));
    }

    /// Counts a restart, to be shown. Where nobody else decides about it, the answer does: whether there were
    /// too many.
    pub(crate) fn count_restart(&self, now: Uptime) -> Verdict {
        let intensity = &mut self.written().intensity;
        intensity.as_mut().map_or(Verdict::GiveUp, |intensity| intensity.record(now))
    }

    /// The end is announced.
    pub(crate) fn told(&self, ended: &Ended) {
        let mut written = self.written();
        if written.ending.as_ref().is_some_and(|ending| ending.is_same(ended)) {
            written.ending = None;
        }
    }

    /// This child will come back: those who call it wait.
    pub(crate) fn coming(&self) {
        if let Some(presence) = &self.spec.presence {
            presence.coming();
        }
    }

    /// The executor of its supervisor, or its own, is gone.
    pub(crate) fn abandon(&self) {
        self.written().abandoned = true;
        self.spec.gone();
        self.child_nodes().iter().for_each(|child| child.abandon());
    }

    /// Nothing will come back here, nor below.
    pub(crate) fn gone(&self) {
        // Those declared below it may have no node: their supervisor did not get to them.
        self.spec.gone();
        self.child_nodes().iter().for_each(|child| child.gone());
    }
}

impl Written {
    fn past(&mut self, reason: &ExitReason, lived: Duration, ended: Uptime) {
        let life = PastLife { reason: reason.clone(), lived, ended };
        match &mut self.last {
            Some(last) => **last = life,
            None => self.last = Some(Box::new(life)),
        }
    }

    fn forget_life(&mut self) -> Option<Life> {
        self.started_at = None;
        self.life.take()
    }
}
