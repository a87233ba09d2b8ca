//! Values that have to satisfy a schema, and replies that are asked for once more (YR-66 to YR-68).

use super::*;

const ASKED: &str = "\
workflow:
  name: x
  schemas:
    scored: {type: object, required: [score], properties: {score: {type: integer, maximum: 10}}, additionalProperties: false}
  steps:
    - name: a
      type: claude
      output_schema: scored
      prompt: 'say {\"score\": 11} ~ no ~ {\"score\": 9}'
    - {name: after, type: echo, value: '{{ steps.a.score }} {{ steps.a.data.score }}'}
";

#[tokio::test]
async fn a_reply_is_asked_for_until_it_satisfies_its_schema() {
    let world = world(ASKED, json!({}));
    let results = world.results().await;
    let a = &results["a"];
    assert_eq!((&a["data"], &results["after"]), (&json!({"score": 9}), &json!("9 9")));
    // All three calls are paid, and told together.
    assert_eq!(
        (&a["cost"], &a["tokens"], &a["cost_known"]),
        (&json!(0.0045), &json!(15), &json!(true))
    );
    assert_eq!((&a["turns"], &a["repairs"]), (&json!(3), &json!(2)));
    assert_eq!(a["usage"]["input_tokens"], 9);
    let requests = world.parrot.requests.lock().unwrap();
    assert_eq!(requests.len(), 3);
    assert!(a["call_id"].as_str().unwrap().starts_with("3/"), "{a}");
    assert_eq!(a["request_hash"], json!(requests[2].0.digest()));
    let schema = requests[0].0.schema.clone().unwrap();
    assert_eq!(schema["required"], json!(["score"]), "providers are told of it");
    for (place, (reply, line)) in [
        ("{\"score\": 11}", "1. score: Value must be <= 10"),
        ("no", "1. (root): The reply is not JSON"),
    ]
    .into_iter()
    .enumerate()
    {
        let messages = &requests[place + 1].0.messages;
        assert_eq!((messages.len(), messages[1].text.as_str()), (3, reply));
        let repair = &messages[2].text;
        let header = "Schema validation failed for step 'a' (1 error):\n";
        assert!(repair.starts_with(&format!("{header}{line}\n")), "{repair}");
        assert!(repair.contains(&format!("{schema:#}")), "{repair}");
        assert_eq!(requests[place + 1].0.schema.as_ref(), Some(&schema));
    }
}

/// YR-51, YR-67: a repeated attempt takes each recorded reply, and makes only the call that is missing.
#[tokio::test]
async fn a_repeated_attempt_pays_for_no_repair_twice() {
    let world = world(ASKED, json!({}));
    let Next::Jobs(plans) = world.workflow.next(&[]) else { panic!("a step is next") };
    let first = world.attempt(&plans[0], &[]).await;
    assert_eq!(world.prompts().len(), 3);
    assert_eq!(world.attempt(&plans[0], &[]).await, first);
    assert_eq!(world.prompts().len(), 3, "all three were recorded");
    // The process died before the reply to the last repair was recorded.
    world.journal.0.lock().unwrap().retain(|name, _| !name.contains(":3/"));
    let Outcome::Failed(failure) = world.attempt(&plans[0], &[]).await else {
        let asked = world.prompts().len();
        assert_eq!(asked, 4, "one call was missing");
        return;
    };
    panic!("{failure:?}");
}

/// The record of the failure of the one step.
async fn refused(keys: &str) -> (Value, usize) {
    let document = format!("workflow: {{name: x, steps: [{{name: a, {keys}}}]}}");
    let world = world(&document, json!({}));
    let done = world.run().await;
    let last = done.last().unwrap();
    assert_eq!(last.state, JobState::Failed, "{last:?}");
    (last.result.clone(), world.prompts().len())
}

const NUMBER: &str = "output_schema: {type: integer}";

