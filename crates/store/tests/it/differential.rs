//! What one store answers, each of them answers: the same operations in the same order, by chance, right and wrong
//! ones, on all stores. Answers and what is left are compared, without instants and what follows from them.

use perennial_core::run::{AttemptEnd, JobState, RunState, SequenceName, SlotPool};
use perennial_store::{
    CallStart, Created, Decision, JobStep, Lease, NewCheckpoint, NewNumber, NewSignal, NewVersion,
    NodeRef, SignalKind, SlotGiven, Store, StoreError, VerifyCursor,
};
use perennial_testkit::Seed;
use serde_json::json;

use crate::{fixture::*, stores};

/// Operations of one history.
const LENGTH: usize = 60;
/// Histories, unless `PERENNIAL_DIFFERENTIAL_SEEDS` says otherwise.
const SEEDS: u64 = 12;

fn seeds() -> u64 {
    std::env::var("PERENNIAL_DIFFERENTIAL_SEEDS").map_or(SEEDS, |text| text.parse().unwrap())
}

/// What a value shows, without instants: they and what is hashed with them differ.
fn shown<T: std::fmt::Debug>(value: &T) -> String {
    let text = format!("{value:?}");
    let mut shown = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find(|letter: char| letter.is_ascii_digit()) {
        shown.push_str(&rest[..at]);
        rest = &rest[at..];
        let is_of_time = |letter: char| letter.is_ascii_digit() || "-T:.Z".contains(letter);
        let end = rest.find(|letter| !is_of_time(letter)).unwrap_or(rest.len());
        shown.push_str(if end >= 13 { "?" } else { &rest[..end] });
        rest = &rest[end..];
    }
    shown + rest
}

/// What stands before the number of a job's row.
const BEFORE_JOB: [&str; 5] = ["job: ", "job_ids: [", "{ id: ", "woken: Some(", "taken_by: Some("];

/// One history: what was done, what was answered.
struct History<'a> {
    store: &'a dyn Store,
    seed: Seed,
    lines: Vec<String>,
    /// All that were ever handed out.
    leases: Vec<Lease>,
    nodes: Vec<NodeRef>,
    /// Numbers of jobs as they came: a server gives none that was given to what failed.
    jobs: Vec<String>,
    made: u32,
}

