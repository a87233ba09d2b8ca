//! Checks properties of the code itself: the floor plan is a test, not a drawing. Reads files only.

#![expect(clippy::unwrap_used, reason = "helpers of a test")]

#[path = "tidy/conformance.rs"]
mod conformance;
#[path = "tidy/promises.rs"]
mod promises;
#[path = "tidy/protection.rs"]
mod protection;
#[path = "tidy/settings.rs"]
mod settings;
#[path = "tidy/stores.rs"]
mod stores;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// What a crate may depend on, of ours.
enum Floor {
    /// These and no others.
    On(&'static [&'static str]),
    /// Beside the house: anything but these.
    Beside(&'static [&'static str]),
}

use Floor::{Beside, On};

/// Each directory of `crates/`, ground first. Dev-dependencies are not bound by the plan.
const FLOOR_PLAN: &[(&str, Floor)] = &[
    ("core", On(&[])),
    ("supervision", On(&["core"])),
    ("store", On(&["core"])),
    ("inspect", On(&["core"])),
    ("tools", On(&["core", "supervision"])),
    ("engine", On(&["core", "supervision", "store", "tools"])),
    ("pipeline", On(&["core", "engine", "tools"])),
    ("perennial", On(&["core", "supervision", "store", "inspect", "tools", "engine", "pipeline"])),
    ("testkit", Beside(&["cli"])),
    ("cli", On(&["perennial"])),
];

/// Public in modules of the facade, and not re-exported: they are seen as parts of errors alone.
const UNSEEN: &[&str] = &["InvalidStoreUrl", "Unavailable", "UnknownMode"];

/// Names that say nothing about what is in a room.
const NO_NOUNS: &[&str] = &["utils", "util", "helpers", "helper", "common", "misc", "types"];

/// Libraries that one crate uses so that no other has to know them.
const ONE_HOME: &[(&str, &str)] = &[
    ("ractor", "supervision"),
    ("rusqlite", "store"),
    ("tokio-postgres", "store"),
    ("anyhow", "cli"),
];

/// Through these paths they may be named elsewhere: a re-export is the home's own decision.
const DOORS: &[&str] = &["perennial_supervision::", "perennial::", "perennial::supervision::"];

/// Longer files and functions are printed, for somebody to look at.
const FILE_LINES_NOTABLE: usize = 400;
const FUNCTION_LINES_NOTABLE: usize = 70;

// Written in two halves, so that this file does not find itself.
const UNFINISHED: &[&str] = &[concat!("todo", "!("), concat!("unimplemented", "!(")];
const IGNORE_WITHOUT_REASON: &str = concat!("#[ig", "nore]");
const SLEEP: &str = concat!("sl", "eep(");
const EXIT: &str = concat!("process::", "exit(");

#[test]
fn dependencies_follow_the_floor_plan() {
    for (krate, floor) in FLOOR_PLAN {
        let used = our_dependencies(&fs::read_to_string(manifest_of(krate)).unwrap());
        match floor {
            On(allowed) => {
                let allowed: BTreeSet<String> =
                    allowed.iter().map(|name| (*name).to_owned()).collect();
                assert!(used.is_subset(&allowed), "{krate} may use {allowed:?} but uses {used:?}");
            }
            Beside(banned) => {
                let broken = banned.iter().any(|name| used.contains(*name));
                assert!(!broken, "{krate} may not use {banned:?} but uses {used:?}");
            }
        }
    }
}

