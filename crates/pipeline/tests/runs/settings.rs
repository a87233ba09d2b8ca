//! What documents and hosts set for a run: leniency, retries, inputs, models, the environment.

use super::*;

/// C-69, YF-37: what stands for a hole without a value.
#[tokio::test]
async fn c_69_holes_without_a_value_are_what_the_document_says() {
    let value = "{{steps.no.x}}|{{global_vars.no}}|{{inputs.no}}|{{ state.no }}|{{ plain }}|{{ f(1) }}|{{ }}|{{a.no}}";
    for (lenient, expected) in [
        ("missing_templates: empty, unknown_functions: literal", "|||||{{ f(1) }}|"),
        (
            "missing_templates: literal, unknown_functions: literal",
            "{{steps.no.x}}|{{global_vars.no}}|{{inputs.no}}|{{ state.no }}|{{ plain }}|{{ f(1) }}|{{ }}|{{a.no}}",
        ),
        (
            "missing_templates: legacy, unknown_functions: literal",
            "{{steps.no.x}}|{{global_vars.no}}|{{inputs.no}}|||{{ f(1) }}|{{ }}|",
        ),
    ] {
        let value =
            if lenient.contains("empty") { value.replace("|{{ }}", "") } else { value.into() };
        let document = format!(
            "workflow:\n  name: x\n  lenient: {{{lenient}}}\n  steps:\n    - {{name: a, type: echo, value: {{}}}}\n    - {{name: b, type: echo, value: \"{value}\"}}\n"
        );
        let results = world(&document, json!({})).results().await;
        assert_eq!(results["b"], expected, "{lenient}");
    }
}

/// The policies of the steps of `document`, in order.
fn policies(document: &str) -> Vec<Value> {
    let world = world(document, json!({}));
    let mut done = Vec::new();
    let mut plans = Vec::new();
    while let Next::Jobs(mut next) = world.workflow.next(&done) {
        let plan = next.remove(0);
        done.push(DoneJob { key: plan.key.clone(), state: JobState::Skipped, result: Value::Null });
        plans.push(serde_json::to_value(plan.retry).unwrap());
    }
    plans
}

/// YS-7, YS-57: one layer of retries, made of what the step and the options of its call say.
#[test]
fn retries_of_options_are_retries_of_the_step() {
    let document = "\
workflow:
  name: x
  defaults: {claude_options: {retry_config: {max_retries: 4, retry_on: [api_error]}}}
  steps:
    - {name: of_defaults, type: claude, prompt: x}
    - {name: own, type: claude, prompt: x, claude_options: {retry_config: {max_retries: 0, base_delay_ms: 7, backoff_strategy: linear}}}
    - {name: none, type: claude, prompt: x, max_retries: 0}
    - {name: more, type: claude, prompt: x, max_retries: 1, options: {retry_config: {max_retries: 3, retry_on: [resource_limit]}}}
    - {name: fewer, type: claude, prompt: x, retry: {max_retries: 5, retry_on: [io]}, claude_options: {retry_config: {max_retries: 3, retry_on: [stream_interrupted]}}}
    - {name: other, type: gemini, prompt: x}
";
    let api_error = json!(["transient", "overloaded", "interrupted", "rate_limited"]);
    let all = json!([
        {"max_attempts": 5, "base_ms": 500, "cap_ms": 30_000, "only": api_error},
        {"max_attempts": 1, "base_ms": 7, "cap_ms": 30_000, "growth": "linear", "only": api_error},
        {"max_attempts": 1, "base_ms": 1_000, "cap_ms": 60_000, "jitter_percent": 0},
        {"max_attempts": 4, "base_ms": 1_000, "cap_ms": 60_000, "jitter_percent": 0,
            "only": ["timeout", "transient", "overloaded", "interrupted", "rate_limited", "limit"]},
        {"max_attempts": 6, "base_ms": 1_000, "cap_ms": 60_000, "jitter_percent": 0, "only": ["interrupted", "io"]},
        {"max_attempts": 3, "base_ms": 500, "cap_ms": 30_000},
    ]);
    assert_eq!(json!(policies(document)), all);
}

