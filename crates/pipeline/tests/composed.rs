//! Documents made of several files: what is found wrong, and where (YF-16, YF-17, YF-44, YF-45).

#![expect(clippy::unwrap_used, reason = "rows of a data file")]

use perennial_pipeline::{Checked, Diagnostic, MemorySources, Pipeline, Severity, render};

/// The files, links and variables of a case, and what is expected of it.
struct Case {
    name: String,
    sources: MemorySources,
    expected: Vec<String>,
    /// The document that means the same.
    whole: Option<String>,
}

/// A case is `=== name`, files as `@ path`, links as `~ path -> target`, variables as
/// `$ NAME=value`, diagnostics as `--- PLnnn file line:column`.
fn cases(text: &str) -> Vec<Case> {
    let blocks = text.trim_start_matches("=== ").split("\n=== ");
    blocks.map(case).collect()
}

fn case(block: &str) -> Case {
    let (name, rest) = block.split_once('\n').unwrap();
    let mut case = Case {
        name: name.to_owned(),
        sources: MemorySources::new(),
        expected: Vec::new(),
        whole: None,
    };
    let mut file: Option<(String, String)> = None;
    for line in rest.lines().chain(["@ "]) {
        if let Some(expected) = line.strip_prefix("--- ") {
            case.expected.push(expected.to_owned());
        } else if let Some(link) = line.strip_prefix("~ ") {
            let (path, target) = link.split_once(" -> ").unwrap();
            case.sources = case.sources.link(path, target);
        } else if let Some(variable) = line.strip_prefix("$ ") {
            let (name, value) = variable.split_once('=').unwrap();
            case.sources = case.sources.set(name, value);
        } else if let Some(path) = line.strip_prefix("@ ") {
            match file.replace((path.to_owned(), String::new())) {
                Some((path, text)) if path == "whole" => case.whole = Some(text),
                Some((path, text)) => case.sources = case.sources.file(&path, text),
                None => (),
            }
        } else if let Some((_, text)) = &mut file {
            text.push_str(line);
            text.push('\n');
        }
    }
    case
}

fn load(sources: &MemorySources) -> Checked {
    Pipeline::load(&sources.root("flow.yaml").unwrap(), sources)
}

fn place(shown: &Diagnostic) -> String {
    let (line, column) = shown.span.map_or((0, 0), |span| (span.start.line, span.start.column));
    format!("{} {} {line}:{column}", shown.code, shown.file)
}