#[test]
fn every_directory_of_crates_has_a_place_in_the_floor_plan() {
    let on_disk: BTreeSet<String> = fs::read_dir(root().join("crates"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let planned: BTreeSet<String> =
        FLOOR_PLAN.iter().map(|(krate, _)| (*krate).to_owned()).collect();
    assert_eq!(on_disk, planned);
}

#[test]
fn rooms_are_named_by_nouns() {
    for source in sources() {
        for part in source.path.with_extension("").components() {
            let name = part.as_os_str().to_str().unwrap();
            assert!(!NO_NOUNS.contains(&name), "{} has no noun", source.path.display());
        }
    }
}

#[test]
fn each_library_with_one_home_stays_there() {
    for (library, home) in ONE_HOME {
        for (krate, _) in FLOOR_PLAN.iter().filter(|(krate, _)| krate != home) {
            let manifest = fs::read_to_string(manifest_of(krate)).unwrap();
            let direct = dependencies(&manifest).any(|name| name == *library);
            assert!(!direct, "{krate} depends on {library}, which is {home}'s");
        }
        let foreign = sources().into_iter().filter(|source| !source.is_in(home));
        for source in foreign {
            for (number, line) in source.code() {
                assert!(
                    !names(line, library),
                    "{}:{number}: {library} is {home}'s",
                    source.path.display()
                );
            }
        }
    }
}

#[test]
fn only_the_command_ends_the_process() {
    for source in sources().into_iter().filter(|source| !source.is_in("cli")) {
        for (number, line) in source.code() {
            assert!(!line.contains(EXIT), "{}:{number}: exits", source.path.display());
        }
    }
}

#[test]
fn nothing_is_unfinished_and_no_test_is_ignored_without_a_reason() {
    for source in sources() {
        for (number, line) in source.code() {
            for mark in UNFINISHED.iter().chain([&IGNORE_WITHOUT_REASON]) {
                assert!(!line.contains(mark), "{}:{number}: {mark}", source.path.display());
            }
        }
    }
}

/// A test waits for a reply, an event or a signal, or pauses the clock. Where real time is the
/// subject, or a fixture's work takes time on a paused clock, the words `real time` or
/// `paused clock` stand on the line or on the one before it.
#[test]
fn tests_do_not_sleep() {
    for source in sources() {
        let mut before = "";
        let mut in_tests = source.is_test();
        for (number, line) in source.text.lines().enumerate().map(|(at, line)| (at + 1, line)) {
            in_tests |= line.trim_start().starts_with("#[cfg(test)]");
            let excuses = ["real time", "paused clock"];
            let excused = excuses.iter().any(|why| before.contains(why) || line.contains(why));
            let code = without_comment(line);
            assert!(
                !(in_tests && has_word(code, SLEEP) && !excused),
                "{}:{number}: a test sleeps",
                source.path.display()
            );
            before = line;
        }
    }
}

/// A newcomer types two commands, and CI runs what the README says (`.ci/run` reads it from there).
#[test]
fn the_readme_has_two_commands() {
    let readme = fs::read_to_string(root().join("README.md")).expect("the README is the entrance");
    let section = readme
        .split("\n## ")
        .find_map(|section| section.strip_prefix("Two commands\n"))
        .expect("the README has a section `## Two commands`");
    let blocks: Vec<&str> = section.split("\n```").skip(1).step_by(2).collect();
    assert_eq!(blocks.len(), 1, "`## Two commands` has one fenced block");
    let commands: Vec<&str> = blocks[0].lines().skip(1).collect();
    assert_eq!(commands.len(), 2, "{commands:?}");
    assert!(commands.iter().all(|command| command.starts_with("cargo ")), "{commands:?}");
    assert!(commands[1].starts_with("cargo test"), "{commands:?}");
}

/// What hosts import is learnt from examples, which run as tests: whatever the facade makes public has one. `UNSEEN`
/// has what its modules call public and its `lib.rs` does not re-export.
#[test]
fn each_item_of_the_facade_has_an_example() {
    let facade = sources().into_iter().filter(|source| source.is_in("perennial"));
    let mut items = 0;
    for source in facade {
        for (number, name) in without_example(&source.text) {
            let seen = UNSEEN.contains(&name);
            assert!(seen, "{}:{number}: `{name}` has no example", source.path.display());
        }
        items += source.text.lines().filter(|line| public_item(line).is_some()).count();
    }
    assert!(items > 100, "only {items} items found");
}

/// Prints; fails never. A long file may be one idea, and a long function one table.
#[test]
fn long_files_and_functions_are_printed() {
    for source in sources() {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_NOTABLE {
            println!("{}: {lines} lines", source.path.display());
        }
        for (number, name, length) in functions(&source.text) {
            if length > FUNCTION_LINES_NOTABLE {
                println!("{}:{number}: `{name}` has {length} lines", source.path.display());
            }
        }
    }
}

#[test]
fn the_checks_see_what_they_look_for() {
    let text = "/// Says.\n///\n/// ```\n/// a();\n/// ```\n#[must_use]\npub fn a() {}\n\n/// Tells.\n    \
        pub async fn b() {}\npub(crate) fn c() {}\n/// Kept.\n#[derive(\n    Clone,\n)]\npub struct D;\n";
    let found: Vec<(usize, &str)> = without_example(text).collect();
    assert_eq!(found, [(10, "b"), (16, "D")]);

    let manifest = "[dependencies]\nperennial-core.workspace = true\nserde = \"1\"\n\
        x = { package = \"perennial-tools\", path = \"../tools\" }\n\
        [dependencies.perennial-store]\nworkspace = true\n\
        [target.'cfg(unix)'.dependencies]\nperennial = { workspace = true }\n\
        [dev-dependencies]\nperennial-testkit.workspace = true\n";
    let ours: Vec<String> = our_dependencies(manifest).into_iter().collect();
    assert_eq!(ours, ["core", "perennial", "store", "tools"]);

    for (line, seen) in [
        ("use lib::Actor;", true),
        ("    lib::start();", true),
        ("use {lib, tokio};", true),
        ("use lib as library;", true),
        ("extern crate lib;", true),
        ("use perennial_supervision::lib::Actor;", false),
        ("use perennial::lib;", false),
        ("mod glib; glib::run(\"lib's\");", false),
        ("let lib = libs;", false),
    ] {
        assert_eq!(names(line, "lib"), seen, "{line}");
    }

    assert_eq!(without_comment("code(); // words"), "code(); ");
    assert_eq!(without_comment("let url = \"http://x\"; // y"), "let url = \"http://x\"; ");
    assert!(has_word("time::rest(d)", "rest(") && !has_word("no_rest(d)", "rest("));

    let text = "impl X {\n    pub async fn a(\n    ) {\n        1\n    }\n}\nfn b() {}\n";
    let found: Vec<(usize, &str, usize)> = functions(text).collect();
    assert_eq!(found, [(2, "a", 4), (7, "b", 1)]);
}

/// The name of the function or type that a line makes public.
fn public_item(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("pub ")?;
    let rest = rest.strip_prefix("async ").unwrap_or(rest);
    let named =
        ["fn ", "struct ", "enum ", "trait "].iter().find_map(|kind| rest.strip_prefix(kind))?;
    named.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

/// The public items of a text, by line and name, whose documentation has no block of code.
fn without_example(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = public_item(line) else { continue };
        // Attributes, of several lines at times, stand between an item and its documentation.
        let above = lines[..at].iter().rev().skip_while(|line| {
            let line = line.trim_start();
            !line.starts_with("///") && !line.is_empty() && line != "}"
        });
        let mut docs = above.take_while(|line| line.trim_start().starts_with("///"));
        if !docs.any(|line| line.contains("/// ```")) {
            found.push((at + 1, name));
        }
    }
    found.into_iter()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The facade's package is the root of the workspace.
fn manifest_of(krate: &str) -> PathBuf {
    match krate {
        "perennial" => root().join("Cargo.toml"),
        krate => root().join("crates").join(krate).join("Cargo.toml"),
    }
}

/// A Rust file of the project.
struct Source {
    /// From the root.
    path: PathBuf,
    text: String,
}

impl Source {
    fn is_in(&self, krate: &str) -> bool {
        self.path.starts_with(Path::new("crates").join(krate))
    }

    fn is_test(&self) -> bool {
        self.path.components().any(|part| part.as_os_str() == "tests")
            || self.path.file_stem().is_some_and(|name| name == "tests")
    }

    /// Its lines with their numbers, without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(at, line)| (at + 1, without_comment(line)))
    }
}

/// Every Rust file except those of the benchmarks' own workspace.
fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    let mut todo: Vec<PathBuf> =
        ["crates", "tests", "examples", "benches"].map(|dir| root().join(dir)).into();
    while let Some(dir) = todo.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap();
            if path.is_dir() && name != "target" && name != "peers" {
                todo.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root()).unwrap().to_owned();
                sources.push(Source { path, text });
            }
        }
    }
    assert!(sources.len() > FLOOR_PLAN.len(), "only {} files found", sources.len());
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

