//! A run that is killed between any two jobs leaves the same records.

use perennial_engine::DoneJob;
use serde_json::json;

use crate::world::{World, flow, world};

const TREE: &str = r#"
- {name: prepare, type: echo, value: {n: 3}}
- name: n
  type: pipeline
  inputs: {n: "{{ steps.prepare.n }}"}
  continue_on_error: true
  pipeline:
    name: c
    steps:
      - {name: set, type: set_variable, variables: {v: "{{ inputs.n }}", id: "{{ uuid() }}"}}
      - {name: ask, type: claude, prompt: "say {{ v }}"}
      - name: m
        type: pipeline
        condition: "set.v == 3"
        pipeline:
          name: d
          steps:
            - {name: x, type: echo, value: [1, 2]}
            - {name: gone, type: pipeline, condition: false, pipeline: {name: e, steps: [{name: y, type: echo}]}}
      - {name: bad, type: echo, fail: true, error_message: boom}
- name: ok
  type: pipeline
  outputs: [{path: "x[1]", as: second}]
  pipeline: {name: f, steps: [{name: x, type: echo, value: [1, 2]}]}
- {name: after, type: echo, value: "{{ steps.ok.second }} {{ steps.n.partial.m.x }}"}
"#;

fn tree() -> World {
    world(&flow(TREE), json!({}))
}

/// Handlers at the top, in children and in handlers, with children of their own.
const HANDLERS: &str = r#"
- name: s
  type: echo
  fail: true
  error_message: boom
  on_error:
    - name: h
      type: pipeline
      inputs: {why: "{{ error.message }}", id: "{{ uuid() }}"}
      pipeline:
        name: c
        steps:
          - name: x
            type: echo
            fail: true
            error_message: "{{ inputs.why }} again"
            on_error:
              - {name: y, type: claude, prompt: "{{ error.message }}"}
              - {name: set, type: set_variable, variables: {v: "{{ steps.y.text }}"}}
          - {name: z, type: echo, value: "{{ v }} {{ steps.x.handled.values.v }}"}
    - {name: keep, type: set_variable, variables: {k: "{{ steps.h.z }}"}}
- {name: after, type: echo, value: "{{ k }}", condition: "s.handled != null"}
- name: n
  type: pipeline
  continue_on_error: true
  pipeline:
    name: d
    steps:
      - name: f
        type: echo
        fail: true
        on_error: [{name: g, type: echo, fail: true, error_message: worse}]
- {name: last, type: echo, value: "{{ steps.n.error.cause.related[0].message }}"}
"#;

fn handlers() -> World {
    world(&flow(HANDLERS), json!({}))
}

#[tokio::test]
async fn every_prefix_of_a_run_with_handlers_is_continued_to_the_same_records() {
    let whole = handlers().run().await;
    let of = |key: &str| &whole.iter().find(|job| job.key.as_str() == key).unwrap().result;
    assert_eq!(of("after"), "boom again boom again");
    assert_eq!(of("last"), "worse");
    for cut in 0..whole.len() {
        let mut done = whole[..cut].to_vec();
        let survivor = handlers();
        while survivor.step(&mut done).await.is_some() {}
        assert_eq!(without_instants(&done), without_instants(&whole), "killed after {cut} jobs");
    }
}

/// Instants are of the attempt that recorded them; everything else is the same.
fn without_instants(done: &[DoneJob]) -> Vec<DoneJob> {
    let mut done = done.to_vec();
    for job in &mut done {
        if let Some(record) = job.result.as_object_mut() {
            record.remove("opened_at");
        }
    }
    done
}

#[tokio::test]
async fn every_prefix_of_a_run_is_continued_to_the_same_records() {
    let whole = tree().run().await;
    let keys: Vec<&str> = whole.iter().map(|job| job.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "prepare",
            "#n",
            "n/set",
            "n/ask",
            "#n/m",
            "n/m/x",
            "#n/m/gone",
            "n/m/gone",
            "n/m",
            "n/bad",
            "n",
            "#ok",
            "ok/x",
            "ok",
            "after",
        ]
    );
    assert_eq!(whole.last().unwrap().result, "2 [1,2]");
    for cut in 0..whole.len() {
        let mut done = whole[..cut].to_vec();
        let survivor = tree();
        while survivor.step(&mut done).await.is_some() {}
        assert_eq!(without_instants(&done), without_instants(&whole), "killed after {cut} jobs");
    }
}

/// What comes next depends on what is done, not on the order in which it is listed.
#[tokio::test]
async fn what_is_next_is_a_function_of_the_set() {
    for world in [tree(), handlers()] {
        next_is_of_the_set(&world).await;
    }
}

async fn next_is_of_the_set(world: &World) {
    let whole = world.run().await;
    let workflow = world.workflow();
    for cut in 0..=whole.len() {
        let done = &whole[..cut];
        let next = workflow.next(done);
        for turn in 0..cut {
            let mut other = done.to_vec();
            other.rotate_left(turn);
            assert_eq!(workflow.next(&other), next, "{cut} jobs, turned by {turn}");
            other.reverse();
            assert_eq!(workflow.next(&other), next, "{cut} jobs, reversed at {turn}");
        }
    }
}
