//! A program of three applications: what they need is started first, one that ends by itself takes its
//! own tree with it and nobody else's, and one that must not end takes the whole system down, in order.
//! Run it with `cargo run -p perennial-supervision --example applications`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

mod picture;

use std::{error::Error, time::Duration};

use perennial_supervision::{
    Agent, Application, ApplicationSpec, Applications, ChildSpec, Clock, Env, LifecycleEvent,
    LifecycleStream, Options, Restart, Supervisor, SupervisorSpec, System, SystemSpec,
    actor::ActorError,
};

/// Bakes. What it has baked is in a child; what it opened beside its tree is in its state.
struct Bakery {
    shelf: ChildSpec,
}

impl Application for Bakery {
    type State = String;

    async fn start(&self, env: &Env) -> Result<(ChildSpec, String), ActorError> {
        let street = env.get("street").and_then(|it| it.as_str().map(str::to_owned));
        let street = street.ok_or("a bakery needs a street")?;
        println!("    bakery: the lights of {street} are on");
        let top = SupervisorSpec::new("bakery").intensity(0, Duration::from_secs(5));
        Ok((Supervisor::child_spec(top.child(self.shelf.clone())).0, street))
    }

    async fn start_phase(&self, phase: &str, street: &mut String) -> Result<(), ActorError> {
        println!("    bakery: {phase} in {street}");
        Ok(())
    }

    async fn prep_stop(&self, street: &mut String) -> Result<(), ActorError> {
        println!("    bakery: nobody new enters in {street}");
        Ok(())
    }

    async fn stop(&self, street: String) -> Result<(), ActorError> {
        println!("    bakery: the lights of {street} are off");
        Ok(())
    }
}

/// An application that is a tree and nothing else.
fn plain(name: &'static str) -> ApplicationSpec {
    ApplicationSpec::tree(name, move |_| {
        println!("    {name}: starts");
        Ok(SupervisorSpec::new(name).child(Agent::child_spec("work", || ()).0))
    })
}

fn show(applications: &Applications) {
    let running = applications.which_applications();
    let names: Vec<String> =
        running.iter().map(|it| format!("{} ({})", it.name, it.restart)).collect();
    println!("  running: {}", names.join(", "));
}

/// Waits until an application has ended by itself.
async fn told(events: &mut LifecycleStream) {
    while let Some(event) = events.next().await {
        if let LifecycleEvent::ApplicationExited { .. } = event.event {
            picture::tell(&event);
            return;
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let spec = SystemSpec::new("town").env("bakery", "street", "Mill Lane").on_shutdown(
        |reason| async move {
            match reason {
                Ok(()) => println!("  going down: somebody asked"),
                Err(error) => println!("  going down: {error}"),
            }
            Ok(())
        },
    );
    let system = System::start(spec, Clock::start(), Options::default()).await?;
    let applications = system.applications();
    applications.load(plain("water")).await?;
    applications.load(plain("mill").depends_on("water")).await?;
    // The handle outlives the application, whichever life of it runs.
    let (shelf, bread) = Agent::child_spec("shelf", || 0_u32);
    let bakery = ApplicationSpec::new("bakery", Bakery { shelf }).phase("heating").phase("opening");
    applications.load(bakery.depends_on("mill")).await?;

    println!("\nThe bakery alone cannot start:");
    let refused = applications.start("bakery", Restart::Temporary).await;
    println!("  {}", refused.err().map(|error| error.to_string()).unwrap_or_default());

    println!("\nWith all that it needs:");
    applications.ensure_all_started(["bakery"], Restart::Temporary).await?;
    show(applications);

    println!(
        "\nA temporary application ends: everything else runs on, and it can be started again."
    );
    let mut events = system.tree().lifecycle();
    bread.cast(|_| panic!("the shelf breaks"))?;
    told(&mut events).await;
    show(applications);

    println!("\nAs a permanent one it must not end:");
    applications.start("bakery", Restart::Permanent).await?;
    show(applications);
    picture::draw(system.tree());
    bread.cast(|_| panic!("the shelf breaks"))?;
    let ended = system.ended().await;
    println!("  the system: {}", ended.err().map(|error| error.to_string()).unwrap_or_default());
    Ok(())
}
