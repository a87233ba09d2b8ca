//! Every short history of a run, played against a real store: after each event the machine in
//! memory equals one built anew from the store's rows, and every history can be brought to an end.

use std::{sync::Arc, time::Duration};

use perennial_core::{FailureClass, failure::Failure, retry::RetryPolicy};
use perennial_store::{
    AfterWait, Again, Committed, Created, EventRecord, Lease, MemoryStore, NewRun, NewSignal,
    NewStage, NodeRef, Reopening, SignalKind, Store, WaitDefault,
};

use serde_json::json;

use super::*;
use crate::run::{Explanation, Known, explain};
use crate::workflow::{AttemptCx, BoxFuture, Definition, FailureMeans, Outcome, Unavailable, Wait};

/// Steps `a`, `b`, `c`, one after the other or all at once; a failure of `b` is tolerated.
#[derive(Debug)]
struct Toy {
    definition: Definition,
    at_once: bool,
}

impl Workflow for Toy {
    fn name(&self) -> &str {
        "toy"
    }

    fn definition(&self) -> &Definition {
        &self.definition
    }

    fn next(&self, done: &[DoneJob]) -> Next {
        let plan = |key: &str| {
            let retry = RetryPolicy { max_attempts: 2, ..RetryPolicy::ONCE };
            JobPlan::new(JobKey::new(key), retry, Duration::from_secs(1))
        };
        let mut keys = ["a", "b", "c"].into_iter();
        if self.at_once {
            return if done.is_empty() { Next::Jobs(keys.map(plan).collect()) } else { Next::Seal };
        }
        let next = keys.find(|key| done.iter().all(|job| job.key.as_str() != *key));
        next.map_or(Next::Seal, |key| Next::Jobs(vec![plan(key)]))
    }

    fn on_failure(&self, job: &JobKey, failure: &Failure, _: u32, _: &[DoneJob]) -> FailureMeans {
        let record = json!({ "error": failure.message });
        if job.as_str() == "b" {
            FailureMeans::Tolerate { record }
        } else {
            FailureMeans::FailRun { record }
        }
    }

    fn execute(self: Arc<Self>, _: AttemptCx) -> BoxFuture<'static, Outcome> {
        unreachable!("decisions are tested without attempts")
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    Look,
    Claim,
    Succeed,
    Skip,
    FailForNow,
    FailForGood,
    Panic,
    Release,
    Cancel,
    Deadline,
    Pause,
    Unpause,
    Operator,
    Reopen,
    /// What the attempt needs is not there.
    Miss,
    /// The attempt asks for the signal `go`.
    Suspend,
    /// Somebody sends `go`.
    Signal,
    /// 20 min pass, and somebody looks.
    Later,
}

/// What may happen to jobs that wait.
const OF_WAITS: [Event; 11] = [
    Event::Look,
    Event::Claim,
    Event::Succeed,
    Event::FailForNow,
    Event::Miss,
    Event::Suspend,
    Event::Signal,
    Event::Later,
    Event::Cancel,
    Event::Pause,
    Event::Unpause,
];

const EVENTS: [Event; 14] = [
    Event::Look,
    Event::Claim,
    Event::Succeed,
    Event::Skip,
    Event::FailForNow,
    Event::FailForGood,
    Event::Panic,
    Event::Release,
    Event::Cancel,
    Event::Deadline,
    Event::Pause,
    Event::Unpause,
    Event::Operator,
    Event::Reopen,
];

struct Play {
    run: RunId,
    store: MemoryStore,
    node: NodeRef,
    workflow: Toy,
    machine: Machine,
    /// Whether new jobs are leased in the decision that makes them.
    claims_inline: bool,
    /// What was sent to it.
    signals: u64,
}

