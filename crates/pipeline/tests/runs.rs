//! Pipelines as workflows: driven without an engine, step by step, with scripted replies.

#![expect(clippy::unwrap_used, reason = "a broken fixture shall fail its test")]

#[path = "runs/dynamic.rs"]
mod dynamic;
#[path = "runs/schemas.rs"]
mod schemas;
#[path = "runs/secrets.rs"]
mod secrets;
#[path = "runs/settings.rs"]
mod settings;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex},
};

use futures_util::stream;
use perennial_core::{
    FailureClass, Timestamp,
    failure::Failure,
    llm::{ChatRequest, FinishReason, ReplyForm, Usage},
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

/// Answers the prompt `say X` with `X`, and remembers every request. What stands behind ` ~ ` is the answer when it is
/// asked once more.
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
        let mut requests = self.requests.lock().unwrap();
        let text = request.messages[0].text.clone();
        let again = requests.iter().filter(|(earlier, _)| earlier.messages[0].text == text).count();
        requests.push((request.clone(), cx.step_path.clone()));
        drop(requests);
        if request.model == "busy" {
            let failure = Failure::new(FailureClass::Overloaded, "PL703", "too much to do");
            return Box::pin(async move { Err(failure) });
        }
        let reason = match text.as_str() {
            "refuse" => FinishReason::Refusal,
            "long" => FinishReason::Length,
            _ => FinishReason::Stop,
        };
        let all: Vec<&str> = text.strip_prefix("say ").unwrap_or(&text).split(" ~ ").collect();
        let said = all[again.min(all.len() - 1)].trim().to_owned();
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
    let settings =
        RunSettings { inputs, calls, directories: None, environment, anew: BTreeSet::new() };
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
                Outcome::Partial(record) => (JobState::Partial, record),
                Outcome::Skipped { record, .. } => (JobState::Skipped, record),
                Outcome::Failed(failure) => {
                    match self.workflow.on_failure(&key, &failure, 1, &done) {
                        FailureMeans::Tolerate { record } => (JobState::Partial, record),
                        FailureMeans::FailRun { record } | FailureMeans::FailJob { record } => {
                            (JobState::Failed, record)
                        }
                    }
                }
                waits @ (Outcome::Unavailable(_) | Outcome::Suspend(_)) => panic!("{waits:?}"),
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
