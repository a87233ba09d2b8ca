//! The worked example: what its study comes to, in each of the three ways in which it can be asked for, and what the tree
//! shows meanwhile.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use perennial::{
    RunId, Runtime, Store, TreeSnapshot,
    engine::{RunOutcome, StartRun, workflow::RetryPolicy},
    records::JobState,
};
use perennial_testkit::Deadline;

use serde_json::json;

use self::platform::{
    Platform, Study, Terms,
    answers::{Found, Severity, read},
};

// The rooms of the example themselves.
#[path = "../../examples/staged_jobs/platform.rs"]
pub(crate) mod platform;

struct World {
    platform: Platform,
    runtime: Runtime,
    notes: Arc<Mutex<Vec<String>>>,
    _folder: tempfile::TempDir,
}

impl World {
    async fn with_pace(pace: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let notes = Arc::<Mutex<Vec<String>>>::default();
        let (noted, retry) = (notes.clone(), RetryPolicy { base_ms: 1, ..RetryPolicy::PROVIDER });
        let note = move |note: &str| noted.lock().unwrap().push(note.to_owned());
        let platform = Platform::new(folder.path(), Terms { pace, retry, notes: Arc::new(note) });
        let store = Store::sqlite(folder.path().join("runs.db"));
        let runtime = platform.on(store).start().await.unwrap();
        Self { platform, runtime, notes, _folder: folder }
    }

    async fn outcome(&self, run: &str, study: &Study) -> RunOutcome {
        let run = Some(RunId::parse(run).unwrap());
        let start = StartRun { run, ..self.platform.staged.start(study).unwrap() };
        let run = self.runtime.runs().start(start).await.unwrap();
        tokio::time::timeout(Duration::from_secs(60), run.outcome()).await.unwrap().unwrap()
    }

    fn paid(&self) -> usize {
        self.notes.lock().unwrap().iter().filter(|note| note.starts_with("paid")).count()
    }
}

/// Real time: a process, and the store's threads, are foreign to a paused clock.
#[tokio::test]
async fn a_study_comes_to_the_same_one_by_one_at_a_barrier_and_of_apps_that_are_there() {
    let world = World::with_pace(Duration::from_millis(5)).await;
    let study = Study { tools: Vec::new(), ..Study::usual() };
    let first = world.outcome("one-by-one", &study).await;
    assert_eq!((first.state.name(), first.view.run.progress), ("partially_succeeded", Some(100)));
    let report = world.platform.staged.output(&first.view).unwrap();
    let states: Vec<&str> = report.generated.iter().map(|row| row.state.name()).collect();
    let expected = ["succeeded", "succeeded", "succeeded", "succeeded", "succeeded", "failed"];
    assert_eq!((states, report.apps.len()), (expected.to_vec(), 5));
    let rows: Vec<(&str, &str, &str)> = report
        .analyses
        .iter()
        .map(|row| (row.key.as_str(), row.state.name(), row.told.split(',').next().unwrap()))
        .collect();
    let expected = [
        // It does not build: what needs it running is left out.
        ("0:large:blog", "partial", "14 static: 19 issues"),
        ("1:large:chat", "succeeded", "2 ai"),
        ("2:large:shop", "succeeded", "2 ai"),
        ("3:swift:blog", "succeeded", "2 ai"),
        ("4:swift:chat", "succeeded", "2 ai"),
        ("5:swift:shop", "skipped", "because of upstream"),
    ];
    assert_eq!(rows, expected);
    // One was refused, and one overloaded at first.
    assert_eq!(world.paid(), 12);

    let barrier = Study { streaming: false, ..study.clone() };
    let again = world.outcome("at-a-barrier", &barrier).await;
    let again = world.platform.staged.output(&again.view).unwrap();
    assert_eq!(again.analyses, report.analyses);

    let paid = world.paid();
    let existing = Study { existing: report.apps.clone(), ..study.clone() };
    let there = world.outcome("of-those-there", &existing).await;
    let there = world.platform.staged.output(&there.view).unwrap();
    assert_eq!(there.analyses, report.analyses[..5]);
    assert_eq!((there.generated.len(), world.paid()), (0, paid));

    // What nobody has is told, and takes nothing from the rest.
    let tools = vec!["bandit".to_owned(), "crystal-ball".to_owned()];
    let odd = world.outcome("with-an-odd-tool", &Study { tools, ..existing }).await;
    let odd = world.platform.staged.output(&odd.view).unwrap();
    assert!(odd.analyses.iter().all(|row| row.state == JobState::Partial), "{odd}");
    assert!(odd.analyses.iter().all(|row| row.told.starts_with("1 static")), "{odd}");
    world.runtime.shutdown().await;
}

