//! Holds the lease of this node on a store that several nodes share.
//!
//! # Why a task
//!
//! A lease is renewed by the clock, whatever else this process is busy with; and its end must be noticed by
//! somebody who asks nobody. What follows from the time and from the answers is pure ([`machine`]).
//!
//! # Supervision
//!
//! A permanent child of `scheduler`, where the store says that nodes live by leases; else there is none.
//!
//! # What a restart forgets
//!
//! Its counters. Who this node is, and since when that is sure, is kept by the engine's services.
//!
//! # Guarantees
//!
//! Time is measured on the monotonic clock, from before a renewal was sent (DUR-21). Without an answer nothing is
//! claimed from 0.6 of the lease on, and no attempt is under way from 0.8 of it on: before anybody else may start
//! it. An incarnation whose lease was over is left: its attempts and its runs' actors are stopped, and the node
//! goes on as a new one.

mod machine;
mod terms;

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::future::join_all;
use perennial_core::Uptime;
use perennial_store::{NodeRef, Renewal, StoreError};
use perennial_supervision::{Address, ChildSpec, Restart};
use serde_json::{Value, json};

use self::machine::{Answer, Holding, Stage, Step};
pub use self::terms::{InvalidLease, LeaseTerms};
use super::{REPLY_WITHIN, ownership};
use crate::{Services, membership::Joined, published::Published};

/// The pause between two tries to join, each of which is patient itself.
const JOIN_AGAIN: Duration = Duration::from_secs(1);

pub(super) fn child_spec(services: Services, ownership: Address<ownership::Message>) -> ChildSpec {
    let published = Arc::new(Published::default());
    let (shown, of) = (published.clone(), services.clone());
    let child = ChildSpec::task("lease", move || {
        let (services, ownership) = (services.clone(), ownership.clone());
        let published = published.clone();
        async move {
            keep(&services, &ownership, &published).await;
            Ok::<(), String>(())
        }
    });
    child.restart(Restart::Permanent).detail(move || detail(&of, &shown))
}

/// How long ago the last renewal was sent, as it is now, with what was last published.
fn detail(services: &Services, published: &Published) -> Value {
    let mut detail = published.read();
    let unrenewed = services.clock.now().since(services.membership.confirmed().0);
    if let Some(fields) = detail.as_object_mut() {
        fields.insert("unrenewed_ms".to_owned(), json!(millis(unrenewed)));
    }
    detail
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

async fn keep(services: &Services, ownership: &Address<ownership::Message>, published: &Published) {
    let mut losses = 0_u64;
    loop {
        match services.membership.joined() {
            Joined::NotYet => joins(services.node().await).await,
            Joined::As(node) => {
                hold(services, &node, losses, published).await;
                if services.is_draining() {
                    // The drain has ended this incarnation, or will: the next start is another one.
                    stop_attempts(services).await;
                    std::future::pending::<()>().await;
                }
                tracing::error!(node = %node.node, incarnation = node.incarnation, "lease lost");
                services.membership.lose();
                losses += 1;
            }
            Joined::Lost(node) => {
                show(services, published, &node, "lost", None, losses);
                stop_attempts(services).await;
                let left = |reply| ownership::Message::NodeLost { reply };
                match ownership.call(left, REPLY_WITHIN).await {
                    Ok(()) => {
                        joins(services.rejoin().await).await;
                        services.look_again.notify_one();
                    }
                    // Nothing may be begun here before the runs are left.
                    Err(error) => {
                        tracing::warn!(%error, "runs not left yet");
                        tokio::time::sleep(JOIN_AGAIN).await;
                    }
                }
            }
        }
    }
}

/// One that cannot join tries again, however long that takes.
async fn joins(joined: Result<NodeRef, StoreError>) {
    if let Err(error) = joined {
        tracing::warn!(%error, "node not registered");
        tokio::time::sleep(JOIN_AGAIN).await;
    }
}

type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Renews the lease of `node` until it is lost.
async fn hold(services: &Services, node: &NodeRef, losses: u64, published: &Published) {
    let membership = &services.membership;
    let terms = membership.terms();
    let mut holding = Holding::new(terms, membership.confirmed().0);
    let mut sending: Option<Pending<'_, (Uptime, Answer)>> = None;
    let mut stopping: Option<Pending<'_, ()>> = None;
    loop {
        let stage = holding.stage();
        show(services, published, node, stage.name(), Some(&holding), losses);
        let wait = match holding.step(services.clock.now()) {
            Step::Rejoin => return,
            Step::Send => {
                sending = Some(Box::pin(renew(services, node)));
                continue;
            }
            Step::Enter(entered) => {
                tracing::warn!(from = stage.name(), to = entered.name(), "lease at another stage");
                match entered {
                    // What was stopped begins again.
                    Stage::Safe => services.look_again.notify_one(),
                    // Whoever claims asks for it by the clock.
                    Stage::ClaimsStopped => (),
                    Stage::WorkStopped => stopping = Some(Box::pin(stop_attempts(services))),
                }
                continue;
            }
            Step::Wait(wait) => wait,
        };
        tokio::select! {
            (sent, answer) = done(&mut sending) => {
                holding.heard(sent, answer, services.clock.now());
            }
            () = done(&mut stopping) => (),
            () = membership.doubted() => holding.doubt(services.clock.now()),
            () = tokio::time::sleep(wait) => (),
        }
    }
}

/// The end of what is under way; it is over then.
async fn done<T>(under_way: &mut Option<Pending<'_, T>>) -> T {
    let Some(future) = under_way else { return std::future::pending().await };
    let ended = future.await;
    *under_way = None;
    ended
}

/// Sends one renewal; answers when it was sent.
async fn renew(services: &Services, node: &NodeRef) -> (Uptime, Answer) {
    let terms = services.membership.terms();
    let sent = services.clock.now();
    let renewal = services.store.renew(node, terms.ttl);
    let answer = match tokio::time::timeout(terms.renew_every, renewal).await {
        Ok(Ok(Renewal::Extended { until })) => {
            services.membership.confirm(sent, until);
            Answer::Extended
        }
        Ok(Ok(Renewal::NodeLost) | Err(StoreError::NotFound { .. })) => Answer::Lost,
        Ok(Err(error)) => {
            tracing::warn!(%error, "lease not renewed");
            Answer::Failed
        }
        Err(_) => {
            tracing::warn!("lease not renewed: no answer in time");
            Answer::Failed
        }
    };
    (sent, answer)
}

/// Stops all attempts of this node; what they did is not reported.
async fn stop_attempts(services: &Services) {
    let under_way = services.under_way();
    if !under_way.is_empty() {
        tracing::warn!(attempts = under_way.len(), "attempts stopped: the lease is not live");
    }
    let tasks = under_way.into_keys().filter_map(|id| services.attempt(id));
    let stops = tasks.map(|task| async move {
        // One that has just ended is not found.
        drop(services.tasks.terminate_child(&task).await);
    });
    join_all(stops).await;
}

fn show(
    services: &Services,
    published: &Published,
    node: &NodeRef,
    stage: &str,
    holding: Option<&Holding>,
    losses: u64,
) {
    let terms = services.membership.terms();
    let until = services.membership.confirmed().1;
    published.publish(json!({
        "node": node.node,
        "incarnation": node.incarnation,
        "stage": stage,
        "until": until.map(|until| until.to_rfc3339()),
        "lease_ms": millis(terms.ttl),
        "renewals": holding.map(|holding| holding.renewals),
        "missed": holding.map(|holding| holding.missed),
        "losses": losses,
    }));
}
