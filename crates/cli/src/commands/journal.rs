use std::{
    collections::BTreeSet,
    io::{self, IsTerminal},
};

use perennial::records::{VerifyStep, Violation};
use serde_json::json;

use super::{
    engine,
    hint::{Hint, named_or_helped},
    named::named,
};
use crate::{args::VerifyArgs, exit, output};

/// Events between two lines that say how far it is.
const TOLD_EVERY: u64 = 50_000;

pub(super) async fn verify(args: VerifyArgs) -> anyhow::Result<i32> {
    let store = args.store.store.clone().read_only();
    let hint = Hint::new(&args.store.store, None);
    let run = match &args.run {
        Some(typed) => Some(named(&store, typed).await?),
        None => None,
    };
    let runtime = engine::start_reading(&store).await?;
    let mut check = runtime.upkeep().verify(run.as_ref());
    let mut seen = Seen::default();
    let outcome = loop {
        match check.next().await {
            Ok(Some(step)) => {
                for violation in &step.violations {
                    tell(violation, &args)?;
                }
                seen.add(&step);
                seen.tell_progress();
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    runtime.shutdown().await;
    outcome.map_err(|error| named_or_helped(&error, &hint))?;
    seen.tell(&args, &hint)
}

fn tell(violation: &Violation, args: &VerifyArgs) -> anyhow::Result<()> {
    if args.output.json {
        let mut line = serde_json::to_value(violation)?;
        line["type"] = json!("violation");
        return output::json(&line);
    }
    let Violation { rule, stream, seq, what } = violation;
    let place = match (stream.as_str(), seq) {
        ("", _) => "the store".to_owned(),
        (stream, None) => stream.to_owned(),
        (stream, Some(seq)) => format!("{stream}, event {seq}"),
    };
    output::line(&format!("{place}: {what} [{rule}]"))
}

/// What was checked so far.
#[derive(Default)]
struct Seen {
    runs: u64,
    others: u64,
    events: u64,
    told_at: u64,
    violations: u64,
    /// Damaged runs, and other streams.
    damaged: BTreeSet<String>,
}

impl Seen {
    fn add(&mut self, step: &VerifyStep) {
        self.events += step.events;
        self.violations += step.violations.len() as u64;
        self.damaged.extend(step.violations.iter().map(|found| found.stream.clone()));
        match step.kind.as_deref() {
            Some("run") if step.complete => self.runs += 1,
            Some(_) if step.complete => self.others += 1,
            Some(_) | None => (),
        }
    }

    fn tell_progress(&mut self) {
        if self.events - self.told_at >= TOLD_EVERY && io::stderr().is_terminal() {
            self.told_at = self.events;
            output::talk(&format!("{} so far", self.counted()));
        }
    }

    fn counted(&self) -> String {
        let count = |count: u64, one: &str| match count {
            1 => format!("1 {one}"),
            _ => format!("{count} {one}s"),
        };
        let others = match self.others {
            0 => String::new(),
            others => format!(", {}", count(others, "other stream")),
        };
        format!("{}{others}, {}", count(self.runs, "run"), count(self.events, "event"))
    }

    fn tell(&self, args: &VerifyArgs, hint: &Hint) -> anyhow::Result<i32> {
        if args.output.json {
            output::json(&json!({
                "type": "verified",
                "runs": self.runs,
                "other_streams": self.others,
                "events": self.events,
                "violations": self.violations,
                "damaged": self.damaged,
            }))?;
        }
        if self.violations == 0 {
            if !args.output.json {
                output::line(&format!("{}: all in order", self.counted()))?;
            }
            return Ok(exit::COMPLETED);
        }
        let streams = self.damaged.iter().filter(|stream| !stream.is_empty()).count();
        let checked = self.runs + self.others;
        let text = format!(
            "what is recorded is not whole: {} violation{} in {streams} of {checked} streams \
             ({}); nothing was changed",
            self.violations,
            if self.violations == 1 { "" } else { "s" },
            self.counted(),
        );
        let first = self.damaged.iter().find(|stream| !stream.is_empty());
        output::problem(&text);
        if let Some(stream) = first {
            output::talk(&format!("help: {}", hint.show(stream)));
        }
        Ok(exit::FINDINGS)
    }
}
