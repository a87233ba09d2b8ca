//! What passes between a child and its parent.

use perennial_core::run::JobState;
use serde_json::{Value, json};

use crate::world::{flow, run, world};

/// C-149: bare and wrapped, the child's results are fields of the step's.
#[tokio::test]
async fn c_149_the_results_of_a_child_are_those_of_its_step() {
    for child in [
        "{name: c, steps: [{name: e, type: echo, value: hi}]}",
        "{workflow: {name: c, steps: [{name: e, type: echo, value: hi}]}}",
    ] {
        let results = run(&format!(
            "- {{name: n, type: pipeline, pipeline: {child}}}\n\
             - {{name: after, type: echo, value: ['{{{{ steps.n.e }}}}', '{{{{ steps.n.result.e }}}}']}}"
        ))
        .await;
        assert_eq!(results["n"], json!({"e": "hi"}));
        assert_eq!(results["after"], json!(["hi", "hi"]));
        let keys: Vec<&String> = results.keys().collect();
        assert_eq!(keys, ["#n", "n/e", "n", "after"]);
    }
}

/// V-24, C-75, C-153: inputs keep their types, and the alias `result` holds both ways.
#[tokio::test]
async fn v_24_inputs_are_values_of_the_parent_and_keep_their_types() {
    let results = run(r#"
- {name: prepare, type: echo, value: {name: test_item, count: 42}}
- name: n
  type: pipeline
  inputs: {who: "{{ steps.prepare.name }}", count: "{{ steps.prepare.count }}", a: 5}
  pipeline:
    name: child
    steps:
      - {name: twice, type: echo, value: "{{ multiply(inputs.count, 2) }}"}
      - {name: ten, type: echo, value: "{{ multiply(inputs.a, 2) }}"}
      - {name: say, type: echo, value: "Processing {{ inputs.who }} with count {{ count }}"}
- name: after
  type: echo
  value: ["{{ steps.n.result.twice }}", "{{ steps.n.twice }}", "{{ steps.n.result }}"]
"#)
    .await;
    let outputs = json!({"twice": 84, "ten": 10, "say": "Processing test_item with count 42"});
    assert_eq!(results["n"], json!({"result": outputs}));
    assert_eq!(results["after"], json!([84, 84, outputs]));
}

/// V-26: the child's own steps, variables and facts are all it sees; templates in it are its own.
#[tokio::test]
async fn v_26_a_child_sees_its_own_scope_and_leaves_nothing_in_its_parents() {
    let document = "\
workflow:
  name: outer
  variables: {v: outer}
  global_vars: {g: outer}
  steps:
    - {name: x, type: echo, value: PARENT}
    - name: n
      type: pipeline
      pipeline:
        name: inner
        variables: {v: inner}
        global_vars: {g: inner}
        steps:
          - {name: x, type: echo, value: CHILD}
          - {name: set, type: set_variable, variables: {v: \"{{ v }}!\"}}
          - {name: y, type: echo, value: \"{{ steps.x.result }} {{ state.v }} {{ global_vars.g }} {{ workflow.name }} {{ step.name }}\"}
    - {name: after, type: echo, value: \"{{ v }} {{ steps.n.y }} {{ steps.x }} {{ workflow.name }}\"}
";
    let results = world(document, json!({})).results().await;
    assert_eq!(results["n/y"], "CHILD inner! inner inner y");
    assert_eq!(results["after"], "outer CHILD inner! inner inner y PARENT outer");
}

const INHERITS: &str = "\
workflow:
  name: outer
  variables: {v: outer, w: outer}
  global_vars: {g: outer, h: outer}
  inputs: {region: string}
  steps:
    - {name: set, type: set_variable, variables: {w: written}}
    - name: n
      type: pipeline
      config: {inherit_context: true}
      pipeline:
        name: inner
        variables: {v: inner}
        global_vars: {g: inner}
        steps:
          - {name: set, type: set_variable, variables: {mine: \"{{ w }}\"}}
          - name: deep
            type: pipeline
            config: {inherit_context: true}
            pipeline:
              name: deepest
              steps:
                - {name: y, type: echo, value: \"{{ v }} {{ w }} {{ mine }} {{ global_vars.g }} {{ global_vars.h }} {{ inputs.region }} {{ region }}\"}
    - {name: after, type: echo, value: \"{{ v }} {{ w }}\"}
";

#[tokio::test]
async fn what_is_inherited_is_seen_and_own_keys_win() {
    let results = world(INHERITS, json!({"region": "eu"})).results().await;
    assert_eq!(results["n/deep/y"], "inner written written inner outer eu eu");
    assert_eq!(results["after"], "outer written");
}

const OUTPUTS: &str = r#"
- name: n
  type: pipeline
  outputs: OUTPUTS
  pipeline:
    name: c
    steps:
      - {name: a, type: echo, value: {list: [1, {b: two}], none: null, rows: [{v: 1}, {v: 2}]}}
      - {name: nothing, type: echo, value: null}
      - {name: vars, type: set_variable, variables: {k: 7}}
"#;

#[tokio::test]
async fn outputs_are_steps_and_paths_into_them() {
    for (outputs, expected) in [
        (
            "[a]",
            json!({"a": {"list": [1, {"b": "two"}], "none": null, "rows": [{"v": 1}, {"v": 2}]}}),
        ),
        ("[{path: 'a.list[1].b', as: second}]", json!({"second": "two"})),
        ("[{path: 'a.list[-1].b'}]", json!({"b": "two"})),
        ("[{path: 'vars.k'}]", json!({"k": 7})),
        ("[{path: '$.a.rows[*].v', as: all}]", json!({"all": [1, 2]})),
        ("[{path: '$.a.list[0]', as: first}]", json!({"first": 1})),
    ] {
        let results = run(&OUTPUTS.replace("OUTPUTS", outputs)).await;
        assert_eq!(results["n"], expected, "{outputs}");
    }
}

/// C-155, V-27: null counts as missing, and everything missing is told at once.
#[tokio::test]
async fn c_155_missing_outputs_are_told_together() {
    let outputs = "[nothing, {path: a.none}, {path: a.x.y}, {path: '$.a[?@.z == 1]', as: q}]";
    let results = run(&OUTPUTS.replace("OUTPUTS", outputs)).await;
    assert_eq!(
        results["n"]["error"]["message"],
        "Nested pipeline 'c' failed: Output 'nothing' not found in results; \
         Path 'a.none' not found in results; Path 'a.x.y' not found in results; \
         Path '$.a[?@.z == 1]' not found in results"
    );
}

/// YS-98: the skipped record has the shape of the others, and nothing of the child is done.
#[tokio::test]
async fn a_skipped_step_skips_its_child() {
    for (inputs, shown) in [("{}", ""), ("{a: 1}", "result")] {
        let document = flow(&format!(
            "- {{name: n, type: pipeline, condition: false, inputs: {inputs}, \
             pipeline: {{name: c, steps: [{{name: e, type: echo}}]}}}}\n\
             - {{name: after, type: echo, value: ['{{{{ steps.n.skipped }}}}', '{{{{ steps.n.result.skipped }}}}']}}"
        ));
        let done = world(&document, json!({})).run().await;
        let keys: Vec<&str> = done.iter().map(|job| job.key.as_str()).collect();
        assert_eq!(keys, ["#n", "n", "after"]);
        assert_eq!(done[1].state, JobState::Skipped);
        let record = if shown.is_empty() { &done[1].result } else { &done[1].result[shown] };
        assert_eq!(record["status"], "skipped");
        assert_eq!(done[2].result, json!([true, true]));
    }
}

#[tokio::test]
async fn names_that_look_like_paths_stay_names() {
    let results = run(r##"
- {name: "n/e", type: echo, value: outer}
- name: n
  type: pipeline
  pipeline:
    name: c
    steps:
      - {name: e, type: echo, value: inner}
      - {name: "#n", type: echo, value: odd}
- {name: "#n", type: echo, value: ["{{ steps['n/e'] }}", "{{ steps.n.e }}", "{{ steps.n['#n'] }}"]}
"##)
    .await;
    assert_eq!(results["%23n"], json!(["outer", "inner", "odd"]));
}

/// Declared defaults of the child hold, and what it is given is checked when it is opened.
#[tokio::test]
async fn a_child_fills_in_its_defaults_and_refuses_what_does_not_fit() {
    let steps = r#"
- {name: p, type: echo, value: VALUE}
- name: n
  type: pipeline
  inputs: {level: "{{ steps.p }}"}
  pipeline:
    name: c
    inputs: {level: integer, label: {type: string, default: plain}}
    steps: [{name: e, type: echo, value: "{{ level }} {{ label }}"}]
"#;
    let results = run(&steps.replace("VALUE", "3")).await;
    assert_eq!(results["n"]["result"]["e"], "3 plain");
    let results = run(&steps.replace("VALUE", "three")).await;
    let error: &Value = &results["n"]["error"];
    assert_eq!(
        error["message"],
        "Nested pipeline 'c' failed: input `level`: expected integer, got string"
    );
    assert_eq!(error["cause"]["code"], "PL510");
}

/// `prune_results` is about the outputs by the names that the parent has for them.
#[tokio::test]
async fn outputs_are_kept_or_left_out() {
    for (keys, expected) in [
        ("config: {prune_results: {keep_fields: [a, c]}}", json!({"a": 1, "c": 3})),
        ("config: {prune_results: {remove_fields: [a]}}", json!({"b": 2, "c": 3})),
        ("config: {prune_results: {keep_fields: [a, b], remove_fields: [b]}}", json!({"a": 1})),
        ("config: {prune_results: {}}", json!({"a": 1, "b": 2, "c": 3})),
        ("config: {prune_results: {keep_fields: []}}", json!({})),
        (
            "outputs: [{path: a, as: x}, b]\n  config: {prune_results: {keep_fields: [x]}}",
            json!({"x": 1}),
        ),
        (
            "inputs: {i: 1}\n  config: {prune_results: {keep_fields: [a]}}",
            json!({"result": {"a": 1}}),
        ),
    ] {
        let results = run(&format!(
            "- name: n\n  type: pipeline\n  {keys}\n  pipeline:\n    name: c\n    steps:\n      \
             - {{name: a, type: echo, value: 1}}\n      - {{name: b, type: echo, value: 2}}\n      \
             - {{name: c, type: echo, value: 3}}"
        ))
        .await;
        assert_eq!(results["n"], expected, "{keys}");
    }
}

/// Steps of the child that `mock_responses` names get its replies; all others are answered as in the run.
#[tokio::test]
async fn calls_of_a_child_are_answered_from_its_map() {
    let document = |config: &str| {
        format!(
            r#"
- name: n
  type: pipeline
  config: {config}
  pipeline:
    name: c
    steps:
      - {{name: a, type: claude, prompt: "one"}}
      - {{name: b, type: claude, prompt: "two", continue_on_error: true}}
      - {{name: d, type: claude, prompt: "three"}}
- {{name: a, type: claude, prompt: "of the parent"}}
"#
        )
    };
    let replies = "mock_responses: {a: scripted, b: {error: {class: permanent, message: no}}}";
    let results = run(&document(&format!("{{{replies}}}"))).await;
    assert_eq!(results["n/a"]["text"], "scripted");
    assert_eq!(results["n/b"]["error"]["message"], "no");
    assert_eq!(results["n/d"]["text"], "three");
    assert_eq!(results["a"]["text"], "of the parent");
    for config in [format!("{{mock_mode: false, {replies}}}"), "{mock_mode: true}".to_owned()] {
        let results = run(&document(&config)).await;
        assert_eq!(results["n/a"]["text"], "one", "{config}");
    }
}
