//! What undoes completed jobs: when, which, in which order, and what the run ends as.

use perennial_core::retry::RetryPolicy;
use perennial_store::{Deferral, EventRecord, JobRecord};

use super::{
    ends::{no_shape, place},
    *,
};
use crate::{
    run::machine::Unchanged,
    staged::{COMPENSATION, NoRound, PlanProblem, UndoReason, undoing_key},
};

/// The keys of the jobs that undo others, in the order they were made.
fn undoing(view: &RunView) -> Vec<&JobRecord> {
    view.jobs.iter().filter(|job| job.stage == COMPENSATION).collect()
}

impl Play {
    /// What is undone is what its events say was done, the last first, one after the other; and nothing of a run that ended well.
    pub(super) fn judge_undone(&self, view: &RunView, events: &[EventRecord]) {
        let staging = self.workflow.staging().unwrap();
        let of = |job: &JobRecord| job.parent.is_none() && declares(staging, &job.stage);
        let done = |event: &&EventRecord| {
            let is_end = matches!(event.kind.as_str(), "job_succeeded" | "job_partial");
            let job = view.jobs.iter().find(|job| Some(&job.key) == event.job.as_ref());
            is_end && job.is_some_and(of)
        };
        // Of one that was made in several rounds its last end counts.
        let mut order: Vec<&JobKey> = Vec::new();
        for key in events.iter().filter(done).rev().filter_map(|event| event.job.as_ref()) {
            let job = view.jobs.iter().find(|job| job.key == *key).unwrap();
            let is_done = matches!(job.state, JobState::Succeeded | JobState::Partial);
            if is_done && !order.contains(&key) {
                order.push(key);
            }
        }
        let found = undoing(view);
        let is_well = matches!(view.run.state, RunState::Succeeded | RunState::PartiallySucceeded);
        let failure = view.run.failure.as_ref().unwrap_or(&Value::Null);
        let left = failure["compensation"]["not_begun"].as_u64().unwrap_or(0) as usize;
        let expected = if is_well { Vec::new() } else { order };
        let expected: Vec<JobKey> =
            expected.iter().take(expected.len() - left).map(|key| undoing_key(key)).collect();
        let keys: Vec<&JobKey> = found.iter().map(|job| &job.key).collect();
        assert_eq!(keys, expected.iter().collect::<Vec<_>>(), "{}", self.of);
        // Each begins once the one before has ended, and each is made once.
        let mut last_end = 0;
        for job in &found {
            let seqs = |kind: &str| {
                let own = events.iter().filter(|it| it.job.as_ref() == Some(&job.key));
                own.filter(|it| it.kind == kind).map(|it| it.seq).collect::<Vec<_>>()
            };
            let [begun] = seqs("compensation_started")[..] else { panic!("{}", self.of) };
            let ends = ["job_succeeded", "job_partial", "job_failed", "job_skipped"];
            let ends: Vec<u64> = ends.iter().flat_map(|kind| seqs(kind)).collect();
            let [end] = ends[..] else { panic!("{}: {ends:?}", self.of) };
            assert!(last_end < begun && begun < end || ends.is_empty(), "{}", self.of);
            let is_failed = fails(job.state, job.skipped);
            assert_eq!(seqs("compensation_failed").len(), usize::from(is_failed), "{}", self.of);
            last_end = end;
        }
        let failed = found.iter().filter(|job| fails(job.state, job.skipped)).count();
        let is_whole = failed == 0 && left == 0;
        assert_eq!(view.run.state == RunState::CompensationFailed, !is_whole, "{}", self.of);
    }
}

fn declares(staging: &Staging, stage: &str) -> bool {
    staging.stage(stage).is_some_and(|of| of.undoing.activity.is_some())
}

/// So many jobs `a`, `b`, … that are undone, each after the one before, and then `last`, which is not.
struct Undone;

impl StagedWorkflow for Undone {
    const NAME: &'static str = "any";
    const VERSION: u32 = 1;
    type Input = usize;
    type Output = ();

