//! Driven stages: asked in the decision that they follow from, never for the same twice, and nothing is lost where the
//! answer cannot be.

use std::sync::atomic::{AtomicU32, Ordering};

use perennial_core::{retry::RetryPolicy, run::StageOutcome};

use super::{
    ends::{no_shape, place},
    *,
};
use crate::{
    run::machine::jobs::is_thorough,
    staged::{Item, NextJobs},
};

type Says = dyn Fn(&RunReport) -> NextJobs + Send + Sync;

/// Plans what `plan` says, and says what comes next as `says` does.
struct Steered {
    plan: fn() -> Plan,
    says: Box<Says>,
    asked: Arc<AtomicU32>,
}

impl StagedWorkflow for Steered {
    const NAME: &'static str = "any";
    const VERSION: u32 = 1;
    type Input = ();
    type Output = ();

    fn plan(&self, (): &()) -> Result<Plan, PlanProblems> {
        Ok((self.plan)())
    }

    fn next(&self, (): &(), report: &RunReport) -> NextJobs {
        // Tests decide twice.
        if !is_thorough() {
            self.asked.fetch_add(1, Ordering::SeqCst);
        }
        for stage in &report.stages {
            assert!(stage.items.iter().all(|item| item.state.is_terminal()), "{stage:?}");
        }
        (self.says)(report)
    }

    fn summarize(&self, (): &(), _: &RunReport) {}
}

fn stage(name: &str) -> Stage {
    Stage::activity::<Work1>(name).concurrency(9).retry(RetryPolicy::ONCE)
}

fn all(_: &Value, upstream: &Upstream) -> Vec<JobSpec> {
    let sum: u64 = upstream.succeeded().filter_map(Item::output::<u64>).sum();
    vec![JobSpec::new("all", &sum)]
}

/// `d` is driven, `p` follows from each of its jobs, `b` from all.
fn chain() -> Plan {
    Plan::new()
        .stage(stage("d").feed(Feed::driven()))
        .stage(stage("p").feed(Feed::per_item(Edge::from("d", one))))
        .stage(stage("b").feed(Feed::barrier(Edge::from("d", all))))
}

fn alone() -> Plan {
    Plan::new().stage(stage("d").feed(Feed::driven()))
}

/// `d` follows from what `s` gives, as its workflow says.
fn behind() -> Plan {
    let first = ["x", "y"].map(|key| JobSpec::new(key, &1));
    let plan = Plan::new().stage(stage("s").optional().feed(Feed::jobs(first)));
    plan.stage(stage("d").feed(Feed::driven()))
        .stage(stage("b").feed(Feed::barrier(Edge::from("d", all))))
}

fn items<'a>(report: &'a RunReport, stage: &str) -> &'a [Item] {
    &report.stage(stage).unwrap().items
}

fn steered(
    plan: fn() -> Plan,
    says: impl Fn(&RunReport) -> NextJobs + Send + Sync + 'static,
) -> Staged<Steered> {
    let asked = Arc::default();
    Staged::new(Steered { plan, says: Box::new(says), asked }).activity(Work1)
}

/// One job after the other, until one gives 0 or `most` have ended.
fn until_good(most: usize) -> impl Fn(&RunReport) -> NextJobs + Send + Sync + 'static {
    move |report| {
        let ended = items(report, "d");
        match ended.last().map(Item::output::<u64>) {
            Some(Some(0)) => NextJobs::none().seal("d"),
            _ if ended.len() >= most => NextJobs::none().seal("d"),
            last => {
                let job = JobSpec::new(ended.len().to_string(), &last.flatten().unwrap_or(100));
                NextJobs::none().job("d", job)
            }
        }
    }
}

/// A job for each that `s` gave, until that has closed.
fn from_s(report: &RunReport) -> NextJobs {
    let good = items(report, "s").iter().filter(|item| item.is_success());
    let next = NextJobs::none().jobs("d", good.map(|item| JobSpec::new(&item.key, &item.result)));
    if report.stage("s").unwrap().state == StageState::Closed { next.seal("d") } else { next }
}

