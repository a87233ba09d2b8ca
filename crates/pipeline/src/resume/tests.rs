//! Plans of further rounds: a small document in every state and with every change, and a row for
//! each kind of dependency.

use perennial_core::run::{JobKey, JobState};
use serde_json::{Value, json};

use super::*;

fn pipeline(head: &str, steps: &[&str]) -> Pipeline {
    let steps: String = steps.iter().map(|step| format!("  - {step}\n")).collect();
    let text = format!("workflow:\n  name: w\n  language: 1\n{head}  steps:\n{steps}");
    let checked = Pipeline::check("w.yaml", text.as_bytes());
    checked.pipeline.unwrap_or_else(|| panic!("{text}: {:#?}", checked.diagnostics))
}

fn plan(
    (before, old_inputs): (&Pipeline, &Value),
    (after, inputs): (&Pipeline, &Value),
    recorded: &[(&str, JobState)],
    from: Option<&str>,
) -> ResumePlan {
    let keys: Vec<(JobKey, JobState)> =
        recorded.iter().map(|(key, state)| (JobKey::new(*key), *state)).collect();
    let jobs: Vec<RecordedJob<'_>> =
        keys.iter().map(|(key, state)| RecordedJob { key, state: *state, result: None }).collect();
    let before = Version { pipeline: before, inputs: old_inputs };
    ResumePlan::of(before, Version { pipeline: after, inputs }, &jobs, from)
}

fn shown(plan: &ResumePlan) -> String {
    let line = |step: &ResumedStep| format!("{}: {}", step.path, step.fate);
    plan.steps.iter().map(line).collect::<Vec<_>>().join("; ")
}

fn again(plan: &ResumePlan) -> String {
    let mark = |(key, forget): (&JobKey, &bool)| format!("{key}{}", if *forget { "!" } else { "" });
    plan.again.iter().map(mark).collect::<Vec<_>>().join(" ")
}

