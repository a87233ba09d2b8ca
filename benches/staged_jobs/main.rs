//! Jobs of runs in stages, against as many jobs of runs that say themselves what comes next, in the same process, on files.
//!
//! `cargo bench --bench staged_jobs`. A pipeline is one run: a stage of groups, ten of them at once, each with four children
//! that do nothing. What is counted is attempts: the groups themselves and their joins are on top of them.
//!
//! `PERENNIAL_BENCH_PIPELINES=20` takes as many pipelines (100 without it), `PERENNIAL_BENCH_ROUNDS=1` as many rounds
//! (3). With the argument `sizes` single runs of 1 000, 10 000 and 50 000 jobs are measured instead: what one more decision
//! costs in a run that has more jobs.

#![expect(clippy::unwrap_used, reason = "a bench has nobody to answer to")]
#![expect(clippy::print_stdout, reason = "its figures are its purpose")]

mod baseline;

use std::{env, time::Duration};

use perennial::engine::{
    AttemptCx, Definition, StartRun,
    staged::{
        Activity, ActivityError, Child, ChildOutcome, Ended, Feed, Group, JobSpec, Joined, Plan,
        PlanProblems, RunReport, Stage, Staged, StagedWorkflow,
    },
};
use perennial::{Limits, Runtime, Store};
use serde_json::json;

const PIPELINES: usize = 100;
/// Groups of a pipeline, and the children of each.
const GROUPS: usize = 100;
const CHILDREN: usize = 4;
const ROUNDS: usize = 3;
/// What the pipelines are divided by to see whether time is linear in them.
const PARTS: usize = 4;
/// Jobs of single runs, of which one costs as much as the other, each.
const SIZES: [usize; 3] = [1_000, 10_000, 50_000];

fn main() {
    let executor = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let pipelines = said("PERENNIAL_BENCH_PIPELINES", PIPELINES);
    let rounds = said("PERENNIAL_BENCH_ROUNDS", ROUNDS);
    if env::args().any(|said| said == "sizes") {
        executor.block_on(measure_sizes(rounds));
    } else {
        executor.block_on(measure(pipelines, rounds));
    }
}

fn said(name: &str, otherwise: usize) -> usize {
    env::var(name).ok().and_then(|said| said.parse().ok()).unwrap_or(otherwise)
}

/// Single runs, the small ones one after the other until they had as many jobs as one of the middle.
async fn measure_sizes(rounds: usize) {
    let [small, middle, large] = SIZES;
    let [mut of_small, mut of_middle, mut of_large] = [const { Vec::new() }; 3];
    for round in 0..rounds {
        let count = middle / small;
        let mut slowness = 0.0;
        for _ in 0..count {
            slowness += staged_runs(1, small / CHILDREN, 1).await.rate.recip();
        }
        of_small.push(count as f64 / slowness);
        of_middle.push(staged_runs(1, middle / CHILDREN, 1).await.rate);
        of_large.push(staged_runs(1, large / CHILDREN, 1).await.rate);
        println!(
            "round {round}: {:>6.0} children/s in a run of {small}, {:>6.0} in one of {middle}, {:>6.0} in one of {large}",
            of_small[round], of_middle[round], of_large[round]
        );
    }
    print_ratio("a run of 10 000 / one of 1 000", &of_middle, &of_small, "≥ 0.8");
    print_ratio("a run of 50 000 / one of 1 000", &of_large, &of_small, "≥ 0.8");
}

async fn measure(pipelines: usize, rounds: usize) {
    let [mut staged, mut plain, mut fewer, mut turns, mut longer] = [const { Vec::new() }; 5];
    let part = pipelines.div_ceil(PARTS);
    let [mut costs, mut costs_of_fewer] = [const { Vec::new() }; 2];
    for round in 0..rounds {
        let all = staged_runs(pipelines, GROUPS, pipelines).await;
        staged.push(all.rate);
        plain.push(baseline::plain_runs(pipelines, GROUPS * CHILDREN).await);
        // As many children in four parts: both halves of the pair write as much to the disk.
        let (mut slowness, mut cost) = (0.0, Some(0.0));
        for _ in 0..PARTS {
            let quarter = staged_runs(part, GROUPS, part).await;
            slowness += quarter.rate.recip();
            cost = cost.zip(quarter.cost).map(|(sum, cost)| sum + cost / PARTS as f64);
        }
        fewer.push(PARTS as f64 / slowness);
        costs.extend(all.cost);
        costs_of_fewer.extend(cost);
        // All of them, of which a fourth are active at a time: what they do to each other is the same as in a part.
        turns.push(staged_runs(pipelines, GROUPS, part).await.rate);
        // As many jobs in runs that are ten times as long.
        let few = pipelines.div_ceil(10);
        longer.push(staged_runs(few, GROUPS * 10, few).await.rate);
        println!(
            "round {round}: {:>6.0} children/s of {pipelines} pipelines, {:>6.0} of a fourth of them at a time, {:>6.0} \
             of all with a fourth active, {:>6.0} of runs ten times as long, {:>6.0} plain jobs/s; a child costs processors {} of \
             all and {} of a fourth at a time; memory {} after the first fourth of the runs, {} after the last",
            all.rate,
            fewer[round],
            turns[round],
            longer[round],
            plain[round],
            micros(all.cost),
            micros(cost),
            mebibytes(all.early),
            mebibytes(all.late)
        );
    }
    print_ratio("children / plain jobs", &staged, &plain, "≥ 0.5");
    print_ratio("all / a fourth of the pipelines at a time", &staged, &fewer, "none");
    print_ratio("all, a fourth active / a fourth at a time", &turns, &fewer, "1: time is linear");
    print_ratio(
        "processor time of a child, a fourth at a time / all",
        &costs_of_fewer,
        &costs,
        "none",
    );
    print_ratio("runs ten times as long / all", &longer, &staged, "1: time is linear");
}