impl Play {
    async fn begin(
        store: &MemoryStore,
        node: &NodeRef,
        name: &str,
        claims_inline: bool,
        at_once: bool,
    ) -> Self {
        let (store, node) = (store.clone(), node.clone());
        let run = RunId::parse(name).unwrap();
        let workflow = Toy { definition: Definition::new(b"toy".to_vec()), at_once };
        let created = store
            .create_run(NewRun {
                run: run.clone(),
                workflow: "toy".to_owned(),
                definition: workflow.definition.digest,
                definition_bytes: workflow.definition.bytes.to_vec(),
                input_digest: workflow.definition.digest,
                settings: json!({}),
                owner: Some(node.clone()),
                deadline: None,
                stages: vec![NewStage::driven("steps")],
                jobs: Vec::new(),
                timers: Vec::new(),
                priority: Default::default(),
            })
            .await
            .unwrap();
        assert!(matches!(created, Created::New { .. }));
        let machine = Machine::new(store.run(&run).await.unwrap(), &workflow).unwrap();
        Self { run, store, node, workflow, machine, claims_inline, signals: 0 }
    }

    async fn decide(&mut self, fact: &Fact) {
        let at = Circumstances {
            now: self.store.now(),
            jitter: 0.5,
            claim_for: self.claims_inline.then(|| self.node.clone()),
            settings: crate::EngineSettings::default(),
            services: ServicesNow::default(),
            asked: None,
        };
        let Ok(Some(decision)) = self.machine.decide(&self.workflow, fact, &at) else { return };
        let committed = self.store.commit(decision.clone()).await;
        let committed =
            committed.unwrap_or_else(|error| panic!("{fact:?}: {error}\n{decision:#?}"));
        assert!(matches!(committed, Committed::Now { .. }), "{committed:?}");
        self.machine.apply(decision, &committed);
    }

    fn leased(&self) -> Option<Lease> {
        let job = self.machine.jobs().iter().find(|job| job.state == JobState::Leased)?;
        self.machine.lease(job)
    }

    async fn happen(&mut self, event: Event) {
        let warnings = vec!["beware".to_owned()];
        let outcome = |outcome| Box::new(Ending::Reported(Reported { outcome, warnings }));
        let failed = |class| Outcome::Failed(Failure::new(class, "PL000", "no"));
        let how = match event {
            Event::Look => return self.decide(&Fact::Look).await,
            Event::Cancel => return self.decide(&Fact::Stop(StopCause::Cancel)).await,
            Event::Deadline => return self.decide(&Fact::Stop(StopCause::Deadline)).await,
            Event::Pause => return self.decide(&Fact::Pause).await,
            Event::Unpause => return self.decide(&Fact::Unpause).await,
            Event::Claim => {
                let paused = self.machine.state == RunState::Paused;
                for claimed in self.store.claim(&self.run, &self.node, 9).await.unwrap() {
                    assert!(!paused, "nothing starts while it is paused (INV-16)");
                    self.machine.claimed(&claimed.lease, self.store.now());
                }
                return;
            }
            Event::Operator => return self.skips().await,
            Event::Reopen => return self.reopen().await,
            Event::Release => {
                if let Some(lease) = self.leased() {
                    self.store.release(&lease, "test").await.unwrap();
                    self.machine.released(&lease);
                }
                return;
            }
            Event::Succeed => outcome(Outcome::Succeeded(json!("fine"))),
            Event::Skip => outcome(Outcome::Skipped {
                reason: SkipReason::NotApplicable,
                record: json!("skipped"),
            }),
            Event::FailForNow => outcome(failed(FailureClass::Transient)),
            Event::FailForGood => outcome(failed(FailureClass::Permanent)),
            Event::Panic => Box::new(Ending::Panicked("boom".to_owned())),
            Event::Signal => return self.signal().await,
            Event::Later => {
                tokio::time::advance(Duration::from_secs(20 * 60)).await;
                return self.decide(&Fact::Look).await;
            }
            Event::Miss | Event::Suspend => {
                let Some(lease) = self.leased() else { return };
                let outcome = self.waiting(event, &lease.key);
                let how = Box::new(Ending::Reported(outcome.into()));
                return self.decide(&Fact::Ended { lease, how }).await;
            }
        };
        let Some(lease) = self.leased() else { return };
        let how = if self.machine.state == RunState::Cancelling && event == Event::Panic {
            Box::new(Ending::Cancelled)
        } else {
            how
        };
        self.decide(&Fact::Ended { lease, how }).await;
    }

