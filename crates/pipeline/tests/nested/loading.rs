//! Children whose file is named while the run is under way, and recursion (2.16).

use std::{fs, path::Path};

use perennial_core::run::JobState;
use perennial_engine::DoneJob;
use perennial_pipeline::{MemorySources, Pipeline};
use serde_json::{Value, json};

use crate::world::{World, flow, loaded, placed};

/// What the run fails with when `text` is the child that `step` names as `lib/child.yaml`.
async fn refusal(step: &str, text: &str) -> String {
    let folder = folder(&[("child.yaml", text)]);
    let head = "- {name: kind, type: echo, value: child}\n- name: n\n  type: pipeline\n  ";
    let steps = format!("{head}pipeline_file: 'lib/{{{{ steps.kind }}}}.yaml'\n{step}");
    let done = in_folder(&steps, folder.path()).run().await;
    assert!(keys(&done).iter().all(|key| !key.contains('/')), "{done:?}");
    message(&done).replace(&folder.path().canonicalize().unwrap().display().to_string(), ".")
}

const GREET: &str = "workflow:
  name: greet
  inputs: {who: {type: string}}
  steps:
    - {name: text, type: echo, value: 'hello {{ inputs.who }}'}
    - {name: loud, type: echo, value: '{{ upper(steps.text) }}'}
";

const BY_KIND: &str = "- {name: kind, type: echo, value: greet}
- name: n
  type: pipeline
  pipeline_file: 'lib/{{ steps.kind }}.yaml'
  inputs: {who: Ada}
  outputs: [loud]";

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("lib")).unwrap();
    for (name, text) in files {
        fs::write(folder.path().join("lib").join(name), text).unwrap();
    }
    folder
}

fn keys(done: &[DoneJob]) -> Vec<&str> {
    done.iter().map(|job| job.key.as_str()).collect()
}

fn message(done: &[DoneJob]) -> &str {
    let last = done.last().unwrap();
    assert_eq!(last.state, JobState::Failed, "{last:?}");
    last.result["error_message"].as_str().unwrap()
}

fn in_folder(steps: &str, folder: &Path) -> World {
    placed(&flow(steps), folder)
}

#[tokio::test]
async fn a_file_that_is_named_while_the_run_is_under_way_becomes_the_child() {
    let folder = folder(&[("greet.yaml", GREET)]);
    let done = in_folder(BY_KIND, folder.path()).run().await;
    assert_eq!(keys(&done), ["kind", "#n", "n/text", "n/loud", "n"]);
    assert_eq!(done[4].result, json!({ "result": { "loud": "HELLO ADA" } }));
    let child = &done[1].result["child"];
    assert!(child["definition"].as_str().unwrap().contains("\"greet\""), "{child}");
    assert!(child["file"].as_str().unwrap().ends_with("lib/greet.yaml"), "{child}");
}

