use perennial_core::{
    Digest,
    run::{JobKind, RunId, RunState},
};
use perennial_store::{CallRecord, NodeRef, RunRecord};
use serde_json::{Value, json};

use super::*;

pub(super) fn at(secs: i64) -> Timestamp {
    Timestamp::from_micros(secs * 1_000_000)
}

fn node() -> NodeRef {
    NodeRef { node: "n".to_owned(), incarnation: 1 }
}

pub(super) fn run(finished_at: Option<Timestamp>) -> RunView {
    let digest = Digest::of(b"w");
    RunView {
        run: RunRecord {
            run: RunId::parse("r").unwrap(),
            workflow: "w".to_owned(),
            definition: digest,
            input_digest: digest,
            settings: Value::Null,
            state: RunState::Running,
            failure: None,
            revision: 1,
            owner: None,
            owner_alive: false,
            created_at: at(0),
            finished_at,
            deadline: None,
            next_seq: 1,
            progress: None,
            priority: Default::default(),
        },
        stages: Vec::new(),
        jobs: Vec::new(),
        attempts: Vec::new(),
        calls: Vec::new(),
        waits: Vec::new(),
        signals: Vec::new(),
        saved: Vec::new(),
        beats: Vec::new(),
    }
}

/// A job and its attempts: from when to when, and how each ended.
pub(super) fn add(
    view: &mut RunView,
    key: &str,
    state: JobState,
    result: Option<Value>,
    attempts: &[(i64, Option<(i64, AttemptEnd)>)],
) {
    let id = view.jobs.len() as i64 + 1;
    view.jobs.push(JobRecord {
        id,
        stage: "steps".to_owned(),
        key: JobKey::new(key),
        kind: JobKind::Step,
        parent: None,
        state,
        skipped: None,
        attempt: 1,
        attempts_used: 0,
        max_attempts: 3,
        crashes: 0,
        crashes_max: 3,
        run_after: None,
        lease: None,
        lease_alive: false,
        input: Value::Null,
        result,
        dead_letter: false,
        deferral: None,
        deferred_since: None,
        uses: Vec::new(),
        keyed: None,
        priority: Default::default(),
    });
    for (number, (begun, ended)) in (1..).zip(attempts) {
        view.attempts.push(AttemptRecord {
            job: id,
            attempt: number,
            node: node(),
            claimed_at: at(*begun),
            ended_at: ended.map(|(ended, _)| at(ended)),
            end: ended.map(|(_, end)| end),
            class: None,
            code: None,
            message: None,
            uncertain: false,
        });
    }
}

/// A call of the job with this key, begun and recorded one second apart.
pub(super) fn call(view: &mut RunView, key: &str, attempt: u32, begun: i64, reply: Option<Value>) {
    let job = view.jobs.iter().find(|job| job.key.as_str() == key).unwrap().id;
    let ordinal = view.calls.iter().filter(|call| call.job == job).count() + 1;
    view.calls.push(CallRecord {
        job,
        name: format!("{ordinal}/x"),
        attempt,
        idempotency_key: String::new(),
        begun_at: at(begun),
        recorded_at: reply.as_ref().map(|_| at(begun + 1)),
        reply,
    });
}

/// The reply of a model: tokens read, of those from a cache, written, and its price.
pub(super) fn reply(tokens: [Option<u64>; 3], cost_nano_usd: Option<u64>) -> Value {
    let [input, cache_read, output] = tokens;
    json!({
        "text": "hello", "model": "m", "provider": "p", "finish": "stop", "mock": false,
        "usage": {"input": input, "cache_read": cache_read, "cache_write": null,
            "output": output, "reasoning": null},
        "cost_nano_usd": cost_nano_usd, "request_id": null,
    })
}

