//! Pipelines as workflows: driven without an engine, step by step, with scripted replies.

#![expect(clippy::unwrap_used, reason = "a broken fixture shall fail its test")]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use futures_util::stream;
use perennial_core::{
    FailureClass, Timestamp,
    failure::Failure,
    llm::{ChatRequest, FinishReason, Usage},
    run::{IdempotencyKey, JobState, RunId},
};
use perennial_engine::{
    AttemptCx, CallJournal, DoneJob, FailureMeans, JobPlan, Next, Outcome, Workflow,
    workflow::BoxFuture,
};
use perennial_pipeline::{
    CallDefaults, MemorySources, Pipeline, ProviderKind, Providers, Resolved, RunSettings,
    SourceFile, SourceLoader,
};
use perennial_tools::provider::{CallCx, Opening, Provider, ProviderEvent};
use serde_json::{Value, json};

/// Answers the prompt `say X` with `X`, and remembers every request.
#[derive(Debug, Default)]
struct Parrot {
    requests: Mutex<Vec<(ChatRequest, String)>>,
}

impl Provider for Parrot {
    fn name(&self) -> &str {
        "parrot"
    }

    fn is_mock(&self) -> bool {
        true
    }

    fn chat<'a>(&'a self, request: &'a ChatRequest, cx: &'a CallCx) -> Opening<'a> {
        self.requests.lock().unwrap().push((request.clone(), cx.step_path.clone()));
        let text = request.messages[0].text.clone();
        if request.model == "busy" {
            let failure = Failure::new(FailureClass::Overloaded, "PL703", "too much to do");
            return Box::pin(async move { Err(failure) });
        }
        let reason = match text.as_str() {
            "refuse" => FinishReason::Refusal,
            "long" => FinishReason::Length,
            _ => FinishReason::Stop,
        };
        let said = text.strip_prefix("say ").unwrap_or(&text).trim().to_owned();
        let usage = Usage { input: 3.into(), output: 2.into(), ..Usage::default() };
        let events = vec![
            ProviderEvent::Started { request_id: Some("r".into()), model: "parrot-1".into() },
            ProviderEvent::TextDelta {
                index: 0,
                text: if said == "nothing" { String::new() } else { said },
            },
            ProviderEvent::Usage(usage),
            ProviderEvent::Finished { reason, cost_nano_usd: Some(1_500_000) },
        ];
        Box::pin(async move { Ok(Box::pin(stream::iter(events)) as _) })
    }
}

#[derive(Debug)]
struct Only(Arc<Parrot>);

impl Providers for Only {
    fn provider(&self, _: ProviderKind) -> Result<Arc<dyn Provider>, Failure> {
        Ok(self.0.clone())
    }
}

/// Keeps replies by name of job and call.
#[derive(Debug, Default)]
struct Journal(Mutex<HashMap<String, Value>>);

#[derive(Debug)]
struct JobJournal(Arc<Journal>, String);

impl CallJournal for JobJournal {
    fn begin<'a>(
        &'a self,
        name: &'a str,
        _: &'a IdempotencyKey,
    ) -> BoxFuture<'a, Result<Option<Value>, Failure>> {
        let found = self.0.0.lock().unwrap().get(&format!("{}:{name}", self.1)).cloned();
        Box::pin(async move { Ok(found) })
    }

    fn record<'a>(&'a self, name: &'a str, reply: Value) -> BoxFuture<'a, Result<(), Failure>> {
        self.0.0.lock().unwrap().insert(format!("{}:{name}", self.1), reply);
        Box::pin(async { Ok(()) })
    }

    fn settle<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }
}

struct World {
    parrot: Arc<Parrot>,
    journal: Arc<Journal>,
    workflow: Arc<dyn Workflow>,
    /// What is kept of the settings.
    recorded: Value,
}

fn pipeline(document: &str) -> Pipeline {
    let checked = Pipeline::check("flow.yaml", document.as_bytes());
    checked.pipeline.unwrap_or_else(|| panic!("{}", checked.diagnostics[0]))
}

fn world(document: &str, inputs: Value) -> World {
    world_in(document, inputs, &MemorySources::new())
}

