//! What a run's actor claims: for whom, how much of it, and what its services and keys let in.

use perennial_store::{Admissions, Admits, Claims, Decision, NodeRef, StoreError};
use perennial_supervision::actor::ActorError;

use super::Shell;
use crate::{
    external::undeclared,
    patience::{STORE_WITHIN, persistently},
    rooms::Room,
    run::machine::{Machine, ServicesNow},
    services::AttemptId,
};

impl Shell {
    /// For whom jobs may be claimed: for nobody in a drain, without a place, or when this node's lease is not
    /// safely live (DUR-11).
    pub(super) fn claimant(&self) -> Option<NodeRef> {
        let may_begin = !self.services.is_draining() && self.services.places.holds(&self.run);
        self.services.membership.claimant().filter(|_| may_begin)
    }

    /// For whom turns are asked: that begins nothing, and so needs no place.
    fn looker(&self) -> Option<NodeRef> {
        self.services.membership.claimant().filter(|_| !self.services.is_draining())
    }

    /// Claims what is due, as far as there is room on this node, and what has waited for its turn.
    /// Whether that is worth another look at once.
    pub(super) async fn claim(&self, machine: &mut Machine) -> Result<bool, ActorError> {
        let rooms = &self.services.rooms;
        let most = self.services.settings.claim_batch;
        let (due, turns) = (machine.due(self.store().now(), most as usize), machine.asks_turns());
        let claimant = self.claimant().filter(|_| due + turns > 0);
        let room = match claimant {
            Some(_) => {
                // What waits for its turn takes what is free, and waits for no room before it can go: a run that waits for rooms
                // that it has no use for would be told of each that it gives back.
                let mut room = rooms.take(&self.run, due, machine.urgency());
                room.extend(rooms.take_free(turns.min((most as usize).saturating_sub(room.len()))));
                room
            }
            None => {
                rooms.leave(&self.run);
                Vec::new()
            }
        };
        // Whether it is its turn is asked without a place as well: it asks for one when it is.
        let node = claimant.or_else(|| self.looker().filter(|_| turns > 0));
        let limit = u32::try_from(room.len()).unwrap_or(most);
        let Some(node) = node.filter(|_| limit > 0 || turns > 0) else { return Ok(false) };
        let mut asked = 0;
        let mut admissions = self.services_now(machine).admissions;
        admissions.turns = turns > 0;
        admissions.order = machine.order(self.store().now(), self.services.settings.aging);
        let claim = || {
            asked += 1;
            self.store().claim_by(&self.run, &node, limit, admissions.clone())
        };
        let mut again = false;
        match persistently(STORE_WITHIN, claim).await {
            Ok(claims) => {
                let is_empty = due > 0 && limit > 0 && claims == Claims::default();
                let Claims { claimed, deferred, parked, admitted, ready, events } = claims;
                // Whoever follows the run would else read them, for it sees that they are missing.
                self.announce(&events);
                let now = self.store().now();
                let has_deferred = !deferred.is_empty();
                for (job, deferral) in deferred {
                    again |= deferral.until <= now;
                    machine.deferred(job, deferral, now);
                }
                // A turn may have come back since they began to wait.
                again |= !parked.is_empty() || !admitted.is_empty();
                for (job, deferral) in parked {
                    machine.parked(job, deferral, now);
                }
                for job in admitted {
                    machine.has_turn(job, now);
                }
                // They are due now, and wait for room.
                again |= !ready.is_empty();
                for job in ready {
                    machine.is_ready(job, now);
                }
                for (claimed, room) in claimed.into_iter().zip(room) {
                    machine.claimed(&claimed.lease, now);
                    self.begin(machine, claimed.lease, room).await?;
                }
                again |= has_deferred && machine.has_due(now);
                if asked > 1 || is_empty {
                    // An answer that was lost may have told of claims: nobody works on these, and while this node lives
                    // nobody else will. Also one that an earlier incarnation had asked for, and that was committed after
                    // this one had read the run: then there is nothing to be had where something is due.
                    machine.goes_on_as(self.reload().await?);
                    self.sweep(machine).await?;
                }
            }
            Err(StoreError::Conflict { what }) => {
                // Of the run, or of this node: the next look tries again.
                tracing::debug!(run = %self.run, what, "nothing claimed");
                self.services.membership.doubt();
            }
            Err(error) => return Err(error.into()),
        }
        Ok(again)
    }

    /// What the services of the host say of themselves, as far as the run asks.
    pub(super) fn services_now(&self, machine: &Machine) -> ServicesNow {
        if !machine.is_staged {
            return ServicesNow::default();
        }
        let keys = machine.asks_services(self.store().now());
        let Some(external) = self.services.external() else {
            // Nobody here ever has one of them.
            let at = self.store().now();
            let none = keys
                .into_iter()
                .map(|key| (key.clone(), undeclared(&key, "this host has no services", at)));
            let admissions = Admissions { services: none.collect(), ..Admissions::default() };
            return ServicesNow { admissions, ..ServicesNow::default() };
        };
        let admissions = if keys.is_empty() {
            Admissions::default()
        } else {
            let mut admissions = external.admissions(&self.run, keys);
            for (key, admits) in &mut admissions.services {
                // Who has been let in has no permit yet, maybe.
                if let Admits::UpTo { most, .. } = admits {
                    *most = most.saturating_sub(machine.is_let_in(key));
                }
            }
            admissions
        };
        ServicesNow { offered: external.offered(), admissions }
    }

    /// Says what is held for its jobs, and what not any more.
    pub(super) fn settle_services(&self, machine: &Machine) {
        if machine.uses_services()
            && let Some(external) = self.services.external()
        {
            external.settle(&self.run, &machine.holds_services());
        }
    }

    /// Leaves those new jobs of a decision unclaimed for which there is no room; answers the rooms of the
    /// others. An attempt whose end is decided here leaves its own, unless somebody waits for one. What comes after jobs that can be
    /// claimed waits for its claim, as they do.
    pub(super) fn make_room(&self, machine: &Machine, decision: &mut Decision) -> Vec<Room> {
        let rooms = &self.services.rooms;
        for job in &mut decision.new_jobs {
            if machine.has_before(job.part.priority) {
                job.claim_for = None;
            }
        }
        let claims = decision.new_jobs.iter_mut().filter(|job| job.claim_for.is_some());
        let claims: Vec<_> = claims.collect();
        let ended = decision
            .report
            .as_ref()
            .map(|report| AttemptId { job: report.lease.job, attempt: report.lease.attempt });
        let is_left = ended.is_some_and(|id| self.services.has_room(id)) && !rooms.has_queue();
        let free = rooms.take_free(claims.len().saturating_sub(usize::from(is_left)));
        let most = free.len() + usize::from(is_left);
        for job in claims.into_iter().skip(most) {
            job.claim_for = None;
        }
        free
    }
}