/// The names of a manifest's dependencies, dev-dependencies left out; of a renamed one, both names.
fn dependencies(manifest: &str) -> impl Iterator<Item = &str> {
    let mut section = "";
    manifest
        .lines()
        .map(str::trim)
        .flat_map(move |line| {
            if let Some(title) = line.strip_prefix('[') {
                section = title.trim_end_matches(']');
                let table =
                    section.split_once("dependencies.").filter(|_| !section.contains("dev-"));
                let is_ours_to_name = !section.starts_with("workspace");
                return [table.filter(|_| is_ours_to_name).map(|(_, name)| name), None];
            }
            let bound = matches!(section, "dependencies" | "build-dependencies")
                || (section.starts_with("target.")
                    && section.ends_with("dependencies")
                    && !section.ends_with("dev-dependencies"));
            if !bound || line.is_empty() || line.starts_with('#') {
                return [None, None];
            }
            let name = line.split(['.', ' ', '=']).next();
            let package = line.split("package = \"").nth(1).and_then(|rest| rest.split('"').next());
            [name, package]
        })
        .flatten()
}

/// Those of them that are directories of `crates/`.
fn our_dependencies(manifest: &str) -> BTreeSet<String> {
    dependencies(manifest)
        .filter_map(|name| match name {
            "perennial" => Some(name),
            name => name.strip_prefix("perennial-"),
        })
        .map(str::to_owned)
        .collect()
}

