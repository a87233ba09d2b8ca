//! The catalogue of codes (1.3) and what the rows of `data/faulty.txt` show of it (ACC-3.2).

#![expect(clippy::unwrap_used, reason = "the files of the tests are well-formed")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use perennial_pipeline::Pipeline;

#[path = "documents/corpus.rs"]
mod corpus;

/// Numbers of the load-time codes of the catalogue.
fn catalogue() -> impl Iterator<Item = u16> {
    let spans = [101..=109, 201..=223, 301..=314, 401..=411, 501..=513, 520..=521];
    spans.into_iter().flatten()
}

#[test]
fn every_code_is_shown_by_a_row_or_has_a_reason_not_to_be() {
    let mut shown: BTreeSet<u16> = BTreeSet::new();
    for row in corpus::faulty() {
        let checked = Pipeline::check("flow.yaml", row.document.as_bytes());
        shown.extend(checked.diagnostics.iter().map(|found| found.code.0));
    }
    let mut reasons: BTreeMap<u16, &str> = BTreeMap::new();
    for line in include_str!("data/codes_without_rows.txt").lines() {
        let (code, reason) = line.split_once(": ").unwrap();
        assert!(!reason.trim().is_empty(), "{line}");
        reasons.insert(code.strip_prefix("PL").unwrap().parse().unwrap(), reason);
    }
    let without: BTreeSet<u16> = catalogue().filter(|code| !shown.contains(code)).collect();
    let told: BTreeSet<u16> = reasons.keys().copied().collect();
    assert_eq!(without, told, "codes without a row, and codes with a reason");
    let known: BTreeSet<u16> = catalogue().collect();
    assert!(shown.is_subset(&known), "{shown:?} has codes that the catalogue does not");
}

#[test]
fn the_corpus_is_as_large_as_it_has_to_be() {
    let rows = corpus::faulty();
    assert!(rows.len() >= 60, "{} rows", rows.len());
    let names: BTreeSet<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names.len(), rows.len(), "two rows have one name");
}

/// Ids such as `C-31` in the rows and comments of a test file, and such as `c_31` in names of tests.
fn ids(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in text.lines() {
        let mut look = |mark: char, separator: &str, before: fn(char) -> bool| {
            let mark = format!("{mark}{separator}");
            for (at, _) in line.match_indices(&mark) {
                let digits: String =
                    line[at + mark.len()..].chars().take_while(char::is_ascii_digit).collect();
                if !digits.is_empty() && line[..at].chars().next_back().is_none_or(before) {
                    found.insert(format!("{}-{digits}", mark[..1].to_uppercase()));
                }
            }
        };
        for id in ['C', 'V'] {
            look(id, "-", |before| !before.is_alphanumeric());
        }
        if line.contains("fn ") {
            for id in ['c', 'v'] {
                look(id, "_", |before| matches!(before, ' ' | '_'));
            }
        }
    }
    found
}

/// The ids in all tests below `folder`: files of `tests` folders, and `tests.rs`. Not those of the table itself.
fn carried(folder: &Path, in_tests: bool, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            carried(&path, in_tests || name == "tests", found);
        } else if (in_tests || name == "tests.rs") && !["cases.txt", "coverage.rs"].contains(&name)
        {
            // What is no text, has no ids.
            found.extend(fs::read_to_string(&path).iter().flat_map(|text| ids(text)));
        }
    }
}

/// Section 8 of the language: a row or a test carries the id of each case, or the table says why not.
#[test]
fn every_case_is_shown_or_has_a_reason_not_to_be() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut carried_ids = BTreeSet::new();
    carried(&root.join("crates"), false, &mut carried_ids);
    carried(&root.join("tests"), true, &mut carried_ids);

    let odd = (1..=205).step_by(2).map(|number| format!("C-{number}"));
    let vectors = [1..=6, 10..=19, 20..=28, 30..=36].into_iter().flatten();
    let cases: Vec<String> = odd.chain(vectors.map(|number: u16| format!("V-{number}"))).collect();
    let mut wrong: Vec<String> = carried_ids
        .iter()
        .filter(|id| !cases.contains(id))
        .map(|id| format!("no case: {id}"))
        .collect();
    let mut told = Vec::new();
    for line in include_str!("data/cases.txt").lines() {
        let (id, status) = line.split_once(' ').unwrap();
        let (status, reason) = status.split_once(": ").unwrap_or((status, ""));
        told.push(id.to_owned());
        let is_carried = match status {
            "shown" => reason.is_empty().then_some(true),
            "part" => (!reason.is_empty()).then_some(true),
            "later" => (!reason.is_empty()).then_some(false),
            _ => None,
        };
        match is_carried {
            None => wrong.push(format!("not a status with what it needs: {line}")),
            Some(true) if !carried_ids.contains(id) => {
                wrong.push(format!("no test carries: {line}"))
            }
            Some(false) if carried_ids.contains(id) => {
                wrong.push(format!("a test carries: {line}"))
            }
            Some(_) => {}
        }
    }
    assert_eq!(told, cases, "the table has each case once, in order");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
