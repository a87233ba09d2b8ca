//! The same three children under each of the three strategies. The one in the middle fails; which
//! of its siblings begin a new life is what a strategy decides. Run it with
//! `cargo run -p perennial-supervision --example strategies`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

mod picture;

use std::error::Error;

use perennial_supervision::{
    Address, ChildSpec, Clock, GenServer, Init, Next, Options, Root, ServerCx, Strategy,
    Supervisor, SupervisorSpec, actor::ActorError,
};

/// Spills what is poured into it.
struct Vessel;

struct Pour;

impl GenServer for Vessel {
    type Arguments = ();
    type Message = Pour;

    async fn init((): (), _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
        Ok(Init::new(Self))
    }

    /// An error is an abnormal end just as a panic is.
    async fn handle(&mut self, _: Pour, _: &mut ServerCx<Self>) -> Result<Next<Pour>, ActorError> {
        Err("spilled".into())
    }
}

/// Three children, each of which is of no use without the one before it. With the supervisor's
/// handle and the address of the one in the middle.
fn table(id: &str, strategy: Strategy) -> (ChildSpec, Supervisor, Address<Pour>) {
    let (kettle, _) = ChildSpec::server::<Vessel>("kettle", || ());
    let (pot, address) = ChildSpec::server::<Vessel>("pot", || ());
    let (cup, _) = ChildSpec::server::<Vessel>("cup", || ());
    let spec = SupervisorSpec::new(id).strategy(strategy).child(kettle).child(pot).child(cup);
    let (child, supervisor) = Supervisor::child_spec(spec);
    (child, supervisor, address)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut house = SupervisorSpec::new("house");
    let mut tables = Vec::new();
    for (id, strategy, meaning) in [
        ("one_for_one", Strategy::OneForOne, "only the one that failed"),
        ("rest_for_one", Strategy::RestForOne, "it, and those that were started after it"),
        ("one_for_all", Strategy::OneForAll, "all of them"),
    ] {
        let (child, supervisor, pot) = table(id, strategy);
        house = house.child(child);
        tables.push((id, meaning, supervisor, pot));
    }
    let root = Root::start(house, Clock::start(), Options::default()).await?;

    for (id, meaning, supervisor, pot) in tables {
        println!("{id}: {meaning}");
        let mut events = root.tree().lifecycle();
        let mut end = pot.monitor();
        pot.cast(Pour)?;
        end.down().await;
        // A supervisor does one thing after the other: it answers once it has dealt with the exit.
        supervisor.get_child_spec("pot").await?;
        while let Some(event) = events.try_next() {
            picture::tell(&event);
        }
    }

    println!("\nWho began a second life:");
    picture::draw(root.tree());
    root.shutdown().await;
    Ok(())
}
