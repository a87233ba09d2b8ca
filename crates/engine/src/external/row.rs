//! What an actor reads of its instance when it begins, and keeps of it at each transition (DUR-80, DUR-83).

use perennial_core::service::{
    Epoch, Holder, ServiceEvent, ServiceInput, ServiceMachine, ServiceState, ServiceTerms, Steps,
};
use perennial_store::{HoldOf, HoldRecord, InstanceStep, InstanceStepped, NodeRef, StoreError};
use perennial_supervision::{ServerCx, actor::ActorError};
use perennial_tools::service::InstanceNote;

use super::{
    actor::{Keeper, ServiceActor},
    calls::Opened,
    hold::NotReady,
};
use crate::patience::{STORE_WITHIN, once, patiently};

/// So often another process may come first while an actor begins.
const TRIES: u32 = 5;

/// Whose an instance is, as this actor knows it.
#[derive(Clone, Debug)]
pub(super) enum Standing {
    /// This process's: it starts and stops it.
    Keeper {
        /// The life and the keeper of its row; none when it has none.
        row: Option<(Epoch, NodeRef)>,
    },
    /// That of another process, which lives: here it is used where the driver finds it.
    Guest {
        /// The life and the keeper of its row.
        row: (Epoch, NodeRef),
    },
}

impl Standing {
    pub(super) fn is_guest(&self) -> bool {
        matches!(self, Self::Guest { .. })
    }
}

/// What an actor begins with.
pub(super) struct Stood {
    pub(super) standing: Standing,
    pub(super) machine: ServiceMachine,
    pub(super) begin: Steps,
    pub(super) is_held_elsewhere: bool,
    pub(super) noted: Option<InstanceNote>,
    pub(super) breaker: Option<Opened>,
}

/// What came of writing a row.
#[must_use]
pub(super) enum Kept {
    Done,
    /// It may not be stopped: another process holds it.
    Held,
    /// Another process has changed it.
    Lost,
}

/// All holds that this process does not know are one to the machine.
pub(super) fn elsewhere() -> Holder {
    Holder::new("elsewhere")
}

