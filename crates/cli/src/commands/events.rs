use perennial::{RunId, records::EventRecord};
use serde_json::{Value, json};

use super::{
    engine,
    hint::{self, Hint},
    named::named,
};
use crate::{args::EventsArgs, exit, output};

pub(super) async fn events(args: EventsArgs) -> anyhow::Result<i32> {
    let run = named(&args.store.store, &args.run).await?;
    let hint = Hint::new(&args.store.store, None);
    let runtime = engine::start_reading(&args.store.store).await?;
    let read = async {
        let handle = runtime.runs().get(&run).await?;
        Ok(handle.events(args.from).rest().await?)
    };
    let events: Result<Vec<EventRecord>, perennial::records::RunError> = read.await;
    runtime.shutdown().await;
    for event in events.map_err(|error| hint::refused(&error, &hint))? {
        if args.output.json {
            output::json(&described(&run, &event)?)?;
        } else {
            output::line(&line(&event))?;
        }
    }
    Ok(exit::COMPLETED)
}

/// An event as one JSON value, as `run --json` writes it.
pub(super) fn described(run: &RunId, event: &EventRecord) -> anyhow::Result<Value> {
    let mut line = json!({ "type": "event", "run": run, "event": event.kind });
    let facts = serde_json::to_value(event)?;
    for name in ["seq", "at", "job", "attempt", "data"] {
        if let Some(fact) = facts.get(name) {
            line[name] = fact.clone();
        }
    }
    line["at"] = json!(event.at.to_rfc3339());
    Ok(line)
}

fn line(event: &EventRecord) -> String {
    let mut line = format!("{:>5}  {}  {}", event.seq, event.at.to_rfc3339(), event.kind);
    if let Some(job) = &event.job {
        line.push_str(&format!(" {job}"));
    }
    if let Some(attempt) = event.attempt {
        line.push_str(&format!(" #{attempt}"));
    }
    if !event.data.is_null() {
        line.push_str(&format!("  {}", output::cut(&event.data.to_string(), 160)));
    }
    line
}
