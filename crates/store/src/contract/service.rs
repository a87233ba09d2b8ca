//! Services as rows: which life an instance is in, who keeps it, and who holds it.

use std::time::Duration;

use perennial_core::{
    Timestamp,
    run::{Priority, RunId},
    service::{Epoch, Holder, ServiceKey, ServiceState},
};

use super::{AfterWait, Claimed, Deferral, EventRecord, Lease, NodeRef};

/// Whose a hold is: it lives as long as that does, and goes with its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldOf {
    /// Of an attempt: it goes in the transaction that ends the attempt, in whatever way.
    Attempt(Lease),
    /// Of a job: it goes when the job is terminal, or is suspended.
    Job {
        /// Its run.
        run: RunId,
        /// The job's row.
        job: i64,
    },
    /// Of a process, under a name of its choice of at most 256 bytes: it counts as long as the process lives.
    Node {
        /// The process.
        node: NodeRef,
        /// The name.
        name: Holder,
    },
}

impl HoldOf {
    /// Its name among those that hold the same instance.
    ///
    /// ```
    #[doc = include_str!("../../doc/recorded.txt")]
    /// use perennial_store::HoldOf;
    ///
    /// let of_job = HoldOf::Job { run, job: lease.job };
    /// assert_eq!(of_job.holder().as_str(), "job/1");
    /// assert_eq!(HoldOf::Attempt(lease).holder().as_str(), "job/1/1");
    /// # Ok(())
    /// # }
    /// ```
    pub fn holder(&self) -> Holder {
        match self {
            Self::Attempt(lease) => Holder::new(format!("job/{}/{}", lease.job, lease.attempt)),
            Self::Job { job, .. } => Holder::new(format!("job/{job}")),
            Self::Node { node, name } => {
                Holder::new(format!("node/{}/{}/{name}", node.node, node.incarnation))
            }
        }
    }
}

/// A hold as it is kept.
///
/// ```
#[doc = include_str!("../../doc/recorded.txt")]
/// use perennial_core::service::ServiceKey;
/// use perennial_store::HoldOf;
///
/// let app = ServiceKey::keyed("app", "7");
/// store.hold(HoldOf::Attempt(lease.clone()), app.clone()).await?;
/// let held = store.holds(app.clone()).await?.remove(0);
/// assert_eq!((held.job, held.attempt, held.lives), (Some(lease.job), Some(1), true));
/// store.release(&lease, "the host is going down").await?; // it goes with the attempt
/// assert!(store.holds(app).await?.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldRecord {
    /// Which instance.
    pub key: ServiceKey,
    /// Who holds it: [`HoldOf::holder`].
    pub holder: Holder,
    /// The job, if it is of one or of an attempt.
    pub job: Option<i64>,
    /// The attempt, if it is of one.
    pub attempt: Option<u32>,
    /// The process, if it is of one.
    pub node: Option<NodeRef>,
    /// Since when.
    pub since: Timestamp,
    /// Whether it counts: what it is of has not ended, and its process lives.
    pub lives: bool,
}

/// An instance of a service as it is kept.
///
/// ```
#[doc = include_str!("../../doc/instance.txt")]
/// let row = store.instance(key).await?.expect("it was written");
/// assert_eq!((row.state, row.epoch.get()), (ServiceState::Starting, 1));
/// assert!(row.keeper_lives);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceRecord {
    /// Which instance.
    pub key: ServiceKey,
    /// Its state when it was written last.
    pub state: ServiceState,
    /// Its life.
    pub epoch: Epoch,
    /// What its keeper wants to find again of what runs; the store never looks into it.
    pub instance: Option<String>,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// Until when nobody may call it.
    pub breaker_open_until: Option<Timestamp>,
    /// Why it is in this state, or the breaker is open.
    pub cause: Option<String>,
    /// Which process keeps it.
    pub keeper: NodeRef,
    /// Whether that lives.
    pub keeper_lives: bool,
}

/// What becomes of the row of an instance.
///
/// ```
#[doc = include_str!("../../doc/instance.txt")]
/// // Whoever found it as it was before is too late.
/// let late = store.step_instance(step.clone()).await;
/// assert_eq!(late, Ok(InstanceStepped::Done)); // the same once more changes nothing
/// let other = InstanceStep { epoch: Epoch::new(7), ..step };
/// assert!(matches!(store.step_instance(other).await, Err(StoreError::Conflict { .. })));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceStep {
    /// Which instance.
    pub key: ServiceKey,
    /// The life and the keeper that it had when it was read; none when it had no row. The condition of the write.
    pub was: Option<(Epoch, NodeRef)>,
    /// Who keeps it from now on.
    pub keeper: NodeRef,
    /// Its state.
    pub state: ServiceState,
    /// Its life, not before the one that it had.
    pub epoch: Epoch,
    /// See [`InstanceRecord::instance`]; at most 16 KiB.
    pub instance: Option<String>,
    /// See [`InstanceRecord::breaker_open_until`].
    pub breaker_open_until: Option<Timestamp>,
    /// See [`InstanceRecord::cause`]; cut to 4 KiB.
    pub cause: Option<String>,
    /// Only when no hold of it lives: an orderly stop.
    pub unless_held: bool,
}

/// What came of an [`InstanceStep`].
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceStepped {
    /// The row is as it was to be.
    Done,
    /// Nothing was written: somebody holds it.
    Held,
}

/// What a claimer knows of the services that jobs use: published values, no question to anybody (DUR-15).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admissions {
    /// Of each instance once. Jobs that use another are neither claimed nor deferred.
    pub services: Vec<(ServiceKey, Admits)>,
    /// Whether jobs of the run may wait for their turn with a key, or groups of it ask for theirs: then those whose turn it is
    /// are taken up.
    pub turns: bool,
    /// The priorities of those of its jobs that are due, in the order in which they come. None: by themselves, the most first.
    pub order: Vec<Priority>,
}

/// Whether an instance admits a job now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admits {
    /// It does.
    Yes,
    /// So many, and no more for now.
    UpTo {
        /// How many of one claim.
        most: u32,
        /// What is with the others.
        then: Closed,
    },
    /// It does not.
    No(Closed),
}

/// Why an instance admits nobody, and what becomes of who needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// What is waited for; cut to 4 KiB.
    pub cause: String,
    /// When it is looked for again, whatever happens meanwhile.
    pub wake_at: Timestamp,
    /// How long a job waits for it at most, over all its attempts in between.
    pub max_wait: Duration,
    /// What becomes of a child of a group then; any other job fails.
    pub then: AfterWait,
    /// It is waited for no longer at all.
    pub is_final: bool,
    /// Whether it is held for the job meanwhile, which starts it.
    pub hold: bool,
}

/// What came of a claim.
///
/// ```
#[doc = include_str!("../../doc/recorded.txt")]
/// use perennial_store::{Admissions, Claims};
///
/// let claims = store.claim_by(&run, &lease.node, 8, Admissions::default()).await?;
/// assert_eq!(claims, Claims::default()); // its only job is leased
/// # Ok(())
/// # }
/// ```
#[must_use]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claims {
    /// Jobs that are leased.
    pub claimed: Vec<Claimed>,
    /// Jobs that wait for a service now, and for what: of each its row.
    pub deferred: Vec<(i64, Deferral)>,
    /// Jobs that wait for their turn with a key now.
    pub parked: Vec<(i64, Deferral)>,
    /// Groups that have their turn, and are Ready to be expanded.
    pub admitted: Vec<i64>,
    /// Jobs that have waited for their turn, and are Ready.
    pub ready: Vec<i64>,
    /// What the run's stream got by that.
    pub events: Vec<EventRecord>,
}