/// A retried child with a call in each round, a call of files, and one that never answered.
fn with_calls() -> RunView {
    use AttemptEnd::{Error, Succeeded};
    let mut view = run(Some(at(20)));
    add(&mut view, "ask", JobState::Succeeded, Some(json!(1)), &[(0, Some((4, Succeeded)))]);
    add(&mut view, "#child", JobState::Succeeded, None, &[(4, Some((5, Succeeded)))]);
    add(&mut view, "child/ask", JobState::Failed, None, &[(5, Some((7, Error)))]);
    add(&mut view, "#child#2", JobState::Succeeded, None, &[(7, Some((8, Succeeded)))]);
    add(&mut view, "child#2/ask", JobState::Succeeded, None, &[(8, Some((10, Succeeded)))]);
    add(&mut view, "child", JobState::Succeeded, None, &[(10, Some((11, Succeeded)))]);
    add(&mut view, "move", JobState::Succeeded, None, &[(11, Some((12, Succeeded)))]);
    add(&mut view, "asked", JobState::Leased, None, &[(12, None)]);
    call(&mut view, "ask", 1, 1, Some(reply([Some(10), Some(4), Some(5)], Some(1_000_000))));
    call(&mut view, "child/ask", 1, 6, Some(reply([Some(1), Some(0), Some(1)], Some(500_000))));
    call(&mut view, "child#2/ask", 1, 9, Some(reply([Some(2), Some(0), Some(2)], None)));
    call(&mut view, "move", 1, 11, Some(json!({"seen": []})));
    call(&mut view, "asked", 1, 12, None);
    view
}

#[test]
fn what_calls_cost_is_told_of_the_run_and_of_each_step_around_them() {
    let seen = Performance::of(&with_calls(), &Thresholds::default(), at(0));
    assert_eq!((seen.llm_calls, seen.llm_calls_recorded, seen.llm_calls_unpriced), (4, 3, 2));
    assert_eq!((seen.total_cost, seen.known_cost), (None, 0.0015));
    assert_eq!((seen.total_tokens, seen.prompt_cache_hits), (Tokens(None), Tokens(None)));
    let told: Vec<_> = seen
        .step_details
        .iter()
        .map(|step| (step.name.as_str(), step.cost, step.tokens.0, step.calls))
        .collect();
    let expected = [
        ("ask", Some(0.001), Some(15), 1),
        ("child/ask", Some(0.0005), Some(2), 1),
        ("child#2/ask", None, Some(4), 1),
        // Both rounds; one of them has no price.
        ("child", None, Some(6), 0),
        ("move", Some(0.0), Some(0), 1),
        ("asked", None, None, 1),
    ];
    assert_eq!(told, expected);
    let json = serde_json::to_value(&seen).unwrap();
    assert_eq!((&json["total_cost"], &json["prompt_cache_hits"]), (&Value::Null, &Value::Null));
    assert_eq!(json["usage"]["total_tokens"], Value::Null);

    let mut view = with_calls();
    view.calls.retain(|call| call.reply.is_some());
    let priced = reply([Some(2), Some(0), Some(2)], Some(500_000));
    view.calls.iter_mut().find(|call| call.job == 5).unwrap().reply = Some(priced);
    let seen = Performance::of(&view, &Thresholds::default(), at(0));
    assert_eq!((seen.total_cost, seen.total_tokens), (Some(0.002), Tokens(Some(21))));
    assert_eq!((seen.prompt_cache_hits, seen.llm_calls_unpriced), (Tokens(Some(1)), 0));
    assert_eq!(seen.usage["cached_tokens"], 4);
}

#[test]
fn a_run_is_read_step_by_step() {
    use AttemptEnd::{Error, Released, Succeeded};
    let mut view = run(Some(at(100)));
    add(&mut view, "quick", JobState::Succeeded, Some(json!("x")), &[(0, Some((1, Succeeded)))]);
    // Its second attempt ends it; the pause between them is time as well.
    let tries = [(1, Some((5, Error))), (20, Some((72, Succeeded)))];
    add(&mut view, "slow", JobState::Succeeded, Some(json!("abc")), &tries);
    // Given back by a death of the process: that is no retry.
    let tries = [(72, Some((80, Released))), (80, Some((90, Error)))];
    add(&mut view, "bad", JobState::Partial, Some(json!({})), &tries);
    add(&mut view, "skipped", JobState::Skipped, None, &[]);
    add(&mut view, "waits", JobState::Ready, None, &[(90, Some((95, Error)))]);
    view.calls.push(CallRecord {
        job: 2,
        name: "1/x".to_owned(),
        attempt: 1,
        idempotency_key: String::new(),
        begun_at: at(2),
        recorded_at: None,
        reply: None,
    });
    let seen = Performance::of(&view, &Thresholds::default(), at(9_999));
    assert_eq!((seen.total_duration_ms, seen.total_steps, seen.active_steps), (100_000, 5, 1));
    assert_eq!((seen.successful_steps, seen.failed_steps, seen.skipped_steps), (2, 1, 1));
    assert_eq!((seen.retried_steps, seen.llm_calls, seen.llm_calls_recorded), (1, 1, 0));
    assert_eq!(seen.slowest_step, Some(JobKey::new("slow")));
    assert_eq!(seen.largest_result_step, Some(JobKey::new("slow")));
    let durations: Vec<_> = seen.step_details.iter().map(|step| step.duration_ms).collect();
    assert_eq!(durations, [Some(1_000), Some(71_000), Some(18_000), None, Some(10_000)]);
    let sizes: Vec<_> = seen.step_details.iter().map(|step| step.result_size_bytes).collect();
    assert_eq!(sizes, [Some(3), Some(5), Some(2), None, None]);
    assert_eq!((seen.step_details[1].attempts, seen.step_details[1].calls), (2, 1));
}

