//! Many small works, so many at a time: a stream of tasks, what becomes of those that fail or take too
//! long, a scope whose tasks nobody outlives, and a timer that ends with its server. Run it with
//! `cargo run -p perennial-supervision --example streams`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

mod picture;

use std::{error::Error, time::Duration};

use futures_util::StreamExt;
use perennial_supervision::{
    ChildSpec, Clock, GenServer, Init, Next, OnItemTimeout, Options, Root, ServerCx, StreamError,
    StreamOptions, SupervisorSpec, TaskSupervisor, TaskSupervisorSpec, actor::ActorError,
};

/// Finds out where a letter is to go.
async fn reads(letter: &'static str) -> String {
    match letter {
        "smudged" => panic!("nobody can read this"),
        // It is being looked for in all books.
        "abroad" => std::future::pending().await,
        _ => format!("{letter} street"),
    }
}

/// Rings when the post goes, again and again.
struct Bell {
    rings: u32,
    tells: tokio::sync::mpsc::Sender<u32>,
}

impl GenServer for Bell {
    type Arguments = tokio::sync::mpsc::Sender<u32>;
    type Message = ();

    async fn init(
        tells: tokio::sync::mpsc::Sender<u32>,
        cx: &mut ServerCx<Self>,
    ) -> Result<Init<Self>, ActorError> {
        cx.send_after(Duration::from_millis(10), ())?;
        Ok(Init::new(Self { rings: 0, tells }))
    }

    async fn handle(&mut self, (): (), cx: &mut ServerCx<Self>) -> Result<Next<()>, ActorError> {
        self.rings += 1;
        self.tells.send(self.rings).await?;
        // With this life of the server it ends; the next one sets its own.
        cx.send_after(Duration::from_millis(10), ())?;
        Ok(Next::Continue)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (tasks_spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("readers", 8));
    let (tells, mut rings) = tokio::sync::mpsc::channel(1);
    let (bell, _) = ChildSpec::server::<Bell>("bell", move || tells.clone());
    let office = SupervisorSpec::new("office").child(tasks_spec).child(bell);
    let root = Root::start(office, Clock::start(), Options::default()).await?;

    let mut events = root.tree().lifecycle();

    // At most three letters are read at a time, and none for longer than 50 ms.
    let options = StreamOptions::new()
        .id("letters")
        .max_concurrency(3)
        .timeout(Duration::from_millis(50))
        .on_timeout(OnItemTimeout::KillTask);
    let letters = ["High", "smudged", "Mill", "abroad", "Church", "Park"];
    let mut read = tasks.async_stream(letters, reads, options)?.zip_input_on_exit();
    println!("letters, in their order:");
    while let Some(result) = read.next().await {
        match result {
            Ok(street) => println!("  to {street}"),
            Err(StreamError::Exit { input, reason }) => println!("  {input:?}: {reason}"),
            Err(failure) => return Err(failure.into()),
        }
    }

    println!("in the tree it was one node, and a failure is told as any other:");
    while let Some(event) = events.try_next() {
        picture::tell(&event);
    }

    // Whoever has enough takes no more: the others are dropped with the stream.
    let options = StreamOptions::new().max_concurrency(2).ordered(false);
    let endless = (1_u64..).map(|number| number * 10);
    let squares = tasks.async_stream(endless, |it| async move { it * it }, options.pooled())?;
    let some: Vec<_> = squares.take(3).filter_map(|it| std::future::ready(it.ok())).collect().await;
    println!("three of many: {}", some.len());

    // None of these outlives the block that asked for it.
    {
        let mut scope = tasks.scope();
        scope.start("left hand", async { 1 }).await?;
        scope.start("right hand", std::future::pending()).await?;
        println!("in the scope:");
        picture::draw(root.tree());
        let found = scope.close(Duration::from_millis(20)).await;
        println!("behind it: {found:?}");
    }

    while let Some(count) = rings.recv().await {
        println!("the bell rings {count}");
        if count >= 3 {
            break;
        }
    }
    root.shutdown().await;
    Ok(())
}
