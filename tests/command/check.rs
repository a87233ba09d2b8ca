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

/// Notes that say the same are one line, unless each is asked for.
#[test]
fn notes_that_say_the_same_are_one_line() {
    let world = World::new();
    world.flow(
        "f.yaml",
        "{name: a, type: claude, prompt: one}\n{name: b, type: claude, prompt: two}\n{name: c, type: echo, value: 1}",
    );
    let folded = world.expect(0, &["check", "f.yaml"]).stdout;
    assert!(
        folded.contains("(2 times in f.yaml, lines 5, 6; --verbose shows each)\n\n"),
        "{folded}"
    );
    assert_eq!(folded.matches("note[PL211]").count(), 1, "{folded}");
    let each = world.expect(0, &["check", "f.yaml", "--verbose"]).stdout;
    assert_eq!(each.matches("note[PL211]").count(), 2, "{each}");
    let whole = world.expect(0, &["check", "f.yaml", "--json"]).stdout;
    assert_eq!(whole.matches("PL211").count(), 2, "{whole}");
}

/// What a plan and an explanation promise of attempts is what happens.
#[test]
fn deadlines_and_attempts_are_told_as_they_are() {
    let world = World::new();
    world.flow(
        "f.yaml",
        "{name: ask, type: claude, prompt: [{type: static, content: hi}]}\n\
         {name: inner, type: pipeline, pipeline: {name: i, steps: [{name: x, type: echo, value: 1}]}}",
    );
    let plan = world.expect(0, &["check", "f.yaml", "--plan"]).stdout;
    let asks = "ask  claude  up to 3 attempts, after failures that may pass; each at most ";
    assert!(plan.contains(&asks.replace("ask  ", "ask      ")), "{plan}");
    let child = "1 attempt: its child at most 5m00s, beginning and ending it 1m00s";
    assert!(plan.contains(child), "{plan}");
    let told = world.expect(0, &["explain", "f.yaml", "inner"]).stdout;
    assert!(told.contains(&format!("tries      {child}\n")), "{told}");
    let told = world.expect(0, &["explain", "f.yaml", "ask"]).stdout;
    assert!(told.contains("16m30s, all its calls and pauses together\n"), "{told}");
}

/// Replies for steps that are not there are told before anything runs.
#[test]
fn misspelt_steps_of_mocks_are_told() {
    let world = World::new();
    world.flow("f.yaml", "{name: summary, type: claude, prompt: [{type: static, content: hi}]}");
    let mocks =
        "replies: {sumary: x, translate: y, summary: z}\nrules: [{step: sumary, reply: x}]\n";
    world.write("mocks.yaml", mocks);
    let run = ["run", "f.yaml", "--provider-mode", "mock", "--mocks", "mocks.yaml"];
    let told = world.expect(0, &run).stderr;
    let reply = "warning: mocks: `sumary` is no step, and is looked for in prompts; did you mean `summary`?";
    assert!(told.contains(reply), "{told}");
    let rule = "mocks: no step is called `sumary`: its rule is not used; did you mean `summary`?";
    assert!(told.contains(rule), "{told}");
    assert_eq!(told.matches("mocks:").count(), 2, "{told}");
}

/// YR-72: an absolute path that leads out of all roots is told as one that climbs out of them.
#[test]
fn absolute_paths_outside_of_the_roots_are_warned_of() {
    let world = World::new();
    let inside = world.path("in.txt").canonicalize().unwrap_or_else(|_| world.path("in.txt"));
    let steps = format!(
        "{{name: a, type: claude, prompt: [{{type: file, path: /etc/hostname}}, {{type: file, path: {0}}}]}}\n\
         {{name: b, type: file_ops, operation: copy, source: /etc/hostname, destination: x.txt}}\n\
         {{name: c, type: file_ops, operation: read, path: {0}}}",
        inside.display()
    );
    world.flow("f.yaml", &steps);
    let told = world.expect(0, &["check", "f.yaml"]).stdout;
    assert_eq!(
        told.matches("warning[PL521]: the path `/etc/hostname` leaves").count(),
        2,
        "{told}"
    );
    assert_eq!(told.matches("PL521").count(), 2, "{told}");
    let open = "workflow:\n  safety: {allowed_paths: [/etc]}\n";
    let opened = fs::read_to_string(world.path("f.yaml")).unwrap().replace("workflow:\n", open);
    world.write("open.yaml", opened);
    assert!(!world.expect(0, &["check", "open.yaml"]).stdout.contains("PL521"));
}
