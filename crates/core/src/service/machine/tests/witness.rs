//! Somebody who watches a machine and knows nothing of its inside: what it is told, what it does, and what of it is
//! against a promise.

use std::collections::{BTreeMap, BTreeSet};

use super::{Do, verdict};
use crate::{
    Uptime,
    service::{
        Admission, Epoch, Holder, ServiceAction, ServiceInput, ServiceMachine, ServiceState,
        ServiceTerms, Steps, Verdict,
    },
};

#[derive(Clone, Debug)]
pub(super) struct Witness {
    pub(super) machine: ServiceMachine,
    pub(super) now: Uptime,
    pub(super) transitions: Vec<(ServiceState, ServiceState)>,
    terms: ServiceTerms,
    state: ServiceState,
    epoch: Epoch,
    held: BTreeSet<&'static str>,
    asked: BTreeMap<u64, Uptime>,
    last_asker: u64,
    /// The probe that is under way and when it began; one that was lost or of a life that is over is not.
    probe: Option<(Epoch, u64, Uptime)>,
    /// Of which life it was found healthy or at least alive, by probes that began then.
    found: Vec<(Epoch, Uptime, Verdict)>,
    /// The life that may have left something, and by when that is to be gone.
    left: Option<(Epoch, Uptime)>,
    stopping: Option<Epoch>,
    closing: bool,
}

impl Witness {
    pub(super) fn new(terms: ServiceTerms) -> Self {
        let now = Uptime::ZERO;
        let (machine, steps) = ServiceMachine::new(terms, now);
        let (state, epoch) = (ServiceState::Stopped, Epoch::ZERO);
        let mut witness = Self {
            machine,
            now,
            transitions: Vec::new(),
            terms,
            state,
            epoch,
            held: BTreeSet::new(),
            asked: BTreeMap::new(),
            last_asker: 0,
            probe: None,
            found: Vec::new(),
            left: None,
            stopping: None,
            closing: false,
        };
        witness.see(steps);
        witness
    }

    /// Whether it is worth going on from here.
    pub(super) fn has_moved(&self, before: &Self) -> bool {
        self.transitions.len() > before.transitions.len()
            || self.probe != before.probe
            || self.machine.wake_at() != before.machine.wake_at()
            || self.held != before.held
    }

    pub(super) fn take(&mut self, what: Do) {
        let epoch = self.machine.epoch();
        let input = match what {
            Do::Acquire(holder) => {
                if !self.closing {
                    self.held.insert(holder);
                }
                let (asker, needed) = self.asker();
                ServiceInput::Acquire { holder: Holder::new(holder), asker, needed }
            }
            Do::Ask => {
                let (asker, needed) = self.asker();
                ServiceInput::Ask { asker, needed }
            }
            Do::Release(holder) => {
                self.held.remove(holder);
                ServiceInput::Release { holder: Holder::new(holder) }
            }
            Do::Launched => ServiceInput::Launched { epoch },
            Do::LaunchFailed { permanent } => {
                ServiceInput::LaunchFailed { epoch, why: "no".into(), permanent }
            }
            Do::Exited => ServiceInput::Exited { epoch, why: "code 1".into() },
            Do::Healthy | Do::Unready | Do::Unresponsive | Do::Gone => {
                let Some((epoch, probe, began)) = self.probe.take() else { return };
                self.found.push((epoch, began, verdict(what)));
                ServiceInput::Probed { epoch, probe, verdict: verdict(what) }
            }
            Do::DrainConfirmed => ServiceInput::DrainConfirmed { epoch },
            Do::Cleaned { failed } => {
                self.left = None;
                ServiceInput::Cleaned { epoch, failed: failed.then(|| "busy".into()) }
            }
            Do::Due => {
                let Some(due) = self.machine.wake_at() else { return };
                assert!(due >= self.now || self.state == ServiceState::Starting, "woken late");
                self.now = self.now.max(due);
                let lost = self.terms.probe_within() + super::super::PROBE_SLACK;
                if let Some((epoch, _, began)) = self.probe.take_if(|(_, _, at)| *at + lost <= due)
                {
                    let lifeless = Verdict::Unresponsive("lost".into());
                    self.found.push((epoch, began, lifeless));
                }
                ServiceInput::Due
            }
            Do::Restart => {
                let refused = self.state != ServiceState::Failed || self.closing;
                match self.machine.restart(self.now) {
                    Ok(steps) => {
                        assert!(!refused, "started by an operator while {}", self.state);
                        self.see(steps);
                    }
                    Err(not_failed) => assert!(refused && not_failed.from == self.state),
                }
                return;
            }
            Do::Shutdown => {
                self.closing = true;
                ServiceInput::Shutdown
            }
            Do::Late => {
                let Some(before) = epoch.get().checked_sub(1) else { return };
                let earlier = (0..before).fold(Epoch::ZERO, |epoch, _| epoch.next());
                let steps =
                    self.machine.on(ServiceInput::Launched { epoch: earlier }, self.now, 0.5);
                assert_eq!(steps.actions, [ServiceAction::Remove { epoch: earlier }]);
                assert!(steps.events.is_empty());
                return;
            }
        };
        let steps = self.machine.on(input, self.now, 0.5);
        self.see(steps);
    }