impl History<'_> {
    fn note<T: std::fmt::Debug>(&mut self, what: &str, answer: &Result<T, StoreError>) {
        let line = self.numbered(&format!("{what}: {}", shown(answer)));
        self.lines.push(line);
    }

    /// Numbers of jobs by their order.
    fn numbered(&mut self, text: &str) -> String {
        let (mut line, mut rest) = (String::new(), text);
        let next = |rest: &str| {
            let ends = BEFORE_JOB.iter().filter_map(|mark| Some(rest.find(mark)? + mark.len()));
            ends.min()
        };
        while let Some(at) = next(rest) {
            line.push_str(&rest[..at]);
            rest = &rest[at..];
            let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
            if end > 0 {
                let number = &rest[..end];
                let known = self.jobs.iter().position(|job| job == number);
                let place = known.unwrap_or_else(|| {
                    self.jobs.push(number.to_owned());
                    self.jobs.len() - 1
                });
                line.push_str(&format!("#{place}"));
            }
            rest = &rest[end..];
        }
        line + rest
    }

    async fn step(&mut self) {
        let runs = ["r0", "r1"];
        let run = run_id(runs[usize::from(self.seed.chance(1, 3))]);
        let node = self.seed.pick(&self.nodes).clone();
        let lease = match self.leases.len() {
            0 => None,
            // Mostly a young one.
            all if self.seed.chance(2, 3) => Some(self.leases[all - 1].clone()),
            _ => Some(self.seed.pick(&self.leases).clone()),
        };
        let store = self.store;
        match (self.seed.below(16), lease) {
            (0, _) => {
                let answer = store.create_run(new_run(run.as_str(), &node)).await;
                if let Ok(Created::New { leases, .. }) = &answer {
                    self.leases.extend(leases.iter().cloned());
                }
                self.note("create", &answer);
            }
            (1 | 2, _) => {
                let answer = store.claim(&run, &node, 2).await;
                let claimed = answer.iter().flatten().map(|claimed| claimed.lease.clone());
                self.leases.extend(claimed);
                self.note("claim", &answer);
            }
            (3 | 4, _) => self.decide(&run, &node).await,
            (5, _) => {
                let states = [RunState::Running, RunState::Paused, RunState::Cancelling];
                let (from, to) = (*self.seed.pick(&states), *self.seed.pick(&states));
                let revision = store.revision(&run).await.unwrap_or(0);
                let answer = store.commit(entering(&run, revision, from, to)).await;
                self.note("enter", &answer);
            }
            (6, _) => {
                let request = self.seed.below(20).to_string();
                let answer = store.signal(NewSignal {
                    run,
                    request,
                    kind: *self.seed.pick(&[SignalKind::Signal, SignalKind::Answer]),
                    name: "go".to_owned(),
                    payload: json!({ "go": self.made }),
                    by: "ada".to_owned(),
                    why: String::new(),
                });
                let answer = answer.await;
                self.note("signal", &answer);
            }
            (7, _) => {
                let answer = store.rescue(Some(&run), 10).await;
                self.note("rescue", &answer);
            }
            (8, _) if self.seed.chance(1, 3) => {
                // Until when it lives is each store's own.
                let answer = store.register_node_on("n", EXCLUSIVE).await;
                let answer = answer.map(|registered| (registered.node, registered.ended));
                self.nodes.extend(answer.iter().map(|(node, _)| node.clone()));
                self.note("register", &answer);
            }
            (9, Some(lease)) => {
                let answer = store.release(&lease, "enough").await;
                self.note("release", &answer);
            }
            (10, Some(lease)) => {
                let name = "1/x".to_owned();
                let call = CallStart { name, idempotency_key: "k".to_owned() };
                let answer = store.begin_call(&lease, call).await;
                self.note("begin a call", &answer);
                let answer = store.record_call(&lease, "1/x", json!(self.made)).await;
                self.note("record a call", &answer);
            }
            (11, Some(lease)) => {
                let value = json!({ "made": self.made });
                let saved = NewCheckpoint { name: "s".to_owned(), value, keep: false };
                let answer = store.save(&lease, saved).await;
                self.note("save", &answer);
                let answer = store.beat(&lease, json!({"at": self.made})).await;
                self.note("beat", &answer);
                self.numbers(&lease).await;
            }
            (_, Some(lease)) => self.report(&lease, &node).await,
            (_, None) => {
                let answer = store.run(&run).await;
                self.note("look", &answer);
            }
        }
        self.made += 1;
    }

    /// Numbers, in few names, so that they are often asked for again.
    async fn numbers(&mut self, lease: &Lease) {
        let store = self.store;
        let (sequence, scope) = (SequenceName::new("invoice").unwrap(), "x".to_owned());
        let key = self.seed.below(6).to_string();
        let new = NewNumber { sequence: sequence.clone(), scope: scope.clone(), key: key.clone() };
        let answer = store.allocate(lease, new).await;
        self.note("number", &answer);
        let (number, parent) = (1 + self.seed.below(4), 1);
        let new = NewVersion { sequence, scope, number, parent, key };
        let answer = store.allocate_version(lease, new).await;
        self.note("version", &answer);
        let pool = SlotPool::new("ports", 1..=3).unwrap();
        let name = self.seed.below(3).to_string();
        let answer = store.slot_take(lease, &pool, &name).await;
        self.note("take", &answer);
        let number = 1 + u32::from(self.seed.chance(1, 2));
        let why = *self.seed.pick(&[SlotGiven::Unused, SlotGiven::Conflict]);
        if self.seed.chance(1, 3) {
            let answer = store.slot_give(lease, "ports", number, why).await;
            self.note("give", &answer);
        }
    }

    /// More jobs, and others cancelled.
    async fn decide(&mut self, run: &perennial_core::run::RunId, node: &NodeRef) {
        let view = self.store.run(run).await;
        let revision = view.as_ref().map_or(0, |view| view.run.revision);
        let stale = u64::from(self.seed.chance(1, 5));
        let mut step = decision(run, revision + stale);
        let key = format!("j{}", self.seed.below(8));
        let claim_for = self.seed.chance(1, 2).then_some(node);
        step.new_jobs = vec![new_job(&key, claim_for)];
        if let (true, Some(job)) = (
            self.seed.chance(1, 3),
            view.ok().and_then(|view| view.jobs.first().map(|job| (job.id, job.state))),
        ) {
            step.jobs = vec![JobStep::new(job.0, job.1, JobState::Cancelled)];
        }
        let answer = self.store.commit(step).await;
        if let Ok(perennial_store::Committed::Now { leases, .. }) = &answer {
            self.leases.extend(leases.iter().cloned());
        }
        self.note("decide", &answer);
    }

    async fn report(&mut self, lease: &Lease, node: &NodeRef) {
        let (end, to) = *self.seed.pick(&[
            (AttemptEnd::Succeeded, JobState::Succeeded),
            (AttemptEnd::Partial, JobState::Partial),
            (AttemptEnd::Error, JobState::Failed),
            (AttemptEnd::Error, JobState::Ready),
            (AttemptEnd::Skipped, JobState::Skipped),
            (AttemptEnd::Unavailable, JobState::Deferred),
            (AttemptEnd::Suspended, JobState::Suspended),
            (AttemptEnd::Cancelled, JobState::Cancelled),
            (AttemptEnd::Succeeded, JobState::Failed),
        ]);
        let revision = self.store.revision(&lease.run).await.unwrap_or(0);
        let follow = self.seed.chance(1, 2);
        let key = format!("j{}", self.seed.below(8));
        let new_jobs = if follow { vec![new_job(&key, Some(node))] } else { Vec::new() };
        let report = Some(report(lease, end, to));
        let step = Decision { report, new_jobs, ..decision(&lease.run, revision) };
        let answer = self.store.commit(step).await;
        if let Ok(perennial_store::Committed::Now { leases, .. }) = &answer {
            self.leases.extend(leases.iter().cloned());
        }
        self.note("report", &answer);
    }

    /// Everything that is left.
    async fn dump(&mut self) {
        for run in ["r0", "r1"] {
            let answer = self.store.run(&run_id(run)).await;
            self.note(run, &answer);
            let answer = self.store.events(run, 1, ALL).await;
            self.note(run, &answer);
            let answer = self.store.verify(VerifyCursor::of(run), ALL).await;
            let told = answer.map(|step| (step.violations, step.events));
            self.note(run, &told);
            let answer = self.store.allocations(&run_id(run)).await;
            self.note(run, &answer);
        }
        let answer = self.store.slots("ports").await;
        self.note("slots", &answer);
        let answer = self.store.runs(ALL).await;
        self.note("runs", &answer);
    }
}