#[tokio::test]
async fn what_cannot_be_repaired_fails_its_step_with_all_that_is_wrong() {
    let claude =
        |prompt: &str, keys: &str| format!("type: claude, prompt: 'say {prompt}', {NUMBER}{keys}");
    let (record, asked) = refused(&claude("1.5 ~ 2.5 ~ [1] ~ 4", "")).await;
    let error = &record["error"];
    assert_eq!(
        (&error["code"], &error["class"], &error["retryable"]),
        (&json!("PL608"), &json!("semantic"), &json!(false))
    );
    let text =
        "Schema validation failed for step 'a' (1 error):\n1. (root): Expected integer, got array";
    assert_eq!((error["message"].as_str(), asked), (Some(text), 3));
    let cause = &error["cause"];
    let told = json!([{"path": "(root)", "message": "Expected integer, got array"}]);
    assert_eq!((&cause["reason"], &cause["violations"]), (&json!("schema"), &told));
    assert_eq!((&cause["repairs"], &cause["cost"]), (&json!(2), &json!(0.0045)));
    assert_eq!(record["cost"], 0.0045, "what was paid is told");

    for (prompt, keys, calls, ended) in [
        ("x", ", max_repairs: 0", 1, Value::Null),
        ("1.5 ~ 2.5", ", max_repairs: 1", 2, Value::Null),
        // SO-6: the same once more.
        ("1.5", ", max_repairs: 5", 2, json!("stuck")),
    ] {
        let (record, asked) = refused(&claude(prompt, keys)).await;
        assert_eq!((asked, &record["error"]["cause"]["ended_by"]), (calls, &ended), "{prompt}");
        assert_eq!(record["error"]["code"], "PL608", "{prompt}");
    }
    // SO-4: what was cut off is not repaired; neither is what was refused.
    let (record, asked) = refused(&format!("type: claude, prompt: long, {NUMBER}")).await;
    assert_eq!((asked, &record["error"]["cause"]["ended_by"]), (1, &json!("length")));
    let message = record["error"]["message"].as_str().unwrap();
    assert!(
        message.ends_with("\nThe reply was cut off: it has as many tokens as it may."),
        "{message}"
    );
    let (record, asked) = refused(&format!("type: claude, prompt: refuse, {NUMBER}")).await;
    assert_eq!((asked, &record["error"]["code"]), (1, &json!("PL710")));
}

/// C-201, YR-66: other steps fail at once, about the value that their record holds.
#[tokio::test]
async fn c_201_values_of_other_steps_satisfy_their_schemas_too() {
    let closed = "{type: object, properties: {a: {type: integer}}, additionalProperties: false}";
    let sound = format!(
        "\
workflow:
  name: x
  steps:
    - {{name: bare, type: echo, value: 7, {NUMBER}}}
    - {{name: stripped, type: echo, value: {{success: true, cost: 1, a: 1}}, output_schema: {closed}}}
    - {{name: data, type: echo, value: {{data: {{a: 1}}, more: 1}}, output_schema: {closed}}}
    - {{name: set, type: set_variable, variables: {{v: 1}}, output_schema: {{required: [variables_set, values]}}}}
    - name: child
      type: pipeline
      output_schema: {{required: [e], properties: {{e: {{type: integer}}}}}}
      pipeline: {{name: c, steps: [{{name: e, type: echo, value: 3}}]}}
    - {{name: skipped, type: echo, condition: false, {NUMBER}}}
    - {{name: ready, type: echo, value: {{status_code: 200, success: true}}, output_schema: {{required: [status_code]}}}}
"
    );
    let done = world(&sound, json!({})).run().await;
    let failed: Vec<_> = done.iter().filter(|job| job.state == JobState::Failed).collect();
    assert_eq!(failed, Vec::<&DoneJob>::new());

    for (keys, line) in [
        (format!("type: echo, value: [1], {NUMBER}"), "(root): Expected integer, got array"),
        (
            format!("type: echo, value: {{data: {{a: x}}, a: 1}}, output_schema: {closed}"),
            "a: Expected integer, got string",
        ),
        (
            "type: set_variable, variables: {v: 1}, output_schema: {properties: {values: {properties: {v: {minimum: 2}}}}}"
                .to_owned(),
            "values.v: Value must be >= 2",
        ),
        (
            "type: pipeline, output_schema: {required: [f]}, \
             pipeline: {name: c, steps: [{name: e, type: echo}]}"
                .to_owned(),
            "(root): Required property 'f' is missing",
        ),
    ] {
        let (record, _) = refused(&keys).await;
        let error = &record["error"];
        let message = error["message"].as_str().unwrap();
        assert_eq!(
            message,
            format!("Schema validation failed for step 'a' (1 error):\n1. {line}"),
            "{keys}"
        );
        assert_eq!((&error["code"], &error["class"]), (&json!("PL608"), &json!("semantic")));
        assert_eq!(error["cause"].get("repairs"), None);
    }
}

/// What a failure means is the step's policy.
#[tokio::test]
async fn a_value_that_is_refused_is_tolerated_where_the_step_says_so() {
    let document = format!(
        "workflow: {{name: x, steps: [{{name: a, type: echo, value: x, {NUMBER}, on_error: continue}}, \
         {{name: b, type: echo, value: '{{{{ steps.a.error.code }}}}'}}]}}"
    );
    let results = world(&document, json!({})).results().await;
    assert_eq!(results["b"], "PL608");
}
