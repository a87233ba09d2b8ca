//! A host application: its own actor under our supervision, its own tool, and a durable run.
//! Run it with `cargo run --example embed`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{error::Error, time::Duration};

use perennial::supervision::ractor::{Actor, ActorProcessingErr as Failed, ActorRef, RpcReplyPort};
use perennial::{
    ChildSpec, ProviderMode, Runtime, StartPipeline, Store,
    inspect::{diff, diff_to_text, to_text},
    tools::{ToolName, tool_fn},
};
use serde_json::{Value, json};

/// The host's own ractor actor, as it would be written without Perennial.
struct Inbox;

/// A letter, and where to send the number of letters.
struct Post(&'static str, RpcReplyPort<usize>);

impl Actor for Inbox {
    type Msg = Post;
    type State = Vec<&'static str>;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Post>, (): ()) -> Result<Self::State, Failed> {
        Ok(Vec::new())
    }

    async fn handle(
        &self,
        _: ActorRef<Post>,
        Post(letter, reply): Post,
        letters: &mut Self::State,
    ) -> Result<(), Failed> {
        assert!(letter != "poison", "this letter is not for reading");
        letters.push(letter);
        Ok(reply.send(letters.len())?)
    }
}

const DOCUMENT: &str = "
workflow:
  name: reply
  steps:
    - {name: draft, type: claude, prompt: [{type: static, content: Thank them}]}
    - {name: send, type: echo, value: '{{ steps.draft.text }}', delay_ms: 50}
";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (inbox_spec, inbox) = ChildSpec::actor("inbox", || (Inbox, ()));
    let count = async |args: Value| Ok(json!(args["text"].as_str().map(str::len)));
    let runtime = Runtime::builder()
        .name("letters")
        .store(Store::memory()) // `Store::sqlite("letters.db")` survives the process
        .child(inbox_spec)
        .tool(tool_fn("length", "Counts the bytes of a text", count))
        .start()
        .await?;
    let before = runtime.tree();
    println!("{}", to_text(&before, &Default::default()));

    let post = |letter| inbox.call(move |reply| Post(letter, reply), Duration::from_secs(5));
    println!("hello: {:?}", post("hello").await);
    println!("poison: {:?}", post("poison").await);
    println!("a new life: {:?}", post("hello again").await);

    let start = StartPipeline::document("reply.yaml", DOCUMENT).mode(ProviderMode::Mock);
    let run = runtime.pipelines().start(start).await?;
    let mut events = run.events();
    while events.next().await?.job.is_none_or(|job| job.as_str() != "send") {}
    let length = runtime.tools().call(&ToolName::new("length"), json!({"text": "hello"})).await?;
    let under_way = runtime.tree();
    let outcome = run.outcome().await?;
    println!("length: {length}, run {}: {:?}\n", outcome.status(), outcome.result("send"));
    println!(
        "since the start:\n{}",
        diff_to_text(&diff(&before, &under_way, &Default::default()), false)
    );
    println!("{}", to_text(&under_way, &Default::default()));
    runtime.shutdown().await;
    Ok(())
}
