//! The workflow of the victim: jobs in waves, each with recorded calls, some with failures. What it gives follows
//! from its shape alone, whatever happens to its processes.

use std::{sync::Arc, time::Duration};

use perennial::{
    engine::{
        AttemptCx, Definition, DoneJob, FailureMeans, JobPlan, Next, NoSlot, Outcome, Workflow,
        workflow::{BoxFuture, JobKey, RetryPolicy, SequenceName, SlotPool},
    },
    records::{Failure, FailureClass},
};
use serde_json::{Value, json};

use super::victim::Ledger;

/// How many jobs become ready at once, in turns; never more than the shape's width.
const WAVES: [usize; 6] = [8, 3, 6, 1, 8, 4];
/// One of so many jobs fails at its first attempts.
const FLAKY: usize = 5;
/// The attempts of such a job that fail.
const FAILING: u32 = 2;

/// What the first job saves before anything else: more than a row takes.
pub(super) const SAVED: &str = "large";
const LARGE: usize = 300 * 1024;

/// The pool that the first job takes a number of, after one of a sequence.
pub(super) const POOL: &str = "ports";

/// What a run consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) jobs: usize,
    /// Recorded calls of each.
    pub(super) calls: u64,
    pub(super) width: usize,
    /// How long the other side of a call takes.
    pub(super) call_ms: u64,
    /// The pause before another attempt.
    pub(super) retry_ms: u64,
}

impl Shape {
    pub(super) fn to_json(self) -> Value {
        json!([self.jobs, self.calls, self.width, self.call_ms, self.retry_ms])
    }

    pub(super) fn of_json(value: &Value) -> Self {
        let at = |place: usize| value[place].as_u64().unwrap();
        let (jobs, width) = (usize::try_from(at(0)).unwrap(), usize::try_from(at(2)).unwrap());
        Self { jobs, calls: at(1), width, call_ms: at(3), retry_ms: at(4) }
    }

    /// The jobs of each wave.
    pub(super) fn waves(self) -> Vec<std::ops::Range<usize>> {
        let (mut waves, mut from) = (Vec::new(), 0);
        for size in WAVES.into_iter().cycle() {
            if from == self.jobs {
                break;
            }
            let to = (from + size.min(self.width)).min(self.jobs);
            waves.push(from..to);
            from = to;
        }
        waves
    }

    /// What each job gives in the end.
    pub(super) fn results(self) -> Vec<Value> {
        let (mut results, mut before) = (Vec::new(), 0);
        for wave in self.waves() {
            let mut sum = 0;
            for job in wave {
                let given = (1..=self.calls).fold(0, |all, call| all ^ reply(job, call, before));
                results.push(result(given, before));
                sum ^= given;
            }
            before = sum;
        }
        results
    }

    pub(super) fn is_flaky(job: usize) -> bool {
        job % FLAKY == FLAKY - 1
    }
}

pub(super) fn key(job: usize) -> JobKey {
    JobKey::new(format!("j{job:03}"))
}

pub(super) fn number(key: &str) -> usize {
    key.trim_start_matches('j').parse().unwrap()
}

fn reply(job: usize, call: u64, before: u64) -> u64 {
    let mixed = (job as u64 + 1).wrapping_mul(0x9e37_79b9).wrapping_add(call * 7919) ^ before;
    // JSON keeps whole numbers of this size.
    mixed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 12
}

fn result(given: u64, before: u64) -> Value {
    json!({ "given": given, "before": before })
}

/// Numbers, of which nothing comes into what the job gives: which ones they are, the others of the store decide.
async fn draw(cx: &AttemptCx) -> Result<(), Failure> {
    let sequence = SequenceName::new("flow").unwrap();
    cx.allocate(&sequence, "numbers").await?;
    let pool = SlotPool::new(POOL, 1..=9).unwrap();
    let refused =
        |refused: NoSlot| Failure::new(FailureClass::Internal, "APP2", refused.to_string());
    cx.slot(&pool).await.map(drop).map_err(refused)
}

