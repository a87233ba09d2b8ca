//! Two runtimes in one program: the same names in both, nothing shared. What crashes in one is not
//! noticed in the other, and one can be shut down while the other goes on.
//! Run it with `cargo run --example two_runtimes`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{error::Error, time::Duration};

use perennial::{
    Address, CallError, ChildSpec, ProviderMode, Runtime, StartPipeline, Store,
    inspect::to_text,
    supervision::{GenServer, Init, Next, Reply, ServerCx, actor::ActorError},
};

/// Counts the guests of one hotel.
struct Desk(u32);

enum Ask {
    CheckIn(Reply<u32>),
    /// Nobody knows what to do then.
    Fire,
}

impl GenServer for Desk {
    type Arguments = ();
    type Message = Ask;

    async fn init((): (), _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
        Ok(Init::new(Self(0)))
    }

    async fn handle(&mut self, ask: Ask, _: &mut ServerCx<Self>) -> Result<Next<Ask>, ActorError> {
        match ask {
            Ask::CheckIn(reply) => {
                self.0 += 1;
                reply.send(self.0);
            }
            Ask::Fire => return Err("fire".into()),
        }
        Ok(Next::Continue)
    }

    fn describe_message(ask: &Ask) -> Option<String> {
        let said = match ask {
            Ask::CheckIn(_) => "a guest",
            Ask::Fire => "fire",
        };
        Some(said.to_owned())
    }
}

/// A hotel with a desk of that name, and what reaches the desk.
async fn hotel(name: &str) -> Result<(Runtime, Address<Ask>), Box<dyn Error>> {
    let (desk, address) = ChildSpec::server::<Desk>("desk", || ());
    // Both nodes may have one name, too: each has a store of its own.
    let runtime = Runtime::builder().name(name).store(Store::memory()).child(desk).start().await?;
    Ok((runtime, address))
}

async fn check_in(desk: &Address<Ask>) -> Result<u32, CallError> {
    desk.call(Ask::CheckIn, Duration::from_secs(5)).await
}

const WELCOME: &str = "
workflow:
  name: welcome
  steps:
    - {name: letter, type: echo, value: Welcome}
";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (east, east_desk) = hotel("east").await?;
    let (west, west_desk) = hotel("west").await?;
    println!(
        "east has {} guest, west {}",
        check_in(&east_desk).await?,
        check_in(&west_desk).await?
    );

    let mut fire = east_desk.monitor();
    east_desk.cast(Ask::Fire)?;
    println!("east: {}", fire.down().await);
    println!("east begins anew with {}", check_in(&east_desk).await?);
    println!("west never noticed, and has {}", check_in(&west_desk).await?);

    // The same run in both: a name means something in its own store only.
    let start = || StartPipeline::document("welcome.yaml", WELCOME).mode(ProviderMode::Mock);
    let id = perennial::RunId::parse("welcome")?;
    let ours = east.pipelines().start(start().run_id(id.clone())).await?;
    let theirs = west.pipelines().start(start().run_id(id)).await?;
    println!("{} here, {} there", ours.outcome().await?.status(), theirs.outcome().await?.status());

    let report = east.shutdown().await;
    println!(
        "\neast is closed: {}, still running: {:?}",
        report.tree.reason, report.tree.unkillable
    );
    println!(
        "a guest of the east now: {:?}",
        check_in(&east_desk).await.map_err(|it| it.to_string())
    );
    println!("one more in the west: {}\n", check_in(&west_desk).await?);
    println!("{}", to_text(&west.tree(), &Default::default()));
    west.shutdown().await;
    Ok(())
}
