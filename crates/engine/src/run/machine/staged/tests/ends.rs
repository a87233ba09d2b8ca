//! How jobs end before, beside and without attempts: every end of a child and its group's one join, what fails with its upstream
//! or before it begins, and groups that somebody skips.

use std::{collections::BTreeMap, sync::Mutex};

use perennial_core::{retry::RetryPolicy, run::StageOutcome};
use serde::Serializer;

use super::*;
use crate::{run::machine::jobs::is_thorough, staged::ChildEnd};

/// What may become of a child, by its key; `unknown` is skipped from the beginning, `operator` by somebody.
const WAYS: [&str; 10] = [
    "done",
    "partial",
    "failed",
    "panicked",
    "late",
    "lost",
    "nothing",
    "cancelled",
    "operator",
    "unknown",
];

/// What its join is asked, by the group's input.
type Asked = Arc<Mutex<BTreeMap<String, Vec<Vec<ChildOutcome>>>>>;

/// Its children are called by what becomes of them; the first may be required.
struct Every<const FAST: bool>(Asked);

impl<const FAST: bool> Group for Every<FAST> {
    const NAME: &'static str = if FAST { "every_fast" } else { "every" };
    type In = (Vec<String>, bool);
    type Out = usize;

    fn expand(&self, (ways, required): &Self::In) -> Vec<Child> {
        let child = |(place, way): (usize, &String)| {
            let key = format!("{place}-{way}");
            let child = match way.as_str() {
                "unknown" => Child::skipped(key, SkipReason::UnknownTool),
                _ => Child::activity::<Work1>(key, &1).retry(RetryPolicy::ONCE),
            };
            if *required && place == 0 { child.required() } else { child }
        };
        ways.iter().enumerate().map(child).collect()
    }

    fn join(&self, input: &Self::In, children: &[ChildOutcome]) -> Joined<usize> {
        let key = serde_json::to_string(input).unwrap();
        // Tests decide twice: what the look through all jobs asks is only compared.
        if !is_thorough() {
            self.0.lock().unwrap().entry(key).or_default().push(children.to_vec());
        }
        Joined::by_ends(children, children.len())
    }

    fn policy(&self) -> JoinPolicy {
        if FAST { JoinPolicy::FailFast } else { JoinPolicy::AllSettled }
    }
}

/// Every pair of ways, as a group of two.
struct Pairs;

impl StagedWorkflow for Pairs {
    const NAME: &'static str = "any";
    const VERSION: u32 = 1;
    type Input = bool;
    type Output = ();

    fn plan(&self, required: &bool) -> Result<Plan, PlanProblems> {
        let pairs = WAYS.iter().flat_map(|one| WAYS.iter().map(move |other| [*one, *other]));
        let jobs = pairs.map(|pair| JobSpec::new(pair.join("-"), &(pair, required)));
        let fast = JobSpec::new("fast", &(["failed", "done", "unknown"], required));
        let every = Stage::group::<Every<false>>("s").feed(Feed::jobs(jobs)).concurrency(1_000);
        Ok(Plan::new()
            .stage(every)
            .stage(Stage::group::<Every<true>>("t").feed(Feed::jobs([fast]))))
    }

    fn summarize(&self, _: &bool, _: &RunReport) {}
}

fn failed(class: FailureClass) -> Ending {
    Ending::Reported(Outcome::Failed(Failure::new(class, "APP1", "no")).into())
}

fn neutral() -> Ending {
    let (reason, record) = (SkipReason::NotApplicable, json!("no"));
    Ending::Reported(Outcome::Skipped { reason, record }.into())
}

pub(super) fn no_shape() -> Shape {
    Shape { jobs: 0, chain: false, stages: Vec::new() }
}

impl Play {
    pub(super) async fn ends(&mut self, key: &str, how: Ending) {
        let lease = self.leases().into_iter().find(|lease| lease.key.as_str() == key);
        let lease = lease.unwrap_or_else(|| panic!("{key} is not under way: {:#?}", self.machine));
        assert!(self.decide(&Fact::Ended { lease, how: Box::new(how) }, true).await, "{key}");
    }

    pub(super) async fn succeeds(&mut self, key: &str, with: u64) {
        self.ends(key, Ending::Reported(Outcome::Succeeded(json!(with)).into())).await;
    }

    /// Looks and claims until nothing more comes of it.
    pub(super) async fn settle(&mut self) {
        self.look().await;
        self.claim(1_000).await;
        self.look().await;
        self.check().await;
    }

