//! The command `perennial`: drives a runtime from a shell.
//!
//! stdout is data, stderr is talk; exit codes tell the cause (see `exit`).

#![expect(clippy::print_stderr, reason = "talking to people is what a command does")]

mod args;
mod commands;
mod exit;
mod output;

use clap::Parser;

use crate::{args::Args, exit::Failed};

fn main() {
    let args = Args::parse();
    let code = match serve(args) {
        Ok(code) => code,
        Err(error) => {
            // A reader that has left has seen enough.
            if output::is_broken_pipe(&error) {
                std::process::exit(0);
            }
            let code = error.downcast_ref::<Failed>().map_or(1, |failed| failed.code);
            eprintln!("error: {error:#}");
            code
        }
    };
    std::process::exit(code);
}

fn serve(args: Args) -> anyhow::Result<i32> {
    let filter = tracing_subscriber::EnvFilter::try_from_env("PERENNIAL_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(commands::run(args));
    // A thread of the store that did not end is reported by the shutdown; it is not waited for.
    runtime.shutdown_background();
    code
}
