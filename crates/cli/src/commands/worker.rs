//! A node that only works: it takes the runs that nobody works on, until it is told to stop.

use std::time::Duration;

use perennial::{
    Adoption, Config, DrainReport, RunId, Runtime,
    engine::scheduler::LeaseTerms,
    supervision::{Lifecycle, LifecycleEvent, LifecycleStream},
};
use serde_json::{Value, json};

use super::{
    ended::given_up,
    engine::{self, Signal, Signals},
    hint::Hint,
    prompts, stop,
    tree::with_findings,
};
use crate::{args::WorkerArgs, exit, output};

pub(super) async fn worker(args: WorkerArgs, config: Config) -> anyhow::Result<i32> {
    let mut signals = Signals::listen()?;
    let store = &args.store.store;
    let drain = config.drain_within();
    let own = args.lease.map(|seconds| LeaseTerms::of(Duration::from_secs(seconds)));
    let lease = own.unwrap_or_else(|| config.lease());
    let mut builder = Runtime::builder()
        .store(store.clone())
        .config(config)
        .node(&args.node)
        .lease(lease)
        .adoption(Adoption::AtBoot);
    if args.engine.show_prompts {
        builder = builder.on_prompt(|prompt| output::talk_text(&prompts::shown(prompt)));
    }
    let runtime = builder.start().await.map_err(|error| engine::opened(store, error))?;
    let says = Says { json: args.output.json, quiet: args.engine.quiet };
    let lifecycle = runtime.supervision_tree().lifecycle();
    let ends = runtime.supervision_tree().lifecycle();
    says.started(&args, lease.ttl, &runtime)?;
    let hint = Hint::new(store, args.engine.config.as_deref());
    let signal = {
        let mut work = std::pin::pin!(told(&runtime, lifecycle, says, &hint));
        tokio::select! {
            biased;
            signal = signals.next() => signal,
            _ = runtime.ended() => return Err(given_up(ends, hint.worker())),
            failed = &mut work => return failed.map(|()| exit::COMPLETED),
        }
    };
    let tree = args.engine.tree.then(|| with_findings(runtime.tree(), &[], None));
    says.stopping(drain, runtime.drain_grace())?;
    // Kept until the process ends: what is left of it then ends with it, unheard.
    let stopped = tokio::time::timeout(stop::within(drain), runtime.shutdown());
    let report = tokio::select! {
        biased;
        _ = signals.second() => None,
        summary = stopped => summary.ok().and_then(|summary| summary.drain),
    };
    says.stopped(signal, report.as_ref())?;
    if let Some(tree) = tree {
        output::tree(&tree, args.engine.tree_shape(&args.output))?;
    }
    Ok(signal.code())
}

/// Says which runs begin and end here, as long as the tree runs.
async fn told(
    runtime: &Runtime,
    mut lifecycle: LifecycleStream,
    says: Says,
    hint: &Hint,
) -> anyhow::Result<()> {
    while let Some(Lifecycle { path, event, .. }) = lifecycle.next().await {
        let Some(run) = path.strip_prefix("/perennial/runs/").and_then(|id| RunId::parse(id).ok())
        else {
            continue;
        };
        if let LifecycleEvent::Started { incarnation: 1, .. } = event {
            says.run("run_taken", &run, "taken", None)?;
        } else if let LifecycleEvent::Exited { .. } = event {
            // It may go on with its next actor, or elsewhere.
            let read = async { runtime.runs().get(&run).await?.view().await };
            let Ok(view) = read.await else { continue };
            let state = view.run.state;
            if state.is_terminal() {
                let is_good = exit::of_state(state) == exit::COMPLETED;
                let help = (!is_good).then(|| hint.show(run.as_str()));
                says.run("run_ended", &run, state.status(), help.as_deref())?;
            }
        }
    }
    Ok(())
}

/// What is said, and how.
#[derive(Clone, Copy)]
struct Says {
    json: bool,
    quiet: bool,
}

impl Says {
    fn say(self, value: &Value, text: &str) -> anyhow::Result<()> {
        if self.json {
            output::json(value)?;
        } else if !self.quiet {
            output::talk(text);
        }
        Ok(())
    }

    fn started(self, args: &WorkerArgs, lease: Duration, runtime: &Runtime) -> anyhow::Result<()> {
        let store = runtime.tree().runtime.store;
        let text =
            format!("node {} works on {}; stop it with ^C or SIGTERM", args.node, args.store.store);
        let value = json!({
            "type": "worker_started", "node": args.node, "store": store, "lease_s": lease.as_secs(),
        });
        self.say(&value, &text)
    }

    fn run(self, kind: &str, run: &RunId, what: &str, help: Option<&str>) -> anyhow::Result<()> {
        let see = help.map(|help| format!("; see: {help}")).unwrap_or_default();
        let text = format!("run {run} {what}{see}");
        self.say(&json!({ "type": kind, "run": run, "status": what }), &text)
    }

    fn stopping(self, drain: Duration, grace: Duration) -> anyhow::Result<()> {
        self.say(&json!({ "type": "worker_stopping" }), &stop::announced(drain, grace))
    }

    fn stopped(self, signal: Signal, report: Option<&DrainReport>) -> anyhow::Result<()> {
        let Some(report) = report else {
            let value = json!({ "type": "worker_stopped", "signal": signal.name() });
            return self.say(&value, "stopped at once; other nodes go on when the lease is over");
        };
        let runs = report.runs.len() + report.runs_more;
        let left = if runs == 1 { "1 run is".to_owned() } else { format!("{runs} runs are") };
        let text = format!(
            "stopped: {} finished, {} given back, {} cut; {left} left to other nodes",
            report.finished, report.released, report.cut
        );
        let value = json!({
            "type": "worker_stopped",
            "signal": signal.name(),
            "attempts": {
                "finished": report.finished, "released": report.released, "cut": report.cut,
            },
            "runs": runs,
            "took_ms": report.took_ms,
        });
        self.say(&value, &text)
    }
}
