//! The worked example, whose processes and actors are killed at random while its jobs hold services (ACC-6.2, ACC-6.3): what
//! comes of its study is what would have come of it without, no number is given twice, no reply that was kept is paid for
//! twice, and nothing that was started for it is left.
//!
//! `PERENNIAL_STAGED_KILLS` says how many kills there are on each store, as for the run beside it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use perennial::{
    Adoption, RunId, Runtime, Store,
    engine::{StartRun, scheduler::LeaseTerms, workflow::RetryPolicy},
    records::{JobState, RunView, Timestamp},
    service::ServiceKey,
};
use perennial_store::{InstanceRecord, verify};
use perennial_testkit::{Deadline, Seed};
use serde_json::{Value, json};
use tempfile::TempDir;

use self::platform::{Platform, Study, Terms};
use super::{
    END_WITHIN, RUN,
    ledger::Victim,
    on_every_store,
    place::{Place, look_beside},
    processes::Processes,
    staged,
    victim::{Ledger, Orders},
};

// The rooms of the example themselves.
#[path = "../../../examples/staged_jobs/platform.rs"]
#[expect(dead_code, reason = "the example shows more of what came of it")]
mod platform;

const KILLS: u64 = 15;
/// How long anything takes.
const PACE: Duration = Duration::from_millis(3);
/// So often one actor is hit in a life: who is hit more often is given up, as it should be.
const HITS_MAX: usize = 2;
/// Where a life is told what the one before has left.
const LEFT: &str = "left";
/// How soon what nobody needs is stopped.
const REST_WITHIN: Duration = Duration::from_secs(30);
/// How soon what a process has started is gone after it.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// One life of the process.
pub(super) async fn live(orders: &Orders, ledger: Arc<Ledger>) {
    let (folder, seed) = orders.study.clone().unwrap();
    let told = ledger.clone();
    let terms = Terms {
        pace: PACE,
        // An attempt may end with its process as often as it likes.
        retry: RetryPolicy { base_ms: 1, cap_ms: 5, crashes_max: 1_000, ..RetryPolicy::PROVIDER },
        notes: Arc::new(move |note| told.write(note)),
    };
    let platform = Platform::new(Path::new(&folder), terms);
    let store = match orders.store.strip_prefix("postgres") {
        Some(_) => Store::postgres(&orders.store).unwrap(),
        None => Store::sqlite(&orders.store),
    };
    // Each life knows that the one before is over.
    let lease = LeaseTerms { exclusive: true, ..LeaseTerms::default() };
    let builder = platform.on(store).node("local").lease(lease).adoption(Adoption::AtBoot);
    // The hits are the test's own doing.
    let builder = builder.root_intensity(1_000, Duration::from_secs(60));
    let runtime = builder.drain_within(Duration::ZERO).start().await.unwrap();
    ledger.write("up");
    let run = Some(RunId::parse(&orders.run).unwrap());
    let start = StartRun { run, ..platform.staged.start(&Study::usual()).unwrap() };
    let run = runtime.runs().start(start).await.unwrap();
    ledger.write("created");
    let outcome = tokio::select! {
        outcome = run.outcome() => outcome.unwrap(),
        () = hits(&runtime, seed, &ledger) => unreachable!("it has no end"),
    };
    ledger.write(&format!("closed {}", outcome.state));
    come_to_rest(&folder, &orders.store).await;
    runtime.shutdown().await;
    ledger.write("down");
}

/// Goes on until nothing is up of what the life before has left, where it is told what that is. Nobody holds it, and nobody
/// asks.
#[expect(clippy::disallowed_methods, reason = "each look ends by itself, and is waited for")]
async fn come_to_rest(folder: &str, store: &str) {
    let left = std::fs::read_to_string(Path::new(folder).join(LEFT)).unwrap_or_default();
    let deadline = Deadline::after(REST_WITHIN);
    loop {
        let store = store.to_owned();
        let up = async |store: &dyn perennial_store::Store| store.instances(1_000).await.unwrap();
        let up = tokio::task::spawn_blocking(move || look_beside(&store, up)).await.unwrap();
        let is_left = |row: &InstanceRecord| left.lines().any(|key| key == row.key.to_string());
        let up: Vec<_> = up.into_iter().filter(is_left).collect();
        if up.is_empty() {
            return;
        }
        assert!(!deadline.left().is_zero(), "still up after {REST_WITHIN:?}: {up:#?}");
        // real time: others stop it meanwhile
        tokio::time::sleep(PACE).await;
    }
}

