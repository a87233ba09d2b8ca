//! Which state follows.

use std::sync::Arc;

use super::{
    CONFIRMED_WITHIN, ServiceAction, ServiceMachine, Steps, StopMode,
    phase::{Cleaning, Finding, Launch, Phase, Stopping, Up},
};
use crate::{
    Uptime, Verdict as Budget,
    retry::{Backoff, Jitter},
    service::{Epoch, Health, ServiceEvent, ServiceState, Verdict},
};

impl ServiceMachine {
    pub(super) fn launched(&mut self, epoch: Epoch, now: Uptime, steps: &mut Steps) {
        match &mut self.phase {
            Phase::Starting(start) if epoch == self.epoch && start.is_launching() => {
                start.launched(now);
                self.begin_probe(now, steps);
            }
            // Its start went on without the shell.
            Phase::Finding(Finding { was: ServiceState::Starting, .. }) if epoch == self.epoch => {
                let mut start = Launch::until_ready(now + self.terms.ready_within);
                start.launched(now);
                self.phase = Phase::Starting(start);
                self.begin_probe(now, steps);
            }
            // It came too late: what it made belongs to nobody.
            Phase::Finding(_)
            | Phase::Starting(_)
            | Phase::Stopped
            | Phase::Ready(_)
            | Phase::Degraded(_)
            | Phase::Draining(_)
            | Phase::Crashed(_)
            | Phase::Failed => steps.actions.push(ServiceAction::Remove { epoch }),
        }
    }

    pub(super) fn exited(&mut self, why: Arc<str>, now: Uptime, steps: &mut Steps) {
        match &self.phase {
            Phase::Starting(_) | Phase::Ready(_) | Phase::Degraded(_) => {
                self.crash(why, false, now, steps);
            }
            // What it leaves is the driver's to remove, as at any stop.
            Phase::Draining(Stopping::Asked { .. }) => self.stop(now, steps),
            Phase::Draining(_)
            | Phase::Stopped
            | Phase::Crashed(_)
            | Phase::Failed
            | Phase::Finding(_) => {}
        }
    }

    /// What is left of a life whose shell was lost: it is adopted, removed, or known to be gone.
    pub(super) fn found(&mut self, verdict: Verdict, now: Uptime, steps: &mut Steps) {
        let Phase::Finding(Finding { was, began, .. }) = self.phase else { return };
        let terms = self.terms;
        let is_needed = terms.always_on || !self.holders.is_empty();
        let gone = match &verdict {
            Verdict::Gone(why) => Some(why.clone()),
            Verdict::Healthy | Verdict::Unready(_) | Verdict::Unresponsive(_) => None,
        };
        let up = || Up::new(now + terms.probe_every, (!is_needed).then_some(now));
        match was {
            // What is left of one that is gone is the driver's to remove as well.
            ServiceState::Crashed if is_needed || self.spent.is_final => {
                let mut cleaning = Cleaning::until(now + terms.stop_within);
                cleaning.is_final = self.spent.is_final;
                self.phase = Phase::Crashed(cleaning);
                steps.actions.push(ServiceAction::Remove { epoch: self.epoch });
            }
            ServiceState::Draining | ServiceState::Crashed => {
                self.issue_stop(StopMode::Kill, now, steps);
            }
            ServiceState::Starting if gone.is_none() => {
                let mut start = Launch::until_ready(now + terms.ready_within);
                start.launched(now);
                self.phase = Phase::Starting(start);
                self.probed(verdict, began, now, steps);
            }
            ServiceState::Ready if gone.is_none() => {
                self.why = None;
                self.phase = Phase::Ready(up());
                self.probed(verdict, began, now, steps);
            }
            ServiceState::Degraded if gone.is_none() => {
                self.phase = Phase::Degraded(up());
                self.probed(verdict, began, now, steps);
            }
            ServiceState::Starting | ServiceState::Ready | ServiceState::Degraded => {
                match gone.filter(|_| is_needed) {
                    Some(why) => {
                        self.phase = match was {
                            ServiceState::Starting => Phase::Starting(Launch::until_ready(now)),
                            ServiceState::Degraded => Phase::Degraded(up()),
                            ServiceState::Ready
                            | ServiceState::Stopped
                            | ServiceState::Draining
                            | ServiceState::Crashed
                            | ServiceState::Failed => Phase::Ready(up()),
                        };
                        self.crash(why, false, now, steps);
                    }
                    None => self.issue_stop(StopMode::Kill, now, steps),
                }
            }
            ServiceState::Stopped | ServiceState::Failed => {}
        }
    }