    fn asker(&mut self) -> (u64, Uptime) {
        self.last_asker += 1;
        self.asked.insert(self.last_asker, self.now);
        (self.last_asker, self.now)
    }

    fn see(&mut self, steps: Steps) {
        for event in &steps.events {
            assert_eq!(event.from, self.state, "an event is missing: {event:?}");
            assert!(event.from.may_become(event.to), "{event:?}");
            let raised = event.from.raises_epoch(event.to);
            let expected = if raised { self.epoch.next() } else { self.epoch };
            assert_eq!(event.epoch, expected, "{event:?}");
            self.transitions.push((event.from, event.to));
            (self.state, self.epoch) = (event.to, event.epoch);
            if !matches!(self.state, ServiceState::Ready | ServiceState::Degraded) {
                self.probe = None;
            }
        }
        assert_eq!((self.state, self.epoch), (self.machine.state(), self.machine.epoch()));
        let states = steps.events.iter().map(|event| event.to).collect::<Vec<_>>();
        for action in steps.actions {
            self.perform(action, &states);
        }
        assert_eq!(self.machine.holders().len(), self.held.len());
    }

    fn perform(&mut self, action: ServiceAction, states: &[ServiceState]) {
        match action {
            ServiceAction::Find { .. } => panic!("its shell was not lost"),
            ServiceAction::Start { epoch, within } => {
                assert_eq!((epoch, within), (self.epoch, self.terms.ready_within));
                assert!(!self.closing, "started during a shutdown");
                let gone = self.left.is_none_or(|(_, until)| self.now >= until);
                assert!(gone, "started before {:?} was removed", self.left);
                assert!(states.contains(&ServiceState::Starting));
                self.left = None;
            }
            ServiceAction::Probe { epoch, probe } => {
                assert_eq!(epoch, self.epoch);
                assert_eq!(self.probe, None, "two probes at a time");
                self.probe = Some((epoch, probe, self.now));
            }
            ServiceAction::ConfirmDrain { epoch } => assert_eq!(epoch, self.epoch),
            ServiceAction::Stop { epoch, .. } => {
                let first = self.stopping != Some(epoch);
                assert!(!first || self.held.is_empty() || self.closing, "stopped while held");
                self.stopping = Some(epoch);
                self.probe = None;
            }
            ServiceAction::Remove { epoch } => {
                assert!(epoch <= self.epoch);
                if self.state == ServiceState::Crashed {
                    self.left = Some((epoch, self.now + self.terms.stop_within));
                }
                self.probe = None;
            }
            ServiceAction::Answer { asker, admission } => {
                let needed = self.asked.remove(&asker).expect("answered once, and only if asked");
                if let Admission::Ready { epoch } = admission {
                    self.must_be_admitted(epoch, needed);
                }
            }
        }
    }

    /// INV-23 and SM-50, from what was seen.
    fn must_be_admitted(&self, epoch: Epoch, needed: Uptime) {
        let degraded = self.state == ServiceState::Degraded && self.terms.admit_degraded;
        assert!(self.state == ServiceState::Ready || degraded, "admitted while {}", self.state);
        assert_eq!(epoch, self.epoch);
        let (of, began, verdict) = self.found.last().expect("admitted without a look");
        assert_eq!(*of, epoch, "admitted by a verdict on another life");
        assert!(*began >= needed, "admitted by a verdict from before the need");
        assert!(self.now.since(*began) < self.terms.health_ttl, "admitted by an old verdict");
        let serves = *verdict == Verdict::Healthy;
        assert!(serves || self.terms.admit_degraded && verdict.lives(), "{verdict:?}");
    }
}