/// Whether a line of code names a library: in a path, a `use` or an `extern crate`, and not through a door.
fn names(line: &str, library: &str) -> bool {
    let is_import = ["use ", "pub use ", "extern crate "]
        .iter()
        .any(|start| line.trim_start().starts_with(start));
    line.match_indices(library).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + library.len()..]);
        let is_whole = !before.ends_with(|c: char| c.is_alphanumeric() || c == '_')
            && !after.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        let through_door = DOORS.iter().any(|door| before.ends_with(door));
        is_whole && !through_door && (after.starts_with("::") || is_import)
    })
}

/// A line up to its comment; `//` in a text, as of an address, is none.
fn without_comment(line: &str) -> &str {
    let is_comment = |at: &usize| line[..*at].matches('"').count().is_multiple_of(2);
    let start = line.match_indices("//").map(|(at, _)| at).find(is_comment);
    &line[..start.unwrap_or(line.len())]
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

/// First line, name and number of lines of each function, as rustfmt writes them: the closing brace stands
/// under the first letter.
fn functions(text: &str) -> impl Iterator<Item = (usize, &str, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    (0..lines.len()).filter_map(move |start| {
        let line = lines[start];
        let code = line.trim_start();
        let indent = &line[..line.len() - code.len()];
        let (head, rest) = code.split_once("fn ")?;
        let is_head = head.split_whitespace().all(|word| {
            word.starts_with("pub") || ["const", "async", "unsafe", "extern"].contains(&word)
        });
        if !is_head {
            return None;
        }
        let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
        let ends = |line: &str| {
            line.strip_prefix(indent).is_some_and(|end| end.starts_with('}') || end.ends_with(';'))
                && !line[indent.len()..].starts_with(' ')
        };
        let is_one_line = code.ends_with('}') || code.ends_with(';');
        let length = if is_one_line {
            1
        } else {
            lines[start + 1..].iter().position(|line| ends(line))? + 2
        };
        Some((start + 1, name, length))
    })
}
