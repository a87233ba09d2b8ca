//! Pictures of workflows, and what is told of their steps.

#![expect(clippy::unwrap_used, reason = "helpers of a test")]

use std::{collections::BTreeMap, fs, path::PathBuf};

use perennial_core::run::JobState;
use perennial_pipeline::{Pipeline, StepState};

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/graph").join(name)
}

/// Compares with the file `name`; `UPDATE_GOLDEN=1` writes it.
fn golden(name: &str, text: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(data(name), text).unwrap();
    }
    let expected = fs::read_to_string(data(name)).unwrap_or_default();
    assert_eq!(text, expected, "{name} differs; if that is meant: UPDATE_GOLDEN=1");
}

fn odd() -> Pipeline {
    pipeline("odd.yaml")
}

fn pipeline(name: &str) -> Pipeline {
    let checked = Pipeline::check(name, &fs::read(data(name)).unwrap());
    checked.pipeline.unwrap_or_else(|| panic!("{:?}", checked.diagnostics))
}

#[test]
fn steps_stand_in_their_order_and_dashed_edges_tell_who_reads_what() {
    golden("odd.dot", &odd().graph().to_dot());
    golden("odd.mmd", &odd().graph().to_mermaid());
}

#[test]
fn the_states_of_a_run_stand_in_the_boxes_and_colours_only_repeat_them() {
    let states = [
        ("settings", JobState::Succeeded, "succeeded"),
        ("draft", JobState::Leased, "running, attempt 2"),
        ("check", JobState::Failed, "failed"),
        ("wrong", JobState::Skipped, "skipped"),
        ("plain", JobState::Partial, "a \"text\"; with ]odd> characters\u{202e}"),
    ];
    let states: BTreeMap<String, StepState> = states
        .into_iter()
        .map(|(step, state, text)| {
            (step.to_owned(), StepState { state: Some(state), text: text.to_owned() })
        })
        .collect();
    let graph = odd().graph().with_states(&states);
    golden("odd_run.dot", &graph.to_dot());
    golden("odd_run.mmd", &graph.to_mermaid());
}

#[test]
fn the_steps_of_a_nested_pipeline_stand_in_a_frame_and_are_told_by_their_path() {
    let succeeded = StepState { state: Some(JobState::Succeeded), text: "succeeded".to_owned() };
    let states =
        ["first", "outer/a", "outer/inner/a"].map(|path| (path.to_owned(), succeeded.clone()));
    let graph = pipeline("nested.yaml").graph().with_states(&BTreeMap::from(states));
    golden("nested.dot", &graph.to_dot());
    golden("nested.mmd", &graph.to_mermaid());
}

#[test]
fn a_handler_stands_in_the_frame_of_its_step_and_is_reached_by_an_edge_of_its_own() {
    let succeeded = StepState { state: Some(JobState::Succeeded), text: "succeeded".to_owned() };
    let states = ["draft", "send", "send[error]/note", "send[error]/tell"]
        .map(|path| (path.to_owned(), succeeded.clone()));
    let pipeline = pipeline("handlers.yaml");
    let graph = pipeline.graph().with_states(&BTreeMap::from(states));
    golden("handlers.dot", &graph.to_dot());
    golden("handlers.mmd", &graph.to_mermaid());
    let paths = pipeline.step_paths();
    let inner = "send[error]/tell[error]/give_up";
    assert_eq!(paths, ["draft", "send", "send[error]/note", "send[error]/tell", inner, "last"]);
    let send = pipeline.explain("send").unwrap();
    assert_eq!(send.on_error, ["send[error]/note", "send[error]/tell"]);
    assert_eq!(send.gives, ["steps.send", "steps.send.handled"]);
    let give_up = pipeline.explain(inner).unwrap();
    let reads: Vec<_> =
        give_up.reads.iter().map(|it| (it.path.as_str(), it.from_step.as_deref())).collect();
    assert_eq!(reads, [("error.code", Some("tell")), ("steps.note.why", Some("note"))]);
    assert_eq!(pipeline.explain("send/note"), None);
}

#[test]
fn the_plan_has_the_jobs_of_handlers() {
    let plan = pipeline("handlers.yaml").plan();
    let job = |key: &str| plan.jobs.iter().find(|job| job.key == key).unwrap();
    assert_eq!(job("send").on_error, ["send[error]/note", "send[error]/tell"]);
    assert_eq!(job("send[error]/tell").handles.as_deref(), Some("send"));
    assert_eq!(job("send[error]/tell").after, ["send[error]/note"]);
    assert_eq!(job("last").after, ["send"]);
}

#[test]
fn a_step_is_explained_by_what_it_reads_asks_and_gives() {
    let pipeline = odd();
    let explained: Vec<_> = pipeline.steps().map(|step| pipeline.explain(step)).collect();
    golden(
        "odd_explained.json",
        &format!("{}\n", serde_json::to_string_pretty(&explained).unwrap()),
    );
    assert_eq!(pipeline.explain("no such step"), None);
}

#[test]
fn a_workflow_of_one_step_is_a_picture_too() {
    let text =
        b"workflow:\n  name: one\n  steps: [{name: a, type: echo, condition: \"inputs.x > 1\"}]\n";
    let dot = Pipeline::check("one.yaml", text).pipeline.unwrap().graph().to_dot();
    assert!(dot.contains("s0 [label=\"a\\necho, if inputs.x > 1\"];"), "{dot}");
    assert!(!dot.contains("->"), "{dot}");
}
