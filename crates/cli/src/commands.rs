//! One file per verb.

mod cancel;
mod check;
mod detach;
mod ended;
mod engine;
mod events;
mod explain;
mod gc;
mod graph;
mod hint;
mod host;
mod inputs;
mod journal;
mod lot;
mod meant;
mod named;
mod nodes;
mod progress;
mod prompts;
mod reference;
mod rehearsal;
mod results;
mod resume;
mod resumed;
mod run;
mod runs;
mod schema;
mod show;
mod signal;
mod skip;
mod spending;
mod steps;
mod stop;
mod taken;
mod targets;
mod trace;
mod tree;
mod why;
mod worker;

use perennial::Config;

use crate::args::{Args, Command, JournalCommand};

pub(crate) async fn run(mut args: Args) -> anyhow::Result<i32> {
    // Once: what comes out of a pipe cannot be read again.
    let mut config = Config::default();
    if let Some((store, path)) = args.command.store() {
        config = engine::config(path)?;
        store.settle(&config);
    }
    match args.command {
        Command::Run(args) => Box::pin(run::run(args)).await,
        Command::Check(args) => Box::pin(check::check(&args)).await,
        Command::Resume(args) => Box::pin(resume::resume(args, config)).await,
        Command::Unpause(args) => Box::pin(resume::unpause(args, config)).await,
        Command::Retry(args) => Box::pin(resume::retry(args, config)).await,
        Command::Skip(args) => skip::skip(args).await,
        Command::Cancel(args) => cancel::cancel(args).await,
        Command::Pause(args) => cancel::pause(args).await,
        Command::Priority(args) => cancel::prioritise(args).await,
        Command::Worker(args) => Box::pin(worker::worker(args, config)).await,
        Command::Nodes(args) => nodes::nodes(args).await,
        Command::Signal(args) => signal::signal(args).await,
        Command::Answer(args) => signal::answer(args).await,
        Command::Runs(args) => runs::runs(args).await,
        Command::Show(args) => show::show(args, config).await,
        Command::Results(args) => results::results(args).await,
        Command::Events(args) => events::events(args).await,
        Command::Journal(args) => match args.command {
            JournalCommand::Verify(args) => journal::verify(args).await,
        },
        Command::Gc(args) => gc::gc(args, config).await,
        Command::Purge(args) => gc::purge(args).await,
        Command::Graph(args) => graph::graph(args).await,
        Command::Explain(args) => explain::explain(args).await,
        Command::Functions(args) => reference::print_functions(&args),
        Command::Steps(args) => reference::print_steps(&args),
        Command::Tree(args) => tree::tree(&args),
        Command::Schema => schema::schema(),
    }
}
