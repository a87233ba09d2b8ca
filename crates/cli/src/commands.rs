//! One file per verb.

mod check;
mod engine;
mod hint;
mod inputs;
mod progress;
mod prompts;
mod rehearsal;
mod resume;
mod run;
mod runs;
mod schema;
mod show;
mod steps;
mod tree;

use crate::args::{Args, Command};

pub(crate) async fn run(args: Args) -> anyhow::Result<i32> {
    match args.command {
        Command::Run(args) => Box::pin(run::run(args)).await,
        Command::Check(args) => check::check(&args),
        Command::Resume(args) => Box::pin(resume::resume(args)).await,
        Command::Runs(args) => runs::runs(args).await,
        Command::Show(args) => show::show(args).await,
        Command::Tree(args) => tree::tree(&args),
        Command::Schema => schema::schema(),
    }
}
