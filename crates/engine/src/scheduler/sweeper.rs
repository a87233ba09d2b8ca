//! Looks for nodes whose lease is over and gives back what they held, on a store that several nodes share.
//!
//! Any node does it for all runs; each death counts once (DUR-26, STO-53). Who goes on with the runs is decided
//! elsewhere: [`super::ownership`] takes over those whose owner is gone.

use std::{sync::Arc, time::Duration};

use perennial_core::retry::Jitter;
use perennial_supervision::{ChildSpec, Restart};
use serde_json::json;

use crate::{Services, published::Published};

pub(super) fn child_spec(services: Services) -> ChildSpec {
    let published = Arc::new(Published::default());
    let shown = published.clone();
    let child = ChildSpec::task("sweeper", move || {
        let (services, published) = (services.clone(), published.clone());
        async move {
            sweep(&services, &published).await;
            Ok::<(), String>(())
        }
    });
    child.restart(Restart::Permanent).detail(move || shown.read())
}

async fn sweep(services: &Services, published: &Published) {
    let terms = services.membership.terms();
    let (mut sweeps, mut rescued) = (0_u64, 0_usize);
    loop {
        tokio::time::sleep(pause(terms.sweep_every, services.jitter())).await;
        if services.is_draining() || !services.membership.may_work() {
            continue;
        }
        let found = services.store.rescue(None, services.settings.rescue_batch);
        let store = match tokio::time::timeout(terms.ttl, found).await {
            Ok(Ok(found)) => {
                // Those whose end is a decision stay until their run's actor has made it.
                let given_back = found.iter().filter(|job| !job.exhausted).count();
                rescued += given_back;
                if given_back > 0 {
                    tracing::info!(jobs = given_back, "jobs of dead nodes given back");
                    services.look_again.notify_one();
                }
                "read"
            }
            Ok(Err(error)) => {
                // They are still there for the next round.
                tracing::warn!(%error, "nodes not swept");
                "away"
            }
            Err(_) => "away",
        };
        sweeps += 1;
        published.publish(json!({ "sweeps": sweeps, "rescued": rescued, "store": store }));
    }
}

/// Give or take a fifth, so that nodes do not come together.
fn pause(every: Duration, jitter: f64) -> Duration {
    Jitter::Range(80, 120).of(every, jitter)
}
