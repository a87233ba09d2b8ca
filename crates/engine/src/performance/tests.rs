use perennial_core::{
    Digest,
    run::{RunId, RunState},
};
use perennial_store::{CallRecord, NodeRef, RunRecord};
use serde_json::{Value, json};

use super::*;

fn at(secs: i64) -> Timestamp {
    Timestamp::from_micros(secs * 1_000_000)
}

fn node() -> NodeRef {
    NodeRef { node: "n".to_owned(), incarnation: 1 }
}

fn run(finished_at: Option<Timestamp>) -> RunView {
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
        },
        stages: Vec::new(),
        jobs: Vec::new(),
        attempts: Vec::new(),
        calls: Vec::new(),
    }
}

/// A job and its attempts: from when to when, and how each ended.
fn add(
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
        state,
        skipped: None,
        attempt: 1,
        attempts_used: 0,
        max_attempts: 3,
        crashes: 0,
        run_after: None,
        lease: None,
        lease_alive: false,
        input: Value::Null,
        result,
        dead_letter: false,
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