/// `a`, `b` reads `a`, `c` stands alone, `d` reads `b`: every set of changes, and every moment at
/// which the run ended.
#[test]
fn a_step_is_reused_when_it_completed_and_neither_it_nor_what_it_reads_changed() {
    const NAMES: [&str; 4] = ["a", "b", "c", "d"];
    const READS: [Option<usize>; 4] = [None, Some(0), None, Some(1)];
    let text = |place: usize, changed: bool| {
        let value = READS[place].map_or(String::new(), |of| format!("{{{{steps.{}}}}}", NAMES[of]));
        let sign = if changed { "new" } else { "old" };
        format!("{{name: {}, type: echo, value: \"{sign} {value}\"}}", NAMES[place])
    };
    let document = |changed: u32| {
        let steps: Vec<String> =
            (0..4).map(|place| text(place, changed >> place & 1 == 1)).collect();
        pipeline("", &steps.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let old = document(0);
    let none = json!({});
    for changed in 0..16 {
        let new = document(changed);
        for completed in 0..=4_usize {
            for stopped in [JobState::Failed, JobState::Cancelled, JobState::Leased] {
                let mut recorded: Vec<(&str, JobState)> =
                    NAMES[..completed].iter().map(|name| (*name, JobState::Succeeded)).collect();
                recorded.extend(NAMES.get(completed).map(|name| (*name, stopped)));
                let plan = plan((&old, &none), (&new, &none), &recorded, None);
                let mut runs = [false; 4];
                for place in 0..4 {
                    let is_changed = changed >> place & 1 == 1;
                    let needs = READS[place].is_some_and(|of| runs[of]);
                    runs[place] = place >= completed || is_changed || needs;
                    let fate = &plan.step(NAMES[place]).unwrap().fate;
                    let case = format!("{changed:04b} {completed} {stopped}: {}", shown(&plan));
                    let due = place > completed;
                    assert_eq!(*fate != StepFate::Reused, runs[place], "{case}");
                    assert_eq!(*fate == StepFate::Due, due, "{case}");
                    let key = JobKey::new(NAMES[place]);
                    assert_eq!(plan.again.contains_key(&key), runs[place] && !due, "{case}");
                    let why = fate.why();
                    match (is_changed, needs, place.cmp(&completed)) {
                        (_, _, std::cmp::Ordering::Greater) => assert_eq!(why, None, "{case}"),
                        (true, ..) => assert_eq!(why, Some(&RerunWhy::Changed), "{case}"),
                        (_, true, _) => {
                            let of = NAMES[READS[place].unwrap()].to_owned();
                            assert_eq!(why, Some(&RerunWhy::Needs(of)), "{case}");
                        }
                        (_, _, std::cmp::Ordering::Equal) => {
                            let failed = stopped == JobState::Failed;
                            let expected =
                                if failed { RerunWhy::Failed } else { RerunWhy::Unfinished };
                            assert_eq!(why, Some(&expected), "{case}");
                        }
                        (false, false, std::cmp::Ordering::Less) => assert_eq!(why, None, "{case}"),
                    }
                }
                assert_eq!(plan.rewrites, Vec::<String>::new());
            }
        }
    }
}

/// The document before and after, and what becomes of its steps when all had completed.
#[test]
fn every_kind_of_dependency_is_followed() {
    const SET: &str = "{name: s, type: set_variable, variables: {x: 1}}";
    const SET_2: &str = "{name: s, type: set_variable, variables: {x: 2}}";
    let echo = |text: &str| format!("{{name: e, type: echo, value: \"{text}\"}}");
    let file = |name: &str, operation: &str| {
        format!("{{name: {name}, type: file_ops, operation: {operation}}}")
    };
    let write = file("f", "write, path: a.txt, content: x");
    let write_2 = file("f", "write, path: a.txt, content: y");
    let read = file("e", "read, path: a.txt");
    let chat = |more: &str| {
        format!("{{name: e, type: claude, prompt: [{{type: static, content: hi}}{more}]}}")
    };
    let prior = ", {type: previous_response, step: s}";
    let own = "s: rerun (it changed); e: reused";
    let both = "s: rerun (it changed); e: rerun (it needs s)";
    let rows: Vec<([String; 2], [String; 2], &str)> = vec![
        ([SET.into(), echo("{{x}}")], [SET_2.into(), echo("{{x}}")], both),
        ([SET.into(), echo("{{state.x}}")], [SET_2.into(), echo("{{state.x}}")], both),
        ([SET.into(), echo("{{steps.s.x}}")], [SET_2.into(), echo("{{steps.s.x}}")], both),
        ([SET.into(), echo("{{s.x}}")], [SET_2.into(), echo("{{s.x}}")], both),
        ([SET.into(), echo("{{state}}")], [SET_2.into(), echo("{{state}}")], both),
        ([SET.into(), echo("{{y ?? 1}}")], [SET_2.into(), echo("{{y ?? 1}}")], own),
        ([SET.into(), echo("plain")], [SET_2.into(), echo("plain")], own),
        ([SET.into(), chat(prior)], [SET_2.into(), chat(prior)], both),
        ([SET.into(), chat("")], [SET_2.into(), chat("")], own),
        (
            [SET.into(), "{name: e, type: echo, value: 1, condition: \"x == 1\"}".into()],
            [SET_2.into(), "{name: e, type: echo, value: 1, condition: \"x == 1\"}".into()],
            both,
        ),
        (
            [
                "{name: s, type: echo, value: 1, output_to_global: g}".into(),
                echo("{{global_vars.g}}"),
            ],
            [
                "{name: s, type: echo, value: 2, output_to_global: g}".into(),
                echo("{{global_vars.g}}"),
            ],
            both,
        ),
        (
            [write.clone(), read.clone()],
            [write_2.clone(), read.clone()],
            "f: rerun (it changed); e: rerun (it needs f)",
        ),
        ([write.clone(), echo("1")], [write_2, echo("1")], "f: rerun (it changed); e: reused"),
        (
            ["{name: s, type: echo, value: 1, output_to_file: a.txt}".into(), read.clone()],
            ["{name: s, type: echo, value: 2, output_to_file: a.txt}".into(), read],
            both,
        ),
        // What changes only how the step is come by is no change of the step.
        (
            [SET.into(), echo("{{x}}")],
            ["{name: s, type: set_variable, variables: {\"x\": 1}}".into(), echo("{{x}}")],
            "s: reused; e: reused",
        ),
        ([SET.into(), echo("1")], [echo("1"), SET.into()], "e: reused; s: reused"),
        // Its variable is then another one.
        (
            [SET.into(), echo("{{x ?? 0}}")],
            [echo("{{x ?? 0}}"), SET.into()],
            "e: rerun (it changed); s: reused",
        ),
        (
            [SET.into(), echo("1")],
            ["{name: t, type: echo, value: 1}".into(), echo("1")],
            "t: new; e: reused; s: gone",
        ),
    ];
    let none = json!({});
    for (before, after, expected) in rows {
        let old = pipeline("", &[&before[0], &before[1]]);
        let new = pipeline("", &[&after[0], &after[1]]);
        let names: Vec<&str> = old.steps().collect();
        let done: Vec<_> = names.iter().map(|name| (*name, JobState::Succeeded)).collect();
        let plan = plan((&old, &none), (&new, &none), &done, None);
        assert_eq!(shown(&plan), expected, "{before:?} -> {after:?}");
    }
}

#[test]
fn what_a_step_reads_of_the_document_and_the_inputs_is_a_part_of_it() {
    let steps = ["{name: a, type: echo, value: \"{{x}} {{inputs.i}}\"}", "{name: b, type: echo}"];
    let done = [("a", JobState::Succeeded), ("b", JobState::Succeeded)];
    let old = pipeline("  variables: {x: 1}\n", &steps);
    let inputs = json!({"i": 1});
    for (head, new_inputs, expected) in [
        ("  variables: {x: 1}\n", json!({"i": 1}), "a: reused; b: reused"),
        ("  variables: {x: 2}\n", json!({"i": 1}), "a: rerun (it changed); b: reused"),
        ("  variables: {x: 1, y: 2}\n", json!({"i": 1}), "a: reused; b: reused"),
        ("  variables: {x: 1}\n", json!({"i": 2}), "a: rerun (it changed); b: reused"),
        ("  variables: {x: 1}\n", json!({"i": 1, "j": 2}), "a: reused; b: reused"),
        (
            "  lenient: {missing_templates: empty}\n  variables: {x: 1}\n",
            json!({"i": 1}),
            "a: rerun (texts are read by other rules); b: rerun (texts are read by other rules)",
        ),
    ] {
        let new = pipeline(head, &steps);
        let plan = plan((&old, &inputs), (&new, &new_inputs), &done, None);
        assert_eq!(shown(&plan), expected, "{head} {new_inputs}");
    }
}

/// PL903: only what had completed, wrote something and would do so again.
#[test]
fn writes_that_completed_and_run_again_are_listed() {
    let write = |text: &str| {
        format!("{{name: f, type: file_ops, operation: write, path: a, content: \"{text}\"}}")
    };
    let none = json!({});
    let old = pipeline("", &["{name: a, type: echo, value: 1}", &write("{{a}}")]);
    for (steps, state, rewrites, expected) in [
        (["{name: a, type: echo, value: 1}", &write("{{a}}")], JobState::Succeeded, "", ""),
        (["{name: a, type: echo, value: 2}", &write("{{a}}")], JobState::Succeeded, "f", "a f!"),
        (["{name: a, type: echo, value: 1}", &write("b")], JobState::Succeeded, "f", "f!"),
        (["{name: a, type: echo, value: 1}", &write("b")], JobState::Failed, "", "f"),
        (
            ["{name: a, type: echo, value: 1}", "{name: g, type: echo}"],
            JobState::Succeeded,
            "",
            "f",
        ),
    ] {
        let new = pipeline("", &steps);
        let recorded = [("a", JobState::Succeeded), ("f", state)];
        let plan = plan((&old, &none), (&new, &none), &recorded, None);
        assert_eq!(plan.rewrites.join(" "), rewrites, "{steps:?}");
        assert_eq!(again(&plan), expected, "{steps:?}");
    }
}

#[test]
fn from_a_step_on_everything_runs_and_is_asked_again() {
    let all =
        pipeline("", &["{name: a, type: echo}", "{name: b, type: echo}", "{name: c, type: echo}"]);
    let none = json!({});
    let recorded =
        [("a", JobState::Succeeded), ("b", JobState::Succeeded), ("c", JobState::Failed)];
    let plan = plan((&all, &none), (&all, &none), &recorded, Some("b"));
    assert_eq!(shown(&plan), "a: reused; b: rerun (asked for); c: rerun (asked for)");
    assert_eq!(again(&plan), "b! c!");
}

fn nested(child: &str, more: &str) -> String {
    format!(
        "{{name: n, type: pipeline, pipeline: {{name: k, steps: [{child}]}}, \
         inputs: {{i: \"{{{{a}}}}\"}}{more}}}"
    )
}

/// What is inside of a step is planned by itself; a scope that is entered again is opened again, so
/// that its time begins anew.
#[test]
fn steps_inside_of_a_step_are_planned_one_by_one() {
    const A: &str = "{name: a, type: echo, value: 1}";
    const X: &str = "{name: x, type: echo, value: \"{{inputs.i}}\"}";
    const Y: &str = "{name: y, type: echo, value: \"{{steps.x}}\"}";
    const Z: &str = "{name: z, type: echo, value: 3}";
    let children = [X, Y, Z].join(", ");
    let old = pipeline("", &[A, &nested(&children, "")]);
    let all = [
        ("a", JobState::Succeeded),
        ("#n", JobState::Succeeded),
        ("n/x", JobState::Succeeded),
        ("n/y", JobState::Succeeded),
        ("n/z", JobState::Succeeded),
        ("n", JobState::Succeeded),
    ];
    let failed = |last: &'static str| {
        let place = all.iter().position(|(key, _)| *key == last).unwrap();
        let mut some = all[..place].to_vec();
        some.push((last, JobState::Partial));
        some.push(("n", JobState::Failed));
        some
    };
    let none = json!({});
    let x_2 = "{name: x, type: echo, value: \"new {{inputs.i}}\"}";
    let y_2 = "{name: y, type: echo, value: \"new {{steps.x}}\"}";
    let a_2 = "{name: a, type: echo, value: 2}";
    type Row<'a> = (String, Vec<(&'a str, JobState)>, &'a str, &'a str);
    let rows: Vec<Row<'_>> = vec![
        (
            nested(&children, ""),
            all.to_vec(),
            "a: reused; n: reused; n/x: reused; n/y: reused; n/z: reused",
            "",
        ),
        (
            nested(&children, ""),
            failed("n/y"),
            "a: reused; n: rerun (it failed); n/x: reused; n/y: rerun (it failed); \
             n/z: runs (not reached before)",
            "#n n n/y",
        ),
        (
            nested(&[x_2, Y, Z].join(", "), ""),
            all.to_vec(),
            "a: reused; n: rerun (x in it runs); n/x: rerun (it changed); \
             n/y: rerun (it needs x); n/z: reused",
            "#n n n/x n/y",
        ),
        (
            nested(&[X, y_2, Z].join(", "), ""),
            failed("n/y"),
            "a: reused; n: rerun (it failed); n/x: reused; n/y: rerun (it changed); \
             n/z: runs (not reached before)",
            "#n n n/y",
        ),
        (
            nested(&[X, Y].join(", "), ""),
            all.to_vec(),
            "a: reused; n: rerun (z in it runs); n/x: reused; n/y: reused; n/z: gone",
            "#n n n/z",
        ),
        (
            nested(&[X, Y, Z, "{name: q, type: echo}"].join(", "), ""),
            all.to_vec(),
            "a: reused; n: rerun (q in it runs); n/x: reused; n/y: reused; n/z: reused; n/q: new",
            "#n n",
        ),
        (
            nested(&children, ", timeout_seconds: 9"),
            all.to_vec(),
            "a: reused; n: rerun (it changed); n/x: rerun (n begins anew); \
             n/y: rerun (n begins anew); n/z: rerun (n begins anew)",
            "#n n n/x n/y n/z",
        ),
    ];
    for (child, recorded, expected, jobs) in rows {
        let new = pipeline("", &[A, &child]);
        let plan = plan((&old, &none), (&new, &none), &recorded, None);
        assert_eq!(shown(&plan), expected, "{child}");
        assert_eq!(again(&plan), jobs, "{child}");
    }
    let new = pipeline("", &[a_2, &nested(&children, "")]);
    let plan = plan((&old, &none), (&new, &none), &all, None);
    let expected = "a: rerun (it changed); n: rerun (it needs a); n/x: rerun (n begins anew); \
                    n/y: rerun (n begins anew); n/z: rerun (n begins anew)";
    assert_eq!(shown(&plan), expected);
}

