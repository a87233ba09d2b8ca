//! What follows from what happens to an instance. Its shell performs the actions, tells the events, wakes it at
//! [`ServiceMachine::wake_at`], and reports what came of the actions, in any order and as late as it may.
//!
//! Three rules make late reports harmless: what is reported carries the life it is about, a report of another life
//! changes nothing (SM-51), and whatever the machine waits for has an end by the clock.

mod phase;
mod protocol;
#[cfg(test)]
mod tests;
mod transitions;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use self::phase::{Finding, Phase, Stopping, Up};
pub use self::protocol::{
    Admission, Asker, NotFailed, ServiceAction, ServiceInput, ServiceStatus, Steps, StopMode,
};
use super::{Epoch, Health, Holder, Offer, ServiceState, ServiceTerms};
use crate::{RestartIntensity, Uptime, intensity::IntensityLimit};

/// So many may wait for one probe; whoever comes then is told to come again.
pub const ASKERS_MAX: usize = 1_024;
/// What a probe may take beyond its two questions before it counts as lost.
const PROBE_SLACK: Duration = Duration::from_secs(1);
/// How long the confirmation of a drain may take; then it counts as given.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(1);

/// What was used up of the budget of an instance.
#[derive(Clone, Debug)]
pub struct Spent {
    restarts: RestartIntensity,
    /// The life whose crash was counted last.
    counted: Option<Epoch>,
    /// Whether it has crashed for the last time, and is to be started by nobody.
    is_final: bool,
}

impl Spent {
    fn none(limit: IntensityLimit) -> Self {
        Self { restarts: RestartIntensity::new(limit), counted: None, is_final: false }
    }
}

/// One instance of a service.
#[derive(Clone, Debug)]
pub struct ServiceMachine {
    terms: ServiceTerms,
    phase: Phase,
    epoch: Epoch,
    holders: BTreeSet<Holder>,
    /// Who waits for a verdict, and since when they need the service. At most [`ASKERS_MAX`].
    askers: BTreeMap<Asker, Uptime>,
    health: Option<Health>,
    /// The one probe that is under way: its number and when it began.
    probe: Option<(u64, Uptime)>,
    probes: u64,
    spent: Spent,
    why: Option<Arc<str>>,
    /// A shutdown has begun; it never ends.
    closing: bool,
}

impl ServiceMachine {
    /// An instance that has never run, and what follows: one that is always on is started.
    ///
    /// # Panics
    ///
    /// When `terms` have faults: they are the caller's to check.
    pub fn new(terms: ServiceTerms, now: Uptime) -> (Self, Steps) {
        let mut machine = Self::resting(terms, Epoch::ZERO, BTreeSet::new());
        let mut steps = Steps::default();
        if terms.always_on {
            machine.start(now, &mut steps);
        }
        (machine, steps)
    }

    /// An instance whose shell was lost while it was what `was` says, and `why`, with the holds that are known, however many they
    /// are by now. What is left of that life is looked for first: what shows that it lives is adopted, what is gone is started anew where somebody
    /// needs it; nothing about it is guessed (DUR-83).
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    pub fn recovered(
        terms: ServiceTerms,
        was: (ServiceState, Epoch),
        why: Option<&str>,
        holders: BTreeSet<Holder>,
        now: Uptime,
    ) -> (Self, Steps) {
        let (state, epoch) = was;
        let mut machine = Self::resting(terms, epoch, holders);
        machine.why = Some("whoever kept it was lost".into());
        let mut steps = Steps::default();
        let is_needed = terms.always_on || !machine.holders.is_empty();
        match state {
            ServiceState::Failed => {
                machine.phase = Phase::Failed;
                machine.why = why.map(Into::into).or(machine.why);
            }
            ServiceState::Stopped if is_needed => machine.start(now, &mut steps),
            ServiceState::Stopped => machine.why = None,
            ServiceState::Starting
            | ServiceState::Ready
            | ServiceState::Degraded
            | ServiceState::Draining
            | ServiceState::Crashed => {
                if state == ServiceState::Crashed {
                    machine.why = why.map(Into::into).or(machine.why);
                }
                let until = now + terms.probe_timeout + terms.probe_within() + PROBE_SLACK;
                machine.phase = Phase::Finding(Finding { was: state, began: now, until });
                steps.actions.push(ServiceAction::Find { epoch });
            }
        }
        (machine, steps)
    }

    fn resting(terms: ServiceTerms, epoch: Epoch, holders: BTreeSet<Holder>) -> Self {
        assert!(terms.faults().is_empty(), "terms with faults: {:?}", terms.faults());
        let limit =
            IntensityLimit { max_restarts: terms.restarts_max, within: terms.restarts_within };
        Self {
            terms,
            phase: Phase::Stopped,
            epoch,
            holders,
            askers: BTreeMap::new(),
            health: None,
            probe: None,
            probes: 0,
            spent: Spent::none(limit),
            why: None,
            closing: false,
        }
    }

