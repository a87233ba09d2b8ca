use perennial::{RunId, records::EventRecord};
use serde_json::{Value, json};

use super::{
    engine,
    hint::{self, Hint},
    named::named,
};
use crate::{args::EventsArgs, exit, output};

/// Digits of a digest, and those that are shown of one.
const DIGEST: usize = 64;
const SHORT: usize = 12;

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

/// With the beginnings of digests in place of them, for people.
fn shortened(data: &Value) -> Value {
    match data {
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), shortened(value))).collect()
        }
        Value::String(text) => {
            let start = text.floor_char_boundary(text.len().saturating_sub(DIGEST));
            let (before, digest) = text.split_at(start);
            let is_digest = digest.len() == DIGEST && digest.bytes().all(|b| b.is_ascii_hexdigit());
            let told = is_digest.then(|| json!(format!("{before}{}…", &digest[..SHORT])));
            told.unwrap_or_else(|| data.clone())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => data.clone(),
    }
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
        line.push_str(&format!("  {}", output::cut(&shortened(&event.data).to_string(), 160)));
    }
    line
}
