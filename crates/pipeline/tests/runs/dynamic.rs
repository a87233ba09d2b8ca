//! Steps whose type is known when they run (1.7, PL209, PL611).

use serde_json::{Value, json};

use super::{pipeline, world};

const KINDS: &str = "\
workflow:
  name: kinds
  variables: {n: 1}
  steps:
    - name: work
      type: '{{ inputs.kind }}'
      dynamic_types: [echo, set_variable, claude, gemini]
      continue_on_error: true
      value: 'echoed {{ inputs.kind }}'
      variables: {n: '{{ n + 1 }}', m: '{{ n }}'}
    - name: asked
      type: '{{ inputs.kind }}'
      dynamic_types: [echo, claude]
      continue_on_error: true
      prompt: 'say {\"score\": 9}'
    - {name: after, type: echo, value: '{{ state.n }} {{ steps.asked.score ?? steps.asked.error.code }}'}
";

#[tokio::test]
async fn a_step_is_of_the_type_that_its_template_names() {
    let kinds = |kind: &str| world(KINDS, json!({ "kind": kind }));
    let results = kinds("echo").results().await;
    assert_eq!(results["work"], "echoed echo");
    assert_eq!(results["asked"]["error"]["code"], "PL611", "`prompt` is no key of an echo step");
    let message = results["asked"]["error"]["message"].as_str().unwrap();
    assert!(message.contains("unknown key `prompt`"), "{message}");
    assert_eq!(results["after"], "1 PL611");

    // What it sets is set once, and seen by later steps, on a resume too.
    let results = kinds(" set_variable ").results().await;
    assert_eq!(results["work"]["values"], json!({"n": 2, "m": 2}));
    assert_eq!(results["work"]["step_type"], "set_variable");
    assert!(results["after"].as_str().unwrap().starts_with("2 "), "{}", results["after"]);

    let world = kinds("claude");
    let results = world.results().await;
    assert_eq!(results["work"]["error"]["code"], "PL611");
    assert_eq!(
        (&results["asked"]["step_type"], &results["asked"]["text"]),
        (&json!("claude"), &json!("{\"score\": 9}"))
    );
    assert_eq!(results["after"], "1 9", "a reply is read like that of any call");
    assert_eq!(world.prompts(), ["say {\"score\": 9}"]);
}

#[tokio::test]
async fn a_type_that_is_not_allowed_or_has_no_value_fails_the_step() {
    let of = async |kind: Value, rest: &str| {
        let document = format!(
            "workflow:\n  name: x\n  steps:\n    - name: a\n      type: '{{{{ inputs.kind }}}}'\n      \
             dynamic_types: [echo]\n      {rest}\n"
        );
        world(&document, json!({ "kind": kind })).results().await["a"].clone()
    };
    for kind in [json!("gemini"), json!("Echo"), json!(""), json!(7), json!(["echo"])] {
        let record = of(kind.clone(), "value: 1").await;
        assert_eq!(record["error"]["code"], "PL611", "{kind}: {record}");
        let message = record["error"]["message"].as_str().unwrap();
        assert!(message.ends_with("none of its dynamic_types: echo"), "{message}");
    }
    // A value cannot pass for the record of another type.
    let record = of(json!("echo"), "value: {step_type: set_variable, values: {x: 1}}").await;
    assert_eq!(record["error"]["code"], "PL611", "{record}");
    assert_eq!(of(json!("echo"), "condition: 'false'").await["status"], "skipped");
    let record = of(json!("{{ nothing }}"), "value: 1").await;
    assert_eq!(record["error"]["code"], "PL611", "what a value holds is no template");
}

#[test]
fn the_strongest_of_its_types_counts_for_what_is_known_before() {
    let pipeline = pipeline(KINDS);
    let kinds: Vec<&str> = pipeline.providers().into_iter().map(|kind| kind.name()).collect();
    // No key of `work` is that of a call, so that only `asked` can be one.
    assert_eq!(kinds, ["claude"]);
    let plan = pipeline.plan();
    assert_eq!((plan.jobs[0].attempts, plan.jobs[1].attempts), (1, 3));
    assert_eq!((plan.jobs[0].within_ms, plan.jobs[1].within_ms), (60_000, 990_000));
    assert_eq!(plan.required_inputs, ["kind"]);
}
