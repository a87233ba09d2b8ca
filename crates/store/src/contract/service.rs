//! Services as rows: which life an instance is in, who keeps it, and who holds it.

use perennial_core::{
    Timestamp,
    run::RunId,
    service::{Epoch, Holder, ServiceKey, ServiceState},
};

use super::{Lease, NodeRef};

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