    fn plan(&self, jobs: &usize) -> Result<Plan, PlanProblems> {
        let keys = &["a", "b", "c"][..*jobs];
        let specs = keys.iter().enumerate().map(|(at, key)| {
            JobSpec::new(*key, &at).after(at.checked_sub(1).map(|before| keys[before]))
        });
        let own = RetryPolicy { max_attempts: 2, ..RetryPolicy::PROVIDER };
        let made = Stage::activity::<Work1>("made").concurrency(9).retry(RetryPolicy::ONCE);
        let made = made.compensate::<Undo1>().compensation_retry(own).feed(Feed::jobs(specs));
        let last = Stage::activity::<Work1>("last").retry(RetryPolicy::ONCE);
        let last =
            last.feed(Feed::barrier(Edge::from("made", |_, _| vec![JobSpec::new("it", &7)])));
        Ok(Plan::new().stage(made).stage(last))
    }

    fn summarize(&self, _: &usize, _: &RunReport) {}
}

async fn undone(jobs: usize, of: String) -> Play {
    let (store, node) = place().await;
    undone_in(&store, &node, "r", jobs, of).await
}

async fn undone_in(
    store: &Arc<MemoryStore>,
    node: &NodeRef,
    name: &str,
    jobs: usize,
    of: String,
) -> Play {
    let start = Staged::new(Undone).activity(Work1).activity(Undo1).start(&jobs).unwrap();
    let mut play = Play::of(store, node, start, &no_shape(), name).await;
    play.of = of;
    play.settle().await;
    for key in ["made/a", "made/b", "made/c"].into_iter().take(jobs) {
        play.succeeds(key, 1).await;
        play.settle().await;
    }
    play
}

/// How the run is kept from ending well, once all but its last job is done.
const CAUSES: [&str; 3] = ["cancel", "deadline", "failure"];

fn failed(class: FailureClass) -> Ending {
    Ending::Reported(Outcome::Failed(Failure::new(class, "APP1", "no")).into())
}

async fn stops(play: &mut Play, cause: &str) {
    match cause {
        "failure" => play.ends("last/it", failed(FailureClass::Permanent)).await,
        _ => {
            let why = if cause == "cancel" { StopCause::Cancel } else { StopCause::Deadline };
            assert!(play.decide(&Fact::Stop(why), true).await);
            assert_eq!(play.machine.state, RunState::Cancelling);
            play.ends("last/it", Ending::Cancelled).await;
        }
    }
    assert_eq!(play.machine.state, RunState::Compensating, "{}", play.of);
}

/// What a compensation may come to, and whether its job is undone then.
const ENDS: [(&str, bool); 8] = [
    ("done", true),
    ("partial", true),
    ("nothing", true),
    ("again", true),
    ("failed", false),
    ("twice", false),
    ("panicked", false),
    ("lost", false),
];

async fn undo_ends(play: &mut Play, key: &str, how: &str) {
    let transient = || failed(FailureClass::Transient);
    let done = || Ending::Reported(Outcome::Succeeded(json!("undone")).into());
    let ends: Vec<Ending> = match how {
        "done" => vec![done()],
        "partial" => vec![Ending::Reported(Outcome::Partial(json!("most")).into())],
        "nothing" => {
            let (reason, record) = (SkipReason::NotApplicable, json!("nothing to undo"));
            vec![Ending::Reported(Outcome::Skipped { reason, record }.into())]
        }
        "again" => vec![transient(), done()],
        "failed" => vec![failed(FailureClass::Permanent)],
        "twice" => vec![transient(), transient()],
        "panicked" => vec![Ending::Panicked("oh".to_owned())],
        _ => vec![Ending::Lost],
    };
    for end in ends {
        play.ends(key, end).await;
        tokio::time::advance(Duration::from_secs(60)).await;
        play.settle().await;
    }
}

