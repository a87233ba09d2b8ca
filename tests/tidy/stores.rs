//! What holds of one store holds of all: their cases are one list, and none of them is left out quietly.

use std::fs;

use super::{root, sources};

/// The macros that run their cases on each store, with what they run them on.
const SUITES: [(&str, &[&str]); 2] = [
    (
        "crates/store/tests/it/stores.rs",
        &["memory", "sqlite", "postgres", "postgres_without_locks"],
    ),
    ("tests/crash/kills.rs", &["sqlite", "postgres"]),
];
// Written in two halves, so that this file does not find itself.
const USED: &str = concat!("on_every_", "store!(\n");

/// Proves INV-34, TG3.
/// Each case of these suites is run on each store by the macro that lists it; where a server is wanted and missing
/// CI fails, and says so.
#[test]
fn every_case_of_the_stores_runs_on_each_of_them() {
    for (file, stores) in SUITES {
        let text = fs::read_to_string(root().join(file)).unwrap();
        let (_, body) = text.split_once("macro_rules! on_every_store {").unwrap();
        let (body, _) = body.split_once("\n}\n").unwrap();
        let modules: Vec<&str> =
            body.lines().filter_map(|line| line.trim().strip_prefix("mod ")).collect();
        let expected: Vec<String> = stores.iter().map(|store| format!("{store} {{ $(")).collect();
        assert_eq!(modules, expected, "{file}");
        assert_eq!(body.matches("fn $case()").count(), stores.len(), "{file}");
    }
    let ci = fs::read_to_string(root().join(".ci/run")).unwrap();
    assert!(ci.contains("\nexport PERENNIAL_REQUIRE_PG=1\n"), "without a server CI fails");

    let (mut suites, mut cases) = (0, 0);
    for source in sources() {
        for list in source.text.split(USED).skip(1).filter_map(|rest| rest.split_once(");")) {
            let names = list.0.split(',').map(str::trim).filter(|name| !name.is_empty());
            for name in names {
                let case = format!("fn {name}(");
                assert!(source.text.contains(&case), "{}: {name}", source.path.display());
                cases += 1;
            }
            suites += 1;
        }
    }
    assert!(suites >= 12 && cases >= 100, "{cases} cases in {suites} lists");
}