    /// DUR-64: somebody says that the first job which has not ended shall not be made.
    async fn skips(&mut self) {
        let open = self.machine.jobs().iter().find(|job| !job.state.is_terminal());
        let Some(job) = open.map(|job| job.key.clone()) else { return };
        let why = "nobody needs it".to_owned();
        self.decide(&Fact::Skip { job: job.clone(), why }).await;
        if self.machine.state.goes_on() {
            assert_eq!(self.machine.find(&job).unwrap().state, JobState::Skipped);
        }
    }

    /// What happens after 30 min in vain: `a` fails or goes on, `b` fails, `c` is skipped.
    fn waiting(&self, event: Event, job: &JobKey) -> Outcome {
        let is_c = job.as_str() == "c";
        if event == Event::Miss {
            let then = if is_c { AfterWait::Skip } else { AfterWait::Fail };
            return Outcome::Unavailable(Unavailable::new("the printer").then(then));
        }
        let or = match job.as_str() {
            "a" => WaitDefault::Resume(json!("default")),
            "b" => WaitDefault::Fail,
            _ => WaitDefault::Skip,
        };
        let until = self.store.now().after(Duration::from_secs(30 * 60));
        Outcome::Suspend(Wait::Signal { name: "go".to_owned(), until, or })
    }

    /// INV-ST-27: a run that is ending takes nothing; else one job that waits goes on.
    async fn signal(&mut self) {
        let waits = |job: &&Job| job.state == JobState::Suspended;
        let waiting = self.machine.jobs().iter().filter(waits).count();
        let goes_on = self.machine.state.goes_on();
        self.signals += 1;
        let sent = self.store.signal(NewSignal {
            run: self.run.clone(),
            request: self.signals.to_string(),
            kind: SignalKind::Signal,
            name: "go".to_owned(),
            payload: json!(self.signals),
            by: "ada".to_owned(),
            why: String::new(),
        });
        let sent = sent.await;
        assert_eq!(sent.is_ok(), goes_on, "{sent:?}");
        if let Ok(accepted) = sent {
            // One whose time has come waits for whoever looks.
            assert!(accepted.woken.is_none() || waiting > 0);
        }
        let view = self.store.run(&self.run).await.unwrap();
        self.machine = Machine::new(view, &self.workflow).unwrap();
    }

    /// A further round of a run that ended: what did not complete is made again.
    async fn reopen(&mut self) {
        let view = self.store.run(&self.run).await.unwrap();
        // The toy that makes all jobs at once makes none of them twice.
        if !view.run.state.is_terminal() || self.workflow.at_once {
            return;
        }
        let unfinished = |state| matches!(state, JobState::Failed | JobState::Cancelled);
        let again = view.jobs.iter().filter(|job| unfinished(job.state));
        let again =
            again.map(|job| Again { forget_calls: true, ..Again::asked_for(job.id) }).collect();
        let reopened = self.store.reopen_run(Reopening {
            run: self.run.clone(),
            expected_revision: view.run.revision,
            owner: self.node.clone(),
            definition: self.workflow.definition.digest,
            definition_bytes: self.workflow.definition.bytes.to_vec(),
            input_digest: self.workflow.definition.digest,
            settings: json!({}),
            deadline: None,
            again,
            stages: Vec::new(),
        });
        assert_eq!(reopened.await.is_ok(), view.run.state.may_reopen(), "{}", view.run.state);
        let view = self.store.run(&self.run).await.unwrap();
        self.machine = Machine::new(view, &self.workflow).unwrap();
    }