/// INV-3: what was committed decides, and nothing beside it.
#[tokio::test]
async fn once_it_is_opened_a_child_is_what_was_recorded_whatever_becomes_of_its_file() {
    for change in [None, Some("workflow: {name: other, steps: []}")] {
        let folder = folder(&[("greet.yaml", GREET)]);
        let world = in_folder(BY_KIND, folder.path());
        let mut done = Vec::new();
        for _ in 0..2 {
            world.step(&mut done).await.unwrap();
        }
        let file = folder.path().join("lib/greet.yaml");
        match change {
            Some(text) => fs::write(&file, text).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
        // Each step is made by a process that has just started.
        while world.step(&mut done).await.is_some() {}
        assert_eq!(done.last().unwrap().result["result"]["loud"], "HELLO ADA");
    }
}

#[tokio::test]
async fn a_child_that_cannot_be_had_says_which_file_who_named_it_and_why() {
    let failed = |why: &str| {
        format!(
            "Nested pipeline 'lib/{{{{ steps.kind }}}}.yaml' failed: Failed to load pipeline file \
             'lib/child.yaml', named by lib/{{{{ steps.kind }}}}.yaml of step `n`: {why}"
        )
    };
    let faulty = "workflow:\n  name: bad\n  steps:\n    - {name: e, type: echo, vlaue: 1}\n";
    assert_eq!(
        refusal("", faulty).await,
        failed(
            "it has an error:\n./lib/child.yaml:4: PL202: unknown key `vlaue` in step `e` (type `echo`)"
        )
    );
    let unset = GREET.replace("hello", "${GREETING}");
    assert_eq!(
        refusal("  inputs: {who: Ada}", &unset).await,
        failed(
            "it has an error:\n./lib/child.yaml:5: PL217: the environment variable `GREETING` is not set, \
             and has no default\na child that is loaded by a run has the variables that the run has read \
             when it began"
        )
    );
    assert_eq!(
        refusal("  inputs: {who: Ada}\n  outputs: [laud, {path: quiet.x}]", GREET).await,
        failed(
            "Output 'laud' not found in results; Path 'quiet.x' not found in results: its steps are: \
             text, loud"
        )
    );
    assert_eq!(
        refusal("", GREET).await,
        "Nested pipeline 'lib/{{ steps.kind }}.yaml' failed: ./lib/child.yaml: required inputs missing: who"
    );
    let absent = folder(&[]);
    let done = in_folder(BY_KIND, absent.path()).run().await;
    let text = message(&done);
    assert!(text.contains("'lib/greet.yaml'") && text.contains("of step `n`: "), "{text}");
    let place = absent.path().canonicalize().unwrap().join("lib/greet.yaml");
    assert!(text.contains(&place.display().to_string()), "{text}");
    assert_eq!(done.last().unwrap().result["error"]["cause"]["code"], "PL502");
}

/// YT-34, YR-71.
#[tokio::test]
async fn no_hole_leads_out_of_the_allowed_places() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("greet.yaml"), GREET).unwrap();
    let folder = folder(&[("greet.yaml", GREET)]);
    let code = async |head: &str, steps: &str| {
        let document = format!("workflow:\n  name: w\n{head}  steps:\n{steps}");
        let done = placed(&document, folder.path()).run().await;
        message(&done);
        done.last().unwrap().result["error"]["cause"]["code"].as_str().unwrap().to_owned()
    };
    let step =
        "  - {name: n, type: pipeline, pipeline_file: '{{ inputs.file }}', inputs: {who: Ada}}\n";
    for away in
        [outside.path().join("greet.yaml").display().to_string(), "../greet.yaml".to_owned()]
    {
        let head = format!("  inputs: {{file: {{type: string, default: '{away}'}}}}\n");
        assert_eq!(code(&head, step).await, "PL609", "{away}");
    }
    // What a step made chooses no directory, not even an allowed one.
    let made = "  - {name: a, type: echo, value: lib/greet.yaml}\n  \
                - {name: n, type: pipeline, pipeline_file: '{{ steps.a }}', inputs: {who: Ada}}\n";
    assert_eq!(code("", made).await, "PL609");
}

#[tokio::test]
async fn a_loaded_child_has_files_and_children_of_its_own_and_sees_what_it_is_told_to() {
    let outer = "workflow:
  name: outer
  extends: base.yaml
  pipelines: {inner: inner.yaml}
  steps:
    - {name: a, type: pipeline, pipeline_ref: inner, inputs: {x: '{{ prefix }} {{ inputs.x }}'}}
    - name: b
      type: pipeline
      pipeline_file: '{{ workflow.metadata.next }}.yaml'
      inputs: {x: 2}
";
    let base = "workflow:\n  name: base\n  metadata: {next: inner}\n";
    let inner = "workflow:\n  name: inner\n  steps:\n    - {name: x, type: echo, value: '{{ inputs.x }}'}\n";
    // Its files lie beside it.
    let ask = "    - {name: ask, type: claude, prompt: [{type: file, path: note.txt}]}\n";
    let outer = format!("{outer}{ask}");
    let folder = folder(&[
        ("outer.yaml", &outer),
        ("base.yaml", base),
        ("inner.yaml", inner),
        ("note.txt", "a note"),
    ]);
    let steps = "- {name: set, type: set_variable, variables: {prefix: see}}
- name: n
  type: pipeline
  pipeline_file: 'lib/{{ \"outer\" }}.yaml'
  inputs: {x: 1}
  config: {inherit_context: true}";
    let done = in_folder(steps, folder.path()).run().await;
    assert_eq!(
        keys(&done),
        ["set", "#n", "#n/a", "n/a/x", "n/a", "#n/b", "n/b/x", "n/b", "n/ask", "n"],
        "{:#?}",
        done.last()
    );
    let result = &done.last().unwrap().result["result"];
    assert_eq!((&result["a"], &result["b"]), (&json!({ "x": "see 1" }), &json!({ "x": 2 })));
    assert_eq!(result["ask"], "a note");
}