/// Rounds of a child that was gone through again: what any of them completed is reused.
#[test]
fn rounds_of_a_child_are_one_scope() {
    let child = "{name: x, type: echo}, {name: y, type: echo}";
    let old = pipeline("", &["{name: a, type: echo}", &nested(child, "")]);
    let recorded = [
        ("a", JobState::Succeeded),
        ("#n", JobState::Succeeded),
        ("n/x", JobState::Partial),
        ("#n#2", JobState::Succeeded),
        ("n#2/x", JobState::Succeeded),
        ("n#2/y", JobState::Partial),
        ("n", JobState::Failed),
    ];
    let none = json!({});
    let plan = plan((&old, &none), (&old, &none), &recorded, None);
    let expected = "a: reused; n: rerun (it failed); n/x: reused; n/y: rerun (it failed)";
    assert_eq!(shown(&plan), expected);
    assert_eq!(again(&plan), "#n #n#2 n n#2/y");
}

/// A step and its handler are one: it is reused when it went well, or was handled; else all of it runs again.
#[test]
fn a_handler_is_a_part_of_its_step() {
    use JobState::{Failed, Partial, Succeeded};
    let document = |handler: &str| {
        let first =
            "{name: s, type: echo, fail: true, on_error: [{name: h, type: echo, value: X}]}";
        let first = first.replace('X', handler);
        pipeline("", &[&first, "{name: t, type: echo, value: \"{{ steps.s.handled? }}\"}"])
    };
    let (old, none) = (document("1"), json!({}));
    let handled = [
        ("s", Partial),
        ("#s[error]", Succeeded),
        ("s[error]/h", Succeeded),
        ("s[error]", Partial),
        ("t", Failed),
    ];
    let of = |new: &Pipeline, recorded: &[(&str, JobState)]| {
        let plan = plan((&old, &none), (new, &none), recorded, None);
        (shown(&plan), again(&plan))
    };
    let (fates, again) = of(&old, &handled);
    assert_eq!((fates.as_str(), again.as_str()), ("s: reused; t: rerun (it failed)", "t"));
    let all = "#s[error] s s[error] s[error]/h t";
    let (fates, again) = of(&document("2"), &handled);
    assert_eq!(fates, "s: rerun (it changed); t: rerun (it needs s)");
    assert_eq!(again, all);
    let unhandled =
        [("s", Partial), ("#s[error]", Succeeded), ("s[error]/h", Failed), ("s[error]", Failed)];
    let (fates, again) = of(&old, &unhandled);
    assert_eq!(fates, "s: rerun (it failed); t: runs (not reached before)");
    assert_eq!(again, "#s[error] s s[error] s[error]/h");
}

