//! What the product promises, and which test shows it: tables in `docs/` are written from the tests.
//!
//! A test says in its documentation which promises it shows (`/// Proves INV-3, K5.`). A case that the macro of
//! the stores runs counts for each of them. A promise without a test is listed in the catalogue's `.toml` file,
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

/// Promises of one kind, with a table of their own. Each id is in one of them.
struct Catalogue {
    /// The promises are in `tests/data/<name>.tsv`, those without a test in `tests/data/<name>.toml`, and the table
    /// is `docs/<name>.md`.
    name: &'static str,
    title: &'static str,
    /// What the promises are about.
    about: &'static str,
    /// How ids begin, and what that means.
    kinds: &'static [(&'static str, &'static str)],
}

const CATALOGUES: &[Catalogue] = &[
    Catalogue {
        name: "durability",
        title: "What durable runs promise",
        about: "runs that outlive their process",
        kinds: &[
            ("INV", "what is true of runs, stages and jobs at every moment"),
            ("INV-ST", "what is true of what is stored, whatever ends the process or the machine"),
            ("K", "`kill -9` right after this step"),
            ("CHK", "what the checker looks for in a store (`perennial journal verify`)"),
            ("PGL", "what PostgreSQL's locks do, and that the store behaves under them"),
        ],
    },
    Catalogue {
        name: "staged",
        title: "What staged jobs promise",
        about: "runs in stages, their groups of jobs and the services they use",
        kinds: &[
            ("R3", "what everything else rests on"),
            ("TRAP", "what is easily built wrong"),
            ("RF", "what happens when several do the same at once"),
            ("I", "what happens when something dies, fails or changes in the middle"),
            ("TG", "what the tests themselves must reach"),
            ("A", "the same as another promise, under a name of its own"),
            ("FC", "what running in production needs"),
            ("FL", "how a run flows from stage to stage"),
            ("D", "mistakes that runs of this kind invite, each of which must not happen"),
            ("B", "how runs, jobs, limits and services behave, case by case"),
        ],
    },
    Catalogue {
        name: "protection",
        title: "What guards of calls promise",
        about: "limiters, breakers, retries and permits",
        kinds: &[
            ("C6", "how many calls are made in how much time"),
            ("C7", "whether something that failed may be called again yet"),
            ("C9", "whether and when something is tried again, or asked for again"),
            ("C10", "how much is out at a time"),
        ],
    },
];

/// Promises of the services, which have no table: how their ids begin, and how many there are.
const OF_SERVICES: &[(&str, u32)] =
    &[("INV-INF-", 1), ("INV-RL-", 12), ("INV-CB-", 11), ("INV-RT-", 10), ("INV-SEM-", 5)];

fn is_of_services(id: &str) -> bool {
    OF_SERVICES.iter().any(|(kind, count)| {
        let number = id.strip_prefix(kind).and_then(|number| number.parse().ok());
        number.is_some_and(|number: u32| (1..=*count).contains(&number))
    })
}

/// A promise as the catalogue has it.
struct Promise {
    id: String,
    text: String,
}

impl Promise {
    /// The promise that this one is another name of: its text is `as INV-1`.
    fn same_as(&self) -> Option<&str> {
        self.text.strip_prefix("as ").filter(|id| !id.contains(' '))
    }
}

/// One test and what it says it proves.
struct Claim {
    ids: Vec<String>,
    test: String,
    on_every_store: bool,
}

/// The tests of each id.
type Tests = BTreeMap<String, BTreeSet<String>>;

#[test]
fn each_promise_has_a_test_or_is_listed_without() {
    let mut tests = tests();
    let mut known = BTreeSet::new();
    for catalogue in CATALOGUES {
        let promises = catalogue.promises();
        for Promise { id, .. } in &promises {
            assert!(known.insert(id.clone()), "{id} is twice in the catalogues");
        }
        for promise in &promises {
            let Some(other) = promise.same_as() else { continue };
            let own = tests.contains_key(&promise.id);
            assert!(!own, "{} is another name of {other}: a test says that", promise.id);
            if let Some(shown) = tests.get(other).cloned() {
                tests.insert(promise.id.clone(), shown);
            }
        }
        catalogue.check(&promises, &tests);
    }
    let strange: Vec<_> = tests.iter().filter(|(id, _)| !known.contains(*id)).collect();
    assert!(
        strange.is_empty(),
        "no catalogue has these, and tests say that they show them: {strange:?}"
    );
}