/// Crashes and kills actors of runs and of services, attempts, and whatever drivers do, one at a time.
async fn hits(runtime: &Runtime, seed: u64, ledger: &Ledger) {
    if seed == 0 {
        return std::future::pending().await;
    }
    let mut seed = Seed::new(seed);
    let mut hit = BTreeMap::<String, usize>::new();
    let tree = runtime.supervision_tree();
    loop {
        // real time: it goes on meanwhile
        tokio::time::sleep(Duration::from_millis(seed.between(1..25))).await;
        let parts = ["/perennial/runs/", "/perennial/services/", "/perennial/tasks/"];
        let of = *seed.pick(&parts);
        let nodes = runtime.tree().nodes.into_iter().map(|node| node.path);
        let targets: Vec<String> = nodes.filter(|path| path.starts_with(of)).collect();
        if targets.is_empty() {
            continue;
        }
        let path = seed.pick(&targets);
        let times = hit.entry(path.clone()).or_default();
        if *times == HITS_MAX {
            continue;
        }
        *times += 1;
        // It may have ended by itself.
        let victim = if seed.chance(1, 2) { tree.kill(path) } else { tree.crash(path) };
        if victim.is_ok() {
            ledger.write(&format!("hit {path}"));
        }
    }
}

/// A study, its store and its apps, and all that its lives have told.
struct Trial {
    place: Place,
    folder: TempDir,
    processes: Processes,
    /// Whose each number is.
    numbers: BTreeMap<String, String>,
    /// Replies that are paid for, how often.
    paid: BTreeMap<String, u32>,
    /// Those that are kept.
    kept: BTreeSet<String>,
    hits: u32,
    is_over: bool,
    /// When its last life began, by the clock of its store.
    last_began: Timestamp,
}

impl Trial {
    fn new(place: Place) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let processes = Processes::with(folder.path());
        let (numbers, paid, kept) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let last_began = Timestamp::default();
        Self { place, folder, processes, numbers, paid, kept, hits: 0, is_over: false, last_began }
    }

    fn victim(&self, seed: u64) -> Victim {
        let folder = self.folder.path().display().to_string();
        let orders = staged::orders(&self.place);
        Victim::start(&Orders { staged: false, study: Some((folder, seed)), ..orders })
    }

    fn take(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "number" => {
                let (number, job) = rest.split_once(' ').unwrap();
                let first = self.numbers.entry(number.to_owned()).or_insert(job.to_owned());
                assert_eq!(first, job, "number {number} was given to two jobs");
                let has = self.numbers.values().filter(|of| *of == job).count();
                assert_eq!(has, 1, "job {job} got another number");
            }
            "paid" => {
                assert!(!self.kept.contains(rest), "{rest} was kept, and is paid for again");
                *self.paid.entry(rest.to_owned()).or_default() += 1;
            }
            "kept" => drop(self.kept.insert(rest.to_owned())),
            "hit" => self.hits += 1,
            "closed" => self.is_over = true,
            "asked" | "up" | "created" | "down" => {}
            other => panic!("{other} is no word of a study"),
        }
    }

    /// What a dead victim has left: nothing that runs, and in the store what must be there.
    fn buried(&mut self) -> Option<RunView> {
        self.processes.are_gone(GONE_WITHIN);
        let (view, kept) = self
            .place
            .look(async |store| {
                let violations = verify(store).await.unwrap();
                assert!(violations.is_empty(), "{violations:#?}");
                let view = store.run(&RunId::parse(RUN).unwrap()).await.ok()?;
                // Acknowledged or not: what is in the store is kept.
                let of = |row: i64| view.jobs.iter().find(|job| job.id == row).unwrap().key.clone();
                let kept =
                    view.saved.iter().map(|it| format!("{} {}", of(it.job), it.name)).collect();
                Some((view, kept))
            })
            .unzip();
        self.kept.extend(kept.unwrap_or_else(Vec::new));
        view
    }

    /// A life that ends by itself, and the end of all.
    fn finish(&mut self) -> Picture {
        let deadline = Deadline::after(END_WITHIN);
        self.last_began = self.place.look(async |store| store.now());
        let mut victim = self.victim(0);
        while let Some(line) = victim.next() {
            self.take(&line);
            assert!(!deadline.left().is_zero(), "not over within {END_WITHIN:?}");
        }
        victim.ended().iter().for_each(|line| self.take(line));
        assert!(self.is_over, "{}", victim.errors());
        self.picture()
    }

    /// Nothing is held, nothing may run, and no number is missing; what is left is what came of it.
    fn picture(&mut self) -> Picture {
        let view = self.buried().unwrap();
        let shared = ["llm", "static", "dynamic", "performance", "ai"].map(ServiceKey::shared);
        let apps = self.numbers.keys().map(|number| ServiceKey::keyed("app", number.as_str()));
        let keys: Vec<ServiceKey> = shared.into_iter().chain(apps).collect();
        self.place.look(async |store| {
            for key in keys {
                assert_eq!(store.holds(key.clone()).await.unwrap(), [], "{key} is held");
            }
        });
        let numbers: BTreeSet<&str> = self.numbers.keys().map(String::as_str).collect();
        let all = ["large:1", "large:2", "large:3", "swift:1", "swift:2", "swift:3"];
        assert_eq!(numbers, BTreeSet::from(all));
        Picture::of(&view)
    }

    /// What is up in the store.
    fn up(&self) -> Vec<InstanceRecord> {
        self.place.look(async |store| store.instances(1_000).await.unwrap())
    }

    /// Nothing is: the last process has stopped all that it had started, and found.
    fn is_at_rest(&self) {
        let up = self.up();
        assert!(up.is_empty(), "{up:#?}");
    }

    /// The same, unless the run was over before there was time to look: then what the life before has left is as it was, and
    /// whoever comes next stops it.
    fn comes_to_rest(&mut self) {
        let left = self.up();
        let touched: Vec<_> = left.iter().filter(|row| row.since >= self.last_began).collect();
        assert!(touched.is_empty(), "{touched:#?}");
        let keys: Vec<String> = left.iter().map(|row| row.key.to_string()).collect();
        std::fs::write(self.folder.path().join(LEFT), keys.join("\n")).unwrap();
        self.finish();
        self.is_at_rest();
    }
}

