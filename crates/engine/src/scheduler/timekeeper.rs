//! Waits: for timers that are due, for a restart of `runs`, for a nudge. Then says who should look.

use std::{pin::Pin, sync::Arc, time::Duration};

use perennial_core::run::RunId;
use perennial_supervision::{
    Address, ChildSpec, Lifecycle, LifecycleEvent, LifecycleStream, Restart,
};

use super::{SchedulerSpec, ownership};
use serde_json::json;
use tokio::{sync::watch, time::Sleep};

use crate::{Services, monitor::Meter, published::Published, run};

/// The longest time between two looks (DUR-10).
const LOOK_EVERY: Duration = Duration::from_secs(1);
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
    let mut lifecycle: Option<LifecycleStream> = None;
    let mut looks = 0_u64;
    let mut meter = Meter::start(services);
    let mut hints = services.store.changes();
    let mut calm = Box::pin(tokio::time::sleep(Duration::ZERO));
    loop {
        if lifecycle.is_none() {
            lifecycle = spec.lifecycle.get().map(|source| source.subscribe());
        }
        let due = services.store.next_due().await;
        let store = if due.is_ok() { "read" } else { "away" };
        let pause = match due {
            Ok(Some(due)) => due.since(services.store.now()).min(LOOK_EVERY),
            // Away for a moment, or nothing is due: looking again is the answer to both.
            Ok(None) | Err(_) => LOOK_EVERY,
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
            () = restarted(&mut lifecycle, ownership) => (),
        }
        take_due(services).await;
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

/// Returns when a supervisor of runs has (re)started; passes on which runs gave up.
async fn restarted(
    lifecycle: &mut Option<LifecycleStream>,
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
        if matches!(event, LifecycleEvent::GaveUp { .. })
            && parent == "runs"
            && let Ok(run) = RunId::parse(id)
        {
            drop(ownership.cast(ownership::Message::GaveUp { run }));
        }
    }
    *lifecycle = None;
}

/// Takes the timers that are due off the store. Every live run looks for what is due anyway; a
/// timer only has to end the pause in time.
async fn take_due(services: &Services) {
    let now = services.store.now();
    if !services.store.next_due().await.is_ok_and(|due| due.is_some_and(|due| due <= now)) {
        return;
    }
    match services.store.take_due_timers(TIMERS_MAX).await {
        Ok(taken) => tracing::debug!(timers = taken.len(), "timers due"),
        // They are still there for the next look.
        Err(error) => tracing::warn!(%error, "due timers not taken"),
    }
}