    pub(super) fn probed(
        &mut self,
        verdict: Verdict,
        began: Uptime,
        now: Uptime,
        steps: &mut Steps,
    ) {
        let health = Health { verdict: verdict.clone(), epoch: self.epoch, taken: began };
        self.health = Some(health);
        if let Verdict::Gone(why) = &verdict {
            return self.crash(why.clone(), false, now, steps);
        }
        let (terms, state) = (self.terms, self.state());
        let lives = !matches!(state, ServiceState::Crashed | ServiceState::Draining);
        if verdict == Verdict::Healthy && lives && self.spent.counted == Some(self.epoch) {
            // A crash of this life that was counted, and could not be kept, was none: it was found alive.
            self.spent.restarts.take_back();
            (self.spent.counted, self.spent.is_final) = (None, false);
        }
        match &mut self.phase {
            Phase::Starting(start) if verdict == Verdict::Healthy => {
                if terms.settle_delay.is_zero() {
                    self.serve(now, steps);
                } else {
                    start.settle(now + terms.settle_delay);
                }
            }
            Phase::Starting(start) => {
                // No failure, neither of the service nor of anybody's call (SM-52).
                start.probe_again(now + terms.start_probe_every);
                self.why = verdict.reason().cloned();
            }
            Phase::Ready(up) | Phase::Degraded(up) => {
                up.next_probe = now + terms.probe_every;
                up.count(&verdict);
                let (unhealthy, lifeless, healthy) = (up.unhealthy, up.lifeless, up.healthy);
                let why = verdict.reason().cloned();
                if lifeless >= terms.down_after {
                    self.crash(why.unwrap_or_else(|| "it is lifeless".into()), false, now, steps);
                } else if state == ServiceState::Ready && unhealthy >= terms.down_after {
                    let up = up.clone();
                    self.why = why;
                    self.change(Phase::Degraded(up), steps);
                } else if state == ServiceState::Degraded && healthy >= terms.up_after {
                    let up = up.clone();
                    self.why = None;
                    self.change(Phase::Ready(up), steps);
                }
            }
            Phase::Stopped
            | Phase::Draining(_)
            | Phase::Crashed(_)
            | Phase::Failed
            | Phase::Finding(_) => {}
        }
    }

    pub(super) fn cleaned(
        &mut self,
        failed: Option<Arc<str>>,
        now: Uptime,
        random: f64,
        steps: &mut Steps,
    ) {
        match &mut self.phase {
            Phase::Draining(stopping) => match failed {
                None => {
                    self.why = None;
                    self.epoch = self.epoch.next();
                    self.change(Phase::Stopped, steps);
                    if !self.closing && (self.terms.always_on || !self.holders.is_empty()) {
                        self.start(now, steps);
                    }
                }
                Some(why) if stopping.is_under_way() => {
                    *stopping = Stopping::Again { at: now + self.terms.start_backoff };
                    self.why = Some(format!("it was not stopped: {why}").into());
                }
                Some(_) => {}
            },
            Phase::Crashed(cleaning) if cleaning.is_under_way() => {
                if let Some(why) = failed {
                    let crashed = self.why.as_deref().unwrap_or("it crashed");
                    self.why = Some(format!("{crashed}; and was not removed: {why}").into());
                }
                self.rest(now, random, steps);
            }
            Phase::Crashed(_)
            | Phase::Stopped
            | Phase::Starting(_)
            | Phase::Ready(_)
            | Phase::Degraded(_)
            | Phase::Failed
            | Phase::Finding(_) => {}
        }
    }

    /// What comes after a crash once nothing is left of that life.
    pub(super) fn rest(&mut self, now: Uptime, random: f64, steps: &mut Steps) {
        let Phase::Crashed(cleaning) = &mut self.phase else { return };
        if self.closing {
            cleaning.end();
        } else if cleaning.is_final {
            self.change(Phase::Failed, steps);
        } else {
            let crashes = self.spent.restarts.in_window(now);
            let backoff = Backoff::doubling(self.terms.start_backoff, self.terms.backoff_max);
            cleaning.rest(now + backoff.jitter(Jitter::Range(75, 100)).pause(crashes, random));
        }
    }

    pub(super) fn due(&mut self, now: Uptime, random: f64, steps: &mut Steps) {
        if let Some((_, began)) = self.probe
            && now >= self.lost_at(began)
        {
            self.probe = None;
            self.probed(Verdict::Unresponsive("its probe did not end".into()), began, now, steps);
        }
        match &mut self.phase {
            Phase::Starting(start) if !start.is_settling() && now >= start.until() => {
                let step = if start.is_launching() {
                    "its driver did not start it"
                } else {
                    "it was not ready"
                };
                let last = self.why.take().map(|why| format!("; last: {why}")).unwrap_or_default();
                let within = self.terms.ready_within;
                self.crash(format!("{step} within {within:?}{last}").into(), false, now, steps);
            }
            Phase::Starting(start) => {
                let due = start.step_due(self.probe.is_some()).is_some_and(|at| now >= at);
                match (due, start.is_settling()) {
                    (true, true) => self.serve(now, steps),
                    (true, false) => self.begin_probe(now, steps),
                    (false, _) => {}
                }
            }
            Phase::Ready(up) | Phase::Degraded(up) => {
                let (next_probe, up) = (up.next_probe, up.clone());
                if self.idle_due(&up).is_some_and(|at| now >= at) {
                    assert!(self.holders.is_empty(), "idle although somebody holds it");
                    self.probe = None;
                    let until = now + CONFIRMED_WITHIN;
                    self.change(Phase::Draining(Stopping::Asked { until }), steps);
                    steps.actions.push(ServiceAction::ConfirmDrain { epoch: self.epoch });
                } else if now >= next_probe && self.probe.is_none() {
                    self.begin_probe(now, steps);
                }
            }
            Phase::Draining(Stopping::Asked { until }) if now >= *until => self.stop(now, steps),
            Phase::Draining(stopping) if now >= stopping.due() => {
                if stopping.is_under_way() {
                    let why = format!("it was not stopped within {:?}", self.terms.stop_within);
                    self.why = Some(why.into());
                }
                self.stop_again(now, steps);
            }
            Phase::Crashed(cleaning) if cleaning.due().is_some_and(|at| now >= at) => {
                if cleaning.is_under_way() {
                    self.rest(now, random, steps);
                } else {
                    self.start(now, steps);
                }
            }
            Phase::Finding(finding) if now >= finding.until => {
                let why = "whoever kept it was lost, and it was not found again in time".into();
                self.found(Verdict::Unresponsive(why), now, steps);
            }
            Phase::Finding(_)
            | Phase::Draining(_)
            | Phase::Crashed(_)
            | Phase::Stopped
            | Phase::Failed => {}
        }
    }