async fn history(store: &dyn Store, seed: u64) -> Vec<String> {
    let nodes = vec![store.register_node_on("n", EXCLUSIVE).await.unwrap().node];
    let (seed, lines, leases) = (Seed::new(seed), Vec::new(), Vec::new());
    let mut history = History { store, seed, lines, leases, nodes, jobs: Vec::new(), made: 0 };
    for _ in 0..LENGTH {
        history.step().await;
    }
    history.dump().await;
    history.lines
}

fn assert_same(name: &str, seed: u64, one: &[String], other: &[String]) {
    for (place, (one, other)) in one.iter().zip(other).enumerate() {
        assert!(one == other, "seed {seed}, {place}:\nmemory: {one}\n{name}: {other}");
    }
    assert_eq!(one.len(), other.len());
}

/// Proves INV-ST-34, FC1.
#[test]
fn all_stores_answer_alike_and_are_left_alike() {
    let mut answered = [0, 0];
    for seed in 0..seeds() {
        let mut memory = Vec::new();
        stores::on_memory(async |store| memory = history(store, seed).await);
        let mut other = Vec::new();
        stores::on_sqlite(async |store| other = history(store, seed).await);
        assert_same("sqlite", seed, &memory, &other);
        #[cfg(feature = "postgres")]
        {
            let mut other = Vec::new();
            let case = async |store: &dyn Store| other = history(store, seed).await;
            crate::postgres::on_postgres("differential", crate::postgres::options(), case);
            if !other.is_empty() {
                assert_same("postgres", seed, &memory, &other);
            }
        }
        for line in &memory {
            answered[usize::from(line.contains(": Err("))] += 1;
        }
    }
    assert!(answered.iter().all(|count| *count > seeds() * 5), "{answered:?} right and wrong ones");
}