    /// What follows from `input` at `now`. `random` is in `[0, 1)`; it spreads the pause before a restart.
    pub fn on(&mut self, input: ServiceInput, now: Uptime, random: f64) -> Steps {
        let mut steps = Steps::default();
        let of = self.epoch;
        match input {
            ServiceInput::Acquire { holder, asker, needed } => {
                self.acquire(holder, asker, needed, now, &mut steps);
            }
            ServiceInput::Ask { asker, needed } => self.ask(asker, needed, now, &mut steps),
            ServiceInput::Release { holder } => self.release(&holder, now),
            ServiceInput::Launched { epoch } => self.launched(epoch, now, &mut steps),
            ServiceInput::LaunchFailed { epoch, why, permanent } if epoch == of => {
                if matches!(&self.phase, Phase::Starting(start) if start.is_launching()) {
                    self.crash(why, permanent, now, &mut steps);
                }
            }
            ServiceInput::Exited { epoch, why } if epoch == of => {
                self.exited(why, now, &mut steps);
            }
            ServiceInput::Probed { epoch, probe, verdict } if epoch == of => {
                if let Some((_, began)) = self.probe.take_if(|(number, _)| *number == probe) {
                    self.probed(verdict, began, now, &mut steps);
                }
            }
            ServiceInput::DrainConfirmed { epoch } if epoch == of => {
                if matches!(self.phase, Phase::Draining(Stopping::Asked { .. })) {
                    self.stop(now, &mut steps);
                }
            }
            ServiceInput::Cleaned { epoch, failed } if epoch == of => {
                self.cleaned(failed, now, random, &mut steps);
            }
            ServiceInput::Found { epoch, verdict } if epoch == of => {
                self.found(verdict, now, &mut steps);
            }
            ServiceInput::LaunchFailed { .. }
            | ServiceInput::Exited { .. }
            | ServiceInput::Probed { .. }
            | ServiceInput::DrainConfirmed { .. }
            | ServiceInput::Cleaned { .. }
            | ServiceInput::Found { .. } => {}
            ServiceInput::Due => self.due(now, random, &mut steps),
            ServiceInput::Shutdown => self.shutdown(now, &mut steps),
        }
        self.serve_askers(now, &mut steps);
        self.check();
        steps
    }

    /// Starts one that has failed, with a fresh budget.
    ///
    /// # Errors
    ///
    /// [`NotFailed`] in any other state, and during a shutdown.
    pub fn restart(&mut self, now: Uptime) -> Result<Steps, NotFailed> {
        if !matches!(self.phase, Phase::Failed) || self.closing {
            return Err(NotFailed { from: self.state() });
        }
        self.spent = Spent::none(self.spent.restarts.limit());
        let mut steps = Steps::default();
        self.start(now, &mut steps);
        Ok(steps)
    }

    /// Its state.
    pub fn state(&self) -> ServiceState {
        self.phase.state()
    }

    /// Its life.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What was used up of its budget.
    pub fn spent(&self) -> &Spent {
        &self.spent
    }

    /// What a shell that was lost had counted goes on to count: with a new one no budget begins anew.
    pub fn has_spent(&mut self, spent: Spent) {
        self.spent = spent;
    }

    /// Who holds it.
    pub fn holders(&self) -> &BTreeSet<Holder> {
        &self.holders
    }

    /// Whether nothing is there, nothing is under way, and nothing will begin by itself.
    pub fn is_at_rest(&self) -> bool {
        match &self.phase {
            Phase::Stopped | Phase::Failed => true,
            Phase::Crashed(cleaning) => cleaning.is_over(),
            Phase::Starting(_)
            | Phase::Ready(_)
            | Phase::Degraded(_)
            | Phase::Draining(_)
            | Phase::Finding(_) => false,
        }
    }

    /// Whether it is looked for what is left of it.
    pub fn is_finding(&self) -> bool {
        matches!(self.phase, Phase::Finding(_))
    }

    /// Whether a look at it is under way, a probe or that at what is left of it.
    pub fn is_looked_at(&self) -> bool {
        self.probe.is_some() || self.is_finding()
    }

    /// What there is to see at `now`.
    pub fn status(&self, now: Uptime) -> ServiceStatus {
        ServiceStatus {
            state: self.state(),
            epoch: self.epoch,
            holds: self.holders.len(),
            health: self.health.clone(),
            why: self.why.clone(),
            restarts: self.spent.restarts.in_window(now),
        }
    }

