//! Workers on demand: how many there may be, a start that fails and says why, what becomes of those
//! that end, and a shutdown with a deadline. Run it with
//! `cargo run -p perennial-supervision --example pool`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

mod picture;

use std::{error::Error, time::Duration};

use perennial_supervision::{
    Address, ChildRef, ChildSpec, Clock, DynamicSupervisor, DynamicSupervisorSpec, ExitReason,
    GenServer, Init, LifecycleStream, Next, Options, RequestError, Restart, Root, ServerCx,
    Shutdown, StopToken, SupervisorSpec, TemplateSupervisor, TemplateSupervisorSpec,
    actor::ActorError,
};

/// Rides to one quarter of the town and delivers parcels there.
struct Courier(&'static str);

enum Parcel {
    /// The last one: the work is done, and the courier ends normally.
    Last,
    /// More than a courier can carry.
    Heavy,
}

impl GenServer for Courier {
    type Arguments = &'static str;
    type Message = Parcel;

    async fn init(quarter: &'static str, _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
        if quarter == "harbour" {
            return Err("the bridge is up".into());
        }
        Ok(Init::new(Self(quarter)))
    }

    async fn handle(
        &mut self,
        parcel: Parcel,
        _: &mut ServerCx<Self>,
    ) -> Result<Next<Parcel>, ActorError> {
        match parcel {
            Parcel::Last => Ok(Next::Stop(ExitReason::Normal)),
            Parcel::Heavy => Err("fell off the bicycle".into()),
        }
    }

    /// Before every end but a kill.
    async fn terminate(
        &mut self,
        _: &ExitReason,
        _: &mut ServerCx<Self>,
    ) -> Result<(), ActorError> {
        println!("    the bicycle of {} is locked", self.0);
        Ok(())
    }
}

/// Carries letters through one street until it is told to stop; then it winds up, or forgets to.
fn round((street, winds_up): (&'static str, bool)) -> ChildSpec {
    let walk = move |stop: StopToken| async move {
        stop.stopped().await;
        if !winds_up {
            std::future::pending::<()>().await;
        }
        println!("    the letters of {street} are back");
        Ok::<(), String>(())
    };
    let deadline = Shutdown::Timeout(Duration::from_millis(100));
    ChildSpec::cooperative_task(street, walk).restart(Restart::Transient).shutdown(deadline)
}

/// The couriers: at most two at a time.
struct Couriers(DynamicSupervisor);

impl Couriers {
    async fn start(
        &self,
        quarter: &'static str,
        restart: Restart,
    ) -> Result<(ChildRef, Address<Parcel>), RequestError> {
        let (spec, address) = ChildSpec::server::<Courier>(quarter, move || quarter);
        let started = self.0.start_child(spec.restart(restart)).await;
        match &started {
            Ok(child) => println!("{quarter}: {restart:?}, at {}", child.process().path()),
            Err(error) => println!("{quarter}: {error}"),
        }
        Ok((started?, address))
    }
}

/// Prints what has happened up to now.
fn tell_all(events: &mut LifecycleStream) {
    while let Some(event) = events.try_next() {
        picture::tell(&event);
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = DynamicSupervisorSpec::new("couriers", 2);
    let (couriers_spec, couriers) = DynamicSupervisor::child_spec(pool);
    let (rounds_spec, rounds) =
        TemplateSupervisor::child_spec(TemplateSupervisorSpec::new("rounds", round));
    let office = SupervisorSpec::new("office").child(couriers_spec).child(rounds_spec);
    let root = Root::start(office, Clock::start(), Options::default()).await?;
    let couriers = Couriers(couriers);

    // One that does not start takes no place: it is an answer, not an event to recover from.
    let refused = couriers.start("harbour", Restart::Permanent).await;
    assert!(matches!(refused, Err(RequestError::StartFailed(_))));
    let (north, to_north) = couriers.start("north", Restart::Temporary).await?;
    let (south, to_south) = couriers.start("south", Restart::Transient).await?;
    let refused = couriers.start("west", Restart::Transient).await;
    assert!(matches!(refused, Err(RequestError::MaxChildren(2))));

    println!("\nA heavy parcel each: the transient one comes back, the temporary one does not.");
    let mut events = root.tree().lifecycle();
    to_north.cast(Parcel::Heavy)?;
    to_south.cast(Parcel::Heavy)?;
    north.first_exit().await;
    south.first_exit().await;
    // Answered once both exits are dealt with, and there is room again.
    let (west, to_west) = couriers.start("west", Restart::Transient).await?;
    tell_all(&mut events);

    println!("\nThe last parcel of the west: a normal end, after which nobody is restarted.");
    to_west.cast(Parcel::Last)?;
    west.first_exit().await;
    tell_all(&mut events);

    println!("\nRounds, as many as there are streets:");
    for street in [("mill lane", true), ("long street", false)] {
        rounds.start_child(street).await?;
    }
    tell_all(&mut events);
    println!();
    picture::draw(root.tree());

    println!("\nClosing: the last started first; who is not back in 100 ms is killed.");
    let report = root.shutdown().await;
    tell_all(&mut events);
    println!("ended: {}, still running: {:?}\n", report.reason, report.unkillable);
    picture::draw(root.tree());
    Ok(())
}
