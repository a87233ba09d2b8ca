//! What durable runs promise, and which test shows it: the table `docs/durability.md` is written from the tests.
//!
//! A test says in its documentation which promises it shows (`/// Proves INV-3, K5.`). A case that the macro of
//! the stores runs counts for each of them. A promise without a test is listed in `tests/data/durability.toml`,
//! with its reason if it is deliberately not kept; what is listed there and has a test is an error too.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
};

use super::{Source, root, sources};

/// How a test says what it proves. Written in two halves, so that this file does not find itself.
const PROVES: &str = concat!("/// Pro", "ves ");
/// The macro that runs its cases on each store.
const ON_EVERY_STORE: &str = concat!("on_every_", "store!(");
const TABLE: &str = "docs/durability.md";
const HEAD: &str = "# What durable runs promise

Every promise about runs that outlive their process, and the tests that show it. This file is generated from the tests:
`UPDATE_GOLDEN=1 cargo test --test tidy` writes it. *Stores*: a test marked with a star runs on each store there is.

| kind | what it is |
|---|---|
| `INV` | what is true of runs, stages and jobs at every moment |
| `INV-ST` | what is true of what is stored, whatever ends the process or the machine |
| `K` | `kill -9` right after this step |
| `CHK` | what the checker looks for in a store (`perennial journal verify`) |
| `PGL` | what PostgreSQL's locks do, and that the store behaves under them |
";

/// Promises of the services, which have no table: how their ids begin, and how many there are.
const OF_SERVICES: &[(&str, u32)] =
    &[("INV-INF-", 1), ("INV-RL-", 12), ("INV-CB-", 11), ("INV-RT-", 10), ("INV-SEM-", 5)];

fn is_of_services(id: &str) -> bool {
    OF_SERVICES.iter().any(|(kind, count)| {
        let number = id.strip_prefix(kind).and_then(|number| number.parse().ok());
        number.is_some_and(|number: u32| (1..=*count).contains(&number))
    })
}

/// A promise as `tests/data/durability.tsv` has it.
struct Promise {
    id: String,
    text: String,
}

/// One test and what it says it proves.
struct Claim {
    ids: Vec<String>,
    test: String,
    on_every_store: bool,
}

#[test]
fn each_promise_about_durable_runs_has_a_test_or_is_listed_without() {
    let promises = promises();
    let known: BTreeSet<&str> = promises.iter().map(|promise| promise.id.as_str()).collect();
    let mut tests: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources() {
        for Claim { ids, test, on_every_store } in claims(&source) {
            for id in ids.into_iter().filter(|id| !is_of_services(id)) {
                let place = source.path.display();
                assert!(known.contains(id.as_str()), "{place}: {id} of {test} is no promise");
                let star = if on_every_store { "*" } else { "" };
                tests.entry(id).or_default().insert(format!("`{test}`{star}"));
            }
        }
    }
    let Listed { deviations, open } = listed();
    for id in deviations.keys().chain(&open) {
        assert!(known.contains(id.as_str()), "{id} is listed without a test and is no promise");
        assert!(!tests.contains_key(id), "{id} has a test, and is listed as one that has none");
    }
    let neither = |id: &&str| {
        !tests.contains_key(*id) && !deviations.contains_key(*id) && !open.contains(*id)
    };
    let missing: Vec<&str> = known.iter().copied().filter(neither).collect();
    assert!(missing.is_empty(), "neither a test nor a line in durability.toml: {missing:?}");

    let table = table(&promises, &tests, &deviations);
    let path = root().join(TABLE);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &table).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == table, "{TABLE} is not what the tests say: UPDATE_GOLDEN=1 writes it");
}