fn world_in(document: &str, inputs: Value, sources: &MemorySources) -> World {
    let parrot = Arc::new(Parrot::default());
    let usual = |model: &str| Resolved { model: model.to_owned(), max_output: 100 };
    let calls = CallDefaults {
        claude: usual("claude-default"),
        gemini: usual("gemini-default"),
        aliases: [("haiku".to_owned(), "claude-haiku-9".to_owned())].into(),
    };
    let checked = Pipeline::load(&SourceFile::new("flow.yaml", document), sources);
    let Some(pipeline) = checked.pipeline else { panic!("{}", checked.diagnostics[0]) };
    let inputs = pipeline.bind_inputs(inputs.as_object().unwrap()).unwrap();
    let environment = pipeline.bind_environment("key", &|name| sources.variable(name));
    let settings = RunSettings { inputs, calls, directories: None, environment };
    let recorded = settings.to_value();
    let mut settings = RunSettings::from_value(&recorded).unwrap();
    let changed = settings.environment.read_secrets(&|name| sources.variable(name));
    assert_eq!(changed, Vec::<String>::new());
    // What runs was built again from its definition, as after a restart.
    let revived = Pipeline::revive(&pipeline.definition().bytes).unwrap();
    let pipeline = Arc::new(revived.placed(&pipeline.places()));
    let workflow = pipeline.bind(settings, Arc::new(Only(parrot.clone())));
    World { parrot, journal: Arc::default(), workflow, recorded }
}

impl World {
    fn attempt(&self, plan: &JobPlan, done: &[DoneJob]) -> BoxFuture<'static, Outcome> {
        let run = RunId::parse("01RUN").unwrap();
        let key = IdempotencyKey::new(self.workflow.name(), &run, "steps", &plan.key);
        let cx = AttemptCx::new(
            run,
            Timestamp::from_micros(1_795_221_237_120_000),
            Timestamp::from_micros(1_795_221_240_000_000),
            plan.key.clone(),
            1,
            Arc::new(Value::Null),
            done.to_vec().into(),
            key,
            Arc::new(JobJournal(self.journal.clone(), plan.key.to_string())),
        );
        self.workflow.clone().execute(cx)
    }

    /// Runs to the end, or to the first failure that is not tolerated.
    async fn run(&self) -> Vec<DoneJob> {
        let mut done = Vec::new();
        loop {
            let plan = match self.workflow.next(&done) {
                Next::Seal => return done,
                Next::Jobs(mut plans) => plans.remove(0),
            };
            let key = plan.key.clone();
            let (state, result) = match self.attempt(&plan, &done).await {
                Outcome::Succeeded(record) => (JobState::Succeeded, record),
                Outcome::Skipped { record, .. } => (JobState::Skipped, record),
                Outcome::Failed(failure) => {
                    match self.workflow.on_failure(&key, &failure, 1, &done) {
                        FailureMeans::Tolerate { record } => (JobState::Partial, record),
                        FailureMeans::FailRun { record } => (JobState::Failed, record),
                    }
                }
            };
            done.push(DoneJob { key, state, result });
            if state == JobState::Failed {
                return done;
            }
        }
    }

    async fn results(&self) -> Value {
        self.run().await.into_iter().map(|job| (job.key.to_string(), job.result)).collect()
    }

    fn prompts(&self) -> Vec<String> {
        let requests = self.parrot.requests.lock().unwrap();
        requests.iter().map(|(request, _)| request.messages[0].text.clone()).collect()
    }
}

