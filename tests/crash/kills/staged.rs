//! A run in stages whose processes are killed at random: in the end it is what it would have been without.
//!
//! `PERENNIAL_STAGED_KILLS` says how many kills there are on each store, 15 without it; the release is tried with 100.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use perennial::{
    Adoption, RunId, Runtime, Store,
    engine::{
        AttemptCx, Definition, StartRun,
        scheduler::LeaseTerms,
        staged::{
            Activity, ActivityError, Child, ChildOutcome, Edge, Ended, Feed, Group, Item, JobSpec,
            Joined, Plan, PlanProblems, RunReport, Stage, Staged, StagedWorkflow, Upstream,
        },
        workflow::{JobState, RetryPolicy, SequenceName, SkipReason},
    },
    records::{Failure, FailureClass, RunView},
};
use perennial_store::verify;
use perennial_testkit::{Deadline, Seed};
use serde_json::{Value, json};

use super::{
    END_WITHIN, RUN,
    flow::Shape,
    ledger::Victim,
    on_every_store,
    place::Place,
    victim::{Ledger, Orders},
};

const KILLS: u64 = 15;
/// Jobs of the first stage.
const APPS: usize = 14;

/// A try may end with its process as often as it likes.
const RETRY: RetryPolicy =
    RetryPolicy { base_ms: 1, cap_ms: 5, crashes_max: 1_000, ..RetryPolicy::PROVIDER };

/// Makes a call and answers by its input; every fifth fails for good, every third the first time.
struct Make(Arc<Ledger>);

impl Activity for Make {
    const NAME: &'static str = "make";
    type In = u64;
    type Out = u64;

    async fn run(&self, cx: &AttemptCx, input: u64) -> Result<Ended<u64>, ActivityError> {
        // Bound to the job, whichever attempt draws it.
        let number = cx.allocate(&SequenceName::new("made").unwrap(), "all").await?;
        self.0.write(&format!("number {number} {}", cx.job));
        let request = Definition::new(format!("{} of {input}", cx.job).into_bytes());
        let made = cx.call(request.digest, async |key| {
            // real time: the process may die meanwhile
            tokio::time::sleep(Duration::from_millis(1)).await;
            self.0.write(&format!("effect {} {} 1 {}", cx.job, cx.attempt, key.as_str()));
            Ok(json!(input * 2))
        });
        let made = made.await?.value.as_u64().unwrap_or(0);
        if input % 5 == 4 {
            return Err(Failure::new(FailureClass::Permanent, "APP1", "never").into());
        }
        if input.is_multiple_of(3) && cx.restored::<bool>("tried").await?.is_none() {
            cx.checkpoint("tried", &true).await?;
            return Err(Failure::new(FailureClass::Transient, "APP2", "not yet").into());
        }
        Ok(Ended::Done(made))
    }
}

/// Three children, one of them a group again, one skipped.
struct Look;

impl Group for Look {
    const NAME: &'static str = "look";
    type In = u64;
    type Out = u64;

    fn expand(&self, input: &u64) -> Vec<Child> {
        let of = |key: &str, input: u64| Child::activity::<Make>(key, &input).retry(RETRY);
        let mut children = vec![of("a", *input), of("b", input + 1)];
        if *input > 4 {
            children.push(Child::group::<Self>("deep", &(input % 4)));
        }
        children.push(Child::skipped("unknown", SkipReason::UnknownTool));
        children
    }

    fn join(&self, _: &u64, children: &[ChildOutcome]) -> Joined<u64> {
        let sum = children.iter().filter_map(ChildOutcome::output::<u64>).sum();
        Joined::by_ends(children, sum)
    }
}

/// What its runs are recorded with.
pub(super) const NAME: &str = "study";

/// Stages that follow from jobs, from groups, and from all of a stage.
pub(super) struct Study;

/// One for each that succeeded, under its key and with what it gave.
fn each(_: &Value, made: &Upstream) -> Vec<JobSpec> {
    made.succeeded().map(|item| JobSpec::new(&item.key, &item.result)).collect()
}

fn last(_: &Value, looked: &Upstream) -> Vec<JobSpec> {
    let sum: u64 = looked.succeeded().filter_map(Item::output::<u64>).sum();
    vec![JobSpec::new("sum", &sum)]
}

impl StagedWorkflow for Study {
    const NAME: &'static str = NAME;
    const VERSION: u32 = 1;
    type Input = u64;
    type Output = ();

    fn plan(&self, apps: &u64) -> Result<Plan, PlanProblems> {
        let jobs = (0..*apps).map(|app| JobSpec::new(app.to_string(), &app));
        let make =
            Stage::activity::<Make>("make").feed(Feed::jobs(jobs)).concurrency(3).retry(RETRY);
        let look = Feed::per_item(Edge::from("make", each));
        let look = Stage::group::<Look>("look").feed(look).concurrency(2);
        let note = Feed::per_item(Edge::from("look", each));
        let note = Stage::activity::<Make>("note").feed(note).retry(RETRY);
        let sum = Feed::barrier(Edge::from("look", last));
        let sum = Stage::activity::<Make>("sum").feed(sum).retry(RETRY).optional();
        Ok(Plan::new().stage(make).stage(look).stage(note).stage(sum))
    }

    fn summarize(&self, _: &u64, _: &RunReport) {}
}

pub(super) fn study(ledger: Arc<Ledger>) -> Staged<Study> {
    Staged::new(Study).activity(Make(ledger)).group(Look)
}