/// The thresholds of YM-12: at the threshold nothing is said, above it a warning of its type.
#[test]
fn what_passes_a_threshold_is_a_warning_of_its_type() {
    use WarningKind::{ExecutionThreshold, LargeResult, SlowStep};
    let text = |bytes: usize| Some(json!("x".repeat(bytes - 2)));
    for (run_takes, step_takes, bytes, warnings, recommendations) in [
        (30, 30, 5_000_000, &[][..], 0),
        (31, 30, 5_000_000, &[ExecutionThreshold], 0),
        (31, 31, 5_000_000, &[ExecutionThreshold], 1),
        (60, 60, 10_000_000, &[ExecutionThreshold], 2),
        (61, 61, 10_000_001, &[ExecutionThreshold, SlowStep, LargeResult], 2),
    ] {
        let mut view = run(Some(at(run_takes)));
        let ends = [(0, Some((step_takes, AttemptEnd::Succeeded)))];
        add(&mut view, "a", JobState::Succeeded, text(bytes), &ends);
        let seen = Performance::of(&view, &Thresholds::default(), at(0));
        let kinds: Vec<_> = seen.warnings.iter().map(|warning| warning.kind).collect();
        assert_eq!(kinds, warnings, "{:?}", seen.warnings);
        assert_eq!(seen.recommendations.len(), recommendations, "{:?}", seen.recommendations);
        assert_eq!(seen.total_warnings, warnings.len());
        assert!(seen.warnings_by_type.values().all(|count| *count == 1));
    }
}

/// YM-12: the threshold is one of execution.
#[test]
fn what_a_run_waited_before_its_first_attempt_is_no_execution_of_it() {
    for (ended, warnings) in [(70, 0), (71, 1)] {
        let mut view = run(Some(at(ended)));
        let ends = [(41, Some((50, AttemptEnd::Succeeded)))];
        add(&mut view, "later", JobState::Succeeded, None, &ends);
        let ends = [(40, Some((ended, AttemptEnd::Succeeded)))];
        add(&mut view, "first", JobState::Succeeded, None, &ends);
        let seen = Performance::of(&view, &Thresholds::default(), at(0));
        assert_eq!(seen.total_warnings, warnings, "{:?}", seen.warnings);
        let told = seen.warnings.first().map(|warning| warning.message.as_str());
        assert!(
            told.is_none_or(|told| told == "the run takes 31000 ms, more than 30000"),
            "{told:?}"
        );
        assert_eq!(seen.total_duration_ms, ended as u64 * 1_000, "since it was created");
    }
    let queued = Performance::of(&run(None), &Thresholds::default(), at(9_999));
    assert_eq!((queued.total_warnings, queued.total_duration_ms), (0, 9_999_000));
}

#[test]
fn what_goes_on_is_counted_until_now_and_written_in_snake_case() {
    let mut view = run(None);
    add(&mut view, "a", JobState::Leased, None, &[(10, None)]);
    let seen = Performance::of(&view, &Thresholds::default(), at(80));
    assert_eq!((seen.total_duration_ms, seen.step_details[0].duration_ms), (80_000, Some(70_000)));
    let json = serde_json::to_value(&seen).unwrap();
    assert_eq!(json["warnings_by_type"], json!({"execution_threshold": 1, "slow_step": 1}));
    assert_eq!(json["warnings"][1]["step"], "a");
    let said = json["warnings"][1]["message"].as_str().unwrap();
    assert_eq!(said, "step a takes 70000 ms, more than 60000");
}