/// A child that was loaded while the run was under way: what is recorded of it is planned as any other.
#[test]
fn a_loaded_child_is_planned_by_what_was_recorded_of_it() {
    const A: &str = "{name: a, type: echo, value: 1}";
    const N: &str = "{name: n, type: pipeline, pipeline_file: \"{{steps.a}}.yaml\"}";
    let child = pipeline(
        "",
        &[
            "{name: x, type: echo, value: 1}",
            "{name: w, type: file_ops, operation: write, path: f, content: c}",
            "{name: y, type: echo, value: \"{{steps.x}}\"}",
        ],
    );
    let mut opening = json!({});
    crate::definition::Loaded::of(&child).put(&mut opening);
    let completed = JobState::Succeeded;
    let failed = [
        ("a", completed),
        ("#n", completed),
        ("n/x", completed),
        ("n/w", completed),
        ("n/y", JobState::Partial),
        ("n", JobState::Failed),
    ];
    let whole = failed.map(|(key, _)| (key, completed));
    let none = json!({});
    let planned = |after: &[&str], recorded: &[(&str, JobState)], from| {
        let (before, after) = (pipeline("", &[A, N]), pipeline("", after));
        let keys: Vec<(JobKey, JobState)> =
            recorded.iter().map(|(key, state)| (JobKey::new(*key), *state)).collect();
        let jobs: Vec<RecordedJob<'_>> = keys
            .iter()
            .map(|(key, state)| RecordedJob {
                key,
                state: *state,
                result: key.is_opening().then_some(&opening),
            })
            .collect();
        let before = Version { pipeline: &before, inputs: &none };
        let after = Version { pipeline: &after, inputs: &none };
        let plan = ResumePlan::of(before, after, &jobs, from);
        (shown(&plan), again(&plan), plan.rewrites)
    };
    let planned_without = |recorded: &[(&str, JobState)], from| {
        let pipeline = pipeline("", &[A, N]);
        let keys: Vec<(JobKey, JobState)> =
            recorded.iter().map(|(key, state)| (JobKey::new(*key), *state)).collect();
        let job = |(key, state)| RecordedJob { key, state, result: None };
        let jobs: Vec<RecordedJob<'_>> =
            keys.iter().map(|(key, state)| job((key, *state))).collect();
        let version = Version { pipeline: &pipeline, inputs: &none };
        let plan = ResumePlan::of(version, version, &jobs, from);
        (shown(&plan), again(&plan), plan.rewrites)
    };
    let (steps, jobs, rewrites) = planned(&[A, N], &whole, None);
    assert_eq!(steps, "a: reused; n: reused; n/x: reused; n/w: reused; n/y: reused");
    assert_eq!((jobs.as_str(), rewrites.len()), ("", 0));
    // Opened again, by the same recorded call: `#n` is without a sign.
    let (steps, jobs, rewrites) = planned(&[A, N], &failed, None);
    assert_eq!(
        steps,
        "a: reused; n: rerun (it failed); n/x: reused; n/w: reused; n/y: rerun (it failed)"
    );
    assert_eq!((jobs.as_str(), rewrites.len()), ("#n n n/y", 0));
    // It may be another one then, and nothing of it stays.
    let anew = "n/x: rerun (n begins anew); n/w: rerun (n begins anew); n/y: rerun (n begins anew)";
    let other = [A.replace('1', "2"), N.replace(".yaml", ".yml")];
    for (after, why) in [
        ([other[0].as_str(), N], "a: rerun (it changed); n: rerun (it needs a)"),
        ([A, other[1].as_str()], "a: reused; n: rerun (it changed)"),
    ] {
        let (steps, jobs, rewrites) = planned(&after, &failed, None);
        assert_eq!(steps, format!("{why}; {anew}"));
        assert!(jobs.starts_with("#n ") && jobs.ends_with("n n/w! n/x n/y"), "{jobs}");
        assert_eq!(rewrites, ["n/w"]);
    }
    let (_, jobs, _) = planned(&[A, N], &whole, Some("n"));
    assert_eq!(jobs, "#n! n! n/w! n/x! n/y!", "the file is asked anew");
    // Not opened: what was read is not kept, and no step of it has done anything.
    let unopened = [("a", completed), ("#n", JobState::Failed), ("n", JobState::Failed)];
    for (from, why) in [(None, "it failed"), (Some("n"), "asked for")] {
        let (steps, jobs, rewrites) = planned_without(&unopened, from);
        assert_eq!(steps, format!("a: reused; n: rerun ({why})"));
        assert!(jobs.starts_with("#n! n"), "{jobs}");
        assert_eq!(rewrites, Vec::<String>::new());
    }
    // A child that is known now is another one, and what the old one wrote is not known.
    let known = "{name: n, type: pipeline, pipeline: {name: k, steps: [{name: x, type: echo}]}}";
    let (steps, jobs, rewrites) = planned(&[A, known], &whole, None);
    assert_eq!(steps, "a: reused; n: rerun (it changed); n/x: new");
    assert_eq!((jobs.as_str(), rewrites), ("#n! n! n/w! n/x! n/y!", vec!["n".to_owned()]));
    // The time may name another file.
    let timed = N.replace("steps.a", "now()");
    let before = pipeline("", &[A, &timed]);
    let keys: Vec<JobKey> = failed.iter().map(|(key, _)| JobKey::new(*key)).collect();
    let jobs: Vec<RecordedJob<'_>> = keys
        .iter()
        .zip(failed)
        .map(|(key, (_, state))| RecordedJob { key, state, result: Some(&opening) })
        .collect();
    let version = Version { pipeline: &before, inputs: &none };
    let plan = ResumePlan::of(version, version, &jobs, None);
    assert_eq!(shown(&plan), format!("a: reused; n: rerun (it failed); {anew}"));
}