#[test]
fn the_reader_of_promises_sees_every_form() {
    let text = format!(
        "mod x;\n{ON_EVERY_STORE}\n    a_case,\n    other,\n);\n\n{PROVES}INV-1, K2.\nasync fn a_case() {{}}\n\
         /// Says.\n    {PROVES}INV-ST-3.\n    #[tokio::test(start_paused = true)]\n    async fn alone() {{}}\n\
         /// Nothing.\nfn none() {{}}\n"
    );
    let source = Source { path: "x.rs".into(), text };
    let found: Vec<_> = claims(&source)
        .into_iter()
        .map(|claim| (claim.ids.join(" "), claim.test, claim.on_every_store))
        .collect();
    let expected = [("INV-1 K2", "a_case", true), ("INV-ST-3", "alone", false)]
        .map(|(ids, test, every)| (ids.to_owned(), test.to_owned(), every));
    assert_eq!(found, expected);
}

fn promises() -> Vec<Promise> {
    let text = fs::read_to_string(root().join("tests/data/durability.tsv")).unwrap();
    let lines = text.lines().map(|line| line.split_once('\t').unwrap());
    lines.map(|(id, text)| Promise { id: id.to_owned(), text: text.to_owned() }).collect()
}

/// What has no test.
struct Listed {
    /// Deliberately not kept, with the reason.
    deviations: BTreeMap<String, String>,
    /// Not shown yet.
    open: BTreeSet<String>,
}

fn listed() -> Listed {
    let text = fs::read_to_string(root().join("tests/data/durability.toml")).unwrap();
    let table: toml::Table = text.parse().unwrap();
    let reason =
        |(id, why): (&String, &toml::Value)| (id.clone(), why.as_str().unwrap().to_owned());
    let deviations = table["deviations"].as_table().unwrap().iter().map(reason).collect();
    let open = table["open"].as_array().unwrap().iter();
    Listed { deviations, open: open.map(|id| id.as_str().unwrap().to_owned()).collect() }
}

/// What the tests of a file say they prove.
fn claims(source: &Source) -> Vec<Claim> {
    let cases: BTreeSet<&str> = source
        .text
        .split(ON_EVERY_STORE)
        .skip(1)
        .filter_map(|rest| rest.split_once(");"))
        .flat_map(|(list, _)| list.split(',').map(str::trim))
        .collect();
    let mut claims = Vec::new();
    let mut ids: Vec<String> = Vec::new();
    for line in source.text.lines().map(str::trim) {
        if let Some(list) = line.strip_prefix(PROVES) {
            let list = list.trim_end_matches('.').split([',', ' ']).filter(|id| !id.is_empty());
            ids.extend(list.filter(|id| *id != "and").map(str::to_owned));
        } else if let Some(name) = function(line).filter(|_| !ids.is_empty()) {
            let on_every_store = cases.contains(name);
            claims.push(Claim {
                ids: std::mem::take(&mut ids),
                test: name.to_owned(),
                on_every_store,
            });
        }
    }
    claims
}

/// The name of the function that a line begins.
fn function(line: &str) -> Option<&str> {
    let (before, rest) = line.split_once("fn ")?;
    let is_head = before
        .split_whitespace()
        .all(|word| matches!(word, "pub" | "pub(crate)" | "pub(super)" | "async" | "const"));
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    is_head.then_some(&rest[..end])
}

fn table(
    promises: &[Promise],
    tests: &BTreeMap<String, BTreeSet<String>>,
    deviations: &BTreeMap<String, String>,
) -> String {
    let mut text = HEAD.to_owned();
    let shown = promises.iter().filter(|promise| tests.contains_key(&promise.id)).count();
    let (all, declared) = (promises.len(), deviations.len());
    let open = all - shown - declared;
    write!(
        text,
        "\nOf {all} promises {shown} have tests, {declared} are deliberately not kept or belong to a later version, \
         {open} have none yet.\n\n| id | promise | shown by |\n|---|---|---|\n"
    )
    .unwrap();
    for Promise { id, text: promise } in promises {
        let by = match (tests.get(id), deviations.get(id)) {
            (Some(tests), _) => tests.iter().cloned().collect::<Vec<_>>().join(", "),
            (None, Some(why)) => format!("*not here:* {why}"),
            (None, None) => "–".to_owned(),
        };
        writeln!(text, "| {id} | {promise} | {by} |").unwrap();
    }
    text
}