    /// Rows and fold agree.
    async fn check(&self, history: &[Event]) {
        let view = self.store.run(&self.run).await.unwrap();
        self.check_explanations(&view, history);
        let anew = Machine::new(view, &self.workflow).unwrap();
        let picture = |machine: &Machine| {
            let jobs: Vec<_> = machine
                .jobs
                .iter()
                .map(|job| {
                    let Job { id, key, state, attempt, lease, attempts_used, .. } = job.clone();
                    let waits = (job.deferral.clone(), job.deferred_since, job.wait.clone());
                    (id, key, state, attempt, lease, attempts_used, job.skipped, waits)
                })
                .collect();
            let mut done: Vec<_> = machine.done.iter().map(|job| format!("{job:?}")).collect();
            done.sort();
            let failure = machine.failure.clone();
            (machine.state, machine.driven().1, machine.revision, failure, jobs, done)
        };
        assert_eq!(picture(&self.machine), picture(&anew), "{history:?}");
        if anew.state.is_terminal() {
            assert!(anew.jobs.iter().all(|job| job.state.is_terminal()), "{history:?}");
            assert_eq!(anew.driven().1, StageState::Closed, "{history:?}");
            assert_eq!(anew.state, outcome_of_rows(&anew), "{history:?}");
            if matches!(anew.state, RunState::Succeeded | RunState::PartiallySucceeded) {
                assert_eq!(anew.jobs.len(), 3, "none closes before all were planned: {history:?}");
            }
        }
        let leased = anew.jobs.iter().filter(|job| job.state == JobState::Leased).count();
        assert!(leased <= 1 || self.workflow.at_once, "one step at a time: {history:?}");
        for job in anew.jobs.iter() {
            assert!(job.attempts_used <= 2, "{history:?}");
        }
    }

    /// INV-12: whatever has not ended names the instant or the event that changes it, and that is to come.
    fn check_explanations(&self, view: &RunView, history: &[Event]) {
        let now = self.store.now();
        for job in &view.jobs {
            let why = explain(view, job, now, &Known::default());
            let is_fitting = match (job.state, &why) {
                (_, Explanation::Ended { state, .. }) => {
                    *state == job.state && job.state.is_terminal()
                }
                (JobState::Leased, Explanation::Leased { alive, until, .. }) => {
                    *alive && until.is_some()
                }
                (JobState::Deferred, Explanation::Unavailable { retry_at, until, .. }) => {
                    retry_at <= until
                }
                (JobState::Suspended, Explanation::Suspended { .. }) => true,
                (JobState::Ready, Explanation::RunPaused { .. }) => {
                    view.run.state == RunState::Paused
                }
                (JobState::Ready, Explanation::Cancelling { .. }) => {
                    view.run.state == RunState::Cancelling
                }
                (JobState::Ready, Explanation::DueAt { at, .. }) => *at > now,
                (JobState::Ready, Explanation::Claimable) => view.run.state == RunState::Running,
                _ => false,
            };
            assert!(is_fitting, "{:?} is explained by {why:?}: {history:?}", job.state);
            assert_eq!(why.changed_by().is_none(), job.state.is_terminal(), "{why:?}");
        }
    }

    /// Every report left its warnings, and nothing follows the end of the run.
    async fn check_events(&self, history: &[Event]) {
        let events = self.store.events(self.run.as_str(), 1, 999).await.unwrap();
        let warned = events.iter().filter(|event| event.kind == "step_warning");
        assert!(warned.clone().all(|event| event.data == json!({"warnings": ["beware"]})));
        let reports = |event: &&EventRecord| {
            let (kind, message) = (event.kind.as_str(), event.data["message"].as_str());
            matches!(kind, "job_succeeded" | "job_skipped") && event.data["reason"] != "operator"
                || (matches!(kind, "attempt_failed" | "job_failed" | "job_partial")
                    && message == Some("no"))
        };
        let reported = events.iter().filter(reports);
        assert_eq!(warned.count(), reported.count(), "{history:?}: {events:#?}");
        assert_eq!(events.last().unwrap().kind, "run_closed", "{history:?}");
    }

    /// The run as it is stored, once it has ended.
    async fn ended(&self) -> Option<RunView> {
        let ended = self.machine.state.is_terminal();
        if ended { Some(self.store.run(&self.run).await.unwrap()) } else { None }
    }

