//! Children that are servers of our own kind.

use std::{
    any::Any,
    sync::{Arc, OnceLock},
};

use perennial_core::{ChildId, ExitReason, Overflow, tree::NodeKind};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{ChildSpec, Ignore, Outcome, StartCx, StartFault, exit_of};
use crate::{
    Address, GenServer, Init, ProcessRef, ProcessStatus, ServerCx, StopToken,
    address::{Incarnation, Post, Refused},
    gen_server::{Inbox, Letter, Queue, Serving, Standing},
    life::{Control, Life},
    load::{Load, Place, Seen},
    panics::contain,
    presence::{Announce, Publisher},
    process::{CURRENT, Here},
};

impl ChildSpec {
    /// A permanent worker that is a [`GenServer`], and the address that outlives its restarts.
    /// `arguments` are made anew for every incarnation.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (spec, counter) = ChildSpec::server::<Counter>("counter", || ()); // `Counter: GenServer`
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// counter.cast(Ask::Add(2))?;
    /// assert_eq!(counter.ask(Ask::Sum).await?, 2);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn server<S: GenServer>(
        id: impl Into<ChildId>,
        arguments: impl Fn() -> S::Arguments + Send + Sync + 'static,
    ) -> (Self, Address<S::Message>) {
        let (publisher, address) = Address::channel();
        let publisher = Arc::new(publisher);
        let presence: Arc<dyn Announce> = publisher.clone();
        let (arguments, own) = (Arc::new(arguments), address.clone());
        let mut spec = Self::worker(id.into(), NodeKind::Worker, move |cx| {
            let (publisher, arguments, own) = (publisher.clone(), arguments.clone(), own.clone());
            Box::pin(async move { start::<S>(cx, arguments(), publisher, own).await })
        });
        spec.type_name = Some(std::any::type_name::<S>());
        spec.named_address = Some(address.any());
        spec.presence = Some(presence);
        spec.overflows = Some(OVERFLOWS);
        (spec, address)
    }
}

/// What the mailbox of a server can do when it is full.
const OVERFLOWS: &[Overflow] =
    &[Overflow::Reject, Overflow::Wait, Overflow::DropOldest, Overflow::DropNewest];

type Door<S> = Arc<Publisher<Incarnation<<S as GenServer>::Message>>>;

async fn start<S: GenServer>(
    start: StartCx,
    arguments: S::Arguments,
    publisher: Door<S>,
    address: Address<S::Message>,
) -> Result<Outcome, StartFault> {
    let process = start.process.clone();
    let here = process.clone();
    let control = Arc::new(ServerControl::<S>::new(process.clone(), start.load()));
    let queue = control.queue.clone();
    let life = Life { process: process.clone(), control: control.clone() };
    // Its init may link it already.
    life.ended().reached_by(&life.control);
    let clock = start.context.clock();
    let mut cx = ServerCx::new(process.clone(), address, control.standing.clone(), clock);
    // What is sent from here on is kept until the init is done (GS-013).
    publisher.up(Incarnation::new(control.clone()));
    let birth = Birth {
        start: &start,
        publisher,
        life: Some(life),
        inbox: Some(Inbox::new(queue.clone())),
    };
    let init = async {
        let own = &mut cx;
        let mut init = contain(async move {
            // What an error says of itself is the user's code as well.
            S::init(arguments, own)
                .await
                .map_err(|error| (!error.is::<Ignore>()).then(|| exit_of(Err(error))))
        });
        tokio::select! {
            biased;
            () = control.kill.cancelled() => Err(Some(ExitReason::Killed)),
            reason = control.cut(), if !S::TRAPS_EXITS => Err(Some(reason)),
            init = &mut init => init.map_err(Some).flatten(),
        }
    };
    let init: Init<S> = match CURRENT.scope(Here::Process(here.clone()), init).await {
        Ok(init) => init,
        Err(None) => {
            birth.fail(&ExitReason::Normal);
            return Ok(Outcome::Ignored);
        }
        Err(Some(reason)) => {
            birth.fail(&reason);
            return Err(reason.into());
        }
    };
    let (life, inbox) = match birth.succeed() {
        Some(born) => born,
        // It is there until it is taken.
        None => return Err(ExitReason::Killed.into()),
    };
    let asked = control.clone();
    let asked = move || asked.asked.get().cloned().unwrap_or(ExitReason::Shutdown);
    let serving = Serving::new(init, cx, inbox, start.clone(), asked);
    start.drive(&life, CURRENT.scope(Here::Process(here), run(serving, control)));
    Ok(Outcome::Up(life))
}