    /// All that is under way succeeds, until the run has ended.
    pub(super) async fn succeeds_from_here(&mut self) {
        while !self.machine.state.is_terminal() {
            let lease = self.leases().into_iter().next();
            let lease = lease.unwrap_or_else(|| panic!("{}: {:#?}", self.of, self.machine));
            self.succeeds(lease.key.as_str(), 1).await;
            self.settle().await;
        }
        self.verify().await;
    }

    async fn verify(&self) {
        let found = verify(&*self.store).await.unwrap();
        assert!(found.is_empty(), "{}: {found:#?}", self.of);
    }

    pub(super) fn job(&self, key: &str) -> &Job {
        self.machine.find(&JobKey::new(key)).unwrap_or_else(|| panic!("there is no {key}"))
    }

    fn states(&self, keys: &[&str]) -> Vec<JobState> {
        keys.iter().map(|key| self.job(key).state).collect()
    }
}

pub(super) async fn place() -> (Arc<MemoryStore>, NodeRef) {
    let store = Arc::new(MemoryStore::open().unwrap());
    let node = store.register_node("n").await.unwrap().node;
    (store, node)
}

/// Proves R3.2, INV-9.
/// Every pair of ends, in both orders, with and without a new machine after each: its one join is asked once and told the same,
/// and the group becomes what it says.
#[tokio::test(start_paused = true)]
async fn one_function_joins_a_group_whichever_way_its_children_ended() {
    for required in [false, true] {
        let mut first = None;
        for order in 0..2 {
            let (store, node) = place().await;
            let asked = Asked::default();
            let pairs = Staged::new(Pairs).activity(Work1).group(Every::<false>(asked.clone()));
            let start = pairs.group(Every::<true>(asked.clone())).start(&required).unwrap();
            let mut play = Play::of(&store, &node, start, &no_shape(), "r").await;
            play.settle().await;
            let mut leases = play.leases();
            if order == 1 {
                leases.reverse();
            }
            // The first failure of the fast group is the end of its other child.
            leases.sort_by_key(|lease| lease.key.as_str() != "t/fast/0-failed");
            for lease in leases.into_iter().filter(|lease| lease.key.as_str() != "t/fast/1-done") {
                let fact = end_of(lease);
                assert!(play.decide(&fact, true).await);
                if order == 1 {
                    play.reload(store.run(&play.run).await.unwrap());
                }
            }
            play.look().await;
            assert!(play.machine.state.is_terminal(), "{:?}", play.machine.stages);
            play.verify().await;
            let asked = asked.lock().unwrap().clone();
            assert_eq!(asked.len(), WAYS.len() * WAYS.len() + 1);
            let groups = play.machine.jobs.iter().filter(|job| job.kind == JobKind::Group);
            for group in groups {
                let told = &asked[&group.given.input.to_string()];
                assert_eq!(told.len(), 1, "{} is joined once", group.key);
                check_join(group, &told[0], required);
            }
            for (group, told) in &*first.get_or_insert_with(|| asked.clone()) {
                assert_eq!(*told, asked[group], "{group}, in another order");
            }
        }
    }
}

/// What happens to a child by its key.
fn end_of(lease: Lease) -> Fact {
    let (_, way) = lease.key.as_str().rsplit_once('-').unwrap();
    let how = match way {
        "done" => Ending::Reported(Outcome::Succeeded(json!(1)).into()),
        "partial" => Ending::Reported(Outcome::Partial(json!(1)).into()),
        "failed" => failed(FailureClass::Permanent),
        "panicked" => Ending::Panicked("oh".to_owned()),
        "late" => failed(FailureClass::Timeout),
        "lost" => Ending::Lost,
        "nothing" => neutral(),
        "cancelled" => Ending::Cancelled,
        _ => return Fact::Skip { job: lease.key, why: "not that one".to_owned() },
    };
    Fact::Ended { lease, how: Box::new(how) }
}

fn check_join(group: &Job, told: &[ChildOutcome], required: bool) {
    for (place, child) in told.iter().enumerate() {
        assert_eq!(child.required, required && place == 0, "{}", group.key);
        let (_, way) = child.key.split_once('-').unwrap();
        let is_told = match &child.end {
            ChildEnd::Done(value) => way == "done" && *value == json!(1),
            ChildEnd::Partial(value) => way == "partial" && *value == json!(1),
            ChildEnd::Failed(failure) if failure.class == FailureClass::Panic => way == "panicked",
            ChildEnd::Failed(failure) => way == "failed" && failure.code == "APP1",
            ChildEnd::TimedOut(_) => way == "late",
            ChildEnd::Lost(_) => way == "lost",
            ChildEnd::Skipped(SkipReason::NotApplicable) => way == "nothing",
            ChildEnd::Skipped(SkipReason::Operator) => way == "operator",
            ChildEnd::Skipped(reason) => way == "unknown" && *reason == SkipReason::UnknownTool,
            ChildEnd::Cancelled => way == "cancelled" || group.key.as_str() == "t/fast",
        };
        assert!(is_told, "{}: {way}, and the join is told {:?}", group.key, child.end);
    }
    let expected = match Joined::by_ends(told, told.len()) {
        Joined::Done(_) => JobState::Succeeded,
        Joined::Partial(..) => JobState::Partial,
        Joined::Skipped(_) => JobState::Skipped,
        Joined::Failed(_) => JobState::Failed,
    };
    assert_eq!(group.state, expected, "{}: {told:?}", group.key);
}