/// What of a study does not depend on who was killed when.
#[derive(Debug, PartialEq)]
struct Picture {
    state: String,
    progress: Option<u32>,
    stages: Vec<Value>,
    jobs: BTreeMap<String, Value>,
}

impl Picture {
    fn of(view: &RunView) -> Self {
        let job = |job: &perennial_store::JobRecord| {
            let gave = [JobState::Succeeded, JobState::Partial].contains(&job.state);
            let mut result = job.result.clone().filter(|_| gave).unwrap_or_default();
            // Which of two jobs is the first to draw one is chance.
            if let Some(app) = result.as_object_mut() {
                app.remove("number");
            }
            (job.key.to_string(), json!([job.state, job.skipped, result]))
        };
        let stages = view.stages.iter().map(|it| json!([it.stage, it.state, it.outcome]));
        Self {
            state: view.run.state.to_string(),
            progress: view.run.progress,
            stages: stages.collect(),
            jobs: view.jobs.iter().map(job).collect(),
        }
    }

    /// Job by job first: that tells more than two whole ones.
    fn is(&self, expected: &Self) {
        for (key, job) in &self.jobs {
            assert_eq!(Some(job), expected.jobs.get(key), "{key}");
        }
        assert_eq!(self, expected);
    }

    fn count(&self, stage: &str, state: JobState) -> usize {
        let of = |key: &str| key.strip_prefix(stage).is_some_and(|own| !own[1..].contains('/'));
        self.jobs.iter().filter(|(key, job)| of(key) && job[0] == json!(state)).count()
    }
}

/// The study without a kill, which is what 19.3 says of it.
fn undisturbed(place: Place) -> Picture {
    let mut trial = Trial::new(place);
    let expected = trial.finish();
    trial.is_at_rest();
    assert_eq!((expected.state.as_str(), expected.progress), ("partially_succeeded", Some(100)));
    let count = |stage: &str, state| expected.count(stage, state);
    assert_eq!(count("generation", JobState::Succeeded), 5);
    assert_eq!(count("generation", JobState::Failed), 1);
    assert_eq!(count("analysis", JobState::Succeeded), 4);
    assert_eq!(count("analysis", JobState::Partial), 1);
    assert_eq!(count("analysis", JobState::Skipped), 1);
    // One reply was refused and one overloaded: 12 asked for.
    let paid: u32 = trial.paid.values().sum();
    assert_eq!((paid, trial.kept.len()), (12, 10));
    expected
}

on_every_store!(
    a_study_that_is_killed_at_random_ends_as_if_nothing_had_been,
    a_host_that_is_killed_while_its_jobs_hold_services_leaves_nothing,
    a_host_whose_run_is_over_when_it_comes_back_may_leave_at_once,
);

