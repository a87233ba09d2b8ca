//! Children in files of their own.

use perennial_pipeline::{
    Checked, MemorySources, Pipeline, REGISTERED_MAX, Registry, RegistryError, Severity, SourceFile,
};
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
                 - {name: c, type: pipeline, pipeline_file: broken.yaml}";
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
    assert!(found[3].starts_with("PL102 broken.yaml:"), "{found:#?}");
    assert_eq!(found.len(), 4);
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

fn registered(name: &str, version: &str, says: u32) -> SourceFile {
    let document = format!(
        "workflow:\n  name: c\n  version: \"{version}\"\n  steps:\n    - {{name: e, type: echo, value: {says}}}\n"
    );
    SourceFile { identity: format!("{name}@{version}"), ..SourceFile::new(name, document) }
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    for (version, says) in [("1.2.0", 12), ("1.10.0", 110), ("2.0.0", 200), ("spring", 1)] {
        registry.add("shared", registered("shared", version, says)).unwrap();
    }
    registry
}

fn told(checked: &Checked) -> Vec<String> {
    let errors = checked.diagnostics.iter().filter(|found| found.severity != Severity::Note);
    errors
        .map(|found| match &found.hint {
            Some(hint) => format!("{}: {} | {hint}", found.code, found.message),
            None => format!("{}: {}", found.code, found.message),
        })
        .collect()
}

/// What the host has registered, in the version that is asked for; the document's own names win. The definition has
/// the child whole.
#[test]
fn a_child_of_the_host_is_a_part_of_the_definition() {
    let rows = [
        ("", 200),
        (", version: \"^1.2\"", 110),
        (", version: \"1.2\"", 12),
        (", version: \"spring\"", 1),
    ];
    for (version, says) in rows {
        let steps = format!("- {{name: n, type: pipeline, pipeline_ref: shared{version}}}");
        let sources = sources(&steps);
        let registry = registry();
        let root = sources.root("flow.yaml").unwrap();
        let checked = Pipeline::load(&root, &registry.over(&sources));
        let pipeline = checked.pipeline.unwrap_or_else(|| panic!("{:?}", checked.diagnostics));
        let text = String::from_utf8(pipeline.definition().bytes.to_vec()).unwrap();
        assert!(text.contains(&format!("\"value\":\"{says}\"")), "{text}");
    }
    let own = "workflow:\n  name: w\n  pipelines: {shared: lib/child.yaml}\n  steps:\n    \
               - {name: n, type: pipeline, pipeline_ref: shared}\n";
    let sources = sources("").file("flow.yaml", own);
    let registry = registry();
    let checked = Pipeline::load(&sources.root("flow.yaml").unwrap(), &registry.over(&sources));
    assert_eq!(told(&checked).len(), 2, "the child of the document has required inputs");
}

/// PL506.
#[test]
fn what_the_host_does_not_have_is_told_with_what_it_has() {
    let steps = "- {name: a, type: pipeline, pipeline_ref: shaerd}\n\
                 - {name: b, type: pipeline, pipeline_ref: shared, version: \"^3\"}\n\
                 - {name: c, type: pipeline, pipeline_ref: shared, version: \">=1\"}\n\
                 - {name: d, type: pipeline, pipeline_ref: shared, version: 1.2}\n\
                 - {name: e, type: pipeline, pipeline_ref: own, version: \"1\"}";
    let document = flow(steps).replace("  language: 1\n", "  pipelines: {own: lib/child.yaml}\n");
    let sources = sources("").file("flow.yaml", document);
    let registry = registry();
    let checked = Pipeline::load(&sources.root("flow.yaml").unwrap(), &registry.over(&sources));
    assert_eq!(
        told(&checked),
        [
            "PL506: `shaerd` is not among the `pipelines` of the document or of the host, which \
             are: `own`, `shared` | did you mean `shared`?",
            "PL506: `shared` is registered in `1.2.0`, `1.10.0`, `2.0.0`, `spring`, and not in ^3",
            "PL204: version must be a version or a ^-range, got: >=1 | such as `1.2.0` or `^1.2`",
            "PL203: version must be a string | put it in quotes: `\"1.0\"`",
            "PL506: `own` is lib/child.yaml without a version, and not 1",
        ]
    );
}

/// YS-100 with names of the host, and what a registry does not take.
#[test]
fn a_registry_is_checked_as_a_whole() {
    let calls = |next: &str| {
        format!(
            "workflow:\n  name: c\n  steps: [{{name: n, type: pipeline, pipeline_ref: {next}}}]\n"
        )
    };
    let mut cyclic = Registry::new();
    cyclic.add("a", SourceFile::new("a", calls("b"))).unwrap();
    cyclic.add("b", SourceFile::new("b", calls("a"))).unwrap();
    let refused = cyclic.check(&MemorySources::new()).unwrap_err().to_string();
    assert_eq!(
        refused,
        "the registered pipeline `a` is invalid: b:3: [PL504] Circular dependency detected: a → b → a"
    );

    let mut registry = registry();
    registry.check(&MemorySources::new()).unwrap();
    assert_eq!(registry.names().collect::<Vec<_>>(), ["shared"]);
    let refusals = [
        (
            registry.add("shared", registered("again", "2.0.0", 0)),
            "registered twice in version 2.0.0",
        ),
        (registry.add(" ", registered("x", "1", 0)), "under an empty name"),
        (registry.add("x", SourceFile::new("x", "a: [1")), "`x` is invalid: x:"),
    ];
    for (refused, text) in refusals {
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains(text), "{refused}");
    }
    let most = REGISTERED_MAX - 4;
    for place in 0..most {
        registry.add(format!("p{place}"), registered(&format!("p{place}"), "1", 0)).unwrap();
    }
    let full = registry.add("one-more", registered("x", "1", 0));
    assert_eq!(full, Err(RegistryError::TooMany));
}