/// Proves INV-ST-27.
/// Every cause, every end of every compensation of up to three jobs; with a new machine after each or with the same: the last job
/// that was done is undone first, what fails stands in no other's way, and the run ends of its cause or tells what is not undone.
#[tokio::test(start_paused = true)]
async fn what_was_done_is_undone_in_reverse_whatever_becomes_of_it() {
    let mut cases = 0;
    for cause in CAUSES {
        for jobs in 1..=3 {
            for number in 0..ENDS.len().pow(jobs) {
                // Of three only some.
                let way = |at: u32| ENDS[number / ENDS.len().pow(at) % ENDS.len()];
                let ways: Vec<(&str, bool)> = (0..jobs).map(way).collect();
                if jobs == 3 && number % 37 != 0 {
                    continue;
                }
                let of = format!("{cause} {ways:?}");
                let mut play = undone(jobs as usize, of.clone()).await;
                stops(&mut play, cause).await;
                for (at, (how, _)) in ways.iter().enumerate() {
                    if number % 2 == 0 {
                        play.reload(play.store.run(&play.run).await.unwrap());
                    }
                    play.settle().await;
                    let key = ["a", "b", "c"][jobs as usize - 1 - at];
                    undo_ends(&mut play, &format!("compensation/made/{key}"), how).await;
                }
                play.settle().await;
                let view = play.judge().await;
                let failed = ways.iter().filter(|(_, is_undone)| !is_undone).count();
                let expected = match cause {
                    _ if failed > 0 => RunState::CompensationFailed,
                    "cancel" => RunState::Cancelled,
                    "deadline" => RunState::TimedOut,
                    _ => RunState::Failed,
                };
                assert_eq!(view.run.state, expected, "{of}");
                let failure = view.run.failure.unwrap();
                assert_eq!(failure["cause"], cause, "{of}: the first cause is told");
                let about = &failure["compensation"];
                assert_eq!(about["undone"], json!(ways.len() - failed), "{of}");
                assert_eq!(about["failures"].as_array().map_or(0, Vec::len), failed, "{of}");
                cases += 1;
            }
        }
    }
    assert!(cases > 250, "{cases}");
}

/// What undoes a job is told which one, what that was given and gave, and why it is undone.
#[tokio::test(start_paused = true)]
async fn what_undoes_a_job_is_told_all_of_it() {
    for cause in CAUSES {
        let mut play = undone(2, cause.to_owned()).await;
        stops(&mut play, cause).await;
        play.settle().await;
        let job = play.job("compensation/made/b");
        assert_eq!(job.given.work, "undo");
        let undo: Undo<u64, u64> = serde_json::from_value(job.given.input.clone()).unwrap();
        assert_eq!((&*undo.stage, &*undo.key, undo.input, undo.result), ("made", "b", 1, 1));
        match (cause, &undo.reason) {
            ("cancel", UndoReason::Cancelled) | ("deadline", UndoReason::TimedOut) => (),
            ("failure", UndoReason::Failed { failure }) => {
                assert!(failure.message.contains("last"), "{failure:?}");
            }
            (_, reason) => panic!("{cause}: {reason:?}"),
        }
        let lease = play.leases().remove(0);
        let key = play.machine.idempotency_key(&lease.key).to_string();
        assert_eq!(key, "any/r/compensation/made%2Fb");
    }
}

/// SM-14: nothing that is asked of a run that undoes what it has done changes anything.
#[tokio::test(start_paused = true)]
async fn while_it_is_undone_nothing_is_asked_of_a_run() {
    let mut play = undone(1, "asked".to_owned()).await;
    stops(&mut play, "cancel").await;
    play.settle().await;
    let before = play.store.run(&play.run).await.unwrap();
    let most = std::num::NonZeroU32::MIN;
    let (job, why) = (JobKey::new("compensation/made/a"), "no".to_owned());
    for cause in [StopCause::Cancel, StopCause::Deadline] {
        let again = play.machine.decide(&*play.workflow, &Fact::Stop(cause), &circumstances(&play));
        assert_eq!(again.unwrap_err(), Unchanged::Already, "{cause:?}: it ends already");
    }
    for fact in [
        Fact::Pause,
        Fact::Unpause,
        Fact::Skip { job, why },
        Fact::Limit(StageLimit { stage: "made".to_owned(), most }),
        Fact::Priority(perennial_core::run::Priority::HIGH),
    ] {
        let refused = play.machine.decide(&*play.workflow, &fact, &circumstances(&play));
        assert_eq!(refused.unwrap_err(), Unchanged::Undoes, "{fact:?}");
    }
    assert_eq!(play.store.run(&play.run).await.unwrap(), before);
}