async fn play(staged: &Staged<Steered>) -> Play {
    let (store, node) = place().await;
    Play::of(&store, &node, staged.start(&()).unwrap(), &no_shape(), "r").await
}

impl Play {
    fn stage(&self, name: &str) -> StageState {
        self.machine.stages.iter().find(|stage| stage.name == name).unwrap().state
    }

    fn found(&self, key: &str) -> Option<&Job> {
        self.machine.find(&JobKey::new(key))
    }

    fn keys(&self) -> BTreeSet<&str> {
        self.machine.jobs.iter().map(|job| job.key.as_str()).collect()
    }

    /// Goes on by that workflow, as another process would.
    async fn by(&mut self, staged: &Staged<Steered>) {
        self.workflow = staged.start(&()).unwrap().workflow;
        self.reload(self.store.run(&self.run).await.unwrap());
    }
}

/// SM-21, SM-22, DUR-8. The next job comes with the end of the last one, in one decision; what closes and what follows from that does as well.
/// It makes no difference where the run is paused or its process restarted.
#[tokio::test(start_paused = true)]
async fn a_driven_stage_goes_on_until_its_workflow_seals_it() {
    for rounds in 1..5_usize {
        for stops in 0..=rounds {
            for pauses in [false, true] {
                let mut play = play(&steered(chain, until_good(9))).await;
                play.of = format!("{rounds} rounds, stopped after {stops}, paused: {pauses}");
                play.settle().await;
                for round in 0..rounds {
                    if round == stops && pauses {
                        assert!(play.decide(&Fact::Pause, true).await);
                    }
                    let (last, key) = (round + 1 == rounds, format!("d/{round}"));
                    play.succeeds(&key, (rounds - round - 1) as u64).await;
                    let made = play.found(&format!("d/{}", round + 1));
                    assert_eq!(made.is_some(), !last, "{}", play.of);
                    if let Some(made) = made {
                        assert_eq!(made.given.input, json!(rounds - round - 1), "its last result");
                    }
                    let (stage, all) = (play.stage("d"), play.found("b/all"));
                    let expected = if last { StageState::Closed } else { StageState::Open };
                    assert_eq!((stage, all.is_some()), (expected, last), "{}", play.of);
                    assert!(play.found(&format!("p/{round}")).is_some(), "{}", play.of);
                    if round == stops {
                        play.reload(play.store.run(&play.run).await.unwrap());
                        play.look().await;
                        play.decide(&Fact::Unpause, true).await;
                    }
                    play.settle().await;
                }
                play.succeeds_from_here().await;
                assert_eq!(play.machine.state, RunState::Succeeded, "{}", play.of);
                assert_eq!(play.machine.jobs().len(), 2 * rounds + 1, "{}", play.of);
                assert!(verify(&*play.store).await.unwrap().is_empty());
            }
        }
    }
}

