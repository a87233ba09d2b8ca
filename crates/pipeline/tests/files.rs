//! Steps that work on files: driven without an engine, in a folder of their own.

#![expect(clippy::unwrap_used, reason = "a broken fixture shall fail its test")]

#[path = "files/folder.rs"]
mod folder;
#[path = "files/operations.rs"]
mod operations;

use folder::Folder;
use serde_json::{Value, json};

/// One step of each kind that leaves a file.
const OUTPUTS: &str = r#"
workflow:
  name: outputs
  language: 1
  output_dir: out
  steps:
    - {name: text, type: echo, value: "plain {{ date }}", output_to_file: "texts/{{ date }}.txt"}
    - {name: json, type: echo, value: {a: [1, "ü"]}, output_file: out/value.json}
    - {name: reply, type: claude, prompt: "say hello", output_to_file: reply.md}
    - {name: record, type: claude, prompt: "say hello", output_to_file: reply.JSON}
    - {name: set, type: set_variable, variables: {x: 1}, output_to_file: set.txt}
    - {name: none, type: echo, value: 1, condition: "false", output_to_file: none.txt}
"#;

#[tokio::test]
async fn yr_63_a_value_is_left_as_text_or_json_below_the_outputs() {
    let folder = Folder::new();
    let done = folder.run(OUTPUTS).await;
    assert_eq!(folder.text("out/texts/2026-11-21.txt"), "plain 2026-11-21");
    let value: Value = serde_json::from_str(&folder.text("out/value.json")).unwrap();
    assert_eq!(value, json!({"a": [1, "ü"]}));
    assert!(folder.text("out/value.json").contains("\n  \"a\""));
    assert_eq!(folder.text("out/reply.md"), "hello");
    let record: Value = serde_json::from_str(&folder.text("out/reply.JSON")).unwrap();
    assert_eq!((&record["text"], &record["success"]), (&json!("hello"), &json!(true)));
    assert_eq!(done["reply"]["output_file"], "reply.md");
    assert_eq!(done["set"]["output_file"], "set.txt");
    assert!(folder.text("out/set.txt").contains("variables_set"));
    assert!(!folder.at("out/none.txt").exists());
    // An attempt that is made again, as after a kill before its commit, leaves the same files.
    let before = folder.entries();
    assert_eq!(folder.run(OUTPUTS).await, done);
    assert_eq!(folder.entries(), before);
}

#[tokio::test]
async fn c_33_a_long_text_is_left_whole() {
    let folder = Folder::new();
    let long = "é".repeat(75_000);
    let document = format!(
        "workflow: {{name: w, steps: [{{name: a, type: echo, value: '{long}', output_to_file: a.txt}}]}}"
    );
    folder.run(&document).await;
    assert_eq!(folder.text("outputs/a.txt"), long);
    assert_eq!(folder.text("outputs/a.txt").len(), 150_000);
}

/// What is left in a file has the name that was given, and not that name without its end.
#[tokio::test]
async fn a_name_that_ends_like_a_directory_is_no_file() {
    for dir in ["a/", "a/.", "deep/er/"] {
        let folder = Folder::new();
        let document = format!(
            "workflow: {{name: w, inputs: {{dir: {{default: {dir}}}}}, \
             steps: [{{name: a, type: echo, value: 1, output_to_file: '{{{{ inputs.dir }}}}'}}]}}"
        );
        let done = folder.run(&document).await;
        let error = &done["a"]["error"];
        assert_eq!(error["code"], "PL601", "{dir}: {done:?}");
        assert!(error["message"].as_str().unwrap().contains("names a directory"), "{error}");
        assert!(!folder.entries().iter().any(|entry| entry.starts_with("outputs/")));
    }
}