/// A child that counts down by itself.
fn counting(config: &str) -> String {
    format!(
        "workflow:
  name: count
  inputs: {{n: {{type: integer}}}}
  steps:
    - {{name: here, type: echo, value: '{{{{ inputs.n }}}}'}}
    - name: more
      type: pipeline
      condition: 'inputs.n > 0'
      pipeline_file: 'lib/{{{{ \"count\" }}}}.yaml'
      inputs: {{n: '{{{{ inputs.n - 1 }}}}'}}
      config: {{{config}}}
"
    )
}

fn counted(n: u32) -> String {
    format!(
        "- name: n
  type: pipeline
  pipeline_file: 'lib/{{{{ \"count\" }}}}.yaml'
  inputs: {{n: {n}}}"
    )
}

#[tokio::test]
async fn a_file_that_names_itself_is_gone_through_as_deep_as_it_may() {
    let allowed = counting("allow_recursion: true, max_depth: 4");
    let folder = folder(&[("count.yaml", &allowed)]);
    let done = in_folder(&counted(2), folder.path()).run().await;
    assert_eq!(
        keys(&done),
        [
            "#n",
            "n/here",
            "#n/more",
            "n/more/here",
            "#n/more/more",
            "n/more/more/here",
            "#n/more/more/more",
            "n/more/more/more",
            "n/more/more",
            "n/more",
            "n",
        ]
    );
    let inner = &done.last().unwrap().result["result"]["more"]["more"];
    assert_eq!(inner["here"], 0, "{done:#?}");
    let done = in_folder(&counted(9), folder.path()).run().await;
    let text = message(&done);
    let limit = "Error: Maximum nesting depth (4) exceeded: current depth is 5\n\
                 Execution Chain: count → count → count → count → count → parent";
    assert!(text.contains(limit), "{text}");
}

/// YM-23, YS-100.
#[tokio::test]
async fn a_loaded_child_is_none_of_those_around_it_unless_that_is_permitted() {
    let folder = folder(&[("count.yaml", &counting(""))]);
    let text = |done: &[DoneJob]| message(done).to_owned();
    let done = in_folder(&counted(2), folder.path()).run().await;
    let circle = "Circular dependency detected: count → count (`allow_recursion: true`";
    assert!(text(&done).contains(circle), "{}", text(&done));
    assert_eq!(keys(&done).last(), Some(&"n"));
    // The run itself is one of them.
    let whole = folder.path().join("lib/count.yaml");
    let done = placed(
        &fs::read_to_string(whole).unwrap().replace("type: integer", "default: 2"),
        folder.path(),
    );
    fs::write(
        folder.path().join("lib/count.yaml"),
        counting("").replace("type: integer", "default: 2"),
    )
    .unwrap();
    let done = done.run().await;
    assert_eq!(keys(&done), ["here", "#more", "more"]);
    assert!(text(&done).contains(circle), "{}", text(&done));
}

fn registered(config: &str) -> MemorySources {
    let text = format!(
        "workflow:
  name: even
  inputs: {{n: {{type: integer}}}}
  pipelines: {{odd: odd.yaml}}
  steps:
    - {{name: here, type: echo, value: 'even {{{{ inputs.n }}}}'}}
    - name: less
      type: pipeline
      condition: 'inputs.n > 0'
      pipeline_ref: odd
      inputs: {{n: '{{{{ inputs.n - 1 }}}}'}}
      config: {{{config}}}
"
    );
    let odd = text.replace("even", "odd").replace("odd: odd.yaml", "even: flow.yaml");
    let odd = odd.replace("pipeline_ref: odd", "pipeline_ref: even");
    // The recursion begins in a handler, and goes on in one.
    let odd = odd.replace(
        "    - name: less",
        "    - name: bad\n      type: echo\n      fail: true\n      on_error:\n        - {name: h, type: echo, value: 1}\n    - name: less",
    );
    MemorySources::new().file("flow.yaml", text).file("odd.yaml", odd)
}

