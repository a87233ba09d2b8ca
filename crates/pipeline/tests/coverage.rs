//! The catalogue of codes (1.3) and what the rows of `data/faulty.txt` show of it (ACC-3.2).

use std::collections::{BTreeMap, BTreeSet};

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
    let ids: BTreeSet<String> = rows
        .iter()
        .map(|row| row.name.clone())
        .chain(corpus::sound().into_iter().map(|(name, _)| name))
        .flat_map(|name| name.split(' ').map(str::to_owned).collect::<Vec<_>>())
        .collect();
    for case in ["1", "3", "5", "7", "9", "13", "15", "17", "19", "23", "41", "69", "79", "99"] {
        assert!(ids.contains(&format!("C-{case}")), "no row shows C-{case}");
    }
}
