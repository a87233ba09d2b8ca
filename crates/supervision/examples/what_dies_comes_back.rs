//! A server crashes and its supervisor brings it back; whoever holds its address notices one failed
//! call and nothing else. Run it with
//! `cargo run -p perennial-supervision --example what_dies_comes_back`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

mod picture;

use std::{error::Error, time::Duration};

use perennial_supervision::{
    Agent, ChildSpec, Clock, GenServer, Init, LifecycleEvent, Next, Options, Reply, Root, ServerCx,
    SupervisorSpec, actor::ActorError,
};

const WITHIN: Duration = Duration::from_secs(5);

/// Sells tickets for groups, at 60 a group. How many groups it has seen dies with it; what was sold
/// is kept by a process of its own that does nothing else, and so has little to crash over.
struct Till {
    groups: u32,
    sold: Agent<u32>,
}

enum Request {
    /// A group of so many; answers what each of them pays.
    Group(u32, Reply<u32>),
    /// How many groups this life has seen, and how many tickets were sold in all.
    Count(Reply<(u32, u32)>),
}

impl GenServer for Till {
    type Arguments = Agent<u32>;
    type Message = Request;

    /// Each life begins here.
    async fn init(sold: Agent<u32>, _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
        Ok(Init::new(Self { groups: 0, sold }))
    }

    async fn handle(
        &mut self,
        request: Request,
        _: &mut ServerCx<Self>,
    ) -> Result<Next<Request>, ActorError> {
        match request {
            Request::Group(people, each) => {
                self.groups += 1;
                // Nobody has thought of a group of nobody. It is not handled here: it crashes.
                let price = 60 / people;
                self.sold.update(move |sold| *sold += people, WITHIN).await?;
                each.send(price);
            }
            Request::Count(reply) => {
                let sold = self.sold.get(|sold| *sold, WITHIN).await?;
                reply.send((self.groups, sold));
            }
        }
        Ok(Next::Continue)
    }

    /// For crash reports, which show nothing of a message by themselves.
    fn describe_message(request: &Request) -> Option<String> {
        match request {
            Request::Group(people, _) => Some(format!("a group of {people}")),
            Request::Count(_) => None,
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // The events below tell of the panic and its place; the usual hook would say it twice.
    std::panic::set_hook(Box::new(|_| ()));

    let (ledger, sold) = Agent::child_spec("ledger", || 0);
    let (till, address) = ChildSpec::server::<Till>("till", move || sold.clone());
    let theatre = SupervisorSpec::new("theatre").child(ledger).child(till);
    let root = Root::start(theatre, Clock::start(), Options::default()).await?;
    let mut events = root.tree().lifecycle();

    let sell = async |people| match address.ask(|each| Request::Group(people, each)).await {
        Ok(each) => println!("a group of {people}: {each} each"),
        Err(error) => println!("a group of {people}: {error}"),
    };
    let count = async || {
        let counted = address.ask(Request::Count).await;
        counted.map(|(groups, sold)| println!("groups of this life: {groups}, sold: {sold}\n"))
    };

    sell(2).await;
    sell(3).await;
    count().await?;

    // The caller learns why there is no answer. Nothing is repeated behind its back.
    sell(0).await;
    println!("\nmeanwhile in the tree:");
    while let Some(event) = events.next().await {
        picture::tell(&event);
        if matches!(event.event, LifecycleEvent::Started { incarnation: 2, .. }) {
            break;
        }
    }

    println!("\nthe same address, the next life:");
    sell(4).await;
    count().await?;

    picture::draw(root.tree());
    root.shutdown().await;
    Ok(())
}