/// Proves INV-40.
/// Whichever of its jobs ends first: the same is asked for, in the same order of the report.
#[tokio::test(start_paused = true)]
async fn the_order_in_which_jobs_end_makes_no_difference_to_what_is_asked_for() {
    let says = |report: &RunReport| {
        let ended = items(report, "d");
        let keys: Vec<&str> = ended.iter().map(|item| item.key.as_str()).collect();
        assert!(keys.is_sorted(), "in the order they were made: {keys:?}");
        let again = |item: &Item| JobSpec::new(format!("{}+", item.key), &1).after([&item.key]);
        let first = ["a", "b", "c"].map(|key| JobSpec::new(key, &1));
        let further = ended.iter().filter(|item| item.key.len() == 1 && item.is_success());
        // All of it each time: what is there is not made twice.
        let next = NextJobs::none().jobs("d", first).jobs("d", further.map(again));
        let firsts = ended.iter().filter(|item| item.key.len() == 1);
        if firsts.count() == 3 { next.seal("d") } else { next }
    };
    let orders = ["abc", "acb", "bac", "bca", "cab", "cba"];
    for (order, fails) in orders.iter().flat_map(|order| [(order, None), (order, Some('b'))]) {
        let says = move |report: &RunReport| {
            let mut report = report.clone();
            // The order of what was made later depends on that of the ends.
            for stage in &mut report.stages {
                stage.items.sort_by(|one, other| one.key.cmp(&other.key));
            }
            says(&report)
        };
        let mut play = play(&steered(alone, says)).await;
        play.of = format!("{order}, {fails:?} fails");
        play.settle().await;
        for key in order.chars() {
            if fails == Some(key) {
                play.ends(&format!("d/{key}"), failed()).await;
            } else {
                play.succeeds(&format!("d/{key}"), 1).await;
            }
            play.settle().await;
        }
        assert_eq!(play.stage("d"), StageState::Sealed, "{}", play.of);
        play.succeeds_from_here().await;
        let expected = match fails {
            None => BTreeSet::from(["d/a", "d/a+", "d/b", "d/b+", "d/c", "d/c+"]),
            Some(_) => BTreeSet::from(["d/a", "d/a+", "d/b", "d/c", "d/c+"]),
        };
        assert_eq!(play.keys(), expected, "{}", play.of);
    }
}

fn failed() -> Ending {
    let failure = Failure::new(FailureClass::Permanent, "APP1", "no");
    Ending::Reported(Outcome::Failed(failure).into())
}

/// SM-20, SM-23. Sealed with nothing, with what it asks for in the same breath, and while something is under way.
#[tokio::test(start_paused = true)]
async fn a_stage_that_is_sealed_closes_with_the_last_of_its_jobs_or_at_once() {
    let mut none = play(&steered(chain, |_| NextJobs::seal_all())).await;
    none.settle().await;
    let outcomes: Vec<_> = none.machine.stages.iter().map(|stage| stage.outcome).collect();
    assert_eq!(outcomes[0], Some(StageOutcome::Skipped));
    assert_eq!(outcomes[1], Some(StageOutcome::Skipped), "nothing follows from nothing");
    let two = ["1", "2"].map(|key| JobSpec::new(key, &1));
    let mut at_once =
        play(&steered(alone, move |_| NextJobs::none().jobs("d", two.clone()).seal("d"))).await;
    at_once.settle().await;
    for key in ["d/1", "d/2"] {
        assert_eq!(at_once.stage("d"), StageState::Sealed);
        at_once.succeeds(key, 1).await;
    }
    assert_eq!(at_once.machine.stages[0].outcome, Some(StageOutcome::Succeeded));
    // The first of two that ends seals.
    let two = ["1", "2"].map(|key| JobSpec::new(key, &1));
    let says = move |report: &RunReport| match items(report, "d") {
        [] => NextJobs::none().jobs("d", two.clone()),
        [..] => NextJobs::seal_all(),
    };
    let mut under_way = play(&steered(chain, says)).await;
    under_way.settle().await;
    under_way.succeeds("d/2", 1).await;
    assert_eq!(
        (under_way.stage("d"), under_way.stage("b")),
        (StageState::Sealed, StageState::Waiting)
    );
    under_way.ends("d/1", failed()).await;
    assert_eq!(
        (under_way.stage("d"), under_way.stage("b")),
        (StageState::Closed, StageState::Sealed)
    );
    under_way.settle().await;
    under_way.succeeds_from_here().await;
    assert_eq!(under_way.machine.state, RunState::PartiallySucceeded);
}