/// A recursion is planned as deep as it was gone through.
#[test]
fn a_recursion_is_planned_level_by_level() {
    let document = |text: &str| {
        let text = format!(
            "workflow:\n  name: w\n  pipelines: {{own: w.yaml}}\n  steps:\n  - {{name: x, type: echo, value: {text}}}\n  \
             - {{name: n, type: pipeline, pipeline_ref: own, condition: \"steps.x < 3\", config: {{allow_recursion: true, max_depth: 5}}}}\n"
        );
        let sources = crate::MemorySources::new().file("w.yaml", text);
        let checked = Pipeline::load(&sources.root("w.yaml").unwrap(), &sources);
        checked.pipeline.unwrap_or_else(|| panic!("{:#?}", checked.diagnostics))
    };
    let old = document("1");
    let done = JobState::Succeeded;
    let failed = [
        ("x", done),
        ("#n", done),
        ("n/x", done),
        ("#n/n", done),
        ("n/n/x", done),
        ("#n/n/n", done),
        ("n/n/n/x", JobState::Partial),
        ("n/n/n", JobState::Partial),
        ("n/n", JobState::Partial),
        ("n", JobState::Failed),
    ];
    let none = json!({});
    let planned = plan((&old, &none), (&old, &none), &failed, None);
    assert_eq!(
        shown(&planned),
        "x: reused; n: rerun (it failed); n/x: reused; n/n: rerun (it failed); n/n/x: reused; \
         n/n/n: rerun (it failed); n/n/n/x: rerun (it failed); n/n/n/n: runs (not reached before)"
    );
    assert_eq!(again(&planned), "#n #n/n #n/n/n n n/n n/n/n n/n/n/x");
    let new = document("2");
    let planned = plan((&old, &none), (&new, &none), &failed, None);
    assert!(
        shown(&planned).starts_with("x: rerun (it changed); n: rerun (it needs x); n/x: rerun")
    );
    assert!(again(&planned).ends_with("n/n/n n/n/n/x n/n/x n/x x"), "{}", again(&planned));
}

