//! The command `perennial`: drives a runtime from a shell.
//!
//! stdout is data, stderr is talk; exit codes tell the cause (see `exit`).

mod args;
mod commands;
mod exit;
mod output;

use clap::{
    Parser,
    error::{ContextKind, ContextValue},
};
use tracing_subscriber::EnvFilter;

use crate::{args::Args, exit::Failed};

fn main() {
    let args = Args::try_parse().unwrap_or_else(|error| refused(brief(error)));
    let json = args.command.is_json();
    let code = match serve(args) {
        Ok(code) => code,
        Err(error) => {
            // A reader that has left has seen enough.
            if output::is_broken_pipe(&error) {
                std::process::exit(0);
            }
            output::problem(&format!("{error:#}"));
            let failed = error.downcast_ref::<Failed>();
            if json {
                output::refusal(&output::Refusal {
                    text: &format!("{error:#}"),
                    file: None,
                    diagnostics: None,
                    help: failed.and_then(|failed| failed.help.as_deref()),
                    code: failed.map_or(exit::RUN_FAILED, |failed| failed.code),
                });
            }
            if let Some(help) = failed.and_then(|failed| failed.help.as_ref()) {
                output::talk(&format!("help: {help}"));
            }
            failed.map_or(exit::RUN_FAILED, |failed| failed.code)
        }
    };
    std::process::exit(code);
}

/// Ends with what is wrong with the command line, or with the help that was asked for; programs are told as of any refusal.
fn refused(error: clap::Error) -> ! {
    let asked = std::env::args_os().skip(1).take_while(|arg| arg != "--");
    let is_json = asked.into_iter().any(|arg| arg == "--json");
    if error.use_stderr() && is_json {
        let text = error.render().to_string();
        let (what, usage) = text.split_once("\n\nUsage: ").unwrap_or((&text, ""));
        let what = what.split("\n\nFor more information").next().unwrap_or(what);
        let what: Vec<&str> = what.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let what = what.join(" ");
        let usage = usage.lines().next().map(str::trim).filter(|usage| !usage.is_empty());
        output::refusal(&output::Refusal {
            text: what.strip_prefix("error: ").unwrap_or(&what),
            file: None,
            diagnostics: None,
            help: usage,
            code: error.exit_code(),
        });
    }
    error.exit()
}

/// A refusal of the command line tells the beginning of what was typed, on one line.
fn brief(mut error: clap::Error) -> clap::Error {
    for kind in [ContextKind::InvalidValue, ContextKind::InvalidArg, ContextKind::InvalidSubcommand]
    {
        if let Some(ContextValue::String(text)) = error.get(kind) {
            let text = output::typed(text);
            error.insert(kind, ContextValue::String(text));
        }
    }
    error
}

fn serve(args: Args) -> anyhow::Result<i32> {
    let (filter, asked) = filter()?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if asked {
        log.init();
    } else {
        // Amid what people read: only what is wrong, without time and origin.
        log.without_time().with_target(false).init();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(commands::run(args));
    // The process ends next. What is left of a shutdown that was cut short ends with it, unheard:
    // taking the executor down first would only make it tell of its end.
    std::mem::forget(runtime);
    code
}

/// What is logged: warnings, or what `PERENNIAL_LOG` asks for; and whether it asks.
fn filter() -> anyhow::Result<(EnvFilter, bool)> {
    match std::env::var("PERENNIAL_LOG") {
        Ok(text) if !text.trim().is_empty() => match EnvFilter::try_new(&text) {
            Ok(filter) => Ok((filter, true)),
            Err(error) => {
                let text = format!("PERENNIAL_LOG={text} is no filter: {error}");
                Err(exit::failed(exit::USAGE, text))
            }
        },
        Ok(_) | Err(_) => Ok((EnvFilter::new("warn"), false)),
    }
}