fn circumstances(play: &Play) -> Circumstances {
    Circumstances {
        now: play.store.now(),
        jitter: 0.5,
        claim_for: None,
        settings: crate::EngineSettings::default(),
        services: ServicesNow::default(),
        asked: None,
    }
}

/// When the time of all is over, what waits fails, what is under way ends by itself, and nothing more begins.
#[tokio::test(start_paused = true)]
async fn what_is_not_undone_in_time_is_told() {
    for waits in ["retry", "service", "attempt", "claim"] {
        let mut play = undone(3, waits.to_owned()).await;
        stops(&mut play, "cancel").await;
        play.settle().await;
        undo_ends(&mut play, "compensation/made/c", "done").await;
        let key = "compensation/made/b";
        tokio::time::advance(Duration::from_secs(3_400)).await;
        let lease = play.leases().remove(0);
        let within = play.machine.limits(lease.job, play.store.now()).within;
        assert!(within <= Duration::from_secs(200), "{waits}: {within:?} are left of an hour");
        match waits {
            "retry" => {
                // The pause before another one is shorter than what is left.
                play.ends(key, failed(FailureClass::Transient)).await;
                assert_eq!(play.job(key).state, JobState::Ready);
            }
            "service" => {
                let missing = Unavailable::new("bank");
                play.ends(key, Ending::Reported(Outcome::Unavailable(missing).into())).await;
                let until = play.job(key).deferral.clone().map(|Deferral { until, .. }| until);
                assert!(until.unwrap() > play.store.now().after(Duration::from_secs(200)));
            }
            "claim" => {
                play.store.release(&lease, "test").await.unwrap();
                play.machine.released(&lease);
            }
            _ => (),
        }
        tokio::time::advance(Duration::from_secs(200)).await;
        play.look().await;
        if waits == "attempt" {
            assert_eq!(play.machine.state, RunState::Compensating, "it ends by its own limit");
            play.ends(key, failed(FailureClass::Timeout)).await;
        }
        play.look().await;
        let view = play.judge().await;
        assert_eq!(view.run.state, RunState::CompensationFailed, "{waits}");
        let about = &view.run.failure.unwrap()["compensation"];
        let told = (&about["undone"], &about["failed"], &about["not_begun"]);
        assert_eq!(told, (&json!(1), &json!(1), &json!(1)), "{waits}");
        assert_eq!(about["failures"][0]["job"], json!("made/b"), "{waits}");
        assert_eq!(
            about["failures"][0]["class"],
            json!(match waits {
                "retry" | "attempt" | "service" | "claim" => "timeout",
                _ => "",
            }),
            "{waits}"
        );
    }
}

/// A run whose work was undone, or could not be, is not opened again; one that had nothing to undo is, and undoes then what it has
/// done since.
#[tokio::test(start_paused = true)]
async fn what_was_undone_is_not_kept_for_a_further_round() {
    for how in ["done", "failed"] {
        let mut play = undone(1, how.to_owned()).await;
        stops(&mut play, "failure").await;
        play.settle().await;
        undo_ends(&mut play, "compensation/made/a", how).await;
        let view = play.judge().await;
        let staging = play.workflow.staging().unwrap();
        for which in [Which::Failed, Which::Job(JobKey::new("made/a"))] {
            let refused = plan_round(&view, staging, &which, true, play.store.now());
            assert_eq!(refused.unwrap_err(), NoRound::Undone, "{how}");
        }
    }
    let (store, node) = place().await;
    let start = Staged::new(Undone).activity(Work1).activity(Undo1).start(&1).unwrap();
    let mut play = Play::of(&store, &node, start, &no_shape(), "r").await;
    play.settle().await;
    for key in ["made/a", "last/it"] {
        play.ends(key, failed(FailureClass::Permanent)).await;
        play.settle().await;
    }
    assert_eq!(play.judge().await.run.state, RunState::Failed, "nothing was done");
    assert!(play.reopen(&Which::Failed, false).await);
    play.settle().await;
    play.succeeds("made/a", 1).await;
    play.settle().await;
    stops(&mut play, "failure").await;
    play.settle().await;
    undo_ends(&mut play, "compensation/made/a", "done").await;
    let view = play.judge().await;
    assert_eq!((view.run.state, undoing(&view).len()), (RunState::Failed, 1));
}

