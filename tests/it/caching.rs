//! Results of calls that are kept, and taken by later runs (1.7, `cache`).

use perennial::{PipelineOutcome, ProviderMode, Runtime, StartPipeline, Store};
use serde_json::{Value, json};

const ASKED: &str = "\
workflow:
  name: asked
  defaults: {cache_results: true}
  steps:
    - {name: asked, type: claude, prompt: 'about {{ inputs.topic }}', claude_options: {cost_tracking: true}}
    - {name: fresh, type: gemini, prompt: 'about {{ inputs.topic }}', cache: false}
    - {name: keyed, type: claude, prompt: 'about {{ inputs.topic }}', cache: {key: '{{ inputs.key }}', ttl: 1h}}
";

fn start(document: &str, topic: &str, key: &str) -> StartPipeline {
    let start = StartPipeline::document("asked.yaml", document).mode(ProviderMode::Mock);
    start.input("topic", topic).input("key", key)
}

async fn run(runtime: &Runtime, start: StartPipeline) -> PipelineOutcome {
    runtime.pipelines().start(start).await.unwrap().outcome().await.unwrap()
}

/// Which of the steps took a kept result.
fn cached(outcome: &PipelineOutcome) -> Vec<Value> {
    let steps = ["asked", "fresh", "keyed"].into_iter();
    steps.map(|step| outcome.result(step).unwrap()["cached"].clone()).collect()
}

#[tokio::test]
async fn a_kept_result_is_taken_when_nothing_it_was_made_of_has_changed() {
    let runtime = Runtime::builder().store(Store::memory()).start().await.unwrap();
    let first = run(&runtime, start(ASKED, "cats", "k")).await;
    assert_eq!(cached(&first), [json!(false), Value::Null, json!(false)]);
    let second = run(&runtime, start(ASKED, "cats", "k")).await;
    assert_eq!(cached(&second), [json!(true), Value::Null, json!(true)]);
    let (made, taken) = (first.result("asked").unwrap(), second.result("asked").unwrap());
    assert_eq!(taken["text"], made["text"]);
    assert_eq!((&made["cost"], &taken["cost"]), (&json!(0.001), &json!(0.0)));
    assert_eq!(
        (&taken["tokens"], &taken["cost_tracking"]["total_cost_usd"]),
        (&json!(0), &json!(0.0))
    );
    assert_eq!(taken["request_hash"], made["request_hash"]);

    // The journal tells of it, and counts it as no call.
    let handle = runtime.runs().get(second.run_id()).await.unwrap();
    let view = handle.view().await.unwrap();
    let taken = view.calls.iter().filter(|call| call.name.starts_with("cache/")).count();
    assert_eq!((taken, view.calls.len()), (2, 3));

    // Another prompt; the key of `keyed` stands for its prompt.
    let other = run(&runtime, start(ASKED, "dogs", "k")).await;
    assert_eq!(cached(&other), [json!(false), Value::Null, json!(true)]);
    assert_eq!(other.result("keyed").unwrap()["text"], second.result("keyed").unwrap()["text"]);
    let other = run(&runtime, start(ASKED, "cats", "k2")).await;
    assert_eq!(cached(&other), [json!(true), Value::Null, json!(false)]);
    // A changed definition, and a mock with another script.
    let changed = ASKED.replace("cost_tracking: true", "cost_tracking: true, max_tokens: 9");
    let other = run(&runtime, start(&changed, "cats", "k")).await;
    assert_eq!(cached(&other), [json!(false), Value::Null, json!(true)]);
    let changed = ASKED.replace("ttl: 1h}", "ttl: 1h}, claude_options: {max_tokens: 9}");
    let other = run(&runtime, start(&changed, "cats", "k")).await;
    assert_eq!(cached(&other), [json!(true), Value::Null, json!(false)]);
    let scripted = start(ASKED, "cats", "k").mocks(json!({"replies": {"asked": "scripted"}}));
    let other = run(&runtime, scripted).await;
    assert_eq!(cached(&other), [json!(false), Value::Null, json!(false)]);
    assert_eq!(other.result("asked").unwrap()["text"], "scripted");
    runtime.shutdown().await;
}

#[tokio::test]
async fn failures_are_not_kept_and_a_key_must_not_be_empty() {
    let runtime = Runtime::builder().store(Store::memory()).start().await.unwrap();
    let document = ASKED.replace("defaults:", "continue_on_error: true\n  defaults:");
    for _ in 0..2 {
        let mocks =
            json!({"replies": {"asked": {"error": {"class": "permanent", "message": "no"}}}});
        let outcome = run(&runtime, start(&document, "cats", "").mocks(mocks)).await;
        assert_eq!(outcome.result("asked").unwrap()["status"], "failed");
        let error = &outcome.result("keyed").unwrap()["error"];
        assert_eq!(error["code"], "PL605", "{error}");
    }
    runtime.shutdown().await;
}

#[tokio::test]
async fn runs_at_the_same_time_keep_and_take_whole_results() {
    let runtime = Runtime::builder().store(Store::memory()).start().await.unwrap();
    let mut handles = Vec::new();
    for number in 0..12 {
        let topic = ["cats", "dogs"][number % 2];
        handles.push((topic, runtime.pipelines().start(start(ASKED, topic, topic)).await.unwrap()));
    }
    for (topic, handle) in handles {
        let outcome = handle.outcome().await.unwrap();
        for step in ["asked", "keyed"] {
            let expected = format!("Mock response for: about {topic}...");
            assert_eq!(outcome.result(step).unwrap()["text"], json!(expected));
        }
    }
    let after = run(&runtime, start(ASKED, "dogs", "dogs")).await;
    assert_eq!(cached(&after), [json!(true), Value::Null, json!(true)]);
    runtime.shutdown().await;
}

/// What a child's own replies gave is not given where others, or none, are scripted for it.
#[tokio::test]
async fn the_scripted_replies_of_a_child_are_kept_for_themselves() {
    let runtime = Runtime::builder().store(Store::memory()).start().await.unwrap();
    let document = |config: &str| {
        format!(
            "workflow:\n  name: w\n  steps:\n    - name: n\n      type: pipeline\n      config: {config}\n      \
             pipeline: {{name: c, steps: [{{name: ask, type: claude, prompt: hi, cache: true}}]}}\n"
        )
    };
    let mut seen = Vec::new();
    for config in [
        "{}",
        "{mock_responses: {ask: one}}",
        "{mock_responses: {ask: two}}",
        "{mock_responses: {ask: one}}",
        "{}",
    ] {
        let start = StartPipeline::document("w.yaml", document(config)).mode(ProviderMode::Mock);
        let outcome = run(&runtime, start).await;
        let job = outcome.view.jobs.iter().find(|job| job.key.as_str() == "n/ask").unwrap();
        let result = job.result.clone().unwrap();
        seen.push((result["text"].as_str().unwrap().to_owned(), result["cached"] == true));
    }
    let texts: Vec<_> = seen.iter().map(|(text, cached)| (text.as_str(), *cached)).collect();
    let usual = texts[0].0;
    assert_eq!(texts[1..], [("one", false), ("two", false), ("one", true), (usual, true)]);
    assert!(usual != "one" && !texts[0].1);
    runtime.shutdown().await;
}