/// Serves until the end. What is cut off in the middle is dropped before this returns.
async fn run<S: GenServer>(serving: Serving<S>, control: Arc<ServerControl<S>>) -> ExitReason {
    let mut serving = contain(serving.serve());
    let ended = tokio::select! {
        biased;
        () = control.kill.cancelled() => ExitReason::Killed,
        reason = control.cut(), if !S::TRAPS_EXITS => reason,
        ended = &mut serving => ended.unwrap_or_else(|panic| panic),
    };
    match serving.discard() {
        Err(panic) if ended != ExitReason::Killed => panic,
        Ok(()) | Err(_) => ended,
    }
}

/// A life whose init is not done. When that fails or is dropped, nothing of it remains: first goes
/// its mailbox, then its place at the address, and then those who wait are told (GS-003, GS-009).
struct Birth<'a, S: GenServer> {
    start: &'a StartCx,
    publisher: Door<S>,
    /// Both are there until it is decided.
    life: Option<Life>,
    inbox: Option<Inbox<S>>,
}

impl<S: GenServer> Birth<'_, S> {
    fn succeed(mut self) -> Option<(Life, Inbox<S>)> {
        self.life.take().zip(self.inbox.take())
    }

    fn fail(mut self, reason: &ExitReason) {
        self.end(reason);
    }

    fn end(&mut self, reason: &ExitReason) {
        drop(self.inbox.take());
        if let Some(life) = self.life.take() {
            self.start.undelivered(life.control.load().map_or(0, |load| load.depth));
            self.publisher.ended(life.pid());
            life.ended().announce(reason);
        }
    }
}

impl<S: GenServer> Drop for Birth<'_, S> {
    fn drop(&mut self) {
        self.end(&ExitReason::Killed);
    }
}

/// What reaches a server from outside; holds nothing of it.
struct ServerControl<S: GenServer> {
    process: ProcessRef,
    queue: Arc<Queue<S>>,
    standing: Arc<Standing>,
    /// Why it was asked to stop, behind what waits.
    asked: OnceLock<ExitReason>,
    /// Why it is to end at once, where it does not trap exits.
    cut: StopToken,
    kill: CancellationToken,
}

impl<S: GenServer> ServerControl<S> {
    fn new(process: ProcessRef, load: Load) -> Self {
        let (asked, cut, kill) = (OnceLock::new(), StopToken::new(), CancellationToken::new());
        Self { process, queue: Queue::new(load), standing: Arc::default(), asked, cut, kill }
    }

    async fn cut(&self) -> ExitReason {
        self.cut.stopped().await;
        self.cut.reason().cloned().unwrap_or(ExitReason::Shutdown)
    }

    /// The first reason counts, and stands in the queue once.
    fn ask(&self, reason: &ExitReason) {
        if self.asked.set(reason.clone()).is_ok() {
            // One whose queue is closed is ending already.
            let _ = self.queue.push(Letter::Stop);
        }
    }
}

impl<S: GenServer> Control for ServerControl<S> {
    fn stop(&self, reason: &ExitReason) {
        if S::TRAPS_EXITS {
            self.ask(reason);
        } else if *reason != ExitReason::Normal {
            // The normal end of its owner is nothing to one that does not trap exits (GS-045).
            self.cut.stop_for(reason);
        }
    }

    fn sever(&self, from: &ProcessRef, reason: &ExitReason) {
        if S::TRAPS_EXITS {
            // One whose queue is closed is ending already.
            let _ = self.queue.push(Letter::Severed(from.clone(), reason.clone()));
        } else {
            self.stop(reason);
        }
    }

    fn traps_exits(&self) -> bool {
        S::TRAPS_EXITS
    }

    fn ending(&self) -> Option<ExitReason> {
        if self.kill.is_cancelled() {
            return Some(ExitReason::Killed);
        }
        self.cut.reason().cloned()
    }

    fn kill(&self) {
        self.kill.cancel();
    }

    fn load(&self) -> Option<Seen> {
        Some(self.queue.load().look())
    }

    #[cfg(feature = "testing")]
    fn crash(&self) {
        // One whose queue is closed is ending already.
        let _ = self.queue.push(Letter::Crash);
    }
}

impl<S: GenServer> Post<S::Message> for ServerControl<S> {
    fn process(&self) -> &ProcessRef {
        &self.process
    }

    fn post(&self, message: S::Message, place: Option<Place<'_>>) -> Result<(), Refused> {
        self.queue.post(message, place)
    }

    fn room(&self) -> Option<&Semaphore> {
        self.queue.load().room()
    }

    fn terminate(&self, reason: &ExitReason) {
        self.ask(reason);
    }

    fn look(&self) -> (ProcessStatus, u64, Vec<ProcessRef>) {
        let (status, watches) = self.standing.look();
        (status, self.queue.load().depth(), watches)
    }

    fn inspect(&self, request: Box<dyn Any + Send>) -> Result<(), Refused> {
        match request.downcast() {
            Ok(inspection) => self.queue.push(Letter::Inspect(*inspection)),
            Err(_) => Err(Refused::Stranger),
        }
    }
}
