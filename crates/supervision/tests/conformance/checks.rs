//! The suite itself: the report counts what it says it counts, and no failing test passes.

use std::{collections::BTreeSet, time::Duration};

use serde_json::Value;

use crate::{
    catalogue::{Catalogue, Deviation},
    harness::{Pace, Proof},
    report::{Claim, Report, Tally, objections},
};

/// Checks by name; they prove no row.
pub(crate) const ALL: &[(&str, fn())] = &[
    ("what_contradicts_the_catalogue_is_refused", what_contradicts_the_catalogue_is_refused),
    ("a_sound_suite_is_accepted", a_sound_suite_is_accepted),
    ("a_row_is_proven_when_all_its_tests_pass", a_row_is_proven_when_all_its_tests_pass),
    ("the_json_has_totals_and_every_row", the_json_has_totals_and_every_row),
    ("the_table_has_a_line_for_each_group", the_table_has_a_line_for_each_group),
    ("a_test_that_fails_or_hangs_does_not_pass", a_test_that_fails_or_hangs_does_not_pass),
    ("the_catalogue_has_the_rows_that_count", the_catalogue_has_the_rows_that_count),
];

fn catalogue() -> Catalogue {
    Catalogue::parse(
        "id\tpriority\tportability\tgroup\n\
         SUP-1\tA\tP\tx\nSUP-2\tB\tA1\tx\nSUP-3\tB\tN1\tx\nGS-1\tA\tP\tx\nGS-2\tC\tP\tx\n",
    )
}

fn deviations() -> Vec<Deviation> {
    Deviation::parse("[[deviation]]\nid = \"GS-1\"\nreason = \"why\"\ninstead = \"what\"\n")
}

fn claim(test: &str, ids: &[&str]) -> Claim {
    let ids = ids.iter().map(|id| (*id).to_owned()).collect();
    Claim { test: test.to_owned(), ids, because: None }
}

fn what_contradicts_the_catalogue_is_refused() {
    let twice = "\n[[deviation]]\nid = \"GS-1\"\nreason = \"\"\ninstead = \"what\"\n\
        [[deviation]]\nid = \"SUP-3\"\nreason = \"why\"\ninstead = \"what\"\n";
    let mut deviations = deviations();
    deviations.extend(Deviation::parse(twice));
    let claims = [
        claim("unknown", &["SUP-9"]),
        claim("no_port", &["SUP-3"]),
        claim("deviates", &["GS-1"]),
        claim("same", &["SUP-1"]),
        claim("same", &["SUP-2", "SUP-2"]),
        claim("many", &["SUP-1", "SUP-2", "GS-2", "SUP-1", "SUP-2"]),
    ];
    assert_eq!(
        objections(&catalogue(), &deviations, &claims),
        [
            "deviation: GS-1 is declared twice",
            "deviation: GS-1 says not why, or not what happens instead",
            "deviation: SUP-3 is not portable (N1)",
            "unknown: SUP-9 is not in the catalogue",
            "no_port: SUP-3 is not portable (N1)",
            "no_port: SUP-3 is declared as a deviation",
            "deviates: GS-1 is declared as a deviation",
            "same: registered twice",
            "same: SUP-2 is named twice",
            "many: 5 ids without `because`",
            "many: SUP-1 is named twice",
            "many: SUP-2 is named twice",
        ]
    );
}

fn a_sound_suite_is_accepted() {
    let catalogue = Catalogue::parse(
        "id\tpriority\tportability\nX-1\tA\tP\nX-2\tA\tP\nX-3\tA\tP\nX-4\tA\tP\nX-5\tA\tP\n",
    );
    let mut many = claim("many", &["X-1", "X-2", "X-3", "X-4", "X-5"]);
    many.because = Some("it is one table".to_owned());
    let found = objections(&catalogue, &[], &[claim("one", &["X-1"]), many]);
    assert!(found.is_empty(), "{found:?}");
}