/// 2.2: what the document says of a call is what the provider gets, and what is explained.
#[tokio::test]
async fn options_of_a_call_reach_the_provider() {
    let document = "\
workflow:
  name: x
  variables: {stop: END, behind: last}
  steps:
    - name: a
      type: gemini
      prompt: hello
      stop_sequences: ['{{ stop }}', \"\\n\\n\"]
      presence_penalty: -1
      frequency_penalty: 0.5
      response_mime_type: application/json
      allow_empty_prompt: true
      token_budget: {max_input_tokens: '9'}
    - name: b
      type: claude
      prompt: hello
      claude_options: {append_system_prompt: '{{ behind }}', retry_config: {max_retries: 1}, verbose: true}
";
    let world = world(document, json!({}));
    let results = world.results().await;
    let requests = world.parrot.requests.lock().unwrap();
    let (a, b) = (&requests[0].0, &requests[1].0);
    assert_eq!(a.stop_sequences, ["END", "\n\n"]);
    assert_eq!(
        (a.sampling.presence_penalty, a.sampling.frequency_penalty),
        (Some(-1.0), Some(0.5))
    );
    assert_eq!((a.form, b.form), (ReplyForm::Json, ReplyForm::Text));
    assert_eq!(
        results["b"]["debug_info"]["options_applied"],
        json!(["append_system_prompt", "debug_mode", "retry_config"])
    );
    let pipeline = pipeline(document);
    let explained = pipeline.explain("a").unwrap();
    let call = explained.call.unwrap();
    assert_eq!(
        (call.stops, call.max_input, call.allows_empty),
        (vec!["{{ stop }}".to_owned(), "\n\n".into()], Some(9), true)
    );
    let read = |step: &str| {
        let reads = pipeline.explain(step).unwrap().reads;
        reads.into_iter().map(|reads| reads.path).collect::<Vec<_>>()
    };
    assert_eq!((read("a"), read("b")), (vec!["stop".to_owned()], vec!["behind".to_owned()]));
}

#[test]
fn retries_are_those_of_the_step_or_of_the_workflow() {
    let document = "\
workflow:
  name: x
  retry_on_failure: true
  retry_attempts: 5
  max_execution_time: 2h
  steps:
    - {name: a, type: claude, prompt: x}
    - {name: b, type: echo}
    - {name: c, type: echo, max_retries: 0}
    - {name: d, type: echo, max_attempts: 3, retry_on: [io]}
    - {name: e, type: echo, retry: {max_retries: 1, jitter: 0.5, backoff: linear, base_delay_ms: 7}}
";
    assert_eq!(pipeline(document).within().unwrap().as_secs(), 7_200);
    let own = |max_attempts: u32| json!({"max_attempts": max_attempts, "base_ms": 1_000, "cap_ms": 60_000, "jitter_percent": 0});
    let mut only_io = own(3);
    only_io["only"] = json!(["io"]);
    let linear = json!({"max_attempts": 2, "base_ms": 7, "cap_ms": 60_000, "growth": "linear", "jitter_percent": 50});
    let calls = json!({"max_attempts": 6, "base_ms": 500, "cap_ms": 30_000});
    assert_eq!(policies(document), [calls, own(6), own(1), only_io, linear]);
}

#[tokio::test]
async fn a_final_failure_can_count_as_skipped_and_can_name_its_message() {
    let document = "\
workflow:
  name: x
  steps:
    - {name: a, type: echo, fail: true, error_message: broke, on_error: skip}
    - {name: b, type: echo, fail: true, error_message: broke, on_error: continue, error_output: why}
    - {name: c, type: echo, value: \"{{ steps.a.reason }} {{ steps.b.why }}\"}
";
    let results = world(document, json!({})).results().await;
    assert_eq!(
        results["a"],
        json!({"success": true, "skipped": true, "status": "skipped", "reason": "broke"})
    );
    assert_eq!(
        (&results["b"]["status"], &results["b"]["why"]),
        (&json!("failed"), &json!("broke"))
    );
    assert_eq!(results["c"], "broke broke");
}

#[test]
fn inputs_satisfy_their_schema_or_all_violations_are_told() {
    let pipeline = pipeline(
        "\
workflow:
  name: x
  input: {count: 3}
  input_schema:
    type: object
    required: [who]
    properties:
      who: {type: string, format: email}
      count: {type: integer, maximum: 2}
      deep: {items: {type: string}}
  steps: [{name: a, type: echo}]
",
    );
    let errors = |given: Value| {
        let errors = pipeline.bind_inputs(given.as_object().unwrap()).unwrap_err();
        errors.lines().iter().map(|(code, line)| format!("{code} {line}")).collect::<Vec<_>>()
    };
    assert_eq!(
        errors(json!({"who": "nobody", "deep": ["a", 1]})),
        [
            "PL510 input `count`: Value must be <= 2",
            "PL510 input `deep[1]`: Expected string, got integer",
            "PL510 input `who`: String is no valid email",
        ]
    );
    assert_eq!(
        errors(json!({"count": 1})),
        ["PL510 input `(root)`: Required property 'who' is missing"]
    );
    let given = json!({"who": "a@b.example", "count": 1});
    assert_eq!(pipeline.bind_inputs(given.as_object().unwrap()), Ok(given));
}

/// YS-7: the fallback is one further call, journaled as its own; what options report is recorded.
#[tokio::test]
async fn a_model_that_is_not_available_is_stood_in_for_once() {
    let document = "\
workflow:
  name: x
  defaults: {claude_fallback_model: haiku}
  steps:
    - name: a
      type: claude
      prompt: say hi
      claude_options:
        model: busy
        system_prompt: be kind
        append_system_prompt: and brief
        allowed_tools: [Read]
        disallowed_tools: [Bash]
        verbose: true
        telemetry_enabled: true
        cost_tracking: true
    - {name: b, type: claude, prompt: say ho, claude_options: {model: busy, fallback_model: busy}, on_error: continue}
";
    let world = world(document, json!({}));
    let results = world.results().await;
    let a = &results["a"];
    assert_eq!((&a["text"], &a["success"]), (&json!("hi"), &json!(true)));
    assert!(a["call_id"].as_str().unwrap().starts_with("2/"), "{a}");
    assert!(a["warnings"][0].as_str().unwrap().contains("`claude-haiku-9` was asked"), "{a}");
    assert_eq!(a["telemetry"], json!({"num_turns": 1, "tokens_used": 5}));
    assert_eq!(a["cost_tracking"]["total_cost_usd"], 0.0015);
    assert!(a["debug_info"]["options_applied"].as_array().unwrap().contains(&json!("model")));
    assert_eq!(results["b"]["error"]["class"], "overloaded");
    let requests = world.parrot.requests.lock().unwrap();
    let models: Vec<&str> = requests.iter().map(|(request, _)| request.model.as_str()).collect();
    assert_eq!(models, ["busy", "claude-haiku-9", "busy"]);
    let request = &requests[1].0;
    assert_eq!(request.system, "be kind\nand brief");
    assert_eq!(
        (&request.tools.allowed[0], &request.tools.disallowed[0]),
        (&"Read".into(), &"Bash".into())
    );
}

#[tokio::test(start_paused = true)]
async fn variables_of_the_environment_are_bound_when_a_run_begins() {
    let document = "\
workflow:
  name: review
  metadata: {team: \"${TEAM:-core}\"}
  variables: {limit: \"${LIMIT}\", literal: \"$${LIMIT}\"}
  steps:
    - {name: typed, type: echo, value: \"${LIMIT}\"}
    - {name: text, type: echo, value: \"at most ${LIMIT} in ${REGION:-eu}: {{ env.SLY }}\"}
    - {name: sum, type: echo, value: \"{{ state.limit + env.LIMIT }}\", condition: \"${LIMIT} == 7 and '${SLY}' contains 'run_id'\"}
    - {name: facts, type: echo, value: \"{{ workflow.metadata.team }} {{ state.literal }}\"}
    - {name: sly, type: echo, value: \"${SLY}\"}
    - {name: ask, type: claude, prompt: [{type: static, raw: true, content: \"{{ no }} ${LIMIT}\"}]}
";
    let sources = MemorySources::new().set("LIMIT", "7").set("SLY", "{{ run_id }} ${LIMIT}");
    let world = world_in(document, json!({}), &sources);
    let results = world.results().await;
    assert_eq!(results["typed"], 7, "YF-41");
    assert_eq!(results["text"], "at most 7 in eu: {{ run_id }} ${LIMIT}", "YF-43, YT-32");
    assert_eq!(results["sum"], 14);
    assert_eq!(results["facts"], "core ${LIMIT}", "YF-40");
    assert_eq!(results["sly"], "{{ run_id }} ${LIMIT}");
    assert_eq!(world.prompts(), ["{{ no }} 7"]);
    let definition = String::from_utf8_lossy(&world.workflow.definition().bytes).into_owned();
    assert!(definition.contains("${LIMIT}"), "names, not values: {definition}");
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_in_nothing_that_is_recorded() {
    const SECRET: &str = "correct-horse-battery";
    let document = "\
workflow:
  name: review
  variables: {key: \"${API_KEY}\"}
  steps:
    - {name: said, type: echo, value: \"key ${API_KEY}\"}
    - {name: kept, type: set_variable, variables: {again: \"{{ state.key }}\"}}
    - {name: ask, type: claude, prompt: [{type: static, content: \"use {{ env.API_KEY }}\"}]}
    - {name: skipped, type: echo, condition: \"'${API_KEY}' == 'x'\"}
    - {name: fail, type: echo, fail: true, error_message: \"bad ${API_KEY}\"}
";
    let world = world_in(document, json!({}), &MemorySources::new().set("API_KEY", SECRET));
    let done = world.run().await;
    assert_eq!(world.prompts(), [format!("use {SECRET}")], "the model gets it");
    let records = format!("{done:?}");
    assert!(records.contains("key [redacted]"), "{records}");
    let definition = String::from_utf8_lossy(&world.workflow.definition().bytes).into_owned();
    for kept in [records, definition, world.recorded.to_string(), format!("{:?}", world.journal)] {
        assert!(!kept.contains(SECRET), "{kept}");
    }
}

/// YC-3, YC-4: a condition that is not met because a value is missing does not say nothing of it.
#[tokio::test]
async fn a_step_that_is_skipped_tells_which_values_of_its_condition_are_missing() {
    let document = "\
workflow:
  name: x
  steps:
    - {name: a, type: echo, condition: \"state.toen == 'warm'\"}
    - {name: b, type: echo, condition: {and: [\"run_id exists\", \"state.no > 1\"]}}
    - {name: c, type: echo, condition: \"state.toen exists or (state.no ?? 1) == 2\"}
";
    let results = world(document, json!({})).results().await;
    let missing = "`state.toen` is missing: the condition takes it as null";
    assert_eq!(results["a"]["warnings"], json!([missing]), "{results}");
    let read = "`state.no` is missing: its comparison is read as false";
    assert_eq!(results["b"]["warnings"], json!([read]), "{results}");
    assert_eq!(results["c"]["warnings"], json!(null), "{results}");
}

/// 1.5, 1.6: what is kept is what the step says, then `defaults`, then `performance`.
#[test]
fn results_are_kept_as_the_strongest_says() {
    let kept = |around: &str, step: &str| {
        let document = format!(
            "workflow:\n  name: x\n{around}  steps: [{{name: a, type: claude, prompt: x{step}}}]\n"
        );
        let pipeline = pipeline(&document);
        let definition: Value = serde_json::from_slice(&pipeline.definition().bytes).unwrap();
        definition["steps"][0]["cache"]["ttl_ms"].as_u64()
    };
    let both = "  performance: {cache_enabled: true, cache_ttl_seconds: 60}\n";
    let stronger = format!("{both}  defaults: {{cache_results: false, cache_ttl: 5}}\n");
    let silent = format!("{both}  defaults: {{cache_ttl: 5}}\n");
    for (around, step, expected) in [
        ("", "", None),
        (both, "", Some(60_000)),
        (both, ", cache: false", None),
        (both, ", cache: {ttl: 7}", Some(7_000)),
        ("  performance: {cache_ttl_seconds: 60}\n", "", None),
        ("  performance: {cache_ttl_seconds: 60}\n", ", cache: true", Some(60_000)),
        (stronger.as_str(), "", None),
        (stronger.as_str(), ", cache: true", Some(5_000)),
        (silent.as_str(), "", Some(5_000)),
    ] {
        assert_eq!(kept(around, step), expected, "{around}{step}");
    }
}
