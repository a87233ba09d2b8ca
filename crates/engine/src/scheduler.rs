//! Who owns which run here, and what is due.
//!
//! # Why an actor
//!
//! That a run has exactly one actor in this process must be decided in one place; and that place
//! must notice when the actors are gone. A second child, the timekeeper, only waits: for due
//! timers, for supervisors that restarted, for somebody's nudge.
//!
//! # Supervision
//!
//! `scheduler` is a supervisor of permanent children: `ownership` and `timekeeper`; and, on a store that several
//! nodes share, `lease`, which holds this node's, and `sweeper`, which looks for nodes whose lease is over.
//!
//! # What a restart forgets
//!
//! Workflows it was handed (they are built again from the store) and which runs it found not
//! runnable (it tries them once more).
//!
//! # Guarantees
//!
//! Every unfinished run that this process owns has an actor within a look (1 s), also after `runs`
//! was restarted; looking is the correctness path, nudges only make it sooner (DUR-10). A run whose owner's lease
//! is over has another owner within a look, where any node adopts runs by itself (INV-13).
//!
//! A run that cannot go on harms itself alone: it is parked with the reason and looked at no more until somebody
//! resumes it. Whatever is asked of the store or of a host has a deadline, and a scheduler that gets nowhere for 30 s
//! says so (INV-32).

mod lease;
mod ownership;
mod pulse;
mod sweeper;
mod timekeeper;
mod turn;

use std::{sync::Arc, time::Duration};

use perennial_core::run::RunId;
use perennial_store::{Leases, StoreError};
use perennial_supervision::{
    Address, CallError, ChildSpec, DynamicSupervisor, LifecycleSource, Supervisor, SupervisorSpec,
};

use serde_json::{Value, json};

pub use self::lease::{InvalidLease, LeaseTerms};
use self::pulse::Pulse;
use crate::{NotRunnable, Services, Workflow, run::Requested};

/// How long the ownership actor may take: it reads the store and starts actors.
const REPLY_WITHIN: Duration = Duration::from_secs(60);

/// Handle to the scheduler. Cheap to clone; outlives restarts.
#[derive(Clone, Debug)]
pub struct Scheduler {
    address: Address<ownership::Message>,
}

/// What a runtime does with unfinished runs of processes that are gone. A runtime that a host builds has
/// [`AtBoot`](Self::AtBoot) unless its builder says otherwise; [`Default`] of this type is the careful one.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{Adoption, Runtime, Store};
/// let runtime = Runtime::builder()
///     .store(Store::memory())
///     .adoption(Adoption::OnRequest)
///     .start()
///     .await?;
/// for run in runtime.runs().unfinished().await? {
///     runtime.pipelines().resume(&run.run).await?; // those that are wanted
/// }
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Adoption {
    /// Continues them by itself: a runtime that stays.
    AtBoot,
    /// Leaves them until somebody asks: a command.
    #[default]
    OnRequest,
}

/// What the scheduler works with.
#[derive(Clone, Debug)]
pub struct SchedulerSpec {
    /// What the engine's components share.
    pub services: Services,
    /// Where the actors of runs live.
    pub runs: DynamicSupervisor,
    /// How many of them are active at a time.
    pub runs_max: usize,
    /// Where their monitors live.
    pub monitors: DynamicSupervisor,
    /// What becomes of runs whose process is gone.
    pub adoption: Adoption,
    /// Where the tree's events are, once it runs: they tell the timekeeper when to look. Never the
    /// tree itself: what is in it must not keep it alive. Until it is set, no run of another process is taken
    /// over: children of the host that start later may have what it needs.
    pub lifecycle: Arc<std::sync::OnceLock<LifecycleSource>>,
}

impl Scheduler {
    /// How to supervise a scheduler, and the handle to it.
    pub fn child_spec(spec: SchedulerSpec) -> (ChildSpec, Self) {
        let (services, adoption) = (spec.services.clone(), spec.adoption);
        let pulse = Arc::new(Pulse::start(services.clock, services.settings.stalled_after));
        let shown = pulse.clone();
        let detail = move || {
            let adoption = match adoption {
                Adoption::AtBoot => "at_boot",
                Adoption::OnRequest => "on_request",
            };
            let (attempts, attempts_max, waiting) = services.rooms.counts();
            let mut detail = json!({
                "adoption": adoption,
                "draining": services.is_draining(),
                "attempts": attempts,
                "attempts_max": attempts_max,
                "runs_awaiting_room": waiting,
            });
            if let (Some(all), Value::Object(health)) = (detail.as_object_mut(), shown.shown()) {
                all.extend(health);
            }
            detail
        };
        let (ownership, address) = ownership::child_spec(spec.clone(), pulse);
        let services = spec.services.clone();
        let timekeeper = timekeeper::child_spec(spec, address.clone());
        let mut subtree = SupervisorSpec::new("scheduler").child(ownership).child(timekeeper);
        if services.membership.leases() == Leases::Timed {
            let lease = lease::child_spec(services.clone(), address.clone());
            subtree = subtree.child(lease).child(sweeper::child_spec(services));
        }
        (Supervisor::child_spec(subtree).0.detail(detail), Self { address })
    }

    /// Makes sure that `run` has an actor here; one that `is_new` needs a place, of others the store is asked.
    pub(crate) async fn ensure(
        &self,
        run: &RunId,
        workflow: Option<Arc<dyn Workflow>>,
        is_new: bool,
    ) -> Result<Result<(), NotRunnable>, CallError> {
        let run = run.clone();
        let request = |reply| ownership::Message::Ensure { run, workflow, is_new, reply };
        self.address.call(request, REPLY_WITHIN).await
    }

    /// Does what is asked of a run that has no actor; answers whether that changed anything, or nothing when it has one, or can
    /// have none here.
    pub(crate) async fn aside(
        &self,
        run: &RunId,
        request: Requested,
    ) -> Result<Option<Result<bool, StoreError>>, CallError> {
        let run = run.clone();
        let request = |reply| ownership::Message::Aside { run, request, reply };
        self.address.call(request, REPLY_WITHIN).await
    }
}