/// A workflow that says nothing has no driven stage, or seals it; where the plan skips one nothing is made of it.
#[tokio::test(start_paused = true)]
async fn a_stage_that_the_plan_skips_gets_nothing_whatever_is_asked_for() {
    let plan = || behind().stage(stage("off").feed(Feed::driven()).skip(SkipReason::Disabled));
    let says = |report: &RunReport| from_s(report).job("off", JobSpec::new("a", &1)).seal("off");
    let mut play = play(&steered(plan, says)).await;
    play.settle().await;
    play.succeeds_from_here().await;
    assert_eq!(play.machine.state, RunState::Succeeded);
    assert_eq!(play.keys(), BTreeSet::from(["s/x", "s/y", "d/x", "d/y", "b/all"]));
}

/// It is asked once in each decision of a run that has an open driven stage, and never else.
#[tokio::test(start_paused = true)]
async fn it_is_asked_once_in_a_decision_while_a_driven_stage_is_open() {
    let asked = Arc::new(AtomicU32::new(0));
    let workflow = Steered { plan: behind, says: Box::new(from_s), asked: asked.clone() };
    let mut play = play(&Staged::new(workflow).activity(Work1)).await;
    let times = || asked.swap(0, Ordering::SeqCst);
    play.decide(&Fact::Look, true).await;
    assert_eq!(times(), 1);
    play.settle().await;
    times();
    play.succeeds("s/x", 7).await;
    assert_eq!((times(), play.job("d/x").given.input.clone()), (1, json!(7)));
    play.decide(&Fact::Pause, true).await;
    assert_eq!(times(), 0, "nothing follows from that");
    play.decide(&Fact::Unpause, true).await;
    play.succeeds("s/y", 8).await;
    assert_eq!((times(), play.stage("d")), (1, StageState::Sealed));
    play.settle().await;
    play.succeeds_from_here().await;
    assert_eq!((times(), play.machine.state), (0, RunState::Succeeded));
}

/// What cannot be, and what is told of it.
fn refused() -> Vec<(NextJobs, &'static str)> {
    let job = |key: &str| JobSpec::new(key, &1);
    let none = NextJobs::none;
    let service = perennial_core::service::ServiceKey::shared("away");
    vec![
        (none().job("s", job("z")), "no driven stage `s`"),
        (none().seal("s"), "no driven stage `s`"),
        (
            none().job("over", job("z")).job("d", job("n")),
            "stage `over` is sealed, and takes no job `z`",
        ),
        (none().job("d", job("n")).job("d", job("n")), "two jobs `n`"),
        (none().job("d", job("")), "cannot name a stage or a job"),
        (none().job("d", job("n").after(["n"])), "n after n"),
        (none().job("d", job("n").after(["m"])), "`m`, which is none of its jobs"),
        (none().job("d", job("n").uses(service)), "the service `away`, which is not declared"),
    ]
}

/// Proves INV-32.
/// DUR-8. What has happened is recorded, nothing of the answer is made, and nothing more is asked; a workflow that is put right goes
/// on from there.
#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_parks_the_run_and_loses_nothing() {
    let plan = || behind().stage(stage("over").feed(Feed::driven()));
    let good = |report: &RunReport| from_s(report).seal("over");
    let mut cases: Vec<(Box<Says>, &str)> = Vec::new();
    for (answer, told) in refused() {
        cases.push((Box::new(move |_: &RunReport| answer.clone().seal("d")), told));
    }
    cases
        .push((Box::new(|_: &RunReport| panic!("next is odd")), "`next` of its workflow failed: "));
    for (says, told) in cases {
        let bad = move |report: &RunReport| match items(report, "s") {
            [] => good(report),
            [..] => says(report),
        };
        let mut play = play(&steered(plan, bad)).await;
        play.of = told.to_owned();
        play.settle().await;
        play.succeeds("s/x", 7).await;
        let why = play.machine.stuck().unwrap().to_string();
        assert!(why.contains("`next` of its workflow") && why.contains(told), "{why}");
        assert_eq!(play.job("s/x").state, JobState::Succeeded, "{told}");
        assert_eq!(play.keys(), BTreeSet::from(["s/x", "s/y"]), "{told}");
        assert_eq!(play.stage("d"), StageState::Open, "{told}");
        // What is under way may end, and is recorded.
        play.succeeds("s/y", 8).await;
        assert!(!play.decide(&Fact::Look, true).await, "{told}");
        play.by(&steered(plan, good)).await;
        play.settle().await;
        assert_eq!(play.job("d/y").given.input, json!(8), "{told}");
        play.succeeds_from_here().await;
        assert_eq!(play.machine.state, RunState::Succeeded, "{told}");
    }
}