/// Proves TG1.
/// ACC-6.2: processes die at any moment, and in half of the lives single actors besides.
#[expect(clippy::print_stdout, reason = "how much was tried is what is published of it")]
fn a_study_that_is_killed_at_random_ends_as_if_nothing_had_been(place: Place) {
    let expected = undisturbed(place.another());
    let kills = std::env::var("PERENNIAL_STAGED_KILLS").map_or(KILLS, |text| text.parse().unwrap());
    let name = place.name();
    let mut seed = Seed::of_test(&format!("kills of a study, {name}"));
    let (mut done, mut studies, mut hits, mut most) = (0, 0, 0, 0);
    let mut trial = Trial::new(place);
    while done < kills {
        let own = if seed.chance(1, 2) { seed.next_u64().max(1) } else { 0 };
        let victim = trial.victim(own);
        let elapsed = seed.chance(1, 3).then(|| Duration::from_millis(seed.between(1..300)));
        let lines = seed.below(25);
        let deadline = elapsed.map(Deadline::after);
        for read in 0.. {
            let line = match &deadline {
                Some(deadline) => victim.next_within(deadline.left()),
                None if read < lines => victim.next(),
                None => None,
            };
            let Some(line) = line else { break };
            trial.take(&line);
        }
        trial.processes.look();
        let rest = victim.kill();
        rest.iter().for_each(|line| trial.take(line));
        if trial.is_over {
            trial.picture().is(&expected);
            (studies, hits, most) = (studies + 1, hits + trial.hits, most.max(trial.paid_most()));
            trial = Trial::new(trial.place.another());
        } else {
            done += 1;
            drop(trial.buried());
        }
    }
    trial.finish().is(&expected);
    trial.comes_to_rest();
    (studies, hits, most) = (studies + 1, hits + trial.hits, most.max(trial.paid_most()));
    println!(
        "{name}: {kills} kills and {hits} hits of actors in {studies} studies; a reply was paid for {most} times at most, one \
         that was kept never again"
    );
}

impl Trial {
    fn paid_most(&self) -> u32 {
        self.paid.values().max().copied().unwrap_or(0)
    }
}

/// Its services were up when it was killed, and are known to the store; it ends before it has looked at all of them.
fn a_host_whose_run_is_over_when_it_comes_back_may_leave_at_once(place: Place) {
    let expected = undisturbed(place.another());
    let mut trial = Trial::new(place);
    for round in 1.. {
        assert!(round <= 20, "it has always stopped all of them before it was killed");
        let victim = trial.victim(0);
        while !trial.is_over {
            let line = victim.next().unwrap();
            trial.take(&line);
        }
        trial.processes.look();
        victim.kill().iter().for_each(|line| trial.take(line));
        trial.picture().is(&expected);
        if !trial.up().is_empty() {
            break;
        }
        // It was stopped before it was killed.
        trial = Trial::new(trial.place.another());
    }
    let paid = trial.paid.clone();
    trial.finish().is(&expected);
    trial.comes_to_rest();
    assert_eq!(trial.paid, paid, "nothing was left to be done");
}

/// ACC-6.3, INV-24: the holds of jobs outlive their host, and count for the next one; its processes do not, also the analyzer
/// that was asked just then.
fn a_host_that_is_killed_while_its_jobs_hold_services_leaves_nothing(place: Place) {
    let expected = undisturbed(place.another());
    let mut trial = Trial::new(place);
    let victim = trial.victim(0);
    while let Some(line) = victim.next() {
        trial.take(&line);
        if line.starts_with("asked performance process:") {
            break;
        }
    }
    trial.processes.look();
    assert!(trial.processes.are_there(), "it has an analyzer, and a guard");
    victim.kill().iter().for_each(|line| trial.take(line));
    assert!(!trial.is_over, "it was killed in the midst of it");
    trial.buried().unwrap();
    let analyzer = ServiceKey::shared("performance");
    let (before, holds) = trial.place.look(async |store| {
        let row = store.instance(analyzer.clone()).await.unwrap().unwrap();
        (row, store.holds(analyzer.clone()).await.unwrap())
    });
    assert!(holds.iter().any(|hold| hold.job.is_some()), "jobs hold it still: {holds:?}");
    trial.finish().is(&expected);
    trial.is_at_rest();
    let after = trial.place.look(async |store| store.instance(analyzer.clone()).await);
    let after = after.unwrap().unwrap();
    assert!(after.epoch > before.epoch, "another life: {before:?}, {after:?}");
}
