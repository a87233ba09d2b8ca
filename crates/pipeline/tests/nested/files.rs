//! Children in files of their own.

use perennial_pipeline::{MemorySources, Pipeline, Severity};
use serde_json::json;

use crate::world::{flow, loaded};

const CHILD: &str = "\
workflow:
  name: child
  inputs: {item: string, count: integer}
  variables: {from: \"${REGION:-nowhere}\"}
  steps:
    - {name: say, type: echo, value: \"{{ item }} from {{ from }}\"}
    - {name: twice, type: echo, value: \"{{ multiply(inputs.count, 2) }}\"}
";

fn sources(steps: &str) -> MemorySources {
    MemorySources::new().file("flow.yaml", flow(steps)).file("lib/child.yaml", CHILD)
}

/// Errors and warnings, each with the file and the line.
fn faults(sources: &MemorySources) -> Vec<String> {
    let checked = Pipeline::load(&sources.root("flow.yaml").unwrap(), sources);
    let told = checked.diagnostics.iter().filter(|found| found.severity != Severity::Note);
    told.map(|found| {
        let line = found.span.map_or(0, |span| span.start.line);
        format!("{} {}:{line}: {}", found.code, found.file, found.message)
    })
    .collect()
}

/// V-25.
#[tokio::test]
async fn v_25_a_child_may_stand_in_a_file() {
    let sources = sources(
        "- {name: n, type: pipeline, pipeline_file: lib/child.yaml, inputs: {item: x, count: 42}}",
    );
    let sources = sources.set("REGION", "here");
    let results = loaded(&sources, json!({})).results().await;
    assert_eq!(results["n"]["result"], json!({"say": "x from here", "twice": 84}));
}

/// Names of the registry lead to files, also from inside a child.
#[tokio::test]
async fn a_registered_child_is_found_by_its_name() {
    let document = "\
workflow:
  name: parent
  pipelines: {shared: lib/child.yaml}
  steps:
    - {name: n, type: pipeline, pipeline_ref: shared, inputs: {item: x, count: 1}}
    - name: m
      type: pipeline
      pipeline:
        name: inner
        steps: [{name: k, type: pipeline, pipeline_ref: shared, inputs: {item: y, count: 2}}]
";
    let sources = sources("").file("flow.yaml", document);
    let results = loaded(&sources, json!({})).results().await;
    assert_eq!(results["n"]["result"]["twice"], 2);
    assert_eq!(results["m"]["k"]["twice"], 4);
}

#[test]
fn a_file_that_cannot_be_had_and_a_name_that_is_not_registered_are_told() {
    let steps = "- {name: a, type: pipeline, pipeline_file: absent.yaml}\n\
                 - {name: b, type: pipeline, pipeline_ref: shared}\n\
                 - {name: c, type: pipeline, pipeline_file: broken.yaml}\n\
                 - {name: d, type: pipeline, pipeline_file: \"{{ inputs.f }}\"}";
    let found = faults(&sources(steps).file("broken.yaml", "a: [1"));
    assert!(
        found[0].starts_with("PL502 flow.yaml:5: Failed to load pipeline file 'absent.yaml': "),
        "{found:#?}"
    );
    assert_eq!(
        found[1],
        "PL506 flow.yaml:6: `shared` is not among the `pipelines` of the document"
    );
    assert!(found[2].starts_with("PL502 flow.yaml:7: Failed to load pipeline file 'broken.yaml'"));
    assert_eq!(found[3], "PL202 flow.yaml:8: a templated `pipeline_file` is not supported");
    assert!(found[4].starts_with("PL102 broken.yaml:"), "{found:#?}");
    assert_eq!(found.len(), 5);
}

/// What is wrong in a child is told in its file, once, and what it needs where it is named.
#[test]
fn faults_stand_where_they_are_made() {
    let steps = "- {name: a, type: pipeline, pipeline_file: lib/bad.yaml}\n\
                 - {name: b, type: pipeline, pipeline_file: lib/bad.yaml}\n\
                 - {name: c, type: pipeline, pipeline_file: lib/child.yaml}";
    let bad = "workflow:\n  name: bad\n  steps:\n    - {name: e, type: echo, vlaue: 1}\n";
    assert_eq!(
        faults(&sources(steps).file("lib/bad.yaml", bad)),
        [
            "PL201 flow.yaml:7: Step 'c' missing required 'inputs.item' field: its child uses \
             `item` and binds it nowhere",
            "PL201 flow.yaml:7: Step 'c' missing required 'inputs.count' field: its child uses \
             `count` and binds it nowhere",
            "PL202 lib/bad.yaml:4: unknown key `vlaue` in step `e` (type `echo`)",
        ]
    );
}

/// C-159, YS-100: by canonical path, however the file is named, with the whole cycle.
#[test]
fn c_159_recursion_through_files_is_refused() {
    let itself = sources("- {name: n, type: pipeline, pipeline_file: ./flow.yaml}");
    assert_eq!(
        faults(&itself),
        ["PL504 flow.yaml:5: Circular dependency detected: flow.yaml → flow.yaml"]
    );
    let child = |file: &str| {
        format!(
            "workflow:\n  name: c\n  steps:\n    - {{name: n, type: pipeline, pipeline_file: {file}}}\n"
        )
    };
    let mutual = sources("- {name: n, type: pipeline, pipeline_file: a.yaml}")
        .file("a.yaml", child("b.yaml"))
        .file("b.yaml", child("alias.yaml"))
        .link("alias.yaml", "a.yaml");
    assert_eq!(
        faults(&mutual),
        ["PL504 b.yaml:4: Circular dependency detected: a.yaml → b.yaml → a.yaml"]
    );
    // The same file twice, one beside the other, is no cycle.
    let twice = sources(
        "- {name: a, type: pipeline, pipeline_file: lib/child.yaml, inputs: {item: x, count: 1}}\n\
         - {name: b, type: pipeline, pipeline_file: lib/child.yaml, inputs: {item: x, count: 1}}",
    );
    assert_eq!(faults(&twice), Vec::<String>::new());
}

/// A definition that grows with every file it names is refused before it is built.
#[test]
fn children_are_bounded() {
    let mut sources = sources("- {name: n, type: pipeline, pipeline_file: f0.yaml}");
    for level in 0..9 {
        let next = format!("f{}.yaml", level + 1);
        let steps: String = (0..4)
            .map(|place| {
                format!("    - {{name: s{place}, type: pipeline, pipeline_file: {next}}}\n")
            })
            .collect();
        let text = format!("workflow:\n  name: f{level}\n  steps:\n{steps}");
        sources = sources.file(&format!("f{level}.yaml"), text);
    }
    let last = "workflow:\n  name: last\n  steps: [{name: e, type: echo}]\n";
    let found = faults(&sources.file("f9.yaml", last));
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].contains("the definition has more than 1000 children"), "{found:#?}");
}

/// YR-75: nothing is ignored without a word.
#[test]
fn directories_of_a_child_are_told_to_have_no_effect() {
    let child =
        "workflow:\n  name: c\n  workspace_dir: elsewhere\n  steps: [{name: e, type: echo}]\n";
    let sources =
        sources("- {name: n, type: pipeline, pipeline_file: c.yaml}").file("c.yaml", child);
    let checked = Pipeline::load(&sources.root("flow.yaml").unwrap(), &sources);
    let [note] = checked.diagnostics.as_slice() else { panic!("{:#?}", checked.diagnostics) };
    assert_eq!(
        (note.code.to_string().as_str(), &*note.file, note.severity, note.pointer.as_str()),
        ("PL220", "c.yaml", Severity::Note, "/workflow/workspace_dir")
    );
}
