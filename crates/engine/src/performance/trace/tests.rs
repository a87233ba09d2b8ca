use serde_json::json;

use super::{
    super::tests::{add, at, call, reply, run},
    *,
};

const MIB: u64 = 1_048_576;

fn trace(view: &RunView, memory_bytes: u64) -> Trace {
    let types = HashMap::from([("a".to_owned(), "claude".to_owned())]);
    Trace::of(view, memory_bytes, &types, at(1_000))
}

/// What each span is, one line each, further in the deeper it stands.
fn drawn(trace: &Trace) -> Vec<String> {
    let line = |span: &Span| {
        let took = span.duration_ms.map_or("-".to_owned(), |ms| format!("{} s", ms / 1_000));
        let indent = 2 * span.level;
        format!("{:indent$}{} {} {took} {:?}", "", span.name, span.status, span.went)
    };
    trace.spans.iter().map(line).collect()
}

fn kinds(trace: &Trace) -> Vec<FindingKind> {
    trace.verdict.findings.iter().map(|finding| finding.kind).collect()
}

#[test]
fn every_step_attempt_and_call_is_a_span_in_that_which_it_belongs_to() {
    use AttemptEnd::{Error, Released, Succeeded};
    let mut view = run(Some(at(20)));
    let tries = [(0, Some((1, Error))), (3, Some((6, Succeeded)))];
    add(&mut view, "a", JobState::Succeeded, Some(json!(1)), &tries);
    add(&mut view, "#c", JobState::Succeeded, None, &[(6, Some((7, Succeeded)))]);
    add(&mut view, "c/x", JobState::Partial, None, &[(7, Some((8, Error)))]);
    add(&mut view, "#c#2", JobState::Succeeded, None, &[(8, Some((9, Succeeded)))]);
    add(&mut view, "c#2/x", JobState::Leased, None, &[(9, Some((10, Released))), (11, None)]);
    add(&mut view, "s", JobState::Skipped, None, &[]);
    call(&mut view, "a", 1, 0, None);
    call(&mut view, "a", 2, 4, Some(reply([Some(3), None, Some(4)], Some(5_000_000))));
    call(&mut view, "c#2/x", 2, 12, Some(json!({"seen": 1})));
    call(&mut view, "c#2/x", 2, 14, None);
    let trace = trace(&view, 0);
    assert_eq!(
        drawn(&trace),
        [
            "w running 20 s Open",
            "  a succeeded 6 s Well",
            "    attempt 1 error 1 s Badly",
            "      call 1 no_reply 1 s Badly",
            "    attempt 2 succeeded 3 s Well",
            "      call 2 recorded 1 s Well",
            "  c open 14 s Open",
            "    opening, attempt 1 succeeded 1 s Well",
            "    opening, attempt 1 succeeded 1 s Well",
            "    x partial 1 s Badly",
            "      attempt 1 error 1 s Badly",
            "    x leased 11 s Open",
            "      attempt 1 released 1 s Aside",
            "      attempt 2 under_way 9 s Open",
            "        call 1 recorded 1 s Well",
            "        call 2 no_reply 6 s Open",
            "  s skipped - Aside",
        ]
    );
    let spans = &trace.spans;
    let mut ids: Vec<&str> = spans.iter().map(|span| span.span_id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), spans.len());
    assert!(ids.iter().all(|id| id.len() == 16 && id.bytes().all(|it| it.is_ascii_hexdigit())));
    assert_eq!(trace.trace_id.len(), 32);
    for (place, span) in spans.iter().enumerate().skip(1) {
        let above = spans[..place].iter().rfind(|above| above.level + 1 == span.level).unwrap();
        assert_eq!(span.parent_id.as_ref(), Some(&above.span_id), "{}", span.name);
    }
    assert_eq!(spans[0].parent_id, None);
    // The calls of its steps, one of them unknown.
    assert_eq!((spans[0].cost, spans[1].cost, spans[4].cost), (None, None, Some(0.005)));
    let asked = &spans[5];
    assert_eq!((asked.kind, asked.provider.as_deref()), (SpanKind::LlmCall, Some("p")));
    assert_eq!((asked.model.as_deref(), asked.tokens.0), (Some("m"), Some(7)));
    assert_eq!((asked.attempt, asked.step_type.as_deref()), (Some(2), Some("claude")));
    assert_eq!((spans[14].kind, spans[14].cost, spans[15].cost), (SpanKind::Call, Some(0.0), None));
    assert_eq!((spans[11].depth, spans[11].step_path.as_deref()), (1, Some("c#2/x")));
    assert_eq!(self::trace(&view, 0), trace, "the same rows give the same trace");
}