/// Proves B40.
#[test]
fn issues_are_counted_in_every_form_and_none_is_made_up() {
    let found = |issues, worst| Found { issues, worst };
    let (low, high) = (Some(Severity::Low), Some(Severity::High));
    let forms = [
        (json!({"issues": [{"severity": "low"}, {"severity": "high"}, {}]}), found(3, high)),
        (
            json!({"runs": [{"results": [{"level": "error"}]}, {"results": [{"level": "note"}]}]}),
            found(2, high),
        ),
        (
            json!({"alerts": [{"risk": "Low", "count": "4"}, {"risk": "High", "count": 0}]}),
            found(4, low),
        ),
        (json!({"by_severity": {"low": 7, "high": 0}, "fixable": true}), found(7, low)),
        (json!({"total_issues": 9}), found(9, None)),
        // Rows are counted before a count is believed; a report of nothing is none.
        (json!({"issues": [{"severity": "low"}], "total_issues": 5}), found(1, low)),
        (json!({"issues": []}), Found::default()),
        (json!({"by_severity": {"low": u64::MAX, "high": 1}}), found(u64::MAX, high)),
    ];
    let tools = ["one".to_owned(), "other".to_owned()];
    for (report, expected) in &forms {
        let answer = json!({"one": report, "other": {"total_issues": 1}}).to_string();
        let (told, problems) = read(&answer, &tools);
        assert_eq!((&told["one"], told["other"].issues), (expected, 1), "{report}");
        assert_eq!(problems, [] as [&str; 0], "{report}");
        // Cut off anywhere, it is no answer at all.
        for end in 0..answer.len() {
            let (told, problems) = read(&answer[..end], &tools);
            assert!(told.values().all(|found| *found == Found::default()), "{}", &answer[..end]);
            assert_eq!((told.len(), problems.len()), (2, 1));
        }
    }
    let broken = [
        json!(null),
        json!(3),
        json!([]),
        json!({}),
        json!({"issues": "many"}),
        json!({"issues": [{"severity": 3}]}),
        json!({"alerts": [{"risk": "High", "count": "a few"}]}),
        json!({"alerts": [{"risk": "High"}]}),
        json!({"runs": [{}]}),
        json!({"by_severity": {"odd": 1}}),
        json!({"by_severity": {"low": -1}}),
        json!({"total_issues": 1.5}),
    ];
    for report in broken {
        let answer = json!({"one": report, "other": {"total_issues": 1}}).to_string();
        let (told, problems) = read(&answer, &tools);
        assert_eq!((told["one"], told["other"].issues), (Found::default(), 1), "{report}");
        assert!(problems.len() == 1 && problems[0].starts_with("report of one: "), "{problems:?}");
    }
    let (told, problems) = read("{}", &tools);
    assert_eq!((told.len(), problems.len()), (2, 2), "{problems:?}");
}

/// An answer that breaks off costs what is in it, and is told.
#[tokio::test]
async fn an_analyzer_that_answers_in_half_leaves_its_part_out() {
    let world = World::with_pace(Duration::from_millis(1)).await;
    let templates = vec!["riddle".to_owned()];
    let tools = vec!["bandit".to_owned(), "zap".to_owned()];
    let outcome = world.outcome("half", &Study { templates, tools, ..Study::usual() }).await;
    let of_bandit = outcome.view.jobs.iter().filter(|job| job.parent.is_some());
    let of_bandit: Vec<_> = of_bandit.filter(|job| job.key.as_str().ends_with("/static")).collect();
    assert_eq!(of_bandit.len(), 2);
    assert!(of_bandit.iter().all(|job| job.state == JobState::Partial), "{of_bandit:?}");
    let report = world.platform.staged.output(&outcome.view).unwrap();
    assert!(
        report.analyses.iter().all(|row| row.told == "1 dynamic, 1 static: 0 issues"),
        "{report}"
    );
    world.runtime.shutdown().await;
}

/// Each service by its path, with its epoch and how many hold it.
fn services(tree: &TreeSnapshot) -> Vec<(String, u64, u64)> {
    let own = tree.nodes.iter().filter_map(|node| {
        let name = node.path.split_once("/services/")?.1.to_owned();
        Some((name, node.detail["epoch"].as_u64()?, node.detail["holds"].as_u64()?))
    });
    own.collect()
}

/// 19.3.7: while it runs, the tree shows services with their lives and who holds them, and in the end that nobody does.
#[tokio::test]
async fn the_tree_shows_lives_and_holds_of_services_while_a_study_runs() {
    let world = World::with_pace(Duration::from_millis(20)).await;
    let deadline = Deadline::after(Duration::from_secs(60));
    let start = world.platform.staged.start(&Study::usual()).unwrap();
    let run = world.runtime.runs().start(start).await.unwrap();
    let is_held = |of: &[(String, u64, u64)], name: &str, epoch: u64| {
        of.iter().any(|(it, life, holds)| it.starts_with(name) && *life >= epoch && *holds > 0)
    };
    loop {
        let shown = services(&world.runtime.tree());
        // The dynamic one has fallen over twice by then.
        if is_held(&shown, "app:", 1) && is_held(&shown, "dynamic", 3) {
            break;
        }
        assert!(!deadline.left().is_zero(), "{shown:?}");
        tokio::time::sleep(Duration::from_millis(2)).await; // real time: it is waited for
    }
    run.outcome().await.unwrap();
    loop {
        let shown = services(&world.runtime.tree());
        if shown.iter().all(|(_, _, holds)| *holds == 0) {
            break;
        }
        assert!(!deadline.left().is_zero(), "{shown:?}");
        tokio::time::sleep(Duration::from_millis(2)).await; // real time: it is waited for
    }
    world.runtime.shutdown().await;
}
