use std::time::Duration;

use perennial_store::LEASE_TTL;

/// How this process is a node of a store that several nodes share. Where one process holds the store, nothing of
/// it is used.
///
/// ```
/// use perennial_engine::scheduler::{InvalidLease, LeaseTerms};
/// use std::time::Duration;
///
/// let terms = LeaseTerms::of(Duration::from_secs(30));
/// assert_eq!((terms.renew_every, terms.stop_work_after), (Duration::from_secs(10), Duration::from_secs(24)));
/// let late = LeaseTerms { stop_work_after: Duration::from_secs(30), ..terms };
/// assert_eq!(late.checked(), Err(InvalidLease::Order { first: "stop_work_after", then: "ttl" }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTerms {
    /// How long its lease lasts on the store's clock, from each renewal on; 10 s.
    pub ttl: Duration,
    /// How often it is renewed; a third of that.
    pub renew_every: Duration,
    /// Without a renewal for that long, counted from before the last one was sent, it claims nothing; 0.6 of it.
    pub stop_claims_after: Duration,
    /// And for that long, it stops its attempts and reports nothing; 0.8 of it.
    pub stop_work_after: Duration,
    /// How often it looks for nodes whose lease is over, give or take a fifth; 1 s.
    pub sweep_every: Duration,
    /// Nobody else uses its name: a start need not wait for the end of an earlier one's lease.
    pub exclusive: bool,
}

/// Terms that cannot be meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidLease {
    /// Nothing would ever be safe.
    #[error("the lease's `{0}` is zero")]
    Zero(&'static str),
    /// What must come first does not.
    #[error("the lease's `{first}` must be shorter than its `{then}`")]
    Order {
        /// What must come first.
        first: &'static str,
        /// What must come after it.
        then: &'static str,
    },
}

impl LeaseTerms {
    /// The usual parts of a lease of this length.
    pub fn of(ttl: Duration) -> Self {
        Self {
            ttl,
            renew_every: ttl / 3,
            stop_claims_after: ttl / 10 * 6,
            stop_work_after: ttl / 10 * 8,
            sweep_every: Duration::from_secs(1),
            exclusive: false,
        }
    }

    /// For how long nothing may be heard of a transaction of the node before what it has locked is given up. A node
    /// that is cut off has more than that left of its lease: when that is over, nothing of it keeps others from its work.
    ///
    /// ```
    /// use std::time::Duration;
    /// use perennial_engine::scheduler::LeaseTerms;
    ///
    /// let usual = LeaseTerms::of(Duration::from_secs(10));
    /// assert_eq!(usual.silence(), Duration::from_secs(5));
    /// // Renewed late, it has less left when it is cut off just before a renewal.
    /// let late = LeaseTerms { renew_every: Duration::from_secs(6), ..usual };
    /// assert_eq!(late.silence(), Duration::from_secs(4));
    /// ```
    pub fn silence(&self) -> Duration {
        self.ttl.saturating_sub(self.renew_every).min(self.ttl / 2)
    }

    /// Itself, if its parts come in their order.
    ///
    /// # Errors
    ///
    /// The first that does not.
    pub fn checked(self) -> Result<Self, InvalidLease> {
        let order = [
            ("renew_every", self.renew_every),
            ("stop_claims_after", self.stop_claims_after),
            ("stop_work_after", self.stop_work_after),
            ("ttl", self.ttl),
        ];
        for (name, length) in [order[0], ("sweep_every", self.sweep_every)] {
            if length.is_zero() {
                return Err(InvalidLease::Zero(name));
            }
        }
        for pair in order.windows(2) {
            if let [(first, shorter), (then, longer)] = *pair
                && shorter >= longer
            {
                return Err(InvalidLease::Order { first, then });
            }
        }
        Ok(self)
    }
}

impl Default for LeaseTerms {
    fn default() -> Self {
        Self::of(LEASE_TTL)
    }
}