    /// Whatever happened, success from here on ends the run.
    async fn end(&mut self, history: &[Event]) {
        for _ in 0..20 {
            if self.machine.state.is_terminal() {
                return;
            }
            for event in [Event::Unpause, Event::Later, Event::Claim, Event::Succeed] {
                self.happen(event).await;
            }
        }
        panic!("{history:?} does not end: {:?}", self.machine);
    }
}

/// INV-40: the outcome by what ended the run, or else by how many of its jobs ended in which way.
fn outcome_of_rows(machine: &Machine) -> RunState {
    match machine.failure.as_ref().and_then(|failure| failure["cause"].as_str()) {
        Some("cancel") => return RunState::Cancelled,
        Some("deadline") => return RunState::TimedOut,
        _ => (),
    }
    let count = |state| machine.jobs.iter().filter(|job| job.state == state).count();
    let neutral = |job: &&Job| job.skipped.is_some_and(|why| !why.degrades());
    let neutral = machine.jobs.iter().filter(neutral).count();
    let missing = count(JobState::Skipped) - neutral;
    let (done, in_part) = (count(JobState::Succeeded) + neutral, count(JobState::Partial));
    if count(JobState::Failed) > 0 || done + in_part == 0 {
        RunState::Failed
    } else if in_part + missing > 0 {
        RunState::PartiallySucceeded
    } else {
        RunState::Succeeded
    }
}

/// Events after the first look: 3 in CI, as many as `PERENNIAL_HISTORY_LENGTH` says elsewhere.
fn length() -> u32 {
    std::env::var("PERENNIAL_HISTORY_LENGTH").ok().and_then(|n| n.parse().ok()).unwrap_or(3)
}

/// Proves INV-2, INV-5, INV-19, INV-40, INV-ST-7.
/// A stage is closed when all that was planned has ended and not before; what has ended stays as it is until somebody
/// reopens it; no job has more attempts than its policy gives it; and the end of each is what its jobs came to.
#[tokio::test(start_paused = true)]
async fn all_short_histories_agree_with_the_store_and_end() {
    let length = length();
    let store = MemoryStore::open().unwrap();
    let node = store.register_node("n").await.unwrap().node;
    for (claims_inline, at_once) in [(true, false), (false, false), (true, true), (false, true)] {
        for number in 0..EVENTS.len().pow(length) {
            let mut rest = number;
            let history: Vec<Event> = std::iter::once(Event::Look)
                .chain((0..length).map(|_| {
                    let event = EVENTS[rest % EVENTS.len()];
                    rest /= EVENTS.len();
                    event
                }))
                .collect();
            let name = format!("{claims_inline}-{at_once}-{number}");
            let mut play = Play::begin(&store, &node, &name, claims_inline, at_once).await;
            for event in &history {
                let ended = play.ended().await.filter(|_| *event != Event::Reopen);
                play.happen(*event).await;
                if ended.is_some() {
                    assert_eq!(play.ended().await, ended, "{event:?} changed it: {history:?}");
                }
                play.check(&history).await;
            }
            play.end(&history).await;
            play.check(&history).await;
            play.check_events(&history).await;
        }
    }
}

/// Rows and fold agree whatever ends a wait, and every wait can be ended.
#[tokio::test(start_paused = true)]
async fn all_short_histories_of_waits_agree_with_the_store_and_end() {
    let store = MemoryStore::open().unwrap();
    let node = store.register_node("n").await.unwrap().node;
    for (begins, at_once) in
        [(Event::Miss, false), (Event::Suspend, false), (Event::Miss, true), (Event::Suspend, true)]
    {
        for number in 0..OF_WAITS.len().pow(length()) {
            let mut rest = number;
            let mut history = vec![Event::Look, begins];
            for _ in 0..length() {
                history.push(OF_WAITS[rest % OF_WAITS.len()]);
                rest /= OF_WAITS.len();
            }
            let name = format!("{begins:?}-{at_once}-{number}");
            let mut play = Play::begin(&store, &node, &name, true, at_once).await;
            for event in &history {
                play.happen(*event).await;
                play.check(&history).await;
            }
            play.end(&history).await;
            play.check(&history).await;
        }
    }
}

