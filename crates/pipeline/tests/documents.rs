//! Faulty documents: every fault is found, at its exact place.

use perennial_pipeline::{Checked, Diagnostic, Pipeline, Severity, render, report_json};

#[path = "documents/corpus.rs"]
mod corpus;

fn check(document: &str) -> Checked {
    Pipeline::check("flow.yaml", document.as_bytes())
}

fn place(shown: &Diagnostic) -> String {
    let (line, column) = shown.span.map_or((0, 0), |span| (span.start.line, span.start.column));
    format!("{} {line}:{column}", shown.code)
}

#[test]
fn faulty_documents_give_their_diagnostics_at_their_places() {
    let rows = corpus::faulty();
    let mut wrong = Vec::new();
    for row in &rows {
        let (name, expected) = (&row.name, &row.expected);
        let checked = check(&row.document);
        let found: Vec<String> = checked.diagnostics.iter().map(place).collect();
        if found != *expected {
            let shown: String = checked.diagnostics.iter().map(|d| render(d, false)).collect();
            wrong.push(format!("{name}: expected {expected:?}, found {found:?}\n{shown}"));
        }
        for (told, words) in checked.diagnostics.iter().zip(&row.words) {
            if !told.message.contains(words) {
                wrong.push(format!("{name}: {words:?} is not in {:?}", told.message));
            }
        }
        let errors = checked.count(Severity::Error);
        assert_eq!(errors == 0, checked.pipeline.is_some(), "{name}");
    }
    assert!(rows.len() >= 40, "{} rows", rows.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn sound_documents_load() {
    for (name, document) in corpus::sound() {
        let checked = check(&document);
        let shown: String = checked.diagnostics.iter().map(|d| render(d, false)).collect();
        assert!(checked.pipeline.is_some(), "{name}:\n{shown}");
    }
}

#[test]
fn c_1_a_document_has_the_name_and_the_steps_of_its_file() {
    let rows = corpus::sound();
    let (_, document) = rows.iter().find(|(name, _)| name.starts_with("C-1 ")).unwrap();
    let pipeline = check(document).pipeline.unwrap();
    assert_eq!(pipeline.name(), "one");
    assert_eq!(pipeline.steps().collect::<Vec<_>>(), ["only"]);
}

#[test]
fn c_23_what_a_step_says_wins_over_the_defaults() {
    let rows = corpus::sound();
    let (_, document) = rows.iter().find(|(name, _)| name.starts_with("C-23 ")).unwrap();
    let resolved = check(document).pipeline.unwrap().resolved();
    let options = &resolved["definition"]["steps"][0]["kind"]["chat"]["options"];
    assert_eq!(options["temperature"], 0.9);
    assert_eq!((&options["model"], &options["top_k"]), (&"haiku".into(), &3.into()));
}

const TWELVE: &str = "\
workflow:
  name: review
  description: twelve mistakes
  steps:
    - name: fetch
      type: ecko
    - name: analyze
      type: claude
      promt: []
      prompt:
        - type: static
          content: \"Read {{ steps.fetsh.text }}\"
        - type: static
    - name: analyze
      type: set_variable
      variables: {a: \"{{ uper(run_id) }}\"}
      scope: globl
    - name: report
      type: gemini
      timeout_seconds: 0
      continue_on_error: maybe
      condition: \"later.ok == true\"
      prompt:
        - type: previous_response
          step: report
    - name: later
      type: echo
      delay_ms: -1
";

#[test]
fn twelve_mistakes_give_twelve_diagnostics() {
    let checked = check(TWELVE);
    let found: Vec<String> = checked.diagnostics.iter().map(place).collect();
    assert_eq!(
        found,
        [
            "PL208 6:13",
            "PL202 9:7",
            "PL305 12:35",
            "PL215 13:17",
            "PL301 14:13",
            "PL403 16:26",
            "PL204 17:14",
            "PL205 20:24",
            "PL203 21:26",
            "PL306 22:19",
            "PL306 25:17",
            "PL205 28:17",
        ]
    );
}

#[test]
fn the_text_form_is_that_of_the_language() {
    let document = "\
workflow:
  name: review
  steps:
    - name: analyze
      type: claude
      promt: x
      prompt: [{type: static, content: hi}]
";
    let checked = check(document);
    assert_eq!(checked.diagnostics.len(), 1);
    assert_eq!(
        render(&checked.diagnostics[0], false),
        "\
error[PL202]: unknown key `promt` in step `analyze` (type `claude`)
 --> flow.yaml:6:7
  |
6 |       promt: x
  |       ^^^^^ not a key of this step type
  = hint: did you mean `prompt`?
"
    );
    let coloured = render(&checked.diagnostics[0], true);
    assert!(coloured.contains("\u{1b}[1;31merror[PL202]"), "{coloured}");
}

#[test]
fn a_duplicate_key_shows_both_places() {
    let checked =
        check("workflow:\n  name: x\n  steps:\n    - name: a\n      type: echo\n      name: b\n");
    assert_eq!(
        render(&checked.diagnostics[0], false),
        "\
error[PL104]: duplicate key `name`
 --> flow.yaml:6:7
  |
6 |       name: b
  |       ^^^^
  = note: first defined here
 --> flow.yaml:4:7
  |
4 |     - name: a
  |       ^^^^
"
    );
}

#[test]
fn carets_stand_under_wide_characters_and_controls_are_not_printed() {
    let checked = check("workflow: {name: 日本, \"k\\u0007\": 1, steps: [{name: a, type: echo}]}");
    let text = render(&checked.diagnostics[0], false);
    assert!(!text.contains('\u{7}'), "{text}");
    assert!(text.contains("\n  |                        ^^^^^^^^^ "), "{text}");
}

#[test]
fn the_json_form_has_places_and_counts() {
    let checked = check(
        "\u{feff}workflow:\n  name: x\n  nam: y\n  steps: [{name: a, type: echo, value: '{{ who }}'}]\n",
    );
    let json = report_json("flow.yaml", &checked.diagnostics, &checked.inputs);
    assert_eq!(
        json,
        serde_json::json!({
            "file": "flow.yaml",
            "valid": false,
            "diagnostics": [
                {
                    "code": "PL202",
                    "severity": "error",
                    "message": "unknown key `nam` in `workflow`",
                    "hint": "did you mean `name`?",
                    "file": "flow.yaml",
                    "pointer": "/workflow/nam",
                    "span": {
                        "start": {"line": 3, "column": 3, "offset": 25},
                        "end": {"line": 3, "column": 6, "offset": 28},
                    },
                    "excerpt": "  nam: y",
                    "related": [],
                },
                {
                    "code": "PL311",
                    "severity": "note",
                    "message": "`who` is bound nowhere and becomes a required input",
                    "hint": null,
                    "file": "flow.yaml",
                    "pointer": "/workflow/steps/0/value",
                    "span": {
                        "start": {"line": 4, "column": 44, "offset": 75},
                        "end": {"line": 4, "column": 47, "offset": 78},
                    },
                    "excerpt": "  steps: [{name: a, type: echo, value: '{{ who }}'}]",
                    "related": [],
                },
            ],
            "inputs": [{
                "name": "who", "type": "any", "description": null, "required": true,
                "declared": false, "default": null,
            }],
            "summary": {"errors": 1, "warnings": 0, "notes": 1},
        })
    );
}

#[test]
fn more_than_two_hundred_diagnostics_are_counted() {
    let keys: String = (0..250).map(|key| format!("  k{key}q: 1\n")).collect();
    let checked =
        check(&format!("workflow:\n  name: x\n  steps: [{{name: a, type: echo}}]\n{keys}"));
    assert_eq!(checked.diagnostics.len(), 201);
    let last = checked.diagnostics.last().unwrap();
    assert_eq!(last.message, "50 more diagnostics in this file are not shown");
    assert!(checked.pipeline.is_none());
}

#[test]
fn bytes_that_are_not_utf_8_are_named_by_their_offset() {
    let checked = Pipeline::check("flow.yaml", b"workflow:\n  name: \xff\n");
    assert_eq!(place(&checked.diagnostics[0]), "PL102 2:9");
    assert!(checked.diagnostics[0].message.contains("byte 18"));
}

#[test]
fn documents_beyond_a_limit_are_refused() {
    let open = |count: usize, bracket: &str| format!("workflow: {}", bracket.repeat(count));
    let bomb: String = (0..30).fold("a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, level| {
        let alias = format!("*a{level},").repeat(9);
        format!("{text}a{}: &a{} [{alias}]\n", level + 1, level + 1)
    });
    let deep: String = (0..5_000).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
    let cases = [
        ("list depth", open(65, "[")),
        ("a million lists", open(1_000_000, "[")),
        ("a million maps", open(1_000_000, "{a: ")),
        ("tagged lists", open(500_000, "!t [")),
        ("block lists", format!("workflow:\n  {}", "- ".repeat(500_000))),
        ("questions", format!("workflow:\n  {}", "? ".repeat(500_000))),
        ("block maps", deep[..3_000_000].to_owned()),
        ("alias bomb", bomb),
        ("many nodes", format!("workflow: [{}]", "1,".repeat(200_000))),
        ("many lines", "- a\n".repeat(300_000)),
        ("size", "#".repeat(5 * 1024 * 1024)),
    ];
    for (name, document) in cases {
        let checked = check(&document);
        assert_eq!(checked.diagnostics.len(), 1, "{name}");
        let code = checked.diagnostics[0].code.to_string();
        assert!(code == "PL107" || (code == "PL102" && name == "questions"), "{name}: {code}");
    }
}

#[test]
fn big_harmless_documents_are_read() {
    let long = "x é ".repeat(500_000);
    let steps: String = (0..5_000)
        .map(|n| format!("    - {{name: s{n}, type: echo, value: '{{{{ run_id }}}}'}}\n"))
        .collect();
    for (name, document) in [
        (
            "one long text",
            format!(
                "workflow:\n  name: x\n  description: '{long}'\n  steps: [{{name: a, type: echo}}]\n"
            ),
        ),
        ("many steps", format!("workflow:\n  name: x\n  steps:\n{steps}")),
    ] {
        let checked = check(&document);
        assert!(checked.pipeline.is_some(), "{name}: {:?}", checked.diagnostics.first());
    }
}

#[test]
fn anchors_merge_keys_and_json_are_yaml() {
    let document = "\
workflow:
  name: x
  metadata:
    base: &base {role: muscle, timeout_seconds: 5}
    more: &more {role: brain, on_error: continue}
  steps:
    - {<<: [*base, *more], name: a, type: echo, timeout_seconds: 9}
    - <<: *base
      name: b
      type: echo
";
    let checked = check(document);
    assert!(checked.diagnostics.is_empty(), "{:?}", checked.diagnostics);
    let json = r#"{"workflow": {"name": "x", "steps": [{"name": "a", "type": "echo", "value": "\u00e9\/"}]}}"#;
    assert!(check(json).pipeline.is_some());
}

#[test]
fn sample_documents_load_or_say_precisely_why_not() {
    let Ok(folder) = std::env::var("PERENNIAL_SAMPLES") else {
        eprintln!("skipped: PERENNIAL_SAMPLES names no folder of workflow files");
        return;
    };
    let mut read = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let checked = Pipeline::check(&name, &bytes);
        for shown in &checked.diagnostics {
            eprintln!("{}", render(shown, false));
            let later = shown.hint.as_deref() == Some("not in this version");
            assert!(
                later
                    || shown.severity != Severity::Error
                    || shown.hint.is_some()
                    || name.contains("error"),
                "{shown}"
            );
        }
        read += 1;
    }
    eprintln!("{read} samples");
}

/// YF-23, YT-14: what is probably a misspelt name is a warning that says which one was meant.
#[test]
fn misspelt_names_are_warnings_with_the_right_one() {
    let rows = corpus::faulty();
    let row = rows.iter().find(|row| row.name == "names that are other names misspelt").unwrap();
    let checked = check(&row.document);
    let told: Vec<_> =
        checked.diagnostics.iter().map(|d| (d.severity, d.hint.as_deref())).collect();
    let (warning, note) = (Severity::Warning, Severity::Note);
    assert_eq!(
        told,
        [
            (warning, Some("did you mean `who`?")),
            (warning, Some("did you mean `token`?")),
            (warning, Some("did you mean `inputs`?")),
            (warning, Some("the id of the run is `run_id`")),
            (warning, Some("did you mean `token`?")),
            (warning, Some("did you mean `token`?")),
            (note, None),
            (warning, Some("`who` is an input: write `inputs.who`")),
        ]
    );
}

/// YF-23: what was probably meant is told in words that can be written.
#[test]
fn hints_say_what_to_write() {
    let rows = corpus::faulty();
    let hints = |name: &str| -> Vec<String> {
        let row = rows.iter().find(|row| row.name == name).unwrap();
        let found = check(&row.document).diagnostics;
        found.iter().map(|d| d.hint.clone().unwrap_or_default()).collect()
    };
    assert_eq!(
        hints("holes without quotes, and words of other languages"),
        ["a text with holes needs quotes: \"{{ inputs.x }}\""]
    );
    let hints = hints("templates of other languages, and a number where a map stands");
    assert!(hints[0].contains("? \"one\" :") && hints[1].contains("`${NAME}`"), "{hints:?}");
    assert_eq!(hints[2], "write `retry: {max_retries: 3}`");
    assert_eq!(hints[3], "did you mean `timeout`?");
}
