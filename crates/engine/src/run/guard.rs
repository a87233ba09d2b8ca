//! What a decision asks of a workflow, whose code is the host's: a panic in it takes nothing along (INV-32).
//!
//! What has happened is recorded in any case, and nothing is decided for the code that failed: what it would have
//! said is asked again once somebody resumes the run (DUR-4).

use std::cell::RefCell;

use futures_util::FutureExt;
use perennial_core::{
    ExitReason, FailureClass,
    failure::Failure,
    run::{JobKey, SkipReason},
};
use perennial_supervision::contain;
use serde_json::{Value, json};

use crate::{
    staged::{
        ChildOutcome, ChildPlan, Edge, ErasedGroup, GroupEnd, JobSpec, NextJobs, PlanProblem,
        RunReport, Staging, Upstream,
    },
    workflow::{DoneJob, FailureMeans, Next, Workflow},
};

/// A workflow during one decision.
pub(crate) struct Guard<'a> {
    workflow: &'a dyn Workflow,
    stuck: RefCell<Option<Stuck>>,
}

/// Why nobody knows how a run goes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Stuck {
    /// A function of its workflow panicked.
    #[error("`{which}` of its workflow failed: {reason}")]
    Panicked { which: &'static str, reason: ExitReason },
    /// Nothing of that answer is made.
    #[error(
        "`next` of its workflow asks for what cannot be: {}",
        .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    )]
    Refused(Vec<PlanProblem>),
    /// It would wait forever.
    #[error(
        "nothing is under way, and `next` of its workflow asks for nothing and does not seal {}: it has to do either",
        .0.iter().map(|stage| format!("stage `{stage}`")).collect::<Vec<_>>().join(", ")
    )]
    NeverSealed(Vec<String>),
}

impl<'a> Guard<'a> {
    pub(super) fn new(workflow: &'a dyn Workflow) -> Self {
        Self { workflow, stuck: RefCell::new(None) }
    }

    /// What keeps the run from going on, if anything does.
    pub(super) fn stuck(self) -> Option<Stuck> {
        self.stuck.into_inner()
    }

    /// Nothing when nobody knows.
    pub(super) fn next(&self, done: &[DoneJob]) -> Option<Next> {
        self.noted(guarded("next", || self.workflow.next(done)))
    }

    /// One that does not say what a failure means lets it fail the run, which can be opened again.
    pub(super) fn on_failure(
        &self,
        job: &JobKey,
        failure: &Failure,
        attempt: u32,
        done: &[DoneJob],
    ) -> (FailureMeans, Option<Failure>) {
        let asked = || self.workflow.on_failure(job, failure, attempt, done);
        match guarded("on_failure", asked) {
            Ok(means) => (means, None),
            Err(panicked) => {
                let text = format!("{} (and {panicked})", failure.message);
                let failure = Failure::new(FailureClass::Panic, "PL615", text);
                let record = json!({ "error": failure.message });
                (FailureMeans::FailRun { record }, Some(failure))
            }
        }
    }

    /// One that has no record for a skip gets the plain one.
    pub(super) fn on_skip(&self, job: &JobKey, reason: SkipReason, why: &str) -> Value {
        let record = guarded("on_skip", || self.workflow.on_skip(job, reason, why));
        self.noted(record).unwrap_or_else(|| json!({ "skipped": reason.name(), "why": why }))
    }

    /// Nothing when nobody knows.
    pub(super) fn is_made_good(&self, job: &DoneJob, done: &[DoneJob]) -> Option<bool> {
        self.noted(guarded("is_made_good", || self.workflow.is_made_good(job, done)))
    }