    pub(super) fn shutdown(&mut self, now: Uptime, steps: &mut Steps) {
        self.closing = true;
        match &mut self.phase {
            Phase::Starting(_) => self.crash("the runtime ends".into(), false, now, steps),
            Phase::Ready(_) | Phase::Degraded(_) => {
                self.why = Some("the runtime ends".into());
                self.change(Phase::Draining(Stopping::Asked { until: now }), steps);
                self.stop(now, steps);
            }
            Phase::Draining(Stopping::Asked { .. }) => self.stop(now, steps),
            Phase::Crashed(cleaning) if !cleaning.is_under_way() => cleaning.end(),
            Phase::Finding(_) => self.issue_stop(StopMode::Graceful, now, steps),
            Phase::Crashed(_) | Phase::Draining(_) | Phase::Stopped | Phase::Failed => {}
        }
    }

    pub(super) fn start(&mut self, now: Uptime, steps: &mut Steps) {
        self.epoch = self.epoch.next();
        self.why = None;
        let within = self.terms.ready_within;
        self.change(Phase::Starting(Launch::until_ready(now + within)), steps);
        steps.actions.push(ServiceAction::Start { epoch: self.epoch, within });
    }

    pub(super) fn serve(&mut self, now: Uptime, steps: &mut Steps) {
        let idle = self.holders.is_empty() && !self.terms.always_on;
        let up = Up::new(now + self.terms.probe_every, idle.then_some(now));
        self.why = None;
        self.change(Phase::Ready(up), steps);
    }

    pub(super) fn begin_probe(&mut self, now: Uptime, steps: &mut Steps) {
        assert!(self.probe.is_none(), "two probes of one instance");
        self.probes += 1;
        self.probe = Some((self.probes, now));
        steps.actions.push(ServiceAction::Probe { epoch: self.epoch, probe: self.probes });
    }

    pub(super) fn crash(&mut self, why: Arc<str>, permanent: bool, now: Uptime, steps: &mut Steps) {
        self.why = Some(why);
        let mut cleaning = Cleaning::until(now + self.terms.stop_within);
        // One that a lost shell has counted, and could not keep, is still the same; the end of the runtime is none.
        if self.closing || self.spent.counted.replace(self.epoch) == Some(self.epoch) {
            self.spent.is_final |= permanent;
        } else {
            let exceeded = self.spent.restarts.record(now) == Budget::GiveUp;
            self.spent.is_final = permanent || exceeded;
        }
        cleaning.is_final = self.spent.is_final;
        self.change(Phase::Crashed(cleaning), steps);
        steps.actions.push(ServiceAction::Remove { epoch: self.epoch });
    }

    pub(super) fn stop(&mut self, now: Uptime, steps: &mut Steps) {
        assert!(self.holders.is_empty() || self.closing, "stopped although somebody holds it");
        self.issue_stop(StopMode::Graceful, now, steps);
    }

    /// Of one that was told to stop before: whoever has come since waits for its next life.
    pub(super) fn stop_again(&mut self, now: Uptime, steps: &mut Steps) {
        self.issue_stop(StopMode::Kill, now, steps);
    }

    pub(super) fn issue_stop(&mut self, mode: StopMode, now: Uptime, steps: &mut Steps) {
        self.phase = Phase::Draining(Stopping::Issued { until: now + self.terms.stop_within });
        steps.actions.push(ServiceAction::Stop { epoch: self.epoch, mode });
    }

    /// The only place where the state changes: each change is in the table and is told.
    pub(super) fn change(&mut self, next: Phase, steps: &mut Steps) {
        let (from, to) = (self.state(), next.state());
        assert!(from.may_become(to), "{from} never becomes {to}");
        if !matches!(to, ServiceState::Ready | ServiceState::Degraded) {
            self.probe = None;
        }
        self.phase = next;
        steps.events.push(ServiceEvent { from, to, epoch: self.epoch, why: self.why.clone() });
    }
}
