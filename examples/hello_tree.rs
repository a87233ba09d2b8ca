//! Supervision alone: no store, no workflow. An actor panics and comes back; its siblings never
//! notice. Run it with `cargo run --example hello_tree`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{error::Error, time::Duration};

use perennial::{
    Address, ChildSpec, Strategy,
    inspect::{TextOptions, from_json, to_text},
    supervision::{
        Clock, Options, Root, Supervisor, SupervisorSpec,
        actor::{Actor, ActorError, ActorRef, RpcReply},
    },
};
use serde_json::json;

/// An ordinary ractor actor: it knows nothing of supervision.
struct Counter;

/// A number to add, and where to send the sum.
struct Add(u32, RpcReply<u32>);

impl Actor for Counter {
    type Msg = Add;
    type State = u32;
    type Arguments = u32;

    async fn pre_start(&self, _: ActorRef<Add>, first: u32) -> Result<u32, ActorError> {
        Ok(first)
    }

    async fn handle(&self, _: ActorRef<Add>, add: Add, sum: &mut u32) -> Result<(), ActorError> {
        let Add(number, reply) = add;
        assert_ne!(number, 13, "13 is bad luck");
        *sum += number;
        Ok(reply.send(*sum)?)
    }
}

/// A specification makes every incarnation anew; the address outlives them all.
fn counter(id: &str) -> (ChildSpec, Address<Add>) {
    ChildSpec::actor(id, || (Counter, 0))
}

fn print(title: &str, root: &Root) -> Result<(), Box<dyn Error>> {
    // The dump is a document; without a `Runtime` we write its first lines ourselves.
    let runtime = json!({"name": "shop", "version": "-", "node": "local", "instance": "1"});
    let nodes = root.tree().nodes();
    let dump = json!({"schema": "perennial.tree/1", "runtime": runtime, "nodes": nodes});
    println!("\n{title}\n{}", to_text(&from_json(&dump.to_string())?, &TextOptions::default()));
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (apples_spec, apples) = counter("apples");
    let (pears_spec, pears) = counter("pears");
    let shelf = SupervisorSpec::new("shelf").strategy(Strategy::RestForOne);
    let shelf = Supervisor::child_spec(shelf.child(counter("nuts").0).child(counter("figs").0)).0;
    let shop = SupervisorSpec::new("shop").child(apples_spec).child(pears_spec).child(shelf);
    let root = Root::start(shop, Clock::start(), Options::default()).await?;

    let add = async |to: &Address<Add>, number| {
        to.call(move |reply| Add(number, reply), Duration::from_secs(5)).await
    };
    println!("apples: {:?}, pears: {:?}", add(&apples, 3).await, add(&pears, 5).await);
    print("before", &root)?;

    // The caller learns why there was no reply. The next call waits for the next incarnation.
    println!("apples: {:?}", add(&apples, 13).await);
    println!(
        "apples began anew: {:?}, pears went on: {:?}",
        add(&apples, 1).await,
        add(&pears, 1).await
    );
    print("after", &root)?;
    root.shutdown().await;
    Ok(())
}