#[derive(Debug)]
pub(super) struct Flow {
    pub(super) shape: Shape,
    pub(super) ledger: Arc<Ledger>,
    definition: Definition,
}

impl Flow {
    pub(super) fn new(shape: Shape, ledger: Arc<Ledger>) -> Self {
        let definition = Definition::new(shape.to_json().to_string().into_bytes());
        Self { shape, ledger, definition }
    }

    async fn attempt(&self, cx: &AttemptCx) -> Result<Value, Failure> {
        let job = number(cx.job.as_str());
        let waves = self.shape.waves();
        let wave = waves.iter().position(|wave| wave.contains(&job)).unwrap();
        let needs = wave.checked_sub(1).map_or(0..0, |wave| waves[wave].clone());
        let given = |done: &DoneJob| done.result["given"].as_u64().unwrap();
        let needed = cx.done.iter().filter(|done| needs.contains(&number(done.key.as_str())));
        let before = needed.map(given).fold(0, |all, given| all ^ given);
        if job == 0 && cx.restored::<String>(SAVED).await?.is_none() {
            cx.checkpoint(SAVED, &"x".repeat(LARGE)).await?;
        }
        if job == 0 {
            draw(cx).await?;
        }
        let mut all = 0;
        for call in 1..=self.shape.calls {
            let request = Definition::new(format!("{job} {call}").into_bytes()).digest;
            let made = cx.call(request, async |key| {
                self.ledger.passes("effect:before");
                let (attempt, key) = (cx.attempt, key.as_str());
                self.ledger.write(&format!("effect {} {attempt} {call} {key}", cx.job));
                self.ledger.passes("effect:after");
                // real time: the other process is killed meanwhile
                tokio::time::sleep(Duration::from_millis(self.shape.call_ms)).await;
                Ok(json!(reply(job, call, before)))
            });
            all ^= made.await?.value.as_u64().unwrap();
            if call == 1 && Shape::is_flaky(job) && cx.attempt <= FAILING {
                return Err(Failure::new(FailureClass::Transient, "APP1", "not at once"));
            }
        }
        Ok(result(all, before))
    }
}

impl Workflow for Flow {
    fn name(&self) -> &str {
        "flow"
    }

    fn definition(&self) -> &Definition {
        &self.definition
    }

    fn next(&self, done: &[DoneJob]) -> Next {
        let Some(wave) = self.shape.waves().into_iter().find(|wave| wave.end > done.len()) else {
            return Next::Seal;
        };
        let retry = RetryPolicy {
            max_attempts: 5,
            base_ms: self.shape.retry_ms,
            cap_ms: self.shape.retry_ms,
            jitter_percent: 0,
            ..RetryPolicy::PROVIDER
        };
        let attempt_within = Duration::from_secs(60);
        Next::Jobs(wave.map(|job| JobPlan::new(key(job), retry, attempt_within)).collect())
    }

    fn on_failure(&self, _: &JobKey, failure: &Failure, _: u32, _: &[DoneJob]) -> FailureMeans {
        FailureMeans::FailRun { record: json!(failure.message) }
    }

    fn execute(self: Arc<Self>, cx: AttemptCx) -> BoxFuture<'static, Outcome> {
        Box::pin(async move {
            self.ledger.passes("user:before");
            let (job, attempt, key) = (&cx.job, cx.attempt, cx.idempotency_key.as_str());
            self.ledger.write(&format!("begin {job} {attempt} {key}"));
            self.ledger.passes("user:after");
            let outcome = self.attempt(&cx).await;
            let is_done = outcome.is_ok();
            self.ledger.write(&format!("return {} {} {is_done}", cx.job, cx.attempt));
            outcome.map_or_else(Outcome::Failed, Outcome::Succeeded)
        })
    }
}