/// SM-21. A run in which nothing is under way does not wait in silence for what nobody asks for: neither at its beginning nor later,
/// and not before all that follows from the last end is recorded.
#[tokio::test(start_paused = true)]
async fn a_stage_that_is_never_sealed_parks_the_run_once_nothing_is_under_way() {
    for first in [false, true] {
        let says = move |_: &RunReport| match first {
            true => NextJobs::none().job("d", JobSpec::new("a", &1)),
            false => NextJobs::none(),
        };
        let mut play = play(&steered(chain, says)).await;
        play.settle().await;
        if first {
            play.succeeds("d/a", 1).await;
            play.settle().await;
            assert!(play.machine.stuck().is_none(), "its item goes on");
            assert!(play.decide(&Fact::Pause, true).await);
            play.succeeds("p/a", 1).await;
            play.look().await;
            assert!(play.machine.stuck().is_none(), "it is paused");
            assert!(play.decide(&Fact::Unpause, true).await);
            play.look().await;
        }
        let why = play.machine.stuck().unwrap().to_string();
        assert!(why.contains("nothing is under way") && why.contains("stage `d`"), "{why}");
        assert!(!why.contains("stage `p`"), "{why}");
        assert_eq!(play.machine.state, RunState::Running);
        play.by(&steered(chain, |_| NextJobs::seal_all())).await;
        play.settle().await;
        play.succeeds_from_here().await;
        assert_eq!(play.machine.state, RunState::Succeeded);
    }
}

/// A run that fails with what has just happened does so, although nobody seals its driven stage.
#[tokio::test(start_paused = true)]
async fn a_run_that_fails_is_not_parked_for_a_stage_that_is_not_sealed() {
    let plan = || {
        let edge = Edge::from("s", one).on_upstream_failure(UpstreamFailure::FailStage);
        Plan::new()
            .stage(stage("s").optional().feed(Feed::jobs([JobSpec::new("x", &1)])))
            .stage(stage("f").feed(Feed::per_item(edge)))
            .stage(stage("d").feed(Feed::driven()))
    };
    let mut play = play(&steered(plan, |_| NextJobs::none())).await;
    play.settle().await;
    play.ends("s/x", failed()).await;
    play.look().await;
    assert!(play.machine.stuck().is_none(), "{:?}", play.machine.stuck());
    assert_eq!(play.machine.state, RunState::Failed);
}

/// Proves TRAP-9.
/// A failure of a driven stage is made again, and then its workflow is asked on; what comes behind a barrier comes again.
#[tokio::test(start_paused = true)]
async fn a_driven_stage_goes_on_in_a_further_round() {
    let mut play = play(&steered(chain, until_good(2))).await;
    play.settle().await;
    play.succeeds("d/0", 5).await;
    play.settle().await;
    play.ends("d/1", failed()).await;
    play.settle().await;
    play.succeeds_from_here().await;
    assert_eq!(play.machine.state, RunState::PartiallySucceeded);
    // `b` has used what `d` gave.
    assert!(!play.reopen(&Which::Failed, false).await);
    assert!(play.reopen(&Which::Failed, true).await);
    play.by(&steered(chain, until_good(9))).await;
    assert_eq!((play.stage("d"), play.stage("b")), (StageState::Open, StageState::Waiting));
    play.settle().await;
    play.succeeds("d/1", 4).await;
    assert_eq!(play.job("d/2").given.input, json!(4), "it is asked in this round, too");
    play.settle().await;
    play.succeeds("d/2", 0).await;
    play.settle().await;
    play.succeeds_from_here().await;
    assert_eq!(play.machine.state, RunState::Succeeded);
    assert_eq!(play.job("b/all").given.input, json!(9), "all of this round");
    assert_eq!(play.job("d/0").attempt, 1, "it has kept its result");
    assert!(verify(&*play.store).await.unwrap().is_empty());
}

