//! One study as a program that may be stopped, killed, paused and cancelled at any moment: whoever starts it again goes on with
//! it, and what is seen of it elsewhere is what the command shows.

use std::{
    error::Error,
    hash::{BuildHasher, Hasher, RandomState},
    io::{self, Write as _},
    path::Path,
};

use perennial::{
    Adoption, RunId, RunState, Runtime, Store,
    engine::{DrainReport, RunHandle, StartRun, staged::Which},
    records::RunError,
};

use super::platform::{Platform, Study};

/// The one that it has.
pub(crate) const RUN: &str = "study";

pub(crate) type Told = Result<(), Box<dyn Error + Send + Sync>>;

/// What is wanted of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// It is begun, or gone on with.
    GoOn,
    /// What failed of it is made again: only who has its workflow can do that.
    Retry,
}

/// Until the run has ended, or the process is told to stop: then what is under way ends or is given back, and that is told.
pub(crate) async fn study(platform: &Platform, folder: &Path, store: Store, wish: Wish) -> Told {
    let store = match wish {
        Wish::GoOn => {
            let refused = |error| {
                let folder = folder.display();
                format!("the folder {folder} cannot be made: {error}; name one that can be written")
            };
            std::fs::create_dir_all(folder).map_err(refused)?;
            store
        }
        // Where there is none, none is begun.
        Wish::Retry => store.must_exist(),
    };
    let shared = store.is_shared();
    let let_go = let_go(&store);
    let mut builder = platform.on(store).adoption(Adoption::AtBoot);
    if shared {
        // Each process is a node of its own there, on whatever machine: its number is one of this machine.
        let dice = RandomState::new().build_hasher().finish();
        builder = builder.node(format!("study-{}-{dice:x}", std::process::id()));
    }
    let runtime = builder.start().await?;
    let worked = tokio::select! {
        worked = work(&runtime, platform, wish, &let_go) => worked.map(|()| None),
        signal = stop() => signal.map(Some).map_err(Into::into),
    };
    if let Ok(Some(signal)) = &worked {
        writeln!(io::stderr(), "{signal}: stopping; what is under way has some seconds")?;
    }
    let drained = runtime.shutdown().await.drain;
    if let (Some(_), Some(drained)) = (worked?, drained) {
        writeln!(io::stderr(), "{}", words(&drained))?;
    }
    Ok(())
}

/// What lets a paused run go on: a file is this program's as long as it works, a server anybody's.
fn let_go(store: &Store) -> String {
    let unpause = format!("perennial unpause {RUN} --store '{store}'");
    if store.is_shared() {
        format!("it waits until somebody lets it go on: {unpause}")
    } else {
        format!(
            "to let it go on, end this program (^C), as it has the file; then: {unpause}; and start it again"
        )
    }
}

async fn work(runtime: &Runtime, platform: &Platform, wish: Wish, let_go: &str) -> Told {
    let id = RunId::parse(RUN)?;
    let run = match wish {
        Wish::GoOn => {
            let start = platform.staged.start(&Study::usual())?;
            let start = StartRun { run: Some(id.clone()), ..start };
            match runtime.runs().start(start).await {
                // Or has worked on it until a moment ago: this process goes on with it once that one is dead.
                Err(RunError::OwnedElsewhere { node, .. }) => {
                    writeln!(io::stderr(), "node {node} works on it: it is followed here")?;
                    runtime.runs().get(&id).await?
                }
                run => run?,
            }
        }
        Wish::Retry => {
            let run = runtime.runs().get(&id).await?;
            let many = run.retry(&Which::Failed, true).await?;
            let which = "what failed, what was skipped because of that, and what was made with it";
            let many = counted(many, "job is", "jobs are");
            writeln!(io::stderr(), "{many} made again: {which}")?;
            run
        }
    };
    follow(&run, let_go).await?;
    let outcome = run.outcome().await?;
    let mut out = io::stdout();
    writeln!(out, "run {RUN} {}", outcome.state)?;
    match platform.staged.output(&outcome.view) {
        Ok(report) => write!(out, "{report}")?,
        // One that was ended has none.
        Err(error) => writeln!(out, "  {error}")?,
    }
    Ok(())
}

/// Tells how it goes, from now on, until it has ended; how it is let go on where it is paused.
async fn follow(run: &RunHandle, let_go: &str) -> Told {
    let view = run.view().await?.run;
    let mut talk = io::stderr();
    writeln!(talk, "run {RUN} is {}, at {} %", view.state, view.progress.unwrap_or_default())?;
    if view.state == RunState::Paused {
        writeln!(talk, "{let_go}")?;
    }
    let mut events = run.events(view.next_seq);
    let mut has_ended = view.state.is_terminal();
    while !has_ended {
        let event = events.next().await?;
        let stage = event.data["stage"].as_str().unwrap_or_default();
        match (event.kind.as_str(), &event.job) {
            ("run_closed", _) => has_ended = true,
            ("run_paused", _) => writeln!(talk, "run_paused\n{let_go}")?,
            ("run_resumed" | "run_cancelling", _) => {
                writeln!(talk, "{}", event.kind)?;
            }
            ("stage_closed", _) => {
                let progress = run.view().await?.run.progress.unwrap_or_default();
                writeln!(talk, "{progress:>3} % stage {stage} has ended")?;
            }
            ("attempt_started", Some(job)) => writeln!(talk, "      {job} is begun")?,
            _ => (),
        }
    }
    Ok(())
}

/// So many of one, or of several.
pub(crate) fn counted(many: u64, one: &str, several: &str) -> String {
    format!("{many} {}", if many == 1 { one } else { several })
}

fn words(drained: &DrainReport) -> String {
    let DrainReport { finished, released, cut, took_ms, .. } = drained;
    let goes_on = drained.runs.iter().any(|run| run.state.is_none_or(|state| !state.is_terminal()));
    let goes_on = if goes_on { "; start it again to go on" } else { "" };
    format!(
        "stopped: {finished} finished, {released} given back, {cut} cut, in {took_ms} ms{goes_on}"
    )
}

/// The name of what tells the process to stop, once it has come.
async fn stop() -> io::Result<&'static str> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = terminate.recv() => return Ok("terminated"),
            told = tokio::signal::ctrl_c() => told?,
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await?;
    Ok("interrupted")
}