/// In any order of cancel, completion, suspension and signal one of them wins, and
/// what comes after the cancel changes nothing: no attempt of the run begins any more.
/// Proves INV-15, INV-ST-27, D6.
#[tokio::test(start_paused = true)]
async fn a_cancel_wins_or_loses_in_every_order() {
    let store = MemoryStore::open().unwrap();
    let node = store.register_node("n").await.unwrap().node;
    let mut ends = HashMap::new();
    for seed in 0..1_000_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut play = Play::begin(&store, &node, &seed.to_string(), true, seed % 2 == 0).await;
        let mut history = vec![Event::Look];
        play.happen(Event::Look).await;
        let mut is_cancelled = false;
        for _ in 0..10 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let event = OF_WAITS[(state % OF_WAITS.len() as u64) as usize];
            let was_cancelled = is_cancelled;
            is_cancelled |= event == Event::Cancel && play.machine.state.goes_on();
            history.push(event);
            let begun = |machine: &Machine| machine.jobs.iter().map(|job| job.attempt).sum::<u32>();
            let before = begun(&play.machine);
            play.happen(event).await;
            let now = begun(&play.machine);
            assert!(!was_cancelled || now == before, "one began after it: {history:?}");
            play.check(&history).await;
            let state = play.machine.state;
            if !is_cancelled {
                assert_ne!(state, RunState::Cancelled, "{history:?}");
            } else {
                let ending = [RunState::Cancelling, RunState::Cancelled].contains(&state);
                assert!(ending, "{history:?}: {state}");
                let waits = |job: &Job| job.state.is_waiting() || job.state == JobState::Ready;
                assert!(!play.machine.jobs.iter().any(waits), "{history:?}");
            }
        }
        play.end(&history).await;
        play.check(&history).await;
        let cancelled = play.machine.state == RunState::Cancelled;
        assert_eq!(cancelled, is_cancelled, "{history:?}");
        *ends.entry(play.machine.state).or_insert(0) += 1;
    }
    assert!(ends.len() >= 3, "{ends:?}");
}

