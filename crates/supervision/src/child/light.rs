//! Children that are light servers, one by one: below any supervisor, which restarts them as any child.

use std::sync::Arc;

use perennial_core::{ChildId, ExitReason, Overflow, tree::NodeKind};

use super::{ChildSpec, Outcome, StartCx, StartFault};
use crate::{
    Address, LightServer,
    address::Incarnation,
    life::Life,
    light::{Came, Cell, Served},
    panics::drop_each,
    presence::{Announce, Publisher},
};

/// What the mailbox of a light server can do when it is full.
const OVERFLOWS: &[Overflow] =
    &[Overflow::Reject, Overflow::Wait, Overflow::DropOldest, Overflow::DropNewest];

impl ChildSpec {
    /// A permanent worker that is a [`LightServer`], and the address that outlives its restarts; `arguments` are
    /// kept for them. Where there are very many, a [`LightSupervisor`](crate::LightSupervisor) is for them.
    ///
    /// ```
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/carts.rs"));
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (spec, cart) = ChildSpec::light::<Cart>("cart", vec![7]);
    /// let shop = SupervisorSpec::new("shop").child(spec);
    /// let root = Root::start(shop, Clock::start(), Options::default()).await?;
    /// cart.cast(Message::Put(8))?;
    /// assert_eq!(cart.ask(Message::Items).await?, [7, 8]);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn light<S: LightServer>(
        id: impl Into<ChildId>,
        arguments: S::Arguments,
    ) -> (Self, Address<S::Message>) {
        let (publisher, address) = Address::channel();
        let publisher = Arc::new(publisher);
        let presence: Arc<dyn Announce> = publisher.clone();
        let (arguments, own) = (Arc::new(arguments), address.clone());
        let mut spec = Self::worker(id.into(), NodeKind::Worker, move |cx| {
            let (publisher, arguments, own) = (publisher.clone(), arguments.clone(), own.clone());
            Box::pin(async move { start::<S>(cx, &arguments, &publisher, own).await })
        });
        spec.type_name = Some(std::any::type_name::<S>());
        spec.named_address = Some(address.any());
        spec.presence = Some(presence);
        spec.overflows = Some(OVERFLOWS);
        (spec, address)
    }
}

async fn start<S: LightServer>(
    cx: StartCx,
    arguments: &S::Arguments,
    publisher: &Publisher<Incarnation<S::Message>>,
    address: Address<S::Message>,
) -> Result<Outcome, StartFault> {
    let cell = Cell::alone(&cx);
    let life = Life { process: cx.process.clone(), control: cell.control() };
    // Its init may link it already.
    life.ended().reached_by(&life.control);
    // What is sent from here on is kept until the init is done (GS-013).
    publisher.up(cell.reached());
    let unborn = Unborn { cx: &cx, cell: Some(cell.clone()), publisher };
    let served = match Served::<S>::begin(cell, address, arguments).await {
        Ok(served) => served,
        Err(came) => {
            let (outcome, reason) = match came {
                Came::Ignored => (Ok(Outcome::Ignored), ExitReason::Normal),
                Came::Failed(reason) | Came::Ran(reason) => (Err(reason.clone().into()), reason),
            };
            unborn.end(&reason);
            return outcome;
        }
    };
    unborn.born();
    cx.drive(&life, served.run());
    Ok(Outcome::Up(life))
}

/// An incarnation whose init is not done. When that fails or is dropped, nothing of it remains (GS-003, GS-009).
struct Unborn<'a, M: Send + 'static> {
    cx: &'a StartCx,
    cell: Option<Arc<Cell<M>>>,
    publisher: &'a Publisher<Incarnation<M>>,
}

impl<M: Send + 'static> Unborn<'_, M> {
    fn born(mut self) {
        self.cell = None;
    }

    fn end(mut self, reason: &ExitReason) {
        self.ends(reason);
    }

    fn ends(&mut self, reason: &ExitReason) {
        if let Some(cell) = self.cell.take() {
            let messages = cell.close(reason);
            let count = messages.len() as u64;
            drop_each(messages);
            self.cx.undelivered(count);
            self.publisher.ended(self.cx.process.pid());
            self.cx.process.ended().announce(reason);
        }
    }
}

impl<M: Send + 'static> Drop for Unborn<'_, M> {
    fn drop(&mut self) {
        self.ends(&ExitReason::Killed);
    }
}