/// Proves INV-ST-27.
/// A cancel and the last report are decided from the same state, by two who do not know of each other: the store takes one of them,
/// and what was done is undone when the cancel won or the report was a failure, and else not.
#[tokio::test(start_paused = true)]
async fn of_a_cancel_and_an_end_one_wins_and_only_then_is_anything_undone() {
    let mut won = BTreeMap::<(bool, &str), u32>::new();
    let (mut store, mut node) = place().await;
    for number in 0..1_000 {
        if number % 100 == 99 {
            assert_eq!(verify(&*store).await.unwrap(), []);
            (store, node) = place().await;
        }
        let (mut dice, name) = (seed(number), format!("r{number}"));
        let jobs = 1 + dice.roll(3) as usize;
        let mut play = undone_in(&store, &node, &name, jobs, format!("seed {number}")).await;
        let lease = play.leases().remove(0);
        let ends_well = dice.roll(2) == 0;
        let how = match ends_well {
            true => Ending::Reported(Outcome::Succeeded(json!(1)).into()),
            false => failed(FailureClass::Permanent),
        };
        let ended = Fact::Ended { lease: lease.clone(), how: Box::new(how) };
        let mut facts = [ended, Fact::Stop(StopCause::Cancel)];
        let cancel_first = dice.roll(2) == 0;
        if cancel_first {
            facts.reverse();
        }
        let mut decisions = Vec::new();
        for fact in &facts {
            let view = play.store.run(&play.run).await.unwrap();
            let mut machine = Machine::new(view, &*play.workflow).unwrap();
            let decided = machine.decide(&*play.workflow, fact, &circumstances(&play));
            decisions.push(decided.unwrap().unwrap());
        }
        let [first, second] = <[_; 2]>::try_from(decisions).unwrap();
        assert!(play.store.commit(first).await.is_ok());
        let lost = play.store.commit(second).await;
        assert!(lost.is_err(), "{}: {lost:?}", play.of);
        // Who lost decides anew.
        play.reload(play.store.run(&play.run).await.unwrap());
        play.decide(&facts[1], true).await;
        while !play.machine.state.is_terminal() {
            play.settle().await;
            if let Some(lease) = play.leases().into_iter().next() {
                match lease.key.as_str() {
                    "last/it" => play.ends("last/it", Ending::Cancelled).await,
                    key => play.succeeds(key, 1).await,
                }
            }
        }
        let view = play.store.run(&play.run).await.unwrap();
        let events = play.store.events(&name, 1, 99_999).await.unwrap();
        play.judge_outcomes(&view);
        play.judge_undone(&view, &events);
        let expected = match (cancel_first, ends_well) {
            (true, _) => RunState::Cancelled,
            (false, true) => RunState::Succeeded,
            (false, false) => RunState::Failed,
        };
        assert_eq!(view.run.state, expected, "{}", play.of);
        assert_eq!(undoing(&view).is_empty(), expected == RunState::Succeeded, "{}", play.of);
        *won.entry((cancel_first, view.run.state.name())).or_default() += 1;
    }
    assert_eq!(won.len(), 3, "{won:?}");
}

#[test]
fn a_plan_says_what_is_wrong_with_its_compensations() {
    let stage =
        |name: &str| Stage::activity::<Work1>(name).feed(Feed::jobs([JobSpec::new("a", &1)]));
    let own = Plan::new().stage(stage("compensation"));
    assert_eq!(own.problems(), [], "it is a name as any other");
    let both = Plan::new().stage(stage("compensation")).stage(stage("s").compensate::<Undo1>());
    assert_eq!(both.problems(), [PlanProblem::ReservedStage("compensation".to_owned())]);
    let unknown = Staged::new(Undone).activity(Work1).start(&1).unwrap_err();
    let text = unknown.to_string();
    assert!(text.contains("needs the activity `undo`, which is not registered"), "{text}");
}