#[tokio::test]
async fn c_147_yt_34_names_that_lead_out_or_that_a_model_made_up_are_refused() {
    let rows = [
        // name of the file, reply of the model, what comes of it
        ("../x", "", "PL609"),
        ("a/../../x", "", "PL609"),
        ("/tmp/x", "", "PL609"),
        // a directory is no file
        ("x{{ steps.ask.text }}", "/", "PL609"),
        ("{{ steps.ask.text }}.txt", "fine", "fine.txt"),
        ("{{ steps.ask.text }}.txt", "a/b", "PL609"),
        ("{{ steps.ask.text }}", "..", "PL609"),
        ("{{ steps.ask.text }}.txt", "..\\b", "PL609"),
        ("{{ ask.text }}/x.txt", "a/b", "PL609"),
        ("{{ steps.ask.text | upper }}.txt", "a/b", "PL609"),
        ("{{ kept }}.txt", "a/b", "PL609"),
        ("{{ steps.ask.text | slug }}.txt", "a/../b", "a-b.txt"),
        ("{{ steps.ask.text | path }}.txt", "a/../b", "a/b.txt"),
        ("{{ path(steps.ask.text) }}.txt", "../../b", "b.txt"),
        ("{{ inputs.dir }}/{{ date }}.txt", "", "deep/er/2026-11-21.txt"),
        ("{{ dir }}/y.txt", "", "deep/er/y.txt"),
        ("{{ steps.ask.text ?? dir }}.txt", "a/b", "PL609"),
    ];
    for (name, reply, expected) in rows {
        let folder = Folder::new();
        let document = format!(
            r#"
workflow:
  name: names
  language: 1
  inputs: {{dir: {{default: deep/er}}}}
  steps:
    - {{name: ask, type: claude, prompt: "say {}"}}
    - {{name: keep, type: set_variable, variables: {{kept: "{{{{ steps.ask.text }}}}"}}}}
    - {{name: write, type: echo, value: v, output_to_file: {}}}
"#,
            reply.replace('\\', "\\\\"),
            json!(name)
        );
        let done = folder.run(&document).await;
        if let Some(code) = expected.strip_prefix("PL") {
            let error = &done["write"]["error"];
            assert_eq!(error["code"], format!("PL{code}"), "{name} of {reply}: {done:?}");
            assert_eq!(error["class"], "path");
            assert_eq!(folder.entries(), Vec::<String>::new(), "{name}");
        } else {
            assert_eq!(folder.entries(), [format!("outputs/{expected}")], "{name} of {reply}");
        }
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_written_fails_its_step() {
    let folder = Folder::new();
    folder.write("outputs/a", "a file");
    let document =
        "workflow: {name: w, steps: [{name: a, type: echo, value: 1, output_to_file: a/b}]}";
    let done = folder.run(document).await;
    assert_eq!(done["a"]["error"]["code"], "PL601");
    assert_eq!(done["a"]["error"]["class"], "io");
    assert_eq!(folder.entries(), ["outputs/a"]);
}

#[tokio::test]
async fn pl_610_a_directory_that_cannot_be_made_fails_the_step_that_needs_it() {
    let folder = Folder::new();
    folder.write("out", "a file");
    let done = folder.run(OUTPUTS).await;
    assert_eq!(done["text"]["error"]["code"], "PL610");
}

#[tokio::test]
async fn yr_75_a_child_works_in_the_directories_of_its_parent_and_leaves_its_outputs() {
    let folder = Folder::new();
    let document = r#"
workflow:
  name: parent
  language: 1
  workspace_dir: ws
  steps:
    - name: child
      type: pipeline
      output_to_file: child.json
      pipeline:
        name: inner
        workspace_dir: elsewhere
        steps:
          - {name: write, type: file_ops, operation: write, path: a.txt, content: x}
          - {name: echo, type: echo, value: 1, output_to_file: deep/e.txt}
"#;
    folder.run(document).await;
    assert_eq!(folder.entries(), ["outputs/child.json", "outputs/deep/e.txt", "ws/a.txt"]);
    let outputs: Value = serde_json::from_str(&folder.text("outputs/child.json")).unwrap();
    assert_eq!(outputs["echo"], 1);
}
