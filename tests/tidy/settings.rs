//! What the README says can be set, and which test shows that another value makes something else happen:
//! `tests/data/settings.toml` names it for each key. A key without such a test stands there with what is missing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use super::{promises::function, root, sources};

/// What the first cells of a table of settings begin with: how the section of its keys is told from the row.
const SECTIONS: [&str; 7] =
    ["service", "breaker", "store", "limits", "monitor", "retention", "prices"];

/// Proves INV-33, I8.
#[test]
fn each_setting_has_a_test_that_shows_its_effect_or_is_listed_without() {
    let table = fs::read_to_string(root().join("tests/data/settings.toml")).unwrap();
    let table: toml::Table = table.parse().unwrap();
    let listed = |name: &str| -> BTreeMap<String, String> {
        let rows = table[name].as_table().unwrap().iter();
        rows.map(|(key, told)| (key.clone(), told.as_str().unwrap().to_owned())).collect()
    };
    let (shown, open) = (listed("shown"), listed("open"));
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let known = keys(&readme);
    assert!(known.len() > 70, "only {} settings found in the README", known.len());

    for key in shown.keys().chain(open.keys()) {
        assert!(known.contains(key), "settings.toml has {key}, which the README does not have");
        let twice = shown.contains_key(key) && open.contains_key(key);
        assert!(!twice, "settings.toml has {key} twice: it has a test or it has none");
    }
    let neither = |key: &&String| !shown.contains_key(*key) && !open.contains_key(*key);
    let missing: Vec<_> = known.iter().filter(neither).collect();
    assert!(missing.is_empty(), "no line of settings.toml says what shows these: {missing:?}");

    let sources = sources();
    let tests: BTreeSet<&str> = sources
        .iter()
        .flat_map(|source| source.text.lines().map(str::trim))
        .filter_map(function)
        .collect();
    let gone: Vec<_> = shown.iter().filter(|(_, test)| !tests.contains(test.as_str())).collect();
    assert!(gone.is_empty(), "settings.toml names tests that are nowhere: {gone:?}");
}

/// The settings that a README has, each with its section: a row names it, or it is one of the engine.
fn keys(readme: &str) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let mut of_engine = false;
    for line in readme.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, named, default, _, _] = cells[..] else {
            of_engine = false;
            continue;
        };
        if default == "default" {
            of_engine = true;
            continue;
        }
        let mut section = "engine";
        for key in named.split('`').skip(1).step_by(2) {
            let (in_section, key) = key.rsplit_once('.').unwrap_or((section, key));
            section = in_section;
            let first = section.split('.').next().unwrap_or_default();
            if SECTIONS.contains(&first) || (section == "engine" && of_engine) {
                keys.insert(format!("{section}.{key}"));
            }
        }
    }
    keys
}

#[test]
fn the_reader_of_settings_sees_every_form() {
    let readme = "| verb | it |\n|---|---|\n| `run` | does |\n\n| `[engine]` | default | what |\n|---|---|---|\n\
                  | `a` | `1` | it |\n\n| key | default | what |\n|---|---|---|\n| `store.b` | none | it |\n\
                  | `prices.MODEL.c`, `d` | none | they |\n";
    let found: Vec<String> = keys(readme).into_iter().collect();
    assert_eq!(found, ["engine.a", "prices.MODEL.c", "prices.MODEL.d", "store.b"]);
}