fn a_row_is_proven_when_all_its_tests_pass() {
    let (catalogue, deviations) = (catalogue(), deviations());
    let claims = [claim("a", &["SUP-1", "SUP-2"]), claim("b", &["SUP-2"])];
    let passed = BTreeSet::from(["a".to_owned()]);
    let report = Report::new(&catalogue, &deviations, &claims, &passed);
    assert_eq!(report.proven(), ["SUP-1"]);
    assert_eq!(report.total(), Tally { portable: 4, proven: 1, deviating: 1, open: 2 });
    assert_eq!(report.lost(&["SUP-1", "SUP-2", "GS-1"]), ["SUP-2", "GS-1"]);

    let passed = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
    let report = Report::new(&catalogue, &deviations, &claims, &passed);
    assert_eq!(report.proven(), ["SUP-1", "SUP-2"]);
    assert!(report.lost(&["SUP-1", "SUP-2"]).is_empty());
}

fn the_json_has_totals_and_every_row() {
    let (catalogue, deviations) = (catalogue(), deviations());
    let claims = [claim("b", &["SUP-2"]), claim("a", &["SUP-1", "SUP-2"])];
    let passed = BTreeSet::from(["a".to_owned()]);
    let text = Report::new(&catalogue, &deviations, &claims, &passed).json();
    let json: Value = serde_json::from_str(&text).unwrap();
    let tally = |at: &str| {
        let tally = json.pointer(at).unwrap();
        ["portable", "proven", "deviating", "open"].map(|part| tally[part].as_u64().unwrap())
    };
    assert_eq!(tally("/total"), [4, 1, 1, 2]);
    assert_eq!(tally("/sections/SUP"), [2, 1, 0, 1]);
    assert_eq!(tally("/sections/GS"), [2, 0, 1, 1]);
    assert_eq!(tally("/priorities/A"), [2, 1, 1, 0]);
    assert_eq!(tally("/priorities/B"), [1, 0, 0, 1]);
    let ids: Vec<&String> = json["ids"].as_object().unwrap().keys().collect();
    assert_eq!(ids, ["SUP-1", "SUP-2", "SUP-3", "GS-1", "GS-2"], "as in the catalogue");
    assert_eq!(json["ids"]["SUP-2"]["state"], "open");
    assert_eq!(json["ids"]["SUP-2"]["tests"], serde_json::json!(["a", "b"]));
    assert_eq!(json["ids"]["SUP-2"]["failed"], serde_json::json!(["b"]));
    assert_eq!(json["ids"]["SUP-3"]["state"], "not_portable");
    assert_eq!(json["ids"]["GS-1"]["reason"], "why");
}

fn the_table_has_a_line_for_each_group() {
    let (catalogue, deviations) = (catalogue(), deviations());
    let table = Report::new(&catalogue, &deviations, &[], &BTreeSet::new()).table();
    let lines: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["section", "portable", "proven", "deviating", "open"]);
    assert_eq!(lines[1], ["SUP", "2", "0", "0", "2"]);
    assert_eq!(lines[2], ["GS", "2", "0", "1", "1"]);
    assert_eq!(lines[3], ["total", "4", "0", "1", "3"]);
    let names: Vec<&str> = lines[4..].iter().map(|line| line[0]).collect();
    assert_eq!(names, ["A", "B", "C"]);
}

fn the_catalogue_has_the_rows_that_count() {
    let catalogue = Catalogue::parse(include_str!("catalogue.tsv"));
    assert_eq!(catalogue.rows.len(), 567);
    assert_eq!(catalogue.rows.iter().filter(|row| row.is_portable()).count(), 542);
}

fn a_test_that_fails_or_hangs_does_not_pass() {
    for pace in [Pace::Paused, Pace::RealTime] {
        let proof = |body| {
            let (module, ids, because) = ("suite::checks", &["SUP-1"], &[]);
            Proof { module, test: "sample", ids, because, pace, body }
        };
        let passes = proof(|| Box::pin(async {}));
        assert_eq!(passes.name(), "checks::sample");
        assert!(passes.run().is_ok());
        let fails = proof(|| Box::pin(async { panic!("on purpose") })).run().unwrap_err();
        let text = fails.message().unwrap_or_default();
        assert!(text.contains("checks.rs") && text.contains("on purpose"), "{text}");
        let hangs = proof(|| Box::pin(std::future::pending()));
        let hangs = hangs.run_within(Duration::from_millis(10)).unwrap_err();
        assert!(hangs.message().is_some_and(|text| text.contains("hangs")));
    }
}