/// The key of a job deep inside may be too long for the journal; its step is found all the same.
#[test]
fn steps_with_long_keys_are_planned_as_any_other() {
    let [outer, inner, last] = ["o", "i", "l"].map(|name| name.repeat(100));
    let document = |value: u32| {
        let step = format!("{{name: {last}, type: echo, value: {value}}}");
        let inner =
            format!("{{name: {inner}, type: pipeline, pipeline: {{name: d, steps: [{step}]}}}}");
        let outer =
            format!("{{name: {outer}, type: pipeline, pipeline: {{name: c, steps: [{inner}]}}}}");
        pipeline("", &[&outer, "{name: z, type: echo}"])
    };
    let (old, none) = (document(1), json!({}));
    let path =
        [&inner, &last].into_iter().fold(outer.clone(), |path, name| format!("{path}/{name}"));
    let around = format!("{outer}/{inner}");
    let done =
        [format!("#{outer}"), format!("#{around}"), path.clone(), around.clone(), outer.clone()];
    assert!(JobKey::new(path.as_str()).is_cut());
    for (value, failed, fate) in
        [(1, false, "reused"), (2, false, "rerun (it changed)"), (1, true, "rerun (it failed)")]
    {
        let state = |key: &String| match failed && *key == path {
            true => JobState::Failed,
            false => JobState::Succeeded,
        };
        let recorded: Vec<_> = done.iter().map(|key| (key.as_str(), state(key))).collect();
        let plan = plan((&old, &none), (&document(value), &none), &recorded, None);
        assert_eq!(plan.step(&path).unwrap().fate.to_string(), fate, "{}", shown(&plan));
        let runs = fate != "reused";
        assert_eq!(plan.again.contains_key(&JobKey::new(path.as_str())), runs, "{}", again(&plan));
    }
}