const REVIEW: &str = "\
workflow:
  name: review
  version: 2
  variables: {greeting: hello}
  global_vars: {limit: {max: 5}}
  inputs:
    who: string
    level: {type: integer, default: 3}
  defaults:
    claude_options: {max_tokens: 50, temperature: 0.5}
    claude_model: haiku
  steps:
    - name: data
      type: echo
      value: {b: 1, a: ['{{ inputs.who }}', \"{{ inputs.level }}\", \"{{ date }} {{ timestamp }} {{ run_id }}\"]}
    - name: vars
      type: set_variable
      variables: {x: \"{{ steps.data.a[1] }}\", y: \"{{ x }}/{{ greeting }}/{{ global_vars.limit.max }}\"}
    - name: ask
      type: claude
      claude_options: {system_prompt: \"Be {{ state.greeting }}\", max_tokens: 60}
      prompt:
        - {type: static, content: 'say {\"score\": 9, \"none\": null}'}
    - name: gated
      type: claude
      condition: [\"ask.score == 9\", {not: \"ask.none exists\"}]
      prompt: never
    - name: sum
      type: gemini
      model: gem
      token_budget: {max_output_tokens: \"7\"}
      prompt:
        - {type: static, content: '{{ workflow.name }} {{ workflow.version }} {{ y }} {{ steps.ask.score }} {{ steps.ask.result.score }}'}
        - {type: previous_response, step: data}
        - {type: previous_response, step: ask}
        - {type: previous_response, step: ask, extract: none}
        - {type: previous_response, step: vars, extract: x}
        - {type: previous_response, step: gated, extract: foo, strict: false}
        - {type: static, content: gone, condition: false}
        - {type: static, content: '{{ raw }}', raw: true}
";

#[tokio::test]
async fn a_pipeline_runs_its_steps_in_order_with_typed_values() {
    let world = world(REVIEW, json!({"WHO": "ann"}));
    let results = world.results().await;
    assert_eq!(
        results["data"],
        json!({"b": 1, "a": ["ann", 3, "2026-11-21 20261121T003357Z 01RUN"]})
    );
    assert_eq!(
        results["vars"],
        json!({
            "success": true, "status": "completed", "variables_set": ["x", "y"],
            "scope": "global", "variable_count": 2, "values": {"x": 3, "y": "3/hello/5"},
        })
    );
    let ask = &results["ask"];
    assert_eq!(ask["data"], json!({"score": 9, "none": null}));
    assert_eq!(
        (&ask["text"], &ask["cost"], &ask["tokens"]),
        (&ask["content"], &json!(0.0015), &json!(5))
    );
    assert_eq!((&ask["mock"], &ask["provider"]), (&json!(true), &json!("parrot")));
    assert_eq!(ask["usage"]["cached_tokens"], Value::Null);
    assert_eq!(
        results["gated"],
        json!({
            "success": true, "skipped": true, "status": "skipped",
            "reason": "Condition not met: [\"ask.score == 9\",{\"not\":\"ask.none exists\"}]",
        })
    );
    assert_eq!(
        world.prompts()[1],
        "review 2 3/hello/5 9 9\n{\n  \"b\": 1,\n  \"a\": [\n    \"ann\",\n    3,\n    \"2026-11-21 20261121T003357Z 01RUN\"\n  ]\n}\n{\n  \"score\": 9,\n  \"none\": null\n}\nnil\n3\nnil\n{{ raw }}"
    );
    let requests = world.parrot.requests.lock().unwrap();
    let (ask, path) = &requests[0];
    assert_eq!((ask.model.as_str(), ask.max_output, path.as_str()), ("claude-haiku-9", 60, "ask"));
    assert_eq!((ask.system.as_str(), ask.sampling.temperature), ("Be hello", Some(0.5)));
    assert_eq!((requests[1].0.model.as_str(), requests[1].0.max_output), ("gem", 7));
}

#[tokio::test]
async fn a_repeated_attempt_takes_the_recorded_reply_and_leaves_the_same_record() {
    let document = "workflow: {name: x, steps: [{name: a, type: claude, prompt: say hi}]}";
    let world = world(document, json!({}));
    let Next::Jobs(plans) = world.workflow.next(&[]) else { panic!("a step is next") };
    let first = world.attempt(&plans[0], &[]).await;
    let second = world.attempt(&plans[0], &[]).await;
    assert_eq!(first, second);
    assert_eq!(world.prompts().len(), 1, "a recorded call is never paid again");
}

async fn failure_of(steps: &str) -> Value {
    let document = format!("workflow:\n  name: x\n  steps:\n{steps}");
    let done = world(&document, json!({})).run().await;
    let last = done.last().unwrap();
    assert_eq!(last.state, JobState::Failed, "{last:?}");
    let error = &last.result["error"];
    assert_eq!(last.result["error_message"], error["message"]);
    json!([error["code"], error["class"], error["message"]])
}

#[tokio::test]
async fn failures_have_their_codes_and_texts() {
    let claude = |prompt: &str| format!("    - {{name: a, type: claude, prompt: {prompt}}}\n");
    let base = "    - {name: d, type: echo, value: {a: 1, b: 2}}\n";
    for (steps, expected) in [
        (claude("refuse"), json!(["PL710", "semantic", "the model refused to answer"])),
        (claude("say nothing"), json!(["PL705", "permanent", "Empty response"])),
        (claude("\" \""), json!(["PL612", "reference", "the prompt is empty"])),
        (
            format!("{base}    - {{name: e, type: echo, value: 'x {{{{ steps.d.c }}}}'}}\n"),
            json!(["PL605", "reference", "Missing value `steps.d.c`. Available fields: a, b"]),
        ),
        (
            format!("{base}    - {{name: e, type: claude, prompt: [{{type: previous_response, step: d, extract: c.x}}]}}\n"),
            json!(["PL603", "reference", "Field 'c.x' not found in previous response. Available fields: a, b"]),
        ),
        (
            "    - {name: s, type: echo, condition: false}\n    - {name: e, type: claude, prompt: [{type: previous_response, step: s}]}\n".to_owned(),
            json!(["PL602", "reference", "step `s` was skipped and has no response"]),
        ),
        (
            "    - {name: e, type: echo, fail: true}\n".to_owned(),
            json!(["PL617", "permanent", "Test step intentionally failed"]),
        ),
        (
            "    - {name: e, type: test_echo, value: __FAIL__, error_message: 'no {{ run_id }}'}\n".to_owned(),
            json!(["PL617", "permanent", "no 01RUN"]),
        ),
    ] {
        assert_eq!(failure_of(&steps).await, expected, "{steps}");
    }
}

#[tokio::test]
async fn a_tolerated_failure_leaves_a_record_that_conditions_can_read() {
    let document = "\
workflow:
  name: x
  steps:
    - {name: bad, type: echo, fail: true, on_error: continue}
    - {name: then, type: echo, value: '{{ steps.bad.error.code }}', condition: bad.error != null}
    - {name: else, type: echo, condition: bad.success}
    - {name: last, type: echo, value: 1, condition: else.skipped == true and else.text not exists}
";
    let done = world(document, json!({})).run().await;
    let states: Vec<JobState> = done.iter().map(|job| job.state).collect();
    use JobState::{Partial, Skipped, Succeeded};
    assert_eq!(states, [Partial, Succeeded, Skipped, Succeeded]);
    assert_eq!(done[0].result["error"]["location"], "flow.yaml:4");
    assert_eq!(done[1].result, "PL617");
}

#[tokio::test(start_paused = true)]
async fn a_delay_can_be_cancelled_at_any_time() {
    let world =
        world("workflow: {name: x, steps: [{name: a, type: echo, delay_ms: 60000}]}", json!({}));
    let Next::Jobs(plans) = world.workflow.next(&[]) else { panic!("a step is next") };
    let second = std::time::Duration::from_secs(1);
    assert!(tokio::time::timeout(second, world.attempt(&plans[0], &[])).await.is_err());
    assert_eq!(plans[0].attempt_within, std::time::Duration::from_secs(120));
    assert_eq!(world.attempt(&plans[0], &[]).await, Outcome::Succeeded(json!("default_echo")));
}

#[tokio::test]
async fn variables_are_appended_to_and_merged_into() {
    let document = "\
workflow:
  name: x
  variables: {log: [0], seen: {a: 1}}
  steps:
    - {name: one, type: set_variable, variables: {first: '{{ 1 + 1 }}', second: [3]}, append_to: log}
    - {name: two, type: set_variable, variables: {b: '{{ log | length }}'}, merge_into: seen}
    - {name: three, type: set_variable, variables: {x: '{{ map(log, type_of(@)) }}'}, append_to: fresh, scope: local}
    - {name: show, type: echo, value: ['{{ log }}', '{{ seen }}', '{{ fresh }}', '{{ steps.one.second }}', '{{ state.first ?? 0 }}']}
    - {name: four, type: set_variable, variables: {b: 2}, append_to: seen}
";
    let results = world(document, json!({})).results().await;
    let expected = json!([[0, 2, [3]], {"a": 1, "b": 3}, [["number", "number", "list"]], [3], 0]);
    assert_eq!(results["show"], expected);
    assert_eq!(
        results["one"],
        json!({
            "success": true, "status": "completed", "variables_set": ["log"], "scope": "global",
            "variable_count": 1, "values": {"first": 2, "second": [3]},
        })
    );
    let error = &results["four"]["error"];
    assert_eq!((&error["code"], &error["class"]), (&json!("PL619"), &json!("expression")));
    assert_eq!(error["message"], "`seen` has to be a list, and is a map");
}

#[tokio::test]
async fn an_undecided_condition_is_false_with_a_warning_or_fails_its_step() {
    let steps =
        "steps: [{name: d, type: echo, value: {a: 1}}, {name: e, type: echo, condition: d.b > 1}]";
    let lenient = world(&format!("workflow: {{name: x, {steps}}}"), json!({})).results().await;
    assert_eq!(
        lenient["e"]["warnings"],
        json!(["`d.b` is missing: its comparison is read as false"])
    );
    let strict = format!("workflow: {{name: x, language: 1, {steps}}}");
    let error = &world(&strict, json!({})).results().await["e"]["error"];
    assert_eq!((&error["code"], &error["class"]), (&json!("PL607"), &json!("expression")));
    assert!(error["message"].as_str().unwrap().contains("d.b > 1: missing value `d.b`"));
    let asked = "workflow: {name: x, lenient: {undecided_conditions: error}, ";
    let error = &world(&format!("{asked}{steps}}}"), json!({})).results().await["e"]["error"];
    assert_eq!(error["code"], "PL607");
}

#[tokio::test]
async fn ids_are_the_same_on_every_attempt_and_differ_within_it() {
    let document = "workflow: {name: x, steps: [{name: a, type: echo, value: ['{{ uuid() }}', '{{ uuid() }}', '{{ step.name }} {{ step.attempt }}']}]}";
    let world = world(document, json!({}));
    let Next::Jobs(plans) = world.workflow.next(&[]) else { panic!("a step is next") };
    let first = world.attempt(&plans[0], &[]).await;
    assert_eq!(first, world.attempt(&plans[0], &[]).await);
    let Outcome::Succeeded(ids) = first else { panic!("{first:?}") };
    assert_ne!(ids[0], ids[1]);
    assert_eq!(ids[2], "a 1");
    let id = ids[0].as_str().unwrap();
    assert_eq!((id.len(), &id[14..15], &id[19..20]), (36, "8", "a"));
}

#[tokio::test]
async fn parts_of_earlier_results_are_found_by_json_path_and_by_computed_keys() {
    let document = "\
workflow:
  name: x
  inputs: {which: string}
  steps:
    - {name: d, type: echo, value: {rows: [{n: a, s: 2}, {n: b, s: 5}], k: {deep: 1}}}
    - {name: gone, type: echo, condition: false}
    - name: ask
      type: claude
      prompt:
        - {type: previous_response, step: d, extract: '$.rows[?@.s > 3].n'}
        - {type: previous_response, step: d, extract: '$..deep'}
        - {type: previous_response, step: d, extract: 'rows[*].n'}
        - {type: previous_response, step: d, extract: '$.nope[*]'}
    - {name: e, type: echo, value: ['{{ steps[inputs.which].rows[1].n }}', '{{ steps.gone.result ?? 0 }}', '{{ d.rows[?(s > 3)].n }}']}
";
    let world = world(document, json!({"which": "d"}));
    let results = world.results().await;
    assert_eq!(world.prompts()[0], "[\n  \"b\"\n]\n[\n  1\n]\n[\n  \"a\",\n  \"b\"\n]\n[]");
    assert_eq!(results["e"], json!(["b", 0, ["b"]]));
}

#[test]
fn plans_carry_retry_and_deadlines() {
    let document = "\
workflow:
  name: x
  steps:
    - {name: a, type: claude, prompt: x}
    - {name: b, type: claude, prompt: x, timeout_seconds: 2, retry: {max_retries: 4, base_delay_ms: 10}}
    - {name: c, type: set_variable, variables: {v: 1}}
";
    let world = world(document, json!({}));
    let mut done = Vec::new();
    let mut plans = Vec::new();
    while let Next::Jobs(mut next) = world.workflow.next(&done) {
        let plan = next.remove(0);
        done.push(DoneJob { key: plan.key.clone(), state: JobState::Skipped, result: Value::Null });
        plans.push((plan.retry.max_attempts, plan.retry.base_ms, plan.attempt_within.as_secs()));
    }
    assert_eq!(plans, [(3, 500, 990), (5, 10, 2), (1, 0, 60)]);
}

#[test]
fn a_start_is_refused_with_everything_that_is_missing_or_wrong() {
    let pipeline = pipeline("\
workflow:
  name: x
  input: {with_default: 1}
  inputs:
    n: integer
    kind: {enum: [a, b], required: false}
    note: {required: false}
  steps:
    - {name: a, type: echo, value: '{{ topic }} {{ inputs.deep.x }} {{ global_vars.g }} {{ inputs.opt ?? 1 }} {{ with_default }}'}
");
    assert_eq!(pipeline.required_inputs(), ["n", "topic", "deep", "global_vars.g"]);
    let given = json!({"n": 1.5, "kind": "c"});
    let errors = pipeline.bind_inputs(given.as_object().unwrap()).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "error[PL509]: required inputs missing: topic, deep, global_vars.g\n\
         error[PL510]: input `n`: expected integer, got number\n\
         error[PL510]: input `kind`: must be one of: \"a\", \"b\", got: \"c\""
    );
    let given = json!({"n": 1, "TOPIC": "t", "deep": {}, "global_vars.g": 1, "extra": 2});
    assert_eq!(
        pipeline.bind_inputs(given.as_object().unwrap()),
        Ok(
            json!({"n": 1, "topic": "t", "deep": {}, "global_vars.g": 1, "extra": 2, "with_default": 1})
        )
    );
}

#[test]
fn a_definition_reads_back_and_anything_else_does_not() {
    let pipeline = pipeline(REVIEW);
    let bytes = pipeline.definition().bytes.clone();
    let again = Pipeline::revive(&bytes).unwrap();
    assert_eq!(again, pipeline);
    assert_eq!(again.definition(), pipeline.definition());
    let other = Pipeline::check("flow.yaml", REVIEW.replace("hello", "hallo").as_bytes());
    assert_ne!(other.pipeline.unwrap().definition().digest, pipeline.definition().digest);
    let text = std::str::from_utf8(&bytes).unwrap();
    for broken in [
        String::new(),
        "{}".to_owned(),
        format!("{text} "),
        text.replacen("\"language\":1", "\"language\":2", 1),
        text.replacen("inputs.who", "inputs.", 1),
        text.replacen("\"kind\"", "\"knd\"", 1),
    ] {
        assert!(Pipeline::revive(broken.as_bytes()).is_err());
    }
    // Older builds wrote the places of steps into it: such a definition keeps its digest.
    let older = text.replacen("\"inputs\":", "\"file\":\"flow.yaml\",\"inputs\":", 1);
    let older =
        if older.find("\"facts\"") < older.find("\"file\"") { older } else { text.to_owned() };
    let revived = Pipeline::revive(older.as_bytes()).unwrap();
    assert_eq!(&*revived.definition().bytes, older.as_bytes());
}

#[test]
fn the_deepest_definition_reads_back() {
    let nested = |depth: usize| format!("{}a.x == 1{}", "[".repeat(depth), "]".repeat(depth));
    let document = format!(
        "workflow: {{name: x, steps: [{{name: a, type: echo, value: {}}}, \
         {{name: b, type: claude, condition: {}, prompt: [{{type: static, content: x, condition: {}}}]}}]}}",
        nested(59),
        nested(59),
        nested(57)
    );
    let deepest = pipeline(&document);
    assert_eq!(Pipeline::revive(&deepest.definition().bytes).unwrap(), deepest);
}

#[test]
fn a_final_failure_reads_as_one_text() {
    let pipeline =
        pipeline("workflow: {name: x, steps: [{name: a, type: echo}, {name: b, type: echo}]}");
    let key = perennial_core::run::JobKey::new("b");
    let failure = Failure::new(perennial_core::FailureClass::Permanent, "PL705", "no");
    let run = RunId::parse("01RUN").unwrap();
    let text = pipeline
        .failure_text(&key, &failure)
        .elapsed(std::time::Duration::from_millis(12))
        .run(&run)
        .to_string();
    assert_eq!(
        text,
        "Step 'b' failed: no\nType: echo\nElapsed: 12 ms\nAt: flow.yaml:1\nStep: 2/2\nRun: 01RUN"
    );
}

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
    let world = world(document, json!({}));
    let mut done = Vec::new();
    let mut plans = Vec::new();
    while let Next::Jobs(mut next) = world.workflow.next(&done) {
        let plan = next.remove(0);
        done.push(DoneJob { key: plan.key.clone(), state: JobState::Skipped, result: Value::Null });
        plans.push(serde_json::to_value(plan.retry).unwrap());
    }
    let own = |max_attempts: u32| json!({"max_attempts": max_attempts, "base_ms": 1_000, "cap_ms": 60_000, "jitter_percent": 0});
    let mut only_io = own(3);
    only_io["only"] = json!(["io"]);
    let linear = json!({"max_attempts": 2, "base_ms": 7, "cap_ms": 60_000, "growth": "linear", "jitter_percent": 50});
    let calls = json!({"max_attempts": 6, "base_ms": 500, "cap_ms": 30_000});
    assert_eq!(plans, [calls, own(6), own(1), only_io, linear]);
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
            "PL510 input `count`: 3 is greater than the maximum of 2",
            "PL510 input `deep.1`: 1 is not of type \"string\"",
            "PL510 input `who`: \"nobody\" is not a \"email\"",
        ]
    );
    assert_eq!(
        errors(json!({"count": 1})),
        ["PL510 input `(root)`: \"who\" is a required property"]
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