#[tokio::test]
async fn pipelines_that_name_each_other_are_gone_through_as_deep_as_they_may() {
    let sources = registered("allow_recursion: true, max_depth: 6");
    let world = loaded(&sources, json!({ "n": 4 }));
    let done = world.run().await;
    let heres: Vec<&Value> = done
        .iter()
        .filter(|job| job.key.as_str().ends_with("here"))
        .map(|job| &job.result)
        .collect();
    assert_eq!(heres, ["even 4", "odd 3", "even 2", "odd 1", "even 0"]);
    assert_eq!(done.last().unwrap().state, JobState::Succeeded);
    let handled = done.iter().filter(|job| job.key.as_str().ends_with("bad[error]/h")).count();
    assert_eq!(handled, 2);
    let done = loaded(&sources, json!({ "n": 40 })).run().await;
    let text = message(&done);
    assert!(text.contains("Maximum nesting depth (6) exceeded: current depth is 7"), "{text}");
}

#[test]
fn a_recursion_says_how_deep_it_may_be_and_is_permitted_where_it_closes() {
    let faults = |config: &str| -> Vec<String> {
        let sources = registered(config);
        let checked = Pipeline::load(&sources.root("flow.yaml").unwrap(), &sources);
        let line = |found: &perennial_pipeline::Diagnostic| {
            format!("{} {}: {}", found.code, found.file, found.message)
        };
        checked.diagnostics.iter().map(line).collect()
    };
    assert_eq!(
        faults(""),
        ["PL504 odd.yaml: Circular dependency detected: flow.yaml → odd.yaml → flow.yaml"]
    );
    let found = faults("allow_recursion: true");
    assert!(!found.is_empty());
    assert!(
        found.iter().all(|one| one.ends_with("`allow_recursion: true` needs a `max_depth`")
            && one.starts_with("PL507")),
        "{found:#?}"
    );
    assert_eq!(faults("allow_recursion: true, max_depth: 3"), [""; 0]);
    let inline = "workflow:\n  name: w\n  steps:\n  - name: n\n    type: pipeline\n    config: \
                  {allow_recursion: true}\n    pipeline: {name: c, steps: [{name: a, type: echo}]}\n";
    let found = Pipeline::check("flow.yaml", inline.as_bytes()).diagnostics;
    assert_eq!((found.len(), found[0].code.to_string().as_str()), (1, "PL220"), "{found:?}");
}

/// What was completed in earlier rounds of a loaded child is not done again.
#[tokio::test]
async fn further_rounds_go_through_the_child_that_was_loaded() {
    let child = "workflow:
  name: child
  steps:
    - {name: a, type: echo, value: 1}
    - {name: bad, type: echo, fail: true}
";
    let folder = folder(&[("child.yaml", child)]);
    let steps = "- name: n
  type: pipeline
  pipeline_file: 'lib/{{ \"child\" }}.yaml'
  config: {max_retries: 1, retry_on: [permanent]}";
    let world = in_folder(steps, folder.path());
    let mut done = Vec::new();
    for _ in 0..3 {
        world.step(&mut done).await.unwrap();
    }
    fs::remove_file(folder.path().join("lib/child.yaml")).unwrap();
    while world.step(&mut done).await.is_some_and(|state| state != JobState::Failed) {}
    assert_eq!(keys(&done), ["#n", "n/a", "n/bad", "#n#2", "n#2/bad", "n"]);
}

/// A round of what is around it opens the child anew: what was completed in another child is no result of this one.
#[tokio::test]
async fn what_another_child_completed_is_done_again() {
    let child = |value: u32| {
        format!(
            "workflow:
  name: child
  steps:
    - {{name: a, type: echo, value: {value}}}
    - {{name: bad, type: echo, fail: true}}
"
        )
    };
    let steps = "- name: n
  type: pipeline
  config: {max_retries: 1, retry_on: [permanent]}
  pipeline:
    name: outer
    steps:
      - {name: m, type: pipeline, pipeline_file: 'lib/{{ \"child\" }}.yaml'}";
    for (second, expected) in [(child(1), false), (child(2), true)] {
        let folder = folder(&[("child.yaml", &child(1))]);
        let world = in_folder(steps, folder.path());
        let mut done = Vec::new();
        for _ in 0..5 {
            world.step(&mut done).await.unwrap();
        }
        assert_eq!(keys(&done), ["#n", "#n/m", "n/m/a", "n/m/bad", "n/m"]);
        fs::write(folder.path().join("lib/child.yaml"), second).unwrap();
        while world.step(&mut done).await.is_some_and(|state| state != JobState::Failed) {}
        let again = done.iter().any(|job| job.key.as_str() == "n#2/m/a");
        assert_eq!(again, expected, "{:?}", keys(&done));
        assert_eq!(keys(&done).last(), Some(&"n"));
    }
}

