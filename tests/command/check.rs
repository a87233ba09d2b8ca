//! Everything that is wrong with a file, at once, each at its place.

use std::fs;

use serde_json::json;

use crate::world::{World, json_lines, repository};

/// Code, line, column, and the text that stands there.
const FAULTS: [(&str, usize, usize, &str); 12] = [
    ("PL202", 4, 3, "stepz"),
    ("PL204", 6, 11, "strin"),
    ("PL405", 10, 33, "= 1"),
    ("PL301", 11, 13, "one"),
    ("PL208", 12, 13, "cluade"),
    ("PL303", 13, 13, "loop"),
    ("PL205", 15, 24, "0"),
    ("PL213", 19, 11, "content"),
    ("PL214", 20, 17, "statik"),
    ("PL215", 22, 17, "static"),
    ("PL305", 24, 17, "nine"),
    ("PL403", 27, 20, "nope"),
];

fn faulty() -> (World, String) {
    let world = World::new();
    let text = fs::read_to_string(repository().join("tests/data/twelve_faults.yaml")).unwrap();
    world.write("faulty.yaml", &text);
    (world, text)
}

#[test]
fn twelve_mistakes_are_twelve_diagnostics_at_their_places() {
    let (world, text) = faulty();
    let output = world.expect(3, &["check", "faulty.yaml", "--json"]);
    let reports = json_lines(&output.stdout);
    let report = &reports[0];
    assert_eq!((reports.len(), &report["valid"]), (1, &json!(false)));
    assert_eq!(report["summary"], json!({"errors": 12, "warnings": 0, "notes": 0}));
    let found: Vec<(String, usize, usize)> = report["diagnostics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|shown| {
            let place = |name: &str| shown["span"]["start"][name].as_u64().unwrap() as usize;
            (shown["code"].as_str().unwrap().to_owned(), place("line"), place("column"))
        })
        .collect();
    let expected: Vec<(String, usize, usize)> =
        FAULTS.iter().map(|(code, line, column, _)| ((*code).to_owned(), *line, *column)).collect();
    assert_eq!(found, expected);
    // The places are those a person sees: lines and characters, counted from 1.
    for (code, line, column, words) in FAULTS {
        let rest: String = text.lines().nth(line - 1).unwrap().chars().skip(column - 1).collect();
        assert!(rest.starts_with(words), "{code}: {rest}");
    }
    assert_eq!(world.entries().len(), 1);
}

#[test]
fn people_see_the_place_the_excerpt_and_a_hint() {
    let (world, _) = faulty();
    let output = world.expect(3, &["check", "faulty.yaml"]);
    let first = "\
error[PL202]: unknown key `stepz` in `workflow`
 --> faulty.yaml:4:3
  |
4 |   stepz: 1
  |   ^^^^^ not a key of this place
  = hint: did you mean `steps`?

";
    assert!(output.stdout.starts_with(first), "{}", output.stdout);
    assert_eq!(output.stdout.matches("error[PL").count(), 12);
    assert!(output.stdout.ends_with("faulty.yaml: invalid (12 errors, 0 warnings, 0 notes)\n"));
    assert_eq!(output.stderr, "");
}

#[test]
fn a_faulty_file_is_not_run_and_leaves_nothing_behind() {
    let (world, _) = faulty();
    let output = world.expect(3, &["run", "faulty.yaml", "--provider-mode", "mock", "who=me"]);
    assert_eq!(output.stdout, "");
    for (code, line, column, _) in FAULTS {
        assert!(output.stderr.contains(&format!("error[{code}]: ")), "{code}: {}", output.stderr);
        let place = format!("--> faulty.yaml:{line}:{column}\n");
        assert!(output.stderr.contains(&place), "{place}: {}", output.stderr);
    }
    assert!(output.stderr.ends_with("error: faulty.yaml is not valid; nothing was run\n"));
    assert_eq!(world.entries().len(), 1, "{:?}", world.entries());
}

#[test]
fn several_files_are_all_checked_and_the_worst_decides() {
    let (world, _) = faulty();
    world.flow("good.yaml", "{name: a, type: echo, value: 1}");
    world.expect(0, &["check", "good.yaml"]);
    let args = ["check", "gone.yaml", "good.yaml", "faulty.yaml"];
    let text = world.expect(3, &args).stdout;
    assert!(text.starts_with("error[PL101]: Failed to read file: gone.yaml: "), "{text}");
    assert!(text.contains("good.yaml: valid (0 errors, 0 warnings, 0 notes)\n"), "{text}");
    let reports = json_lines(&world.expect(3, &[&args[..], &["--json"]].concat()).stdout);
    let keys = |value: &serde_json::Value| -> Vec<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(reports.len(), 3);
    assert_eq!(keys(&reports[0]), keys(&reports[2]), "one shape for every report");
    let diagnostic = |place: usize| keys(&reports[place]["diagnostics"][0]);
    assert_eq!(diagnostic(0), diagnostic(2), "one shape for every diagnostic");
}