struct Measured {
    rate: f64,
    /// What one child cost all threads, in microseconds; the disk and other programs do not change it much.
    cost: Option<f64>,
    /// Memory in use when the first fourth of the runs had ended, and after all, in bytes.
    early: Option<u64>,
    late: Option<u64>,
}

struct Pipeline;

impl StagedWorkflow for Pipeline {
    const NAME: &'static str = "bench";
    const VERSION: u32 = 1;
    type Input = usize;
    type Output = ();

    fn plan(&self, groups: &usize) -> Result<Plan, PlanProblems> {
        let jobs = (0..*groups).map(|group| JobSpec::new(format!("g{group}"), &group));
        Ok(Plan::new().stage(Stage::group::<Four>("work").feed(Feed::jobs(jobs)).concurrency(10)))
    }

    fn summarize(&self, _: &usize, _: &RunReport) {}
}

struct Four;

impl Group for Four {
    const NAME: &'static str = "four";
    type In = usize;
    type Out = u64;

    fn expand(&self, group: &usize) -> Vec<Child> {
        (0..CHILDREN).map(|child| Child::activity::<Nothing>(&format!("c{child}"), group)).collect()
    }

    fn join(&self, _: &usize, children: &[ChildOutcome]) -> Joined<u64> {
        Joined::by_ends(children, children.len() as u64)
    }
}

struct Nothing;

impl Activity for Nothing {
    const NAME: &'static str = "nothing";
    type In = usize;
    type Out = usize;

    async fn run(&self, _: &AttemptCx, group: usize) -> Result<Ended<usize>, ActivityError> {
        Ok(Ended::Done(group))
    }
}

/// Of the runs so many are active at a time.
async fn staged_runs(runs: usize, groups: usize, active: usize) -> Measured {
    let folder = tempfile::tempdir().unwrap();
    let staged = Staged::new(Pipeline).activity(Nothing).group(Four);
    let store = Store::sqlite(folder.path().join("runs.db"));
    let limits = Limits { runs: active, ..Limits::default() };
    let runtime = Runtime::builder().store(store).staged(&staged).limits(limits).start();
    let runtime = runtime.await.unwrap();
    let (begun, before) = (now(), processor());
    let mut started = Vec::with_capacity(runs);
    for _ in 0..runs {
        started.push(runtime.runs().start(staged.start(&groups).unwrap()).await.unwrap());
    }
    let mut early = None;
    for (place, run) in started.iter().enumerate() {
        assert_eq!(run.outcome().await.unwrap().state.name(), "succeeded");
        if place == runs / 4 {
            early = resident();
        }
    }
    let took = begun.elapsed();
    let late = resident();
    let cost = processor().zip(before).map(|(after, before)| {
        (after - before).as_secs_f64() * 1e6 / (runs * groups * CHILDREN) as f64
    });
    drop(started);
    runtime.shutdown().await;
    Measured { rate: per_second(runs * groups * CHILDREN, took), cost, early, late }
}

/// A run of the baseline.
fn start(jobs: usize) -> StartRun {
    let workflow =
        std::sync::Arc::new(baseline::Plain::new(jobs, Definition::new(b"plain 1".to_vec())));
    StartRun {
        run: None,
        workflow,
        settings: json!({}),
        within: None,
        priority: Default::default(),
    }
}

/// Memory of this process that is in RAM; nothing where nobody says so.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(text.split(' ').nth(1)?.parse::<u64>().ok()? * 4096)
}

/// Time that this process has had of processors; nothing where nobody says so.
fn processor() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // After the name of the program, which may have spaces; in hundredths of a second (proc(5)).
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system) = (fields.next()?.parse::<u64>().ok()?, fields.next()?.parse::<u64>().ok()?);
    Some(Duration::from_millis((user + system) * 10))
}

fn micros(cost: Option<f64>) -> String {
    cost.map_or_else(|| "unknown".to_owned(), |cost| format!("{cost:.0} µs"))
}

fn mebibytes(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "unknown".to_owned(), |bytes| format!("{} MiB", bytes >> 20))
}

fn print_ratio(name: &str, above: &[f64], below: &[f64], goal: &str) {
    let mut ratios: Vec<f64> = above.iter().zip(below).map(|(a, b)| a / b).collect();
    let rounds = ratios.len();
    ratios.sort_by(f64::total_cmp);
    if ratios.is_empty() {
        return println!("{name}: nobody says it here");
    }
    println!("{name}: {:.2} (median of {rounds} pairs; goal {goal})", ratios[rounds / 2]);
}

#[expect(clippy::disallowed_methods, reason = "measuring is what a bench does")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

fn per_second(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}