#[tokio::test]
async fn a_record_that_is_damaged_fails_its_step_and_says_so() {
    let folder = folder(&[("greet.yaml", GREET)]);
    let world = in_folder(BY_KIND, folder.path());
    let mut done = Vec::new();
    for _ in 0..2 {
        world.step(&mut done).await.unwrap();
    }
    let text = done[1].result["child"]["definition"].as_str().unwrap().replace("hello", "hallo");
    done[1].result["child"]["definition"] = text.into();
    world.step(&mut done).await.unwrap();
    let why = "what was recorded when it was opened cannot be read: the definition is not in canonical form";
    assert!(message(&done).contains(why), "{}", message(&done));
}

/// PL811, of what no definition has.
#[tokio::test]
async fn file_operations_of_loaded_children_count() {
    let child = "workflow:
  name: writes
  steps:
    - {name: one, type: file_ops, operation: write, path: a.txt, content: a}
    - {name: two, type: file_ops, operation: write, path: b.txt, content: b}
";
    let folder = folder(&[("child.yaml", child)]);
    let steps = "  - {name: n, type: pipeline, pipeline_file: 'lib/{{ \"child\" }}.yaml'}\n";
    for (most, code) in [(2, Value::Null), (1, json!("PL811"))] {
        let head = format!("workflow:\n  name: w\n  safety: {{max_file_operations: {most}}}\n");
        let done = placed(&format!("{head}  steps:\n{steps}"), folder.path()).run().await;
        let last = done.last().unwrap();
        assert_eq!(last.result["error"]["cause"]["code"], code, "{done:#?}");
    }
}

/// What is walked through level by level stands in bounded memory, whatever a document asks for.
#[tokio::test]
async fn a_recursion_has_an_end_whatever_it_is_permitted() {
    let text = "workflow:
  name: deep
  pipelines: {deep: flow.yaml}
  steps:
    - name: a_step_with_a_long_name
      type: pipeline
      pipeline_ref: deep
      config: {allow_recursion: true, max_depth: 100000, max_total_steps: 100000}
";
    let done = loaded(&MemorySources::new().file("flow.yaml", text), json!({})).run().await;
    let text = message(&done);
    assert!(text.contains("Maximum nesting depth (32) exceeded: current depth is 33"), "{text}");
    assert_eq!(done.len(), 66);
    // A store can read what it has written.
    for job in &done {
        let text = serde_json::to_string(&job.result).unwrap();
        serde_json::from_str::<Value>(&text).unwrap();
    }
}

/// A recursion is to what stands around it in the definition, whoever is around it while the run is under way.
#[tokio::test]
async fn a_recursion_leads_to_what_it_stands_in_as_it_is_written() {
    let ways = |name: &str, ways: &[(&str, &str)]| {
        let mut text = format!(
            "workflow:\n  name: {name}\n  inputs: {{n: {{type: integer}}}}\n  pipelines: {{a: a.yaml, b: \
             b.yaml, c: c.yaml}}\n  steps:\n    - {{name: here, type: echo, value: {name}}}\n"
        );
        for (to, condition) in ways {
            text.push_str(&format!(
                "    - name: to_{to}\n      type: pipeline\n      condition: '{condition}'\n      \
                 pipeline_ref: {to}\n      inputs: {{n: '{{{{ inputs.n - 1 }}}}'}}\n      config: \
                 {{allow_recursion: true, max_depth: 9}}\n"
            ));
        }
        text
    };
    let sources = MemorySources::new()
        .file("flow.yaml", ways("root", &[("a", "true")]))
        .file("a.yaml", ways("a", &[("b", "true")]))
        .file("b.yaml", ways("b", &[("c", "inputs.n == 5"), ("a", "inputs.n == 3")]))
        .file("c.yaml", ways("c", &[("b", "true")]));
    let done = loaded(&sources, json!({ "n": 7 })).run().await;
    let heres = done.iter().filter(|job| job.key.as_str().ends_with("here"));
    let heres: Vec<&Value> = heres.map(|job| &job.result).collect();
    assert_eq!(heres, ["root", "a", "b", "c", "b", "a", "b"], "{:#?}", done.last());
}
