//! Who this process is on its store, and how sure it may be of that.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use perennial_core::{Timestamp, Uptime};
use perennial_store::{Leases, NodeRef, Registered};
use perennial_supervision::Clock;
use tokio::sync::Notify;

use crate::scheduler::LeaseTerms;

/// Earlier incarnations that are remembered, the newest.
const EARLIER_MAX: usize = 64;

/// Shared by whoever acts for this node; cheap to clone. What it answers follows from the clock, so that a
/// keeper that is late makes nobody bold.
#[derive(Clone, Debug)]
pub(crate) struct Membership(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Clock,
    leases: Leases,
    terms: LeaseTerms,
    standing: Mutex<Standing>,
    /// Notified when it has joined.
    joined: Notify,
    /// Notified when the store has said that it does not live.
    doubted: Notify,
}

#[derive(Debug)]
struct Standing {
    node: Option<NodeRef>,
    is_lost: bool,
    /// When the last renewal that succeeded was sent.
    confirmed: Uptime,
    until: Option<Timestamp>,
    earlier: VecDeque<u64>,
}

/// Where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Joined {
    /// Nobody has registered it yet.
    NotYet,
    /// As this incarnation.
    As(NodeRef),
    /// It lost this one, and is not registered again yet.
    Lost(NodeRef),
}

impl Membership {
    pub(crate) fn new(clock: Clock, leases: Leases, terms: LeaseTerms) -> Self {
        let standing = Mutex::new(Standing {
            node: None,
            is_lost: false,
            confirmed: clock.now(),
            until: None,
            earlier: VecDeque::new(),
        });
        let (joined, doubted) = (Notify::new(), Notify::new());
        Self(Arc::new(Inner { clock, leases, terms, standing, joined, doubted }))
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.0.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn leases(&self) -> Leases {
        self.0.leases
    }

    pub(crate) fn terms(&self) -> LeaseTerms {
        self.0.terms
    }

    pub(crate) fn joined(&self) -> Joined {
        let standing = self.standing();
        match &standing.node {
            None => Joined::NotYet,
            Some(node) if standing.is_lost => Joined::Lost(node.clone()),
            Some(node) => Joined::As(node.clone()),
        }
    }

    /// Its last incarnation, whether it lives or not.
    pub(crate) fn incarnation(&self) -> Option<NodeRef> {
        self.standing().node.clone()
    }

    pub(crate) fn confirmed(&self) -> (Uptime, Option<Timestamp>) {
        let standing = self.standing();
        (standing.confirmed, standing.until)
    }

    /// Whom to claim for: nobody unless the lease is safely live (DUR-11).
    pub(crate) fn claimant(&self) -> Option<NodeRef> {
        let node = self.standing().node.clone();
        node.filter(|_| self.is_within(self.0.terms.stop_claims_after))
    }

    /// Whether anything may be under way here, and reported.
    pub(crate) fn may_work(&self) -> bool {
        self.is_within(self.0.terms.stop_work_after)
    }

    fn is_within(&self, length: std::time::Duration) -> bool {
        let standing = self.standing();
        let is_safe = match self.0.leases {
            Leases::Proven => true,
            Leases::Timed => self.0.clock.now().since(standing.confirmed) < length,
        };
        standing.node.is_some() && !standing.is_lost && is_safe
    }

    /// Whether `node` is an earlier incarnation of this process.
    pub(crate) fn was(&self, node: &NodeRef) -> bool {
        let standing = self.standing();
        standing.node.as_ref().is_some_and(|own| own.node == node.node)
            && standing.earlier.contains(&node.incarnation)
    }

    /// It was registered by what was sent at `sent`.
    pub(crate) fn join(&self, registered: &Registered, sent: Uptime) {
        let mut standing = self.standing();
        standing.node = Some(registered.node.clone());
        standing.is_lost = false;
        standing.confirmed = sent;
        standing.until = registered.until;
        drop(standing);
        self.0.joined.notify_waiters();
    }

    /// A renewal that was sent at `sent` succeeded.
    pub(crate) fn confirm(&self, sent: Uptime, until: Option<Timestamp>) {
        let mut standing = self.standing();
        standing.confirmed = standing.confirmed.max(sent);
        standing.until = until;
    }

    /// It does not live any more.
    pub(crate) fn lose(&self) {
        let mut standing = self.standing();
        let incarnation = standing.node.as_ref().map(|node| node.incarnation);
        if let (Some(incarnation), false) = (incarnation, standing.is_lost) {
            standing.is_lost = true;
            standing.earlier.push_back(incarnation);
            if standing.earlier.len() > EARLIER_MAX {
                standing.earlier.pop_front();
            }
        }
    }

    /// Waits until it is registered again, if it is not.
    pub(crate) async fn joined_again(&self) -> NodeRef {
        loop {
            let mut joined = std::pin::pin!(self.0.joined.notified());
            joined.as_mut().enable();
            if let Joined::As(node) = self.joined() {
                return node;
            }
            joined.await;
        }
    }

    /// The store said that this node does not live: the keeper shall ask.
    pub(crate) fn doubt(&self) {
        self.0.doubted.notify_one();
    }

    pub(crate) async fn doubted(&self) {
        self.0.doubted.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    const L: Duration = Duration::from_secs(10);
    const MOMENT: Duration = Duration::from_millis(1);

    fn joined(clock: Clock, leases: Leases) -> Membership {
        let membership = Membership::new(clock, leases, LeaseTerms::of(L));
        assert_eq!(sure(&membership), (false, false), "nobody has registered it");
        let node = NodeRef { node: "n".to_owned(), incarnation: 1 };
        membership.join(&Registered { node, until: None, ended: Vec::new() }, clock.now());
        membership
    }

    /// Whether it may claim, and work.
    fn sure(membership: &Membership) -> (bool, bool) {
        (membership.claimant().is_some(), membership.may_work())
    }

    /// DUR-11, DUR-21: to the moment, whether a keeper has noticed or not.
    /// Proves INV-ST-13.
    #[tokio::test(start_paused = true)]
    async fn how_sure_a_node_is_follows_from_the_clock() {
        let clock = Clock::start();
        let membership = joined(clock, Leases::Timed);
        let mut passed = Duration::ZERO;
        for (until, expected) in [
            (L * 6 / 10 - MOMENT, (true, true)),
            (L * 6 / 10, (false, true)),
            (L * 8 / 10 - MOMENT, (false, true)),
            (L * 8 / 10, (false, false)),
        ] {
            advance(until - passed).await;
            passed = until;
            assert_eq!(sure(&membership), expected, "{until:?}");
        }
        // A renewal counts from when it was sent, however late its answer comes; an older one takes nothing back.
        let (before, sent) = (membership.confirmed().0, clock.now());
        advance(L * 7 / 10).await;
        membership.confirm(sent, None);
        assert_eq!(sure(&membership), (false, true));
        membership.confirm(clock.now(), None);
        membership.confirm(before, None);
        assert_eq!(sure(&membership), (true, true));
        membership.lose();
        assert_eq!(sure(&membership), (false, false));
    }

    #[tokio::test(start_paused = true)]
    async fn where_one_process_holds_the_store_no_time_counts() {
        let membership = joined(Clock::start(), Leases::Proven);
        advance(L * 10).await;
        assert_eq!(sure(&membership), (true, true));
    }
}