/// `s0` makes, `s1` goes on with what it made, and `s2` with that.
struct Fails;

#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
struct Case {
    barrier: bool,
    optional: bool,
    /// What follows from a failure is the failure of the stage.
    fails_stage: bool,
}

/// What cannot be kept where it is 0.
struct Odd(u64);

impl serde::Serialize for Odd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            0 => Err(serde::ser::Error::custom("nought")),
            number => serializer.serialize_u64(number),
        }
    }
}

/// `c` comes after `a`.
fn odd(_: &Value, upstream: &Upstream) -> Vec<JobSpec> {
    let spec = |item: &crate::staged::Item| {
        let after = (item.key == "c").then_some("a");
        JobSpec::new(&item.key, &Odd(item.output().unwrap_or(1))).after(after)
    };
    upstream.succeeded().map(spec).collect()
}

impl StagedWorkflow for Fails {
    const NAME: &'static str = "any";
    const VERSION: u32 = 1;
    type Input = Case;
    type Output = ();

    fn plan(&self, case: &Case) -> Result<Plan, PlanProblems> {
        let stage =
            |name: &str| Stage::activity::<Work1>(name).concurrency(9).retry(RetryPolicy::ONCE);
        let edge = if case.fails_stage {
            Edge::from("s0", one).on_upstream_failure(UpstreamFailure::FailStage)
        } else {
            Edge::from("s0", odd)
        };
        let feed = if case.barrier { Feed::barrier(edge) } else { Feed::per_item(edge) };
        let second = stage("s1").feed(feed);
        let second = if case.optional { second.optional() } else { second };
        let jobs = ["a", "b", "c"].map(|key| JobSpec::new(key, &1));
        let last = Feed::per_item(Edge::from("s1", one));
        Ok(Plan::new()
            .stage(stage("s0").optional().feed(Feed::jobs(jobs)))
            .stage(second)
            .stage(stage("s2").optional().feed(last)))
    }

    fn summarize(&self, _: &Case, _: &RunReport) {}
}

async fn fails(case: Case) -> Play {
    let (store, node) = place().await;
    let start = Staged::new(Fails).activity(Work1).start(&case).unwrap();
    let mut play = Play::of(&store, &node, start, &no_shape(), "r").await;
    play.of = format!("{case:?}");
    play.settle().await;
    play
}

/// A stage that fails with its upstream has the job that would have followed, failed without an attempt; what goes on of it ends
/// with that, and its run unless it is optional. All of it is made again in a further round.
#[tokio::test(start_paused = true)]
async fn a_stage_fails_with_what_it_follows_from() {
    for (barrier, optional) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut play = fails(Case { barrier, optional, fails_stage: true }).await;
        play.succeeds("s0/a", 1).await;
        play.settle().await;
        play.ends("s0/b", failed(FailureClass::Permanent)).await;
        play.settle().await;
        let cut = if barrier || optional {
            // Its upstream goes on.
            play.succeeds("s0/c", 1).await;
            play.settle().await;
            Vec::new()
        } else {
            ["s0/c", "s1/a"].to_vec()
        };
        let under_way = play.leases();
        let under_way: Vec<&str> = under_way.iter().map(|lease| lease.key.as_str()).collect();
        assert_eq!(under_way, cut, "{}", play.of);
        for key in cut {
            assert_eq!(play.machine.state, RunState::Cancelling, "{}", play.of);
            play.ends(key, Ending::Cancelled).await;
        }
        let born = play.job("s1/b");
        assert_eq!((born.state, born.attempt), (JobState::Failed, 0), "{}", play.of);
        let why = born.result.clone().unwrap();
        let message = "s0/b, which it follows from, is failed";
        assert_eq!((&why["code"], &why["message"]), (&json!("PL699"), &json!(message)));
        let first = if optional { RunState::PartiallySucceeded } else { RunState::Failed };
        assert_eq!(play.machine.state, first, "{}", play.of);
        assert_eq!(play.machine.stages[1].outcome, Some(StageOutcome::Failed), "{}", play.of);
        assert_eq!(play.job("s1/a").state, JobState::Cancelled, "{}", play.of);
        play.verify().await;

        assert!(play.reopen(&Which::Failed, false).await, "{}", play.of);
        play.settle().await;
        play.succeeds_from_here().await;
        assert_eq!(play.machine.state, RunState::Succeeded, "{}", play.of);
        let all = ["s0/a", "s0/b", "s0/c", "s1/a", "s1/b", "s1/c", "s2/a", "s2/b", "s2/c"];
        assert_eq!(play.states(&all), [JobState::Succeeded; 9], "{}", play.of);
        assert_eq!(play.job("s0/a").attempt, 1, "{}: it was not made again", play.of);
    }
}

