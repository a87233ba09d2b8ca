//! `signal` and `answer`: what runs are sent from a shell, while no process runs them.

use std::time::Duration;

use perennial::{
    Runtime, Store,
    engine::{AttemptCx, Outcome, Wait, WaitDefault, workflow::BoxFuture},
};
use serde_json::json;

use crate::{
    one_job::OneJob,
    world::{World, json_lines},
};

/// Asks once, and succeeds with the answer.
fn asks(cx: AttemptCx) -> BoxFuture<'static, Outcome> {
    Box::pin(async move {
        match cx.resumed_with() {
            Ok(Some(value)) => Outcome::Succeeded(value),
            Ok(None) | Err(_) => Outcome::Suspend(Wait::Answer {
                name: "agree?".to_owned(),
                question: json!("Shall it be sent?"),
                until: cx.now.after(Duration::from_secs(3600)),
                or: WaitDefault::Skip,
            }),
        }
    })
}

/// Does `what` with the run `r` of a host, which then goes.
fn hosted(world: &World, what: impl AsyncFnOnce(perennial::records::RunHandle)) {
    let executor = tokio::runtime::Runtime::new().unwrap();
    executor.block_on(async {
        let store = Store::sqlite(world.path("perennial.db"));
        let runtime = Runtime::builder().store(store).start().await.unwrap();
        what(OneJob::start_as(&runtime, Some("r"), None, asks).await).await;
        runtime.shutdown().await;
    });
}

/// The run `r`, whose step asks `agree?`, left by its host.
fn asking(world: &World) {
    hosted(world, async |run| {
        let mut events = run.events(1);
        while events.next().await.unwrap().kind != "job_suspended" {}
    });
}

#[test]
fn a_question_is_explained_and_answered_once() {
    let world = World::new();
    asking(&world);
    let explained = world.expect(0, &["explain", "r"]);
    let line = explained.stdout.lines().nth(1).unwrap();
    assert!(line.starts_with("  step a: asks `agree?` until "), "{explained:?}");
    assert!(line.ends_with(", then it is skipped: Shall it be sent?"), "{explained:?}");
    let whose = "it goes on in the program that has its workflow `one-job`";
    assert!(explained.stdout.contains(whose), "{explained:?}");
    assert_eq!(explained.stderr, "help: perennial answer r 'agree?' JSON\n");
    let waits =
        &json_lines(&world.expect(0, &["explain", "r", "--json"]).stdout)[0]["waits_for"][0];
    assert_eq!((&waits["why"], &waits["then"]), (&json!("answer"), &json!("skip")));
    assert_eq!((&waits["name"], &waits["attempts_used"]), (&json!("agree?"), &json!(0)));
    let shown = world.expect(0, &["show", "r"]);
    assert!(shown.stdout.contains("suspended"), "{shown:?}");

    let refused = world.expect(2, &["answer", "r", "agree?", "yes"]);
    assert!(refused.stderr.ends_with("help: as a text: perennial answer r 'agree?' '\"yes\"'\n"));
    let yes = ["answer", "r", "agree?", "\"yes\"", "--by", "ada", "--request", "1"];
    let answered = world.expect(0, &yes);
    assert_eq!(answered.stdout, "step a of run r goes on with it\n");
    let goes_on = format!("nobody runs it now: {whose}; no command can do that\n");
    assert_eq!(answered.stderr, goes_on);
    let again = world.expect(0, &yes).stdout;
    assert_eq!(again, "this request was sent before: step a of run r goes on with it\n");
    let second = world.expect(2, &["answer", "r", "agree?", "\"no\""]);
    assert!(second.stderr.contains("`agree?` has been answered already"), "{second:?}");

    hosted(&world, async |run| drop(run.outcome().await.unwrap()));
    let shown = world.expect(0, &["results", "r"]).stdout;
    assert!(shown.contains("yes"), "{shown}");
    let events = world.expect(0, &["events", "r"]).stdout;
    for kind in ["job_suspended", "interrupt_requested", "signal_received", "interrupt_resumed"] {
        assert!(events.contains(kind), "{kind}: {events}");
    }
    let late = world.expect(2, &["signal", "r", "go"]);
    let ended = "error: run r has ended (succeeded): it takes nothing that is sent to it [PL904]\n";
    assert!(late.stderr.starts_with(ended), "{late:?}");
    assert!(late.stderr.ends_with("help: perennial show r\n"), "{late:?}");
}

/// The command knows documents alone; it says so, and leaves the run to its host.
#[test]
fn a_run_of_a_host_is_left_to_that_host() {
    let world = World::new();
    asking(&world);
    let whose = "the program that has its workflow `one-job`";
    for all in ["r", "--all"] {
        let left = world.expect(2, &["resume", all]);
        assert!(left.stderr.contains(whose), "{left:?}");
        assert!(left.stderr.contains("`Builder::workflow`"), "{left:?}");
        assert!(!left.stderr.contains("provider_mode"), "{left:?}");
    }
    let skip = world.expect(2, &["skip", "r", "a"]);
    assert!(skip.stderr.contains(whose) && skip.stderr.contains("`RunHandle::skip`"), "{skip:?}");
    assert!(skip.stderr.ends_with("help: perennial show r\n"), "{skip:?}");
}

#[test]
fn a_signal_is_kept_for_the_step_that_will_ask() {
    let world = World::new();
    asking(&world);
    let kept = world.expect(0, &["signal", "r", "go", "{\"n\": 7}", "--why", "it is time"]);
    assert_eq!(kept.stdout, "run r keeps it for the step that will ask for go\n");
    let args = ["signal", "r", "stop", "--json", "--request", "x"];
    for changed in [true, false] {
        let told = &json_lines(&world.expect(0, &args).stdout)[0];
        assert_eq!((&told["type"], &told["changed"]), (&json!("signal"), &json!(changed)));
        assert_eq!((&told["run"], &told["step"]), (&json!("r"), &json!(null)));
    }
    let events = json_lines(&world.expect(0, &["events", "r", "--json"]).stdout);
    let sent: Vec<_> = events.iter().filter(|event| event["event"] == "signal_received").collect();
    assert_eq!(sent.len(), 2);
    assert_eq!(
        (&sent[0]["data"]["why"], &sent[0]["data"]["by"]),
        (&json!("it is time"), &json!("command"))
    );
    for (verb, name, what) in
        [("signal", "go\nnow", "a signal"), ("answer", "agree\t?", "a question")]
    {
        let refused = world.expect(2, &[verb, "r", name, "1"]);
        assert!(refused.stderr.contains(&format!("{name:?} cannot name {what}")), "{refused:?}");
        assert_eq!(refused.stderr.lines().count(), 1, "{refused:?}");
    }
    let unknown = world.expect(12, &["signal", "no", "go"]);
    assert!(unknown.stderr.contains("help: perennial runs"), "{unknown:?}");
    world.expect(9, &["signal", "r", "go", "--store", "sqlite:nowhere.db"]);
    for verb in ["signal", "answer"] {
        let help = world.expect(0, &[verb, "--help"]).stdout;
        assert!(help.contains("Usage: perennial ") && help.contains("--request"), "{help}");
    }
}
