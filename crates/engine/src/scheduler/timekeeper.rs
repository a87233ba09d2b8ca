//! Waits: for timers that are due, for a restart of `runs`, for a nudge. Then says who should look.

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use perennial_core::{ExitReason, run::RunId};
use perennial_supervision::{
    Address, ChildSpec, Lifecycle, LifecycleEvent, LifecycleStream, Restart,
};

use super::{SchedulerSpec, ownership};
use serde_json::json;
use tokio::{sync::watch, time::Sleep};

use crate::{Services, monitor::Meter, patience::once, published::Published, run};

/// While the tree starts: nothing is taken over before it is up, and then at once.
const UP_EVERY: Duration = Duration::from_millis(10);
/// The shortest time between two looks that other nodes cause by what they write. The first one comes at once.
const HINTS_EVERY: Duration = Duration::from_millis(250);
/// Timers taken at a time.
const TIMERS_MAX: u32 = 256;

pub(super) fn child_spec(spec: SchedulerSpec, ownership: Address<ownership::Message>) -> ChildSpec {
    let published = Arc::new(Published::default());
    let shown = published.clone();
    let child = ChildSpec::task("timekeeper", move || {
        let (spec, ownership, published) = (spec.clone(), ownership.clone(), published.clone());
        async move { keep_time(&spec, &ownership, &published).await }
    });
    child.restart(Restart::Permanent).detail(move || shown.read())
}

async fn keep_time(
    spec: &SchedulerSpec,
    ownership: &Address<ownership::Message>,
    published: &Published,
) -> Result<(), perennial_store::StoreError> {
    let services = &spec.services;
    let poll_interval = services.settings.poll_interval;
    let mut lifecycle: Option<LifecycleStream> = None;
    let mut looks = 0_u64;
    let mut meter = Meter::start(services);
    let mut hints = services.store.changes();
    let mut calm = Box::pin(tokio::time::sleep(Duration::ZERO));
    let mut falls = Falls::default();
    // What is due and cannot be taken off must not make it look without a pause.
    let mut is_taken = true;
    loop {
        if lifecycle.is_none() {
            lifecycle = spec.lifecycle.get().map(|source| source.subscribe());
        }
        let due = once(services.store.next_due()).await;
        let store = if due.is_ok() { "read" } else { "away" };
        let pause = match due {
            Ok(Some(due)) if is_taken => due.since(services.store.now()).min(poll_interval),
            // Away for a moment, or nothing is due: looking again is the answer to both.
            Ok(_) | Err(_) => poll_interval,
        };
        let is_up = spec.lifecycle.get().is_some();
        let pause = if is_up { pause } else { pause.min(UP_EVERY) };
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        published.publish(json!({ "looks": looks, "pause_ms": pause_ms, "store": store }));
        looks += 1;
        tokio::select! {
            () = tokio::time::sleep(pause.min(meter.next(services))) => (),
            () = services.look_again.notified() => (),
            () = hinted(&mut hints, &mut calm) => (),
            () = restarted(&mut lifecycle, &mut falls, ownership) => (),
        }
        is_taken = take_due(services).await;
        meter.sample(services);
        // One that is away looks when it is back: the next round tells it.
        drop(ownership.cast(ownership::Message::Look));
        for address in services.run_addresses() {
            drop(address.cast(run::Message::Wake));
        }
    }
}

/// Returns when another node has written something since this was last asked, and then not again before it is `calm`
/// (STO-44): counted from there, so that a look for another reason puts nothing off.
async fn hinted(hints: &mut Option<watch::Receiver<u64>>, calm: &mut Pin<Box<Sleep>>) {
    let Some(changes) = hints else { return std::future::pending().await };
    if !calm.is_elapsed() {
        calm.as_mut().await;
    }
    if changes.changed().await.is_err() {
        *hints = None;
        std::future::pending().await
    }
    calm.set(tokio::time::sleep(HINTS_EVERY));
}

/// Returns when a supervisor of runs has (re)started; passes on which runs' actors are not restarted any more.
async fn restarted(
    lifecycle: &mut Option<LifecycleStream>,
    falls: &mut Falls,
    ownership: &Address<ownership::Message>,
) {
    let Some(stream) = lifecycle else { return std::future::pending().await };
    while let Some(Lifecycle { path, event, .. }) = stream.next().await {
        let mut parts = path.rsplit('/');
        let (id, parent) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let is_runs = |id: &str| id == "runs" || id == "monitors";
        if matches!(event, LifecycleEvent::Started { .. }) && is_runs(id) {
            return;
        }
        let Some(run) = RunId::parse(id).ok().filter(|_| parent == "runs") else { continue };
        if let LifecycleEvent::Exited { reason, .. } | LifecycleEvent::StartFailed { reason } =
            &event
        {
            falls.note(&run, reason);
        }
        if matches!(event, LifecycleEvent::BudgetSpent) {
            let why = falls.why(&run);
            drop(ownership.cast(ownership::Message::GaveUp { run, why }));
        }
    }
    *lifecycle = None;
}

/// How the actors of runs fell last, so that whoever hears that one is not restarted any more knows why.
#[derive(Debug, Default)]
struct Falls(VecDeque<(RunId, String)>);

impl Falls {
    /// Runs that are remembered: what falls again and again, and what fell meanwhile.
    const MAX: usize = 256;

    fn note(&mut self, run: &RunId, reason: &ExitReason) {
        if !reason.is_abnormal() {
            return;
        }
        self.0.retain(|(other, _)| other != run);
        self.0.push_back((run.clone(), reason.to_string()));
        if self.0.len() > Self::MAX {
            self.0.pop_front();
        }
    }

    fn why(&mut self, run: &RunId) -> String {
        let known = self.0.iter().position(|(other, _)| other == run);
        match known.and_then(|place| self.0.remove(place)) {
            Some((_, reason)) => format!("its actor failed too often, last with {reason}"),
            None => "its actor failed too often".to_owned(),
        }
    }
}

/// Takes the timers that are due off the store; whether nothing is left that could have been. Every live run looks for
/// what is due anyway; a timer only has to end the pause in time.
async fn take_due(services: &Services) -> bool {
    let now = services.store.now();
    match once(services.store.next_due()).await {
        Ok(due) if due.is_some_and(|due| due <= now) => (),
        Ok(_) => return true,
        Err(_) => return false,
    }
    match once(services.store.take_due_timers(TIMERS_MAX)).await {
        Ok(taken) => {
            tracing::debug!(timers = taken.len(), "timers due");
            true
        }
        // They are still there for the next look.
        Err(error) => {
            tracing::warn!(%error, "due timers not taken");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_actor_fell_of_last_is_told_once_and_not_remembered_for_ever() {
        let (mut falls, run) =
            (Falls::default(), |n: usize| RunId::parse(format!("r{n}")).unwrap());
        let error = |text: &str| ExitReason::Error(text.into());
        falls.note(&run(0), &error("first"));
        falls.note(&run(0), &error("second"));
        falls.note(&run(0), &ExitReason::Normal);
        assert_eq!(falls.why(&run(0)), "its actor failed too often, last with error: second");
        assert_eq!(falls.why(&run(0)), "its actor failed too often");
        for n in 0..=Falls::MAX {
            falls.note(&run(n), &error("again"));
        }
        assert_eq!(falls.0.len(), Falls::MAX);
        assert_eq!(falls.why(&run(0)), "its actor failed too often");
    }
}