/// What was skipped for a good reason is no failure of its upstream.
#[tokio::test(start_paused = true)]
async fn a_stage_does_not_fail_with_what_was_not_to_be_done() {
    for barrier in [false, true] {
        let mut play = fails(Case { barrier, optional: false, fails_stage: true }).await;
        play.ends("s0/b", neutral()).await;
        play.settle().await;
        play.succeeds_from_here().await;
        assert_eq!(play.states(&["s1/a", "s1/c"]), [JobState::Succeeded; 2]);
        assert_eq!(play.job("s1/b").skipped, Some(SkipReason::Upstream));
        assert_eq!(play.machine.stages[1].outcome, Some(StageOutcome::Partial), "{}", play.of);
    }
}

/// What cannot be kept has failed before it began, with what comes after it skipped; given once more as it was it fails once more,
/// and once its upstream gives something else it is made, and what comes after it.
#[tokio::test(start_paused = true)]
async fn a_job_that_failed_before_it_began_is_given_once_more_by_its_edge() {
    for barrier in [false, true] {
        let mut play = fails(Case { barrier, optional: true, fails_stage: false }).await;
        for (key, with) in [("s0/a", 0), ("s0/b", 1), ("s0/c", 1)] {
            play.succeeds(key, with).await;
            play.settle().await;
        }
        for round in 0..2 {
            play.succeeds_from_here().await;
            assert_eq!(play.machine.state, RunState::PartiallySucceeded, "{} {round}", play.of);
            let born = play.job("s1/a");
            assert_eq!((born.state, born.attempt), (JobState::Failed, 0), "{}", play.of);
            let why = born.result.clone().unwrap();
            assert_eq!(why["message"], "its input cannot be kept: nought", "{}", play.of);
            let behind = play.states(&["s1/b", "s1/c", "s2/a", "s2/b", "s2/c"]);
            let skipped = JobState::Skipped;
            let expected = [JobState::Succeeded, skipped, skipped, JobState::Succeeded, skipped];
            assert_eq!(behind, expected, "{} {round}", play.of);
            if round == 0 {
                assert!(play.reopen(&Which::Failed, false).await, "{}", play.of);
                play.settle().await;
            }
        }
        let again = Which::Job(JobKey::new("s0/a"));
        // At a barrier `b` has used all of it.
        assert_eq!(play.reopen(&again, false).await, !barrier, "{}", play.of);
        assert!(!barrier || play.reopen(&again, true).await, "{}", play.of);
        play.settle().await;
        assert_eq!(play.states(&["s1/a"]), [JobState::Blocked], "{}: it waits for it", play.of);
        play.succeeds_from_here().await;
        assert_eq!(play.machine.state, RunState::Succeeded, "{}", play.of);
        let all = ["s1/a", "s1/b", "s1/c", "s2/a", "s2/b", "s2/c"];
        assert_eq!(play.states(&all), [JobState::Succeeded; 6], "{}", play.of);
    }
}

/// Two groups, one at a time, and a stage that goes on with them.
struct Groups;

impl StagedWorkflow for Groups {
    const NAME: &'static str = "any";
    const VERSION: u32 = 1;
    type Input = ();
    type Output = ();

    fn plan(&self, (): &()) -> Result<Plan, PlanProblems> {
        // Two children, one that is skipped, and a group of one.
        let jobs = ["g", "h"].map(|key| JobSpec::new(key, &4));
        let groups = Stage::group::<Fan<0>>("s0").concurrency(1).feed(Feed::jobs(jobs));
        let after = Feed::per_item(Edge::from("s0", one));
        Ok(Plan::new().stage(groups).stage(Stage::activity::<Work1>("s1").feed(after)))
    }

