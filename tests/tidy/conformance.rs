//! The suites of conformance and their lists name the same rows: read from the sources, nothing runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use super::{Source, root, sources};

/// How a test says which rows it proves. Written in two halves, so that this file does not find itself.
const PROVES: &str = concat!("proves", "!(");

/// Directories with a `catalogue.tsv`, and the crates whose tests carry its ids.
const SUITES: &[(&str, &str)] = &[("crates/supervision/tests/conformance", "supervision")];

#[test]
fn rows_and_the_tests_that_carry_them_correspond() {
    for (dir, krate) in SUITES {
        let read = |file| fs::read_to_string(root().join(dir).join(file)).unwrap();
        let catalogue = portability(&read("catalogue.tsv"));
        let portable = |id: &str| catalogue.get(id).is_some_and(|code| !code.starts_with('N'));

        let mut carried = BTreeSet::new();
        for source in sources().into_iter().filter(|source| source.is_in(krate)) {
            for id in claimed(&source) {
                assert!(portable(&id), "{}: {id} is no portable row", source.path.display());
                carried.insert(id);
            }
        }
        for id in read("proven.txt").lines() {
            assert!(
                carried.contains(id),
                "{dir}: {id} is listed as proven, and no test carries it"
            );
        }
        for id in deviating(&read("deviations.toml")) {
            assert!(portable(&id), "{dir}: the deviation {id} is no portable row");
            assert!(!carried.contains(&id), "{dir}: a test carries {id}, which is a deviation");
        }
    }
}

#[test]
fn the_reader_of_claims_sees_every_form() {
    let text = format!(
        "// {PROVES}no, [\"X-0\"]);\n{PROVES}a, [\"X-1\", \"X-2\"]);\n\
         {PROVES}b, real_time, [\n    \"X-3\", // X-9\n    \"X-4\",\n], because = \"X-5 [\\\"X-6\\\"]\");\n\
         let other = [\"X-7\"];\n"
    );
    let source = Source { path: Path::new("x.rs").to_owned(), text };
    assert_eq!(claimed(&source), ["X-1", "X-2", "X-3", "X-4"]);
    let catalogue = portability("id\tpriority\tportability\nX-1\tA\tP\tx\n");
    assert_eq!(catalogue, BTreeMap::from([("X-1".to_owned(), "P".to_owned())]));
    assert_eq!(deviating("[[deviation]]\nid = \"X-1\"\n"), ["X-1"]);
    assert_eq!(deviating("# none\n"), [""; 0]);
}

/// The ids that the tests of a file carry: the texts of the first list after each `proves`.
fn claimed(source: &Source) -> Vec<String> {
    let code: Vec<&str> = source.code().map(|(_, line)| line).collect();
    let code = code.join("\n");
    let lists = code.split(PROVES).skip(1).filter_map(|rest| {
        let (_, list) = rest.split_once('[')?;
        list.split_once(']').map(|(list, _)| list)
    });
    lists.flat_map(|list| list.split('"').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// The portability code of each row.
fn portability(catalogue: &str) -> BTreeMap<String, String> {
    let rows = catalogue.lines().skip(1).map(|line| {
        let columns: Vec<&str> = line.split('\t').collect();
        (columns[0].to_owned(), columns[2].to_owned())
    });
    rows.collect()
}

fn deviating(declared: &str) -> Vec<String> {
    let table: toml::Table = declared.parse().unwrap();
    let none = toml::Value::Array(Vec::new());
    let deviations = table.get("deviation").unwrap_or(&none).as_array().unwrap();
    deviations.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}