    /// Nothing when nobody knows.
    pub(super) fn staging(&self) -> Option<&'a Staging> {
        self.noted(guarded("staging", || self.workflow.staging())).flatten()
    }

    /// What jobs follow; nothing when nobody knows.
    pub(super) fn feed(
        &self,
        edge: &Edge,
        given: &Value,
        upstream: &Upstream,
    ) -> Option<Vec<JobSpec>> {
        self.noted(guarded("an edge", || (edge.jobs)(given, upstream)))
    }

    /// A panic fails the job, and nothing else (DUR-4).
    pub(crate) fn key(key: fn(&Value) -> String, input: &Value) -> Result<String, Failure> {
        guarded("a concurrency key", || key(input)).map_err(|panicked| bug(&panicked))
    }

    /// What comes next in driven stages; nothing when nobody knows.
    pub(super) fn next_jobs(&self, report: &RunReport) -> Option<NextJobs> {
        let staging = self.staging()?;
        match self.noted(guarded("next", || staging.driver.next(report)))? {
            Ok(next) => Some(next),
            Err(error) => {
                let what = "the run".to_owned();
                self.refuse(vec![PlanProblem::Input { what, why: error.to_string() }])
            }
        }
    }

    /// What it said comes next cannot be.
    pub(super) fn refuse<T>(&self, problems: Vec<PlanProblem>) -> Option<T> {
        self.noted(Err(Stuck::Refused(problems)))
    }

    /// Nothing would ever come of these stages.
    pub(super) fn never_sealed<T>(&self, stages: Vec<String>) -> Option<T> {
        self.noted(Err(Stuck::NeverSealed(stages)))
    }

    /// A panic fails the group, and nothing else (DUR-4).
    pub(crate) fn expand(
        group: &dyn ErasedGroup,
        input: &Value,
    ) -> Result<Vec<ChildPlan>, Failure> {
        guarded("expand", || group.expand(input)).unwrap_or_else(|panicked| Err(bug(&panicked)))
    }

    /// A panic fails the group, and nothing else (DUR-4).
    pub(super) fn join(
        group: &dyn ErasedGroup,
        input: &Value,
        children: &[ChildOutcome],
    ) -> GroupEnd {
        let joined = guarded("join", || group.join(input, children));
        match joined.unwrap_or_else(|panicked| Err(bug(&panicked))) {
            Ok(end) => end,
            Err(failure) => GroupEnd::Failed(failure),
        }
    }

    fn noted<T>(&self, answer: Result<T, Stuck>) -> Option<T> {
        match answer {
            Ok(answer) => Some(answer),
            Err(stuck) => {
                self.stuck.borrow_mut().get_or_insert(stuck);
                None
            }
        }
    }
}

fn bug(panicked: &Stuck) -> Failure {
    Failure::new(FailureClass::Panic, "PL615", panicked.to_string())
}