    /// When it wants [`ServiceInput::Due`]; none when it waits for nothing but inputs.
    pub fn wake_at(&self) -> Option<Uptime> {
        let probe_lost = self.probe.map(|(_, began)| self.lost_at(began));
        match &self.phase {
            Phase::Stopped | Phase::Failed => None,
            Phase::Starting(start) => {
                let step = start.step_due(self.probe.is_some());
                [Some(start.until()), step, probe_lost].into_iter().flatten().min()
            }
            Phase::Ready(up) | Phase::Degraded(up) => {
                let next = probe_lost.unwrap_or(up.next_probe);
                [Some(next), self.idle_due(up)].into_iter().flatten().min()
            }
            Phase::Draining(stopping) => Some(stopping.due()),
            Phase::Crashed(cleaning) => cleaning.due(),
            Phase::Finding(finding) => Some(finding.until),
        }
    }

    fn lost_at(&self, began: Uptime) -> Uptime {
        began + self.terms.probe_within() + PROBE_SLACK
    }

    fn idle_due(&self, up: &Up) -> Option<Uptime> {
        up.idle_since.map(|since| since + self.terms.idle_stop)
    }

    fn acquire(
        &mut self,
        holder: Holder,
        asker: Asker,
        needed: Uptime,
        now: Uptime,
        steps: &mut Steps,
    ) {
        let is_new = !self.holders.contains(&holder);
        let full = is_new && self.holders.len() >= self.terms.holds_max;
        if self.closing || full {
            let why = if full { "as many as may hold it do" } else { "the runtime ends" };
            steps.answer(asker, self.refusal(now, why.into()));
            return;
        }
        self.holders.insert(holder);
        match &mut self.phase {
            Phase::Stopped => self.start(now, steps),
            Phase::Ready(up) | Phase::Degraded(up) => up.idle_since = None,
            // Nothing has been stopped yet, so that it goes on as it is.
            Phase::Draining(Stopping::Asked { .. }) => self.serve(now, steps),
            Phase::Draining(_)
            | Phase::Starting(_)
            | Phase::Crashed(_)
            | Phase::Failed
            | Phase::Finding(_) => {}
        }
        self.ask(asker, needed, now, steps);
    }

    /// Answers where the verdict that is known may decide, and where there is nothing to look at.
    fn ask(&mut self, asker: Asker, needed: Uptime, now: Uptime, steps: &mut Steps) {
        if self.askers.len() >= ASKERS_MAX && !self.askers.contains_key(&asker) {
            steps.answer(asker, self.refusal(now, "too many wait for the same probe".into()));
        } else {
            self.askers.insert(asker, needed);
        }
    }

    /// Whoever can be answered is; for the others there is a probe.
    fn serve_askers(&mut self, now: Uptime, steps: &mut Steps) {
        for (asker, needed) in std::mem::take(&mut self.askers) {
            match self.admission(needed, now) {
                Some(admission) => steps.answer(asker, admission),
                None => drop(self.askers.insert(asker, needed)),
            }
        }
        if !self.askers.is_empty() && !self.is_looked_at() {
            self.begin_probe(now, steps);
        }
    }

    /// What it is to whoever needs it, for as long as nothing happens to it.
    pub fn offer(&self) -> Offer {
        let retry_at = match &self.phase {
            Phase::Failed => None,
            Phase::Crashed(cleaning) if cleaning.is_over() => None,
            Phase::Ready(up) | Phase::Degraded(up) => Some(up.next_probe),
            Phase::Stopped
            | Phase::Starting(_)
            | Phase::Draining(_)
            | Phase::Crashed(_)
            | Phase::Finding(_) => Some(self.wake_at().unwrap_or(Uptime::ZERO)),
        };
        Offer {
            state: self.state(),
            epoch: self.epoch,
            is_finding: self.is_finding(),
            admit_degraded: self.terms.admit_degraded,
            health_ttl: self.terms.health_ttl,
            health: self.health.clone(),
            retry_at,
            why: self.why.clone(),
        }
    }

    /// None when a probe must tell first.
    fn admission(&self, needed: Uptime, now: Uptime) -> Option<Admission> {
        self.offer().admission(needed, now)
    }

    fn refusal(&self, now: Uptime, why: Arc<str>) -> Admission {
        let Offer { state, retry_at, .. } = self.offer();
        Admission::NotReady { state, retry_at: retry_at.map(|at| at.max(now)), why }
    }

    fn release(&mut self, holder: &Holder, now: Uptime) {
        let was_last = self.holders.remove(holder) && self.holders.is_empty();
        if let Phase::Ready(up) | Phase::Degraded(up) = &mut self.phase
            && was_last
            && !self.terms.always_on
        {
            up.idle_since = Some(now);
        }
    }

    fn check(&self) {
        let waits = matches!(self.phase, Phase::Ready(_) | Phase::Degraded(_) | Phase::Finding(_));
        assert!(waits || self.askers.is_empty(), "askers of one that is {}", self.state());
        assert!(self.askers.is_empty() || self.is_looked_at(), "askers without a probe");
        assert!(self.is_at_rest() || self.wake_at().is_some(), "it waits for ever");
    }
}