/// Proves TRAP-9.
/// A job before it that had failed: what it gives now leads to a further job, and the others keep their results. One that had
/// succeeded gives another result: what was asked for because of it is made again, if it is asked for again.
#[tokio::test(start_paused = true)]
async fn a_driven_stage_is_asked_again_about_what_comes_before_it() {
    for (which, fails) in [("s/y", true), ("s/x", false)] {
        let mut play = play(&steered(behind, from_s)).await;
        play.of = which.to_owned();
        play.settle().await;
        play.succeeds("s/x", 1).await;
        if fails {
            play.ends("s/y", failed()).await;
        } else {
            play.succeeds("s/y", 2).await;
        }
        play.settle().await;
        play.succeeds_from_here().await;
        let which_job = Which::Job(JobKey::new(which));
        if play.machine.state == RunState::Succeeded {
            // Only a run that went wrong has a further round by `reopen`.
            let view = play.store.run(&play.run).await.unwrap();
            let staging = play.workflow.staging().unwrap();
            let refused = plan_round(&view, staging, &which_job, false, play.store.now());
            let text = format!("{refused:?}");
            assert!(text.contains(r#"WouldInvalidate(["d", "b"])"#), "{text}");
            let round = plan_round(&view, staging, &which_job, true, play.store.now()).unwrap();
            assert_eq!(round.again.len(), 4, "s/x, d/x, d/y and b/all: {round:?}");
            continue;
        }
        assert!(!play.reopen(&which_job, false).await, "b has used all of d");
        assert!(play.reopen(&which_job, true).await);
        play.settle().await;
        play.succeeds("s/y", 3).await;
        assert_eq!(play.job("d/y").given.input, json!(3));
        play.settle().await;
        play.succeeds_from_here().await;
        assert_eq!(play.machine.state, RunState::Succeeded);
        assert_eq!(play.job("d/x").attempt, 1, "it has kept its result");
        assert_eq!(play.job("b/all").attempt, 2);
    }
}

/// One that only what comes behind it is made again of stays closed, and is not asked.
#[tokio::test(start_paused = true)]
async fn what_comes_behind_a_barrier_is_made_again_without_asking() {
    let asked = Arc::new(AtomicU32::new(0));
    let plan = || {
        let first = stage("s").feed(Feed::jobs([JobSpec::new("x", &1), JobSpec::new("y", &1)]));
        let last = stage("b").feed(Feed::barrier(Edge::from("d", all))).optional();
        Plan::new().stage(first).stage(stage("d").feed(Feed::driven())).stage(last)
    };
    let workflow = Steered { plan, says: Box::new(from_s), asked: asked.clone() };
    let mut play = play(&Staged::new(workflow).activity(Work1)).await;
    play.settle().await;
    for key in ["s/x", "s/y", "d/x", "d/y"] {
        play.succeeds(key, 1).await;
        play.settle().await;
    }
    play.ends("b/all", failed()).await;
    play.look().await;
    assert_eq!(play.machine.state, RunState::PartiallySucceeded);
    assert!(play.reopen(&Which::Failed, false).await);
    asked.store(0, Ordering::SeqCst);
    play.settle().await;
    play.succeeds_from_here().await;
    assert_eq!(play.machine.state, RunState::Succeeded);
    assert_eq!((asked.load(Ordering::SeqCst), play.job("d/x").attempt), (0, 1));
}