/// Reads whose the instance is and who holds it; one whose keeper is gone is taken over.
pub(super) async fn stand(its: &Keeper) -> Result<Stood, StoreError> {
    let store = &its.engine.store;
    let terms = its.declared.terms;
    for _ in 0..TRIES {
        let me = its.engine.node().await?;
        for of in its.ledger.held_by() {
            match hold(its, of).await {
                // Whose hold it is has ended: it is given back soon.
                Ok(()) | Err(StoreError::StaleAttempt { .. } | StoreError::NotFound { .. }) => {}
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let row = patiently(STORE_WITHIN, || store.instance(its.key.clone())).await?;
        if let Some((row, until)) =
            row.as_ref().and_then(|row| Some((row, row.breaker_open_until?)))
        {
            let why = row.cause.as_deref().unwrap_or("it was open");
            its.calls.restore(&its.key, until, why, store.now());
        }
        let breaker = its.calls.opened(&its.key);
        let is_held_elsewhere = is_held_elsewhere(its).await?;
        let mut holders = its.ledger.holders();
        let was =
            row.as_ref().map_or((ServiceState::Stopped, Epoch::ZERO), |row| (row.state, row.epoch));
        let why = row.as_ref().and_then(|row| row.cause.clone());
        let noted = row.as_ref().and_then(|row| row.instance.as_deref());
        let noted = noted.and_then(|text| serde_json::from_str(text).ok());
        let runs = runs(was.0);
        // Also under the incarnation that it had before it lost its lease.
        let is_ours = row.as_ref().is_some_and(|row| row.keeper.node == me.node);
        let standing = match row {
            Some(row) if runs && row.keeper != me && row.keeper_lives => {
                Standing::Guest { row: (row.epoch, row.keeper) }
            }
            Some(row) if runs && row.keeper != me => {
                let step = InstanceStep {
                    key: row.key,
                    was: Some((row.epoch, row.keeper)),
                    keeper: me.clone(),
                    state: row.state,
                    epoch: row.epoch,
                    instance: row.instance,
                    breaker_open_until: row.breaker_open_until,
                    cause: row.cause,
                    unless_held: false,
                };
                match patiently(STORE_WITHIN, || store.step_instance(step.clone())).await {
                    Ok(_) => Standing::Keeper { row: Some((was.1, me)) },
                    Err(StoreError::Conflict { .. }) => continue,
                    Err(error) => return Err(error),
                }
            }
            Some(row) => Standing::Keeper { row: Some((row.epoch, row.keeper)) },
            None => Standing::Keeper { row: None },
        };
        // Who is not the keeper stops nothing, so that others' holds are not its own.
        let is_held_elsewhere = is_held_elsewhere && !standing.is_guest();
        holders.extend(is_held_elsewhere.then(elsewhere));
        let now = its.engine.clock.now();
        // What a guest looks for in vain is no life that was lost, and nothing to give up.
        let restarts_max = if standing.is_guest() { u32::MAX } else { terms.restarts_max };
        let terms = ServiceTerms { restarts_max, ..terms };
        let (mut machine, begin) =
            ServiceMachine::recovered(terms, was, why.as_deref(), holders, now);
        // Counted by an earlier actor, unless another process has kept it since.
        its.ledger
            .spent()
            .filter(|_| is_ours)
            .into_iter()
            .for_each(|spent| machine.has_spent(spent));
        return Ok(Stood { standing, machine, begin, is_held_elsewhere, noted, breaker });
    }
    Err(StoreError::Conflict { what: format!("service {}", its.key) })
}

/// Whether a hold counts that this process does not know.
pub(super) async fn is_held_elsewhere(its: &Keeper) -> Result<bool, StoreError> {
    let holds = patiently(STORE_WITHIN, || its.engine.store.holds(its.key.clone())).await?;
    Ok(holds.iter().any(|hold| hold.lives && !its.ledger.holds(&hold.holder)))
}

/// Whether an attempt elsewhere, or another process, holds it; not when that cannot be told.
pub(super) async fn is_used_elsewhere(its: &Keeper) -> bool {
    let holds = once(its.engine.store.holds(its.key.clone())).await.unwrap_or_default();
    let is_used = |hold: &HoldRecord| hold.lives && (hold.attempt.is_some() || hold.node.is_some());
    holds.iter().any(|hold| is_used(hold) && !its.ledger.holds(&hold.holder))
}

/// Whether there may be something of it that its keeper looks after.
fn runs(state: ServiceState) -> bool {
    !matches!(state, ServiceState::Stopped | ServiceState::Failed)
}

/// Whether its row says that it has failed, whoever kept it.
pub(super) async fn has_failed(its: &Keeper) -> Result<bool, StoreError> {
    let row = patiently(STORE_WITHIN, || its.engine.store.instance(its.key.clone())).await?;
    Ok(row.is_some_and(|row| row.state == ServiceState::Failed))
}

/// Whether the row that a guest goes by is another one now, or nobody keeps it; or that of one that has failed, which another
/// process may have started by hand.
pub(super) async fn has_moved(
    its: &Keeper,
    standing: &Standing,
    state: ServiceState,
) -> Result<bool, StoreError> {
    let (known, is_guest) = match standing {
        Standing::Guest { row } => (row, true),
        Standing::Keeper { row: Some(row) } if state == ServiceState::Failed => (row, false),
        Standing::Keeper { .. } => return Ok(false),
    };
    match once(its.engine.store.instance(its.key.clone())).await {
        Ok(Some(row)) => {
            let is_as_known =
                if is_guest { row.keeper_lives && runs(row.state) } else { row.state == state };
            Ok((row.epoch, row.keeper) != *known || !is_as_known)
        }
        Ok(None) => Ok(true),
        // It is looked again.
        Err(error) if error.is_transient() => Ok(false),
        Err(error) => Err(error),
    }
}

pub(super) async fn hold(its: &Keeper, of: HoldOf) -> Result<(), StoreError> {
    patiently(STORE_WITHIN, || its.engine.store.hold(of.clone(), its.key.clone())).await
}

pub(super) async fn unhold(its: &Keeper, of: HoldOf) -> Result<bool, StoreError> {
    patiently(STORE_WITHIN, || its.engine.store.unhold(of.clone(), its.key.clone())).await
}

impl ServiceActor {
    /// Reads anew whose the instance is, and begins there. Whoever waits is told to come again.
    pub(super) async fn stand_again(&mut self) -> Result<Steps, ActorError> {
        let now = self.its.engine.clock.now();
        for (_, reply) in self.answers.drain() {
            let (state, why) = (self.machine.state(), "another process has changed it".into());
            reply.send(Ok(Err(NotReady { state, retry_at: Some(now), why })));
        }
        self.end_tasks().await;
        let stood = stand(&self.its).await?;
        (self.machine, self.standing, self.stood) = (stood.machine, stood.standing, now);
        (self.is_held_elsewhere, self.noted) = (stood.is_held_elsewhere, stood.noted);
        self.breaker = stood.breaker;
        self.clear().await;
        self.its.ledger.note(&self.machine, &self.standing);
        Ok(stood.begin)
    }

    /// What follows from a hold that this process has not taken.
    pub(super) fn is_held_elsewhere(&mut self) -> Steps {
        self.is_held_elsewhere = true;
        self.askers += 1; // nobody waits for this answer
        let (holder, needed) = (elsewhere(), self.its.engine.clock.now());
        self.decide(ServiceInput::Acquire { holder, asker: self.askers, needed })
    }

    /// Whether it is looked again by itself whose it is and who holds it.
    pub(super) fn looks(&self) -> bool {
        let has_failed = self.machine.state() == ServiceState::Failed;
        self.standing.is_guest() || self.is_held_elsewhere || has_failed
    }

    /// Whose the instance is, and whether somebody else holds it.
    pub(super) async fn look_elsewhere(
        &mut self,
        cx: &mut ServerCx<Self>,
    ) -> Result<(), ActorError> {
        if has_moved(&self.its, &self.standing, self.machine.state()).await? {
            let begin = self.stand_again().await?;
            self.perform(begin, cx).await?;
        } else if !self.standing.is_guest() {
            let is_held = match is_held_elsewhere(&self.its).await {
                // It is looked again.
                Err(error) if error.is_transient() && self.looks() => return Ok(()),
                read => read?,
            };
            match (self.is_held_elsewhere, is_held) {
                (true, false) => {
                    self.is_held_elsewhere = false;
                    self.input(ServiceInput::Release { holder: elsewhere() }, cx).await?;
                }
                (false, true) => {
                    let steps = self.is_held_elsewhere();
                    self.perform(steps, cx).await?;
                }
                (true, true) | (false, false) => {}
            }
        }
        Ok(())
    }

    /// Writes the row as the machine is now, before anything follows from it.
    pub(super) async fn keep_row(&mut self, events: &[ServiceEvent]) -> Result<Kept, StoreError> {
        if self.standing.is_guest() {
            return Ok(Kept::Done);
        }
        let me = self.its.engine.node().await?;
        let is_drain = events.last().is_some_and(|event| event.to == ServiceState::Draining);
        self.breaker = self.its.calls.opened(&self.its.key);
        let Standing::Keeper { row } = &self.standing else { return Ok(Kept::Done) };
        let step = self.step(row.clone(), me.clone(), is_drain);
        let store = &self.its.engine.store;
        match patiently(STORE_WITHIN, || store.step_instance(step.clone())).await {
            Ok(InstanceStepped::Done) => {
                self.standing = Standing::Keeper { row: Some((step.epoch, me)) };
                Ok(Kept::Done)
            }
            Ok(InstanceStepped::Held) => Ok(Kept::Held),
            Err(StoreError::Conflict { .. }) => Ok(Kept::Lost),
            Err(error) => Err(error),
        }
    }

    /// The same at the end of the runtime, which nothing holds up: what is not written is found by whoever comes next.
    pub(super) async fn keep_end(&self) {
        let Standing::Keeper { row: Some((epoch, me)) } = &self.standing else { return };
        let step = self.step(Some((*epoch, me.clone())), me.clone(), false);
        if let Err(error) = once(self.its.engine.store.step_instance(step)).await {
            tracing::warn!(service = %self.its.key, %error, "the end of a service was not kept");
        }
    }

    fn step(
        &self,
        was: Option<(Epoch, NodeRef)>,
        keeper: NodeRef,
        unless_held: bool,
    ) -> InstanceStep {
        let (state, epoch) = (self.machine.state(), self.machine.epoch());
        let instance = self.its.ledger.instance(epoch);
        let note = instance.and_then(|instance| serde_json::to_string(&instance.note()).ok());
        let why = self.machine.status(self.its.engine.clock.now()).why;
        let breaker = self.breaker.as_ref().map(|opened| opened.why.clone());
        InstanceStep {
            key: self.its.key.clone(),
            was,
            keeper,
            state,
            epoch,
            instance: note,
            breaker_open_until: self.breaker.as_ref().map(|opened| opened.until),
            cause: why.as_deref().map(str::to_owned).or(breaker),
            unless_held,
        }
    }
}