impl Catalogue {
    fn check(&self, promises: &[Promise], tests: &Tests) {
        let Self { name, .. } = self;
        let known: BTreeSet<&str> = promises.iter().map(|promise| promise.id.as_str()).collect();
        let Listed { deviations, open } = self.listed();
        for id in deviations.keys().chain(&open) {
            assert!(known.contains(id.as_str()), "{name}.toml lists {id}, which is no promise");
            assert!(!tests.contains_key(id), "{name}.toml lists {id}, which has a test");
        }
        let neither = |id: &&str| {
            !tests.contains_key(*id) && !deviations.contains_key(*id) && !open.contains(*id)
        };
        let missing: Vec<&str> = known.iter().copied().filter(neither).collect();
        assert!(missing.is_empty(), "neither a test nor a line in {name}.toml: {missing:?}");

        let table = self.table(promises, tests, &deviations);
        let path = root().join(format!("docs/{name}.md"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &table).unwrap();
        }
        let written = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == table,
            "docs/{name}.md is not what the tests say: UPDATE_GOLDEN=1 writes it"
        );
    }

    fn data(&self, kind: &str) -> String {
        fs::read_to_string(root().join(format!("tests/data/{}.{kind}", self.name))).unwrap()
    }

    fn promises(&self) -> Vec<Promise> {
        let text = self.data("tsv");
        let lines = text.lines().map(|line| line.split_once('\t').unwrap());
        lines.map(|(id, text)| Promise { id: id.to_owned(), text: text.to_owned() }).collect()
    }

    fn listed(&self) -> Listed {
        let table: toml::Table = self.data("toml").parse().unwrap();
        let reason =
            |(id, why): (&String, &toml::Value)| (id.clone(), why.as_str().unwrap().to_owned());
        let deviations = table["deviations"].as_table().unwrap().iter().map(reason).collect();
        let open = table["open"].as_array().unwrap().iter();
        Listed { deviations, open: open.map(|id| id.as_str().unwrap().to_owned()).collect() }
    }

    fn table(
        &self,
        promises: &[Promise],
        tests: &Tests,
        deviations: &BTreeMap<String, String>,
    ) -> String {
        let Self { title, about, kinds, .. } = self;
        let mut text = format!(
            "# {title}\n\nEvery promise about {about}, and the tests that show it.\nThis file is generated from the tests: \
             `UPDATE_GOLDEN=1 cargo test --test tidy` writes it. *Stores*: a test marked with a star runs on \
             each store there is.\n\n| kind | what it is |\n|---|---|\n"
        );
        for (kind, meaning) in *kinds {
            writeln!(text, "| `{kind}` | {meaning} |").unwrap();
        }
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
}

/// What has no test.
struct Listed {
    /// Deliberately not kept, with the reason.
    deviations: BTreeMap<String, String>,
    /// Not shown yet.
    open: BTreeSet<String>,
}

/// What all tests say they prove, without the promises of the services.
fn tests() -> Tests {
    let mut tests = Tests::new();
    for Claim { ids, test, on_every_store } in sources().iter().flat_map(claims) {
        let star = if on_every_store { "*" } else { "" };
        for id in ids.into_iter().filter(|id| !is_of_services(id)) {
            tests.entry(id).or_default().insert(format!("`{test}`{star}"));
        }
    }
    tests
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
pub(super) fn function(line: &str) -> Option<&str> {
    let (before, rest) = line.split_once("fn ")?;
    let is_head = before
        .split_whitespace()
        .all(|word| matches!(word, "pub" | "pub(crate)" | "pub(super)" | "async" | "const"));
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    is_head.then_some(&rest[..end])
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
