//! `signal` and `answer`: what a run is sent, whichever node works on it. A store that is one file is held meanwhile.

use perennial::{
    RunId, RunState, StoreError,
    engine::Sent,
    records::{Accepted, RunError, RunView},
};
use serde_json::{Value, json};

use super::{
    ended::{TooLate, too_late},
    engine,
    hint::{self, Hint, quoted},
    host,
    named::named,
};
use crate::{
    args::{AnswerArgs, SentArgs, SignalArgs},
    exit::{self, failed, failed_with},
    output,
};

/// Who sends it when nobody says so.
const COMMAND: &str = "command";

pub(super) async fn signal(args: SignalArgs) -> anyhow::Result<i32> {
    let payload = match &args.payload {
        Some(text) => payload(text, "signal", &args.run, &args.name)?,
        None => Value::Null,
    };
    let sent = Sent::signal(&args.name, &payload)?;
    send("signal", &args.run, &args.name, sent, &args.sent).await
}

pub(super) async fn answer(args: AnswerArgs) -> anyhow::Result<i32> {
    let value = payload(&args.value, "answer", &args.run, &args.question)?;
    let sent = Sent::answer(&args.question, &value)?;
    send("answer", &args.run, &args.question, sent, &args.sent).await
}

fn payload(text: &str, verb: &str, run: &str, name: &str) -> anyhow::Result<Value> {
    serde_json::from_str(text).map_err(|error| {
        let as_text = quoted(&json!(text).to_string());
        let help = format!("as a text: perennial {verb} {run} {} {as_text}", quoted(name));
        failed_with(exit::USAGE, format!("{} is no JSON: {error}", quoted(text)), help)
    })
}

async fn send(
    verb: &'static str,
    typed: &str,
    name: &str,
    sent: Sent,
    args: &SentArgs,
) -> anyhow::Result<i32> {
    let store = args.store.store.clone().must_exist();
    let run = named(&store, typed).await?;
    let hint = Hint::new(&store, None);
    let mut sent = sent.by(args.by.as_deref().unwrap_or(COMMAND));
    if let Some(why) = &args.why {
        sent = sent.because(why);
    }
    if let Some(request) = &args.request {
        sent = sent.request(request);
    }
    let runtime = engine::start_keeping(&store).await?;
    let asked = async {
        let handle = runtime.runs().get(&run).await?;
        let accepted = handle.send(sent).await?;
        Ok((accepted, handle.view().await?))
    };
    let asked: Result<_, RunError> = asked.await;
    let ended = match &asked {
        Err(RunError::Store(StoreError::InvalidState(refused))) if refused.what == "run" => {
            refused.from.parse().ok()
        }
        Ok(_) | Err(_) => None,
    };
    let late = match ended.filter(|state: &RunState| state.is_terminal()) {
        Some(state) => Some(too_late(&runtime, &run, state, TooLate::Send, &hint).await),
        None => None,
    };
    let is_of_a_host = late.is_none() && asked.is_ok() && host::has(&runtime, &run).await;
    runtime.shutdown().await;
    if let Some(late) = late {
        return Err(late);
    }
    let (accepted, view) = asked.map_err(|error| refused(&run, &error, args, &hint))?;
    tell(verb, &run, name, accepted, &view, args)?;
    if !args.output.json && view.run.state == RunState::Paused {
        output::talk(&format!("let it go on with: {}", hint.unpause(run.as_str())));
    } else if !args.output.json {
        let owner = view.run.owner.as_ref().filter(|_| view.run.owner_alive && store.is_shared());
        output::talk(&match owner {
            Some(owner) => format!("node {} works on it", owner.node),
            None if is_of_a_host => {
                format!("nobody runs it now: {}", host::goes_on(&view.run.workflow))
            }
            None => format!("nobody runs it now; resume with: {}", hint.resume(run.as_str())),
        });
    }
    Ok(exit::COMPLETED)
}

fn tell(
    verb: &str,
    run: &RunId,
    name: &str,
    accepted: Accepted,
    view: &RunView,
    args: &SentArgs,
) -> anyhow::Result<()> {
    let woken = accepted.woken.and_then(|id| view.jobs.iter().find(|job| job.id == id));
    if args.output.json {
        return output::json(&json!({
            "type": verb,
            "run": run,
            "name": name,
            "seq": accepted.seq,
            "changed": accepted.changed,
            "step": woken.map(|job| &job.key),
        }));
    }
    let again = if accepted.changed { "" } else { "this request was sent before: " };
    let text = match woken {
        Some(job) => format!("{again}step {} of run {run} goes on with it", job.key),
        None => {
            format!("{again}run {run} keeps it for the step that will ask for {}", quoted(name))
        }
    };
    output::line(&text)
}

/// What is too late is a mistake of whoever typed it, and no failure of the store.
fn refused(run: &RunId, error: &RunError, args: &SentArgs, hint: &Hint) -> anyhow::Error {
    let show = hint.show(run.as_str());
    if let (RunError::Store(StoreError::Conflict { .. }), Some(request)) = (error, &args.request) {
        let text = format!("request {request} has sent something else to run {run} before");
        let help = "give what is new a --request of its own".to_owned();
        return failed_with(exit::USAGE, text, help);
    }
    match error {
        RunError::Store(StoreError::InvalidState(refused)) => {
            let text =
                format!("run {run} is {}: it takes nothing that is sent to it", refused.from);
            failed_with(exit::USAGE, text, show)
        }
        RunError::Store(
            refused @ (StoreError::AlreadyAnswered { .. } | StoreError::Expired { .. }),
        ) => failed_with(exit::USAGE, refused, show),
        RunError::Store(
            refused @ (StoreError::TooLarge { .. }
            | StoreError::TooMany { .. }
            | StoreError::Conflict { .. }),
        ) => failed(exit::USAGE, refused),
        RunError::Store(_)
        | RunError::InvalidRunId(_)
        | RunError::Engine(_)
        | RunError::NotRunnable(_)
        | RunError::Ended { .. }
        | RunError::OwnedElsewhere { .. }
        | RunError::ShuttingDown
        | RunError::ShutDown { .. }
        | _ => hint::refused(error, hint),
    }
}