/// What its run is given.
pub(super) fn apps(orders: &Orders) -> u64 {
    orders.shape.jobs as u64
}

/// One life of the process.
pub(super) async fn live(orders: &Orders, ledger: Arc<Ledger>) {
    let study = study(ledger.clone());
    let store = match orders.store.strip_prefix("postgres") {
        Some(_) => Store::postgres(&orders.store).unwrap(),
        None => Store::sqlite(&orders.store),
    };
    let builder = Runtime::builder().store(store).node("local").staged(&study);
    // Each life knows that the one before is over.
    let lease = LeaseTerms { exclusive: true, ..LeaseTerms::default() };
    let builder = builder.lease(lease).adoption(Adoption::AtBoot).drain_within(Duration::ZERO);
    let runtime = builder.start().await.unwrap();
    ledger.write("up");
    let run = Some(RunId::parse(&orders.run).unwrap());
    let run = runtime
        .runs()
        .start(StartRun { run, ..study.start(&apps(orders)).unwrap() })
        .await
        .unwrap();
    ledger.write("created");
    let outcome = run.outcome().await.unwrap();
    ledger.write(&format!("closed {}", outcome.state));
    runtime.shutdown().await;
    ledger.write("down");
}

pub(super) fn orders(place: &Place) -> Orders {
    let shape = Shape { jobs: APPS, calls: 0, width: 1, call_ms: 0, retry_ms: 0 };
    Orders {
        store: place.url(),
        run: RUN.to_owned(),
        shape,
        events_from: 1,
        act: None,
        dies_at: None,
        samples: false,
        rooms: 100,
        blob: false,
        staged: true,
        watched: false,
        study: None,
        serving: None,
        undoing: false,
    }
}

/// Of a few jobs, on a store that tells of it.
pub(super) fn watched(place: &Place) -> Orders {
    let orders = orders(place);
    Orders { shape: Shape { jobs: 5, ..orders.shape }, watched: true, ..orders }
}

/// Whose each number is, over all lives.
#[derive(Default)]
pub(super) struct Numbers(BTreeMap<String, String>);

impl Numbers {
    pub(super) fn take(&mut self, line: &str) {
        let mut words = line.split(' ');
        if words.next() == Some("number") {
            let (number, job) =
                (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
            let first = self.0.entry(number.clone()).or_insert_with(|| job.clone());
            assert_eq!(*first, job, "number {number} was given to two jobs");
            let has = self.0.values().filter(|of| **of == job).count();
            assert_eq!(has, 1, "job {job} got another number");
        }
    }
}

/// A life that ends by itself; what it did.
fn to_the_end(place: &Place, numbers: &mut Numbers) -> RunView {
    let deadline = Deadline::after(END_WITHIN);
    let mut victim = Victim::start(&orders(place));
    while let Some(line) = victim.next() {
        numbers.take(&line);
        assert!(!deadline.left().is_zero(), "not over within {END_WITHIN:?}");
    }
    for line in victim.ended() {
        numbers.take(&line);
    }
    look(place).unwrap()
}

pub(super) fn look(place: &Place) -> Option<RunView> {
    place.look(async |store| {
        let violations = verify(store).await.unwrap();
        assert!(violations.is_empty(), "{violations:#?}");
        store.run(&RunId::parse(RUN).unwrap()).await.ok()
    })
}

/// What of a run does not depend on who was killed when.
pub(super) fn picture(view: &RunView) -> (String, Vec<Value>, BTreeMap<String, Value>) {
    let job = |job: &perennial_store::JobRecord| {
        let ended = (job.state, job.skipped, &job.result);
        (job.key.to_string(), json!(ended))
    };
    let stages = view.stages.iter().map(|stage| json!([stage.stage, stage.state, stage.outcome]));
    (view.run.state.to_string(), stages.collect(), view.jobs.iter().map(job).collect())
}

on_every_store!(a_staged_run_that_is_killed_at_random_ends_as_if_nothing_had_been);

/// Proves D1, D36, INV-8.
fn a_staged_run_that_is_killed_at_random_ends_as_if_nothing_had_been(place: Place) {
    let expected = picture(&to_the_end(&place, &mut Numbers::default()));
    assert_eq!(expected.0, "partially_succeeded");
    let states = |state: JobState| expected.2.values().filter(|job| job[0] == json!(state)).count();
    assert!(states(JobState::Failed) > 1 && states(JobState::Skipped) > 3, "{expected:?}");
    let kills = std::env::var("PERENNIAL_STAGED_KILLS").map_or(KILLS, |text| text.parse().unwrap());
    let mut seed = Seed::of_test(&format!("staged kills, {}", place.name()));
    let (mut done, mut place, mut numbers) = (0, place.another(), Numbers::default());
    while done < kills {
        let victim = Victim::start(&orders(&place));
        let mut is_over = false;
        let mut take = |line: &String| {
            numbers.take(line);
            is_over |= line.starts_with("closed");
        };
        for _ in 0..seed.below(12) {
            let Some(line) = victim.next() else { break };
            take(&line);
        }
        victim.kill().iter().for_each(take);
        if is_over {
            assert_eq!(picture(&look(&place).unwrap()), expected);
            (place, numbers) = (place.another(), Numbers::default());
        } else {
            done += 1;
            drop(look(&place));
        }
    }
    let view = to_the_end(&place, &mut numbers);
    assert_eq!(picture(&view), expected);
}
