//! A server that handles parcels and registers itself, and counts of what becomes of each parcel.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use perennial_core::ExitReason;
use perennial_supervision::{
    GenServer, Init, Next, Registry, RegistryError, Reply, ServerCx, Unique, actor::ActorError,
};

pub(super) type Rooms = Registry<u8, u64, Unique>;

/// What became of the parcels of one server, over all its lives.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) made: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) handled: AtomicU64,
    /// Whoever sent it was told that it was not taken.
    pub(super) refused: AtomicU64,
    /// A caller heard of an end, or gave up: it may have been taken or not.
    pub(super) unknown: AtomicU64,
    /// Lives that began, and those whose state is gone.
    pub(super) begun: AtomicU64,
    pub(super) over: AtomicU64,
}

/// Counts its own drop.
#[derive(Debug)]
pub(super) struct Parcel(Arc<Tally>);

impl Parcel {
    pub(super) fn new(tally: &Arc<Tally>) -> Self {
        tally.made.fetch_add(1, SeqCst);
        Self(tally.clone())
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, SeqCst);
    }
}

/// How the handling of a parcel ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Works,
    Fails,
    Panics,
    Stops,
}

#[derive(Debug)]
pub(super) enum Say {
    /// Lets others go on so often, and ends.
    Do(Parcel, usize, How),
    Ask(Parcel, usize, Reply<u64>),
    Register(Parcel, u8, Reply<Result<(), RegistryError>>),
    Unregister(Parcel, u8, Reply<Result<(), RegistryError>>),
}

/// The state.
pub(super) struct Clerk {
    tally: Arc<Tally>,
    rooms: Rooms,
    number: u64,
}

impl Drop for Clerk {
    fn drop(&mut self) {
        self.tally.over.fetch_add(1, SeqCst);
    }
}

pub(super) async fn yields(times: usize) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}

impl GenServer for Clerk {
    type Arguments = (Arc<Tally>, Rooms);
    type Message = Say;

    async fn init(
        (tally, rooms): Self::Arguments,
        _: &mut ServerCx<Self>,
    ) -> Result<Init<Self>, ActorError> {
        let number = tally.begun.fetch_add(1, SeqCst);
        let own = Self { tally, rooms, number };
        yields(usize::try_from(number % 3)?).await;
        // One start in four does not work.
        if number % 4 == 3 {
            return Err("it is the fourth".into());
        }
        Ok(Init::new(own))
    }

    async fn handle(
        &mut self,
        message: Say,
        _: &mut ServerCx<Self>,
    ) -> Result<Next<Say>, ActorError> {
        match message {
            Say::Do(parcel, turns, how) => {
                self.tally.handled.fetch_add(1, SeqCst);
                yields(turns).await;
                drop(parcel);
                match how {
                    How::Works => (),
                    How::Fails => return Err("asked to fail".into()),
                    How::Panics => panic!("asked to panic"),
                    How::Stops => return Ok(Next::Stop(ExitReason::Normal)),
                }
            }
            Say::Ask(parcel, turns, reply) => {
                self.tally.handled.fetch_add(1, SeqCst);
                yields(turns).await;
                drop(parcel);
                reply.send(self.number);
            }
            Say::Register(_parcel, key, reply) => {
                self.tally.handled.fetch_add(1, SeqCst);
                reply.send(self.rooms.register(key, self.number));
            }
            Say::Unregister(_parcel, key, reply) => {
                self.tally.handled.fetch_add(1, SeqCst);
                reply.send(self.rooms.unregister(&key));
            }
        }
        Ok(Next::Continue)
    }
}