    fn summarize(&self, (): &(), _: &RunReport) {}
}

/// Somebody skips a group whose children are under way, in a run that goes on or is paused: they end with it, it has no join, its
/// place is the next one's, what follows from it is skipped; and it may be made after all.
#[tokio::test(start_paused = true)]
async fn a_group_that_is_skipped_ends_with_all_below_it() {
    let (done, cut, skipped) = (JobState::Succeeded, JobState::Cancelled, JobState::Skipped);
    for is_paused in [false, true] {
        let (store, node) = place().await;
        let start = Staged::new(Groups).activity(Work1).group(Fan::<0>).start(&()).unwrap();
        let mut play = Play::of(&store, &node, start, &no_shape(), "r").await;
        play.settle().await;
        play.succeeds("s0/g/c0", 1).await;
        assert_eq!(play.leases().len(), 2, "one of them in a group within the group");
        let (joining, ready) = (JobState::Joining, JobState::Ready);
        assert_eq!(play.states(&["s0/g", "s0/g/c3", "s0/h"]), [joining, joining, ready]);
        if is_paused {
            assert!(play.decide(&Fact::Pause, false).await);
        }
        let skip = Fact::Skip { job: JobKey::new("s0/g"), why: "too large".to_owned() };
        assert!(play.decide(&skip, true).await);
        assert!(!play.decide(&skip, true).await, "once is enough");
        play.check().await;
        let group = play.job("s0/g");
        assert_eq!((group.state, group.skipped), (skipped, Some(SkipReason::Operator)));
        assert_eq!(group.result.as_deref(), Some(&json!("too large")));
        let below = ["s0/g/c0", "s0/g/c1", "s0/g/c2", "s0/g/c3", "s0/g/c3/c0"];
        assert_eq!(play.states(&below), [done, cut, skipped, cut, cut]);
        assert_eq!(play.job("s1/g").skipped, Some(SkipReason::Upstream));
        if is_paused {
            assert_eq!(play.states(&["s0/h"]), [ready], "nothing begins");
            assert!(play.decide(&Fact::Unpause, false).await);
        }
        play.settle().await;
        assert_eq!(play.states(&["s0/h"]), [joining], "it has the place");
        play.succeeds_from_here().await;
        assert_eq!(play.machine.state, RunState::PartiallySucceeded);
        assert!(!play.reopen(&Which::Failed, false).await, "nothing has failed");
        assert!(play.reopen(&Which::Job(JobKey::new("s0/g")), false).await);
        play.settle().await;
        play.succeeds_from_here().await;
        let whole = ["s0/g/c0", "s0/g/c1", "s0/g/c3", "s0/g/c3/c0", "s1/g"];
        assert_eq!(play.states(&whole), [done; 5]);
        assert_eq!(play.states(&["s0/g", "s0/h"]), [JobState::Partial; 2], "a tool is unknown");
    }
}

/// What follows from a job that ended beside a pause is made as well: nobody has looked at it then.
#[tokio::test(start_paused = true)]
async fn what_ends_beside_a_pause_is_followed() {
    let piece = Piece {
        work: 0,
        feed: 0,
        edge: 0,
        upstream: 0,
        concurrency: 3,
        policy: 0,
        optional: false,
        bad: 0,
        skip: false,
        key: 0,
        priority: 0,
        undo: false,
    };
    let shape = Shape { jobs: 2, chain: false, stages: vec![piece.clone(), piece] };
    let store = Arc::new(MemoryStore::open().unwrap());
    let node = store.register_node("n").await.unwrap().node;
    let mut play = Play::begin(&store, &node, &shape, "beside").await;
    // Whoever has looked once knows what follows from what had ended by then.
    play.look().await;
    play.claim(1).await;
    let lease = play.leases()[0].clone();
    let away = Unavailable::new("away").at_most(Duration::from_secs(100));
    let reported = Reported { outcome: Outcome::Unavailable(away), warnings: Vec::new() };
    play.decide(&Fact::Ended { lease, how: Box::new(Ending::Reported(reported)) }, false).await;
    tokio::time::advance(Duration::from_secs(200)).await;
    assert!(play.decide(&Fact::Pause, false).await);
    assert_eq!(play.machine.jobs()[0].state, JobState::Failed, "it ended with that decision");
    play.decide(&Fact::Unpause, false).await;
    play.look().await;
    play.check().await;
    let made = JobKey::new("s1/j0");
    let found = play.machine.find(&made).map(|job| (job.state, job.skipped));
    assert_eq!(found, Some((JobState::Skipped, Some(SkipReason::Upstream))));
}