/// Asks a function of a workflow.
pub(super) fn guarded<T>(which: &'static str, asked: impl FnOnce() -> T) -> Result<T, Stuck> {
    // A future without an await is done at once.
    let answer = contain(async move { asked() }).now_or_never();
    answer.unwrap_or(Err(ExitReason::Killed)).map_err(|reason| Stuck::Panicked { which, reason })
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use perennial_core::{
        Timestamp,
        run::{AttemptEnd, FeedKind, JobKind, JobState, RunId, RunState, StageState},
    };
    use perennial_store::{JobRecord, NodeRef, RunRecord, RunView, StageRecord};

    use super::*;
    use crate::{
        run::machine::{Circumstances, Ending, Fact, Machine, Reported, StopCause},
        workflow::{AttemptCx, BoxFuture, Definition, JobPlan, Outcome, RetryPolicy},
    };

    /// One function of it panics.
    #[derive(Debug)]
    struct Odd(&'static str, Definition);

    impl Odd {
        fn new(which: &'static str) -> Self {
            Self(which, Definition::new(b"odd".to_vec()))
        }

        fn may_panic(&self, which: &str) {
            assert!(self.0 != which, "{which} is odd");
        }
    }

    impl Workflow for Odd {
        fn name(&self) -> &str {
            "odd"
        }
        fn definition(&self) -> &Definition {
            &self.1
        }
        fn stage(&self) -> &str {
            self.may_panic("stage");
            "steps"
        }
        fn next(&self, done: &[DoneJob]) -> Next {
            self.may_panic("next");
            if done.len() > 1 {
                return Next::Seal;
            }
            let plan =
                |key| JobPlan::new(JobKey::new(key), RetryPolicy::ONCE, Duration::from_secs(1));
            Next::Jobs(vec![plan("a"), plan("b")])
        }
        fn on_failure(&self, _: &JobKey, _: &Failure, _: u32, _: &[DoneJob]) -> FailureMeans {
            self.may_panic("on_failure");
            FailureMeans::Tolerate { record: json!("tolerated") }
        }
        fn on_skip(&self, _: &JobKey, _: SkipReason, _: &str) -> Value {
            self.may_panic("on_skip");
            json!("its own")
        }
        fn is_made_good(&self, _: &DoneJob, _: &[DoneJob]) -> bool {
            self.may_panic("is_made_good");
            true
        }
        fn execute(self: Arc<Self>, _: AttemptCx) -> BoxFuture<'static, Outcome> {
            unreachable!("decisions are tested without attempts")
        }
    }

    const AT: Timestamp = Timestamp::from_micros(1_000_000);

    fn node() -> NodeRef {
        NodeRef { node: "n".to_owned(), incarnation: 1 }
    }

    /// A run with two jobs that are under way.
    fn view() -> RunView {
        let run = RunId::parse("r").unwrap();
        let digest = Definition::new(b"odd".to_vec()).digest;
        let job = |id: i64, key: &str| JobRecord {
            id,
            stage: "steps".to_owned(),
            key: JobKey::new(key),
            kind: JobKind::Step,
            parent: None,
            state: JobState::Leased,
            skipped: None,
            attempt: 1,
            attempts_used: 0,
            max_attempts: 1,
            crashes: 0,
            crashes_max: 3,
            run_after: None,
            lease: Some(node()),
            lease_alive: true,
            input: json!({ "retry": RetryPolicy::ONCE, "attempt_within_ms": 1000 }),
            result: None,
            dead_letter: false,
            deferral: None,
            deferred_since: None,
            uses: Vec::new(),
            keyed: None,
            priority: Default::default(),
        };
        RunView {
            run: RunRecord {
                run,
                workflow: "odd".to_owned(),
                definition: digest,
                input_digest: digest,
                settings: json!({}),
                state: RunState::Running,
                failure: None,
                revision: 1,
                owner: Some(node()),
                owner_alive: true,
                created_at: AT,
                finished_at: None,
                deadline: None,
                next_seq: 2,
                progress: None,
                priority: Default::default(),
            },
            stages: vec![StageRecord {
                stage: "steps".to_owned(),
                ordinal: 0,
                state: StageState::Open,
                outcome: None,
                feed: FeedKind::Driven,
                upstream: None,
                concurrency: None,
                required: true,
                weight: 1,
            }],
            jobs: vec![job(1, "a"), job(2, "b")],
            attempts: Vec::new(),
            calls: Vec::new(),
            waits: Vec::new(),
            signals: Vec::new(),
            saved: Vec::new(),
            beats: Vec::new(),
        }
    }

    fn at() -> Circumstances {
        Circumstances {
            now: AT,
            jitter: 0.5,
            claim_for: Some(node()),
            settings: crate::EngineSettings::default(),
            services: crate::run::machine::ServicesNow::default(),
            asked: None,
        }
    }

    fn ended(machine: &Machine, job: i64, outcome: Outcome) -> Fact {
        let lease = machine.job(job).and_then(|job| machine.lease(job)).unwrap();
        Fact::Ended { lease, how: Box::new(Ending::Reported(Reported::from(outcome))) }
    }

    fn failed() -> Outcome {
        Outcome::Failed(Failure::new(FailureClass::Permanent, "T1", "no"))
    }

    /// Proves INV-32.
    #[test]
    fn what_has_happened_is_recorded_although_next_panics_and_then_it_is_asked_no_more() {
        let (odd, good) = (Odd::new("next"), Odd::new("nothing"));
        let mut machine = Machine::new(view(), &odd).unwrap();
        let fact = ended(&machine, 1, Outcome::Succeeded(json!(1)));
        let decision = machine.decide(&odd, &fact, &at()).unwrap().unwrap();
        assert_eq!(decision.report.map(|report| report.end), Some(AttemptEnd::Succeeded));
        assert!(decision.new_jobs.is_empty() && decision.stages.is_empty());
        let why = machine.stuck().unwrap().to_string();
        assert!(why.contains("`next`") && why.contains("next is odd"), "{why}");
        // Another workflow would know; this machine asks none.
        assert!(machine.decide(&good, &Fact::Look, &at()).unwrap().is_none());
        let fact = ended(&machine, 2, Outcome::Succeeded(json!(2)));
        let decision = machine.decide(&good, &fact, &at()).unwrap().unwrap();
        assert!(decision.report.is_some() && decision.run_step.is_none());
        // Its end needs no answer.
        let decision =
            machine.decide(&odd, &Fact::Stop(StopCause::Cancel), &at()).unwrap().unwrap();
        assert_eq!(decision.run_step.map(|step| step.to), Some(RunState::Cancelling));
    }

    /// Proves INV-32.
    #[test]
    fn a_run_fails_when_nobody_says_what_a_failure_means() {
        let odd = Odd::new("on_failure");
        let mut machine = Machine::new(view(), &odd).unwrap();
        let decision = machine.decide(&odd, &ended(&machine, 1, failed()), &at());
        let decision = decision.unwrap().unwrap();
        let report = decision.report.unwrap();
        assert_eq!((report.job, report.message.as_deref()), (JobState::Failed, Some("no")));
        let failure = decision.run_step.and_then(|step| step.failure).unwrap();
        let message = failure["message"].as_str().unwrap();
        assert!(message.starts_with("no (and `on_failure`"), "{message}");
        assert!(machine.stuck().is_none(), "it ends by itself");
    }

    /// Proves INV-32.
    #[test]
    fn a_skip_without_a_record_of_its_own_has_the_plain_one_and_then_the_run_waits() {
        let odd = Odd::new("on_skip");
        let mut machine = Machine::new(view(), &odd).unwrap();
        let fact = Fact::Skip { job: JobKey::new("a"), why: "late".to_owned() };
        let decision = machine.decide(&odd, &fact, &at()).unwrap().unwrap();
        let record = decision.jobs[0].result.clone().unwrap();
        assert_eq!(record, json!({ "skipped": "operator", "why": "late" }));
        assert!(machine.stuck().unwrap().to_string().contains("`on_skip`"));
    }

    /// Proves INV-32.
    #[test]
    fn a_run_stays_open_while_nobody_knows_what_it_comes_to() {
        let (odd, good) = (Odd::new("is_made_good"), Odd::new("nothing"));
        let mut closing = view();
        closing.jobs[0].state = JobState::Partial;
        (closing.jobs[0].lease, closing.jobs[0].result) = (None, Some(json!("tolerated")));
        for workflow in [odd, good] {
            let mut machine = Machine::new(closing.clone(), &workflow).unwrap();
            let fact = ended(&machine, 2, Outcome::Succeeded(json!(2)));
            let decision = machine.decide(&workflow, &fact, &at()).unwrap().unwrap();
            assert!(decision.report.is_some());
            let knows = workflow.0 == "nothing";
            assert_eq!((decision.run_step.is_some(), machine.stuck().is_none()), (knows, knows));
        }
    }

    /// Proves INV-32.
    #[test]
    fn a_run_that_cannot_be_understood_says_why() {
        let why = Machine::new(view(), &Odd::new("stage")).unwrap_err();
        assert!(why.contains("stage is odd"), "{why}");
        let mut damaged = view();
        damaged.jobs[1].input = json!("?");
        let why = Machine::new(damaged, &Odd::new("nothing")).unwrap_err();
        assert!(why.contains("the plan of b"), "{why}");
    }
}