#[test]
fn documents_of_several_files_give_their_diagnostics_in_their_files() {
    let mut wrong = Vec::new();
    let cases = cases(include_str!("data/composed.txt"));
    assert!(cases.len() >= 20, "{} cases", cases.len());
    for case in cases {
        let checked = load(&case.sources);
        let found: Vec<String> = checked.diagnostics.iter().map(place).collect();
        if found != case.expected {
            let shown: String = checked.diagnostics.iter().map(|d| render(d, false)).collect();
            wrong.push(format!(
                "{}: expected {:?}, found {found:?}\n{shown}",
                case.name, case.expected
            ));
        }
        let errors = checked.count(Severity::Error);
        assert_eq!(errors == 0, checked.pipeline.is_some(), "{}", case.name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `flow.yaml` extends `d1.yaml`, and so on, over `steps` steps.
fn chain(steps: usize) -> MemorySources {
    let first = "workflow:\n  extends: d1.yaml\n  name: x\n";
    (1..=steps).fold(MemorySources::new().file("flow.yaml", first), |sources, depth| {
        let text = if depth == steps {
            "workflow: {steps: [{name: a, type: echo}]}\n".to_owned()
        } else {
            format!("workflow: {{extends: d{}.yaml}}\n", depth + 1)
        };
        sources.file(&format!("d{depth}.yaml"), text)
    })
}

#[test]
fn ten_documents_may_lie_under_one_and_no_more() {
    assert!(load(&chain(10)).pipeline.is_some());
    let checked = load(&chain(11));
    let found: Vec<String> = checked.diagnostics.iter().map(place).collect();
    assert_eq!(found, ["PL218 d10.yaml 1:21"]);
}

#[test]
fn a_cycle_shows_each_of_its_edges_in_its_file() {
    let sources = MemorySources::new()
        .file("flow.yaml", "workflow:\n  extends: a.yaml\n")
        .file("a.yaml", "workflow:\n  extends: b.yaml\n")
        .file("b.yaml", "workflow:\n  include: [a.yaml]\n");
    let checked = load(&sources);
    let cycle = checked.diagnostics.iter().find(|shown| shown.code.0 == 218).unwrap();
    assert!(cycle.message.ends_with("a.yaml → b.yaml → a.yaml"), "{}", cycle.message);
    assert_eq!((&*cycle.file, &*cycle.related[0].file), ("b.yaml", "a.yaml"));
    let text = render(cycle, false);
    assert!(text.contains("--> b.yaml:2:13") && text.contains("--> a.yaml:2:12"), "{text}");
}

/// Each file includes the next one many times: as many ways as 40 to the power of 9.
#[test]
fn a_bomb_of_includes_ends_at_the_limit() {
    let mut sources = MemorySources::new();
    for depth in 0..9 {
        let next = format!("d{}.yaml, ", depth + 1).repeat(40);
        let name = if depth == 0 { "flow.yaml".to_owned() } else { format!("d{depth}.yaml") };
        sources = sources.file(&name, format!("workflow: {{name: x, include: [{next}]}}\n"));
    }
    sources = sources.file("d9.yaml", "workflow: {steps: [{name: a, type: echo}]}\n");
    let codes: Vec<u16> = load(&sources).diagnostics.iter().map(|shown| shown.code.0).collect();
    assert_eq!(codes, [107]);
}

#[test]
fn a_large_file_that_is_included_often_ends_at_the_limit() {
    let large = format!("workflow: {{variables: {{l: [{}]}}}}\n", "1,".repeat(90_000));
    let names = "large.yaml, ".repeat(150);
    let sources = MemorySources::new()
        .file("flow.yaml", format!("workflow: {{name: x, include: [{names}]}}\n"))
        .file("large.yaml", large);
    assert!(load(&sources).diagnostics.iter().any(|shown| shown.code.0 == 107));
}

#[test]
fn each_file_shows_two_hundred_diagnostics_and_counts_the_rest() {
    let keys: String = (0..250).map(|key| format!("  k{key}: 1\n")).collect();
    let sources = MemorySources::new()
        .file("flow.yaml", format!("workflow:\n  extends: base.yaml\n  name: x\n{keys}"))
        .file(
            "base.yaml",
            format!("workflow:\n  steps: [{{name: a, type: ecko}}]\n{}", keys.replace('k', "b")),
        );
    let checked = load(&sources);
    for file in ["flow.yaml", "base.yaml"] {
        let of_file: Vec<_> =
            checked.diagnostics.iter().filter(|shown| &*shown.file == file).collect();
        assert_eq!(of_file.len(), 201, "{file}");
        assert!(of_file[200].message.contains("more diagnostics in this file"), "{file}");
    }
}

#[test]
fn a_document_that_is_given_as_text_names_no_other() {
    let checked = Pipeline::check("flow.yaml", b"workflow:\n  extends: base.yaml\n  name: x\n");
    let [refused] = checked.diagnostics.as_slice() else { panic!("one diagnostic") };
    assert_eq!(refused.code.0, 218);
    assert!(refused.message.contains("no other file is read"), "{}", refused.message);
}

#[test]
fn no_diagnostic_shows_what_looks_like_a_secret() {
    let key = "sk-0123456789abcdef0123";
    let document =
        format!("workflow:\n  name: x\n  nam: {key}\n  steps: [{{name: a, type: echo}}]\n");
    let checked = Pipeline::check("flow.yaml", document.as_bytes());
    assert_eq!(checked.diagnostics.len(), 2);
    for shown in &checked.diagnostics {
        let text = render(shown, false);
        assert!(!text.contains(key) && text.contains("nam: ****"), "{text}");
    }
}

/// Values of a document, and where each of them stands.
mod split {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    /// A whole workflow.
    pub(super) fn whole() -> impl Strategy<Value = Value> {
        let word = "[a-d]{1,2}";
        let variables = proptest::collection::btree_map(word, scalar(), 0..5);
        let nested = proptest::collection::btree_map(
            word,
            proptest::collection::btree_map(word, scalar(), 0..5),
            0..4,
        );
        let steps = proptest::collection::vec(scalar(), 1..4);
        (variables, nested, steps, any::<bool>()).prop_map(|(variables, metadata, steps, go_on)| {
            let step = |(place, value): (usize, Value)| {
                json!({"name": format!("s{place}"), "type": "echo", "value": value})
            };
            json!({
                "name": "whole",
                "description": "all of it",
                "metadata": metadata,
                "variables": variables,
                "continue_on_error": go_on,
                "steps": steps.into_iter().enumerate().map(step).collect::<Vec<_>>(),
            })
        })
    }

    /// `over` on top of `base`.
    fn lay(base: &mut Map<String, Value>, over: Map<String, Value>) {
        for (key, value) in over {
            match (base.get_mut(&key), value) {
                (Some(Value::Object(base)), Value::Object(over)) => lay(base, over),
                (_, value) => drop(base.insert(key, value)),
            }
        }
    }

    fn scalar() -> impl Strategy<Value = Value> {
        prop_oneof![any::<i32>().prop_map(Value::from), "[a-z ]{0,6}".prop_map(Value::from)]
    }

    /// Layers, lowest first, that give `whole` when each is merged over those before it: a key is
    /// cut in two at random, stands in one layer, or also in a lower one with a value of no use.
    /// The order of keys counts, so every layer begins where the one below it ends.
    pub(super) fn layers(
        whole: &Map<String, Value>,
        cuts: &mut dyn FnMut(usize) -> usize,
    ) -> Vec<Map<String, Value>> {
        let mut layers = vec![Map::new(); 4];
        let mut lowest = 0;
        for (key, value) in whole {
            lowest = lowest.max(cuts(4));
            let inner = value.as_object().filter(|inner| !inner.is_empty() && cuts(2) == 0);
            match inner {
                Some(inner) => {
                    let mut first = None;
                    for (place, part) in self::layers(inner, cuts).into_iter().enumerate() {
                        if part.is_empty() {
                            continue;
                        }
                        let place = place.max(lowest);
                        first = first.or(Some(place));
                        let at = layers[place].entry(key.clone()).or_insert_with(|| json!({}));
                        lay(at.as_object_mut().unwrap(), part);
                    }
                    // Where the key stands first is its place among the others.
                    lowest = first.unwrap_or(lowest);
                }
                None => {
                    let top = lowest + cuts(4 - lowest);
                    if top > lowest {
                        // It is replaced as a whole: never by a map, into which it would be merged.
                        layers[lowest].insert(key.clone(), json!(["of no use"]));
                    }
                    layers[top].insert(key.clone(), value.clone());
                }
            }
        }
        layers
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig {
        cases: 200, failure_persistence: None, ..proptest::prelude::ProptestConfig::default()
    })]

    /// YR-2, YF-44: what a definition is does not depend on how it is cut into files.
    #[test]
    fn yf_44_a_document_in_pieces_is_the_same_definition(
        whole in split::whole(),
        cuts in proptest::collection::vec(proptest::prelude::any::<u8>(), 64)
    ) {
        let mut at = 0;
        let mut next = |below: usize| { at += 1; usize::from(cuts[at % cuts.len()]) % below };
        let mut layers = split::layers(whole.as_object().unwrap(), &mut next);
        let document = |workflow: &serde_json::Map<String, serde_json::Value>| {
            serde_json::json!({ "workflow": workflow }).to_string()
        };
        let mut top = layers.pop().unwrap();
        top.insert("extends".into(), "base.yaml".into());
        top.insert("include".into(), serde_json::json!(["one.yaml", "two.yaml"]));
        let sources = MemorySources::new()
            .file("flow.yaml", document(&top))
            .file("base.yaml", document(&layers[0]))
            .file("one.yaml", document(&layers[1]))
            .file("two.yaml", document(&layers[2]));
        let alone = MemorySources::new().file("flow.yaml", document(whole.as_object().unwrap()));
        let [cut, uncut] = [&sources, &alone].map(|sources| {
            let checked = load(sources);
            match checked.pipeline {
                Some(pipeline) => pipeline.definition().digest,
                None => panic!("{}\n{sources:?}", checked.diagnostics[0]),
            }
        });
        proptest::prop_assert_eq!(cut, uncut);
    }
}

/// What a real folder can hold in place of a document.
#[cfg(unix)]
#[test]
fn what_is_no_document_on_disk_is_refused_where_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("folder.yaml")).unwrap();
    std::fs::write(path("latin.yaml"), b"workflow:\n  author: \xe9\n").unwrap();
    std::os::unix::fs::symlink("flow.yaml", path("loop.yaml")).unwrap();
    std::os::unix::fs::symlink("nowhere", path("dangling.yaml")).unwrap();
    let names = ["folder.yaml", "latin.yaml", "loop.yaml", "dangling.yaml", "gone/../x.yaml"];
    let listed: String = names.iter().map(|name| format!("    - {name}\n")).collect();
    let text =
        format!("workflow:\n  name: x\n  steps: [{{name: a, type: echo}}]\n  include:\n{listed}");
    std::fs::write(path("flow.yaml"), &text).unwrap();

    let sources = perennial_tools::SourceFiles::new(folder.path());
    let found = sources.named(&path("flow.yaml")).unwrap();
    let file = perennial_pipeline::SourceFile {
        identity: found.canonical.display().to_string(),
        ..perennial_pipeline::SourceFile::new(found.path.display().to_string(), text)
    };
    let checked = Pipeline::load(&file, &sources);
    let lines = |name: &str| -> Vec<(u16, usize)> {
        let of_file = checked.diagnostics.iter().filter(|shown| shown.file.ends_with(name));
        of_file.map(|shown| (shown.code.0, shown.span.unwrap().start.line)).collect()
    };
    assert_eq!(lines("flow.yaml"), [(218, 5), (218, 6), (218, 7), (218, 8), (218, 9)]);
    assert_eq!(lines("latin.yaml"), [(102, 2)]);
}