/// Proves INV-40, FL8, B13.
#[tokio::test(start_paused = true)]
async fn outcomes_are_those_of_the_table() {
    let store = MemoryStore::open().unwrap();
    let node = store.register_node("n").await.unwrap().node;
    use Event::{
        Cancel, Claim, Deadline, FailForGood, FailForNow, Later, Look, Miss, Operator, Panic,
        Pause, Release, Reopen, Signal, Skip, Succeed, Suspend, Unpause,
    };
    for (number, (history, state)) in [
        (&[Succeed, Succeed, Succeed][..], RunState::Succeeded),
        (&[Skip, Skip, Skip], RunState::Succeeded),
        (&[Operator, Operator, Operator], RunState::Failed),
        (&[Operator, Operator, Succeed], RunState::PartiallySucceeded),
        (&[Operator, FailForGood, Operator], RunState::PartiallySucceeded),
        (&[Operator, Skip, Operator], RunState::PartiallySucceeded),
        (&[Succeed, FailForGood, Succeed], RunState::PartiallySucceeded),
        (&[FailForGood], RunState::Failed),
        (&[Panic], RunState::Failed),
        (&[FailForNow, Claim, FailForNow], RunState::Failed),
        (&[FailForNow, Claim, Succeed, Succeed, Succeed], RunState::Succeeded),
        (&[Release, Claim, Succeed, Succeed, Succeed], RunState::Succeeded),
        (&[Cancel, Panic], RunState::Cancelled),
        (&[Release, Cancel, Look], RunState::Cancelled),
        (&[Deadline, Panic], RunState::TimedOut),
        (&[Release, Deadline], RunState::TimedOut),
        (&[Pause, Claim, Look], RunState::Paused),
        (&[Pause, Succeed, Look, Claim], RunState::Paused),
        (&[Pause, Succeed, Unpause, Claim, Succeed, Succeed], RunState::Succeeded),
        (&[Succeed, Succeed, Pause, Succeed], RunState::Paused),
        (&[Succeed, Succeed, Pause, Succeed, Unpause, Look], RunState::Succeeded),
        (&[Pause, FailForNow, Unpause, Claim, Succeed, Succeed, Succeed], RunState::Succeeded),
        (&[Pause, FailForGood, Look], RunState::Failed),
        (&[Pause, Cancel, Panic], RunState::Cancelled),
        (&[Pause, Release, Deadline, Look], RunState::TimedOut),
        (&[FailForGood, Reopen], RunState::Running),
        (&[Succeed, Succeed, FailForGood, Reopen, Look, Claim, Succeed], RunState::Succeeded),
        (&[FailForGood, Reopen, Look, Claim, FailForGood], RunState::Failed),
        (&[Cancel, Panic, Reopen, Look, Claim, Succeed, Succeed, Succeed], RunState::Succeeded),
        (&[Release, Deadline, Reopen, Look], RunState::Running),
        (&[Succeed, Succeed, Succeed, Reopen], RunState::Succeeded),
        (&[Miss, Claim, Succeed], RunState::Running),
        (&[Miss, Later, Later, Claim, Succeed, Succeed, Succeed], RunState::Succeeded),
        (&[Miss, Later, Later, Claim, Miss], RunState::Failed),
        (&[Succeed, Miss, Later, Later, Claim, Miss, Succeed], RunState::PartiallySucceeded),
        (&[Succeed, Succeed, Miss, Later, Later, Claim, Miss], RunState::PartiallySucceeded),
        (&[Miss, Cancel, Look], RunState::Cancelled),
        (&[Miss, Deadline], RunState::TimedOut),
        (&[Suspend, Claim, Succeed], RunState::Running),
        (&[Suspend, Signal, Claim, Succeed, Succeed, Succeed], RunState::Succeeded),
        (&[Signal, Suspend, Claim, Succeed, Succeed, Succeed], RunState::Succeeded),
        (&[Suspend, Later, Later, Claim, Succeed, Succeed, Succeed], RunState::Succeeded),
        (&[Succeed, Suspend, Later, Later, Succeed], RunState::PartiallySucceeded),
        (&[Succeed, Succeed, Suspend, Later, Later], RunState::PartiallySucceeded),
        (&[Suspend, Cancel, Signal, Look], RunState::Cancelled),
        (&[Suspend, Deadline, Look], RunState::TimedOut),
        (&[Suspend, Pause, Signal, Claim], RunState::Paused),
        (&[Suspend, Pause, Signal, Unpause, Claim, Succeed, Succeed, Succeed], RunState::Succeeded),
        (&[Cancel, Suspend], RunState::Cancelled),
    ]
    .into_iter()
    .enumerate()
    {
        let mut play = Play::begin(&store, &node, &number.to_string(), true, false).await;
        play.happen(Look).await;
        for event in history {
            play.happen(*event).await;
        }
        assert_eq!(play.machine.state, state, "{history:?}");
        play.check(history).await;
    }
}

/// Proves INV-12.
///
/// Long histories, drawn at random: after every step each job that has not ended has an explanation.
#[tokio::test(start_paused = true)]
async fn whatever_has_not_ended_is_explained() {
    let mut seed =
        std::env::var("PERENNIAL_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(7_u64);
    let mut all = EVENTS.to_vec();
    all.extend(OF_WAITS);
    let store = MemoryStore::open().unwrap();
    let node = store.register_node("n").await.unwrap().node;
    for number in 0..60 {
        let (claims_inline, at_once) = (number % 2 == 0, number % 3 == 0);
        let name = format!("random-{number}");
        let mut play = Play::begin(&store, &node, &name, claims_inline, at_once).await;
        let mut history = vec![Event::Look];
        play.happen(Event::Look).await;
        for _ in 0..40 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let place = usize::try_from(seed >> 33).unwrap() % all.len();
            history.push(all[place]);
            play.happen(all[place]).await;
            play.check(&history).await;
        }
        play.end(&history).await;
    }
}