#[test]
fn steps_are_summed_up_by_their_depth() {
    use AttemptEnd::{Error, Succeeded};
    let mut view = run(Some(at(9)));
    add(&mut view, "a", JobState::Succeeded, None, &[(0, Some((2, Succeeded)))]);
    add(&mut view, "b", JobState::Failed, None, &[(2, Some((6, Error)))]);
    add(&mut view, "s", JobState::Skipped, None, &[]);
    add(&mut view, "n/x", JobState::Succeeded, None, &[(6, Some((7, Succeeded)))]);
    let depth = |depth, count, failures, times: Option<[u64; 4]>| DepthSummary {
        depth,
        count,
        failures,
        total_ms: times.map_or(0, |times| times[0]),
        avg_ms: times.map(|times| times[1]),
        min_ms: times.map(|times| times[2]),
        max_ms: times.map(|times| times[3]),
    };
    let outer = depth(0, 3, 1, Some([6_000, 3_000, 2_000, 4_000]));
    let inner = depth(1, 1, 0, Some([1_000; 4]));
    assert_eq!(trace(&view, 0).verdict.depths, [outer, inner]);
    let mut view = run(Some(at(0)));
    add(&mut view, "s", JobState::Skipped, None, &[]);
    assert_eq!(trace(&view, 0).verdict.depths, [depth(0, 1, 0, None)]);
    assert_eq!(trace(&run(Some(at(0))), 0).verdict.depths, []);
}

#[test]
fn only_the_innermost_slow_span_is_told_of() {
    let took = |seconds: i64| {
        let mut view = run(Some(at(seconds)));
        let ends = [(0, Some((seconds, AttemptEnd::Succeeded)))];
        add(&mut view, "a", JobState::Succeeded, None, &ends);
        view
    };
    assert_eq!(kinds(&trace(&took(5), 0)), []);
    let slow = trace(&took(6), 0);
    assert_eq!(slow.verdict.findings.len(), 1, "{:?}", slow.verdict.findings);
    let finding = &slow.verdict.findings[0];
    assert_eq!(finding.message, "a, attempt 1 takes 6000 ms, more than 5000");
    assert_eq!(finding.span_id.as_ref(), Some(&slow.spans[2].span_id));
    // Nothing in it is slow: the run itself waited.
    let waited = trace(&run(Some(at(6))), 0);
    assert_eq!(waited.verdict.findings[0].message, "the run takes 6000 ms, more than 5000");
}

#[test]
fn success_has_two_thresholds_and_what_was_not_to_be_done_does_not_count() {
    for (well, badly, aside, findings, issues) in [
        (0, 0, 3, 0, 0),
        (9, 0, 3, 0, 0),
        (19, 1, 0, 0, 0),
        (18, 1, 9, 0, 1),
        (9, 1, 0, 0, 1),
        (8, 1, 0, 1, 1),
        (0, 1, 0, 1, 1),
    ] {
        let mut view = run(Some(at(0)));
        let all = [(well, JobState::Succeeded), (badly, JobState::Partial)];
        for (count, state) in all.into_iter().chain([(aside, JobState::Skipped)]) {
            for number in 0..count {
                add(&mut view, &format!("{state}{number}"), state, None, &[]);
            }
        }
        let verdict = trace(&view, 0).verdict;
        let counts = (verdict.findings.len(), verdict.issues.len());
        assert_eq!(counts, (findings, issues), "{well} {badly} {aside}: {verdict:?}");
        assert_eq!(verdict.grade.success.is_some(), well + badly > 0);
    }
}

#[test]
fn depth_memory_and_time_have_their_thresholds() {
    let deep = |scopes: usize| {
        let mut view = run(Some(at(0)));
        add(&mut view, &["n"; 10][..=scopes].join("/"), JobState::Succeeded, None, &[]);
        trace(&view, 0)
    };
    assert_eq!((kinds(&deep(5)), deep(5).verdict.bottlenecks.len()), (vec![], 0));
    assert_eq!((kinds(&deep(6)), deep(6).verdict.bottlenecks.len()), (vec![FindingKind::Deep], 1));
    let memory = |bytes| trace(&run(Some(at(0))), bytes).verdict.bottlenecks;
    assert_eq!(memory(1_000 * MIB), [""; 0]);
    assert_eq!(memory(1_001 * MIB), ["the run holds 1001.0 MB, more than 1000"]);
    let issues = |seconds| trace(&run(Some(at(seconds))), 0).verdict.issues.len();
    assert_eq!((issues(60), issues(61)), (0, 1));
}

#[test]
fn efficiency_is_of_steps_that_ended_well_and_unknown_of_nothing() {
    let mut view = run(Some(at(10)));
    add(&mut view, "a", JobState::Succeeded, None, &[]);
    add(&mut view, "b", JobState::Succeeded, None, &[]);
    add(&mut view, "c", JobState::Failed, None, &[]);
    assert_eq!(trace(&view, 200 * MIB).verdict.efficiency, Some(0.1));
    assert_eq!(trace(&view, 0).verdict.efficiency, None);
    assert_eq!(trace(&run(Some(at(0))), 200 * MIB).verdict.efficiency, None);
}

#[test]
fn as_json_the_verdict_stands_beside_the_spans() {
    let mut view = run(Some(at(1)));
    add(&mut view, "a", JobState::Succeeded, None, &[(0, Some((1, AttemptEnd::Succeeded)))]);
    let json = serde_json::to_value(trace(&view, MIB)).unwrap();
    assert_eq!((&json["run_id"], &json["workflow"]), (&json!("r"), &json!("w")));
    assert_eq!(
        (&json["spans"][1]["type"], &json["spans"][1]["went"]),
        (&json!("claude"), &json!("well"))
    );
    assert_eq!(json["spans"][2]["kind"], "attempt");
    assert_eq!(
        (&json["grade"]["word"], &json["depths"][0]["count"]),
        (&json!("excellent"), &json!(1))
    );
    assert_eq!(json["efficiency"], 100.0);
}
