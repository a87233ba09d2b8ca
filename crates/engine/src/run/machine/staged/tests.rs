//! Random plans, played in random orders against a real store: after each event the machine in memory equals one
//! built anew from the rows, no stage has more under way than it may, and the end is the one that follows from how
//! each job ended, whatever the order.

mod compensation;
mod driven;
mod ends;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use perennial_core::{
    FailureClass,
    failure::Failure,
    run::{FailurePolicy, Priority, RunId, Tolerance},
};
use perennial_store::{
    Admissions, Claimed, Claims, Committed, Created, Lease, MemoryStore, NewRun, NodeRef,
    Reopening, RunView, StageLimit, Store, verify,
};

use super::super::ServicesNow;
use super::*;
use crate::external::Offered;
use crate::{
    StartRun,
    run::machine::{Ending, Fact, Reported, StopCause},
    staged::{
        Activity, ActivityError, Child, ChildOutcome, Ended, Feed, Group, JoinPolicy, Joined,
        NextJobs, Plan, PlanProblems, RunReport, Stage, Staged, StagedWorkflow, Undo, Which,
        plan_round,
    },
    workflow::{AttemptCx, Outcome, Unavailable, Workflow},
};

struct Work1;

impl Activity for Work1 {
    const NAME: &'static str = "work";
    type In = u64;
    type Out = u64;
    async fn run(&self, _: &AttemptCx, input: u64) -> Result<Ended<u64>, ActivityError> {
        Ok(Ended::Done(input))
    }
}

struct Undo1;

impl Activity for Undo1 {
    const NAME: &'static str = "undo";
    type In = Undo;
    type Out = ();
    async fn run(&self, _: &AttemptCx, _: Undo) -> Result<Ended<()>, ActivityError> {
        Ok(Ended::Done(()))
    }
}

/// So many children as its input says, of which the third is skipped; one of 4 has a group within.
struct Fan<const POLICY: u8>;

impl<const POLICY: u8> Group for Fan<POLICY> {
    const NAME: &'static str = match POLICY {
        0 => "fan",
        1 => "fan_fast",
        _ => "fan_quorum",
    };
    type In = u64;
    type Out = Vec<String>;

    fn expand(&self, input: &u64) -> Vec<Child> {
        let child = |number: u64| {
            let key = format!("c{number}");
            match number {
                2 => Child::skipped(key, SkipReason::UnknownTool),
                3 => Child::group::<Self>(key, &1),
                _ => Child::activity::<Work1>(key, &number),
            }
        };
        (0..*input % 5).map(child).collect()
    }

    fn join(&self, _: &u64, children: &[ChildOutcome]) -> Joined<Vec<String>> {
        let mut ends: Vec<String> = children.iter().map(|it| it.key.clone()).collect();
        ends.sort();
        Joined::by_ends(children, ends)
    }

    fn policy(&self) -> JoinPolicy {
        match POLICY {
            0 => JoinPolicy::AllSettled,
            1 => JoinPolicy::FailFast,
            _ => JoinPolicy::Quorum(1),
        }
    }
}

/// What a random plan is made of.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Shape {
    jobs: u64,
    /// Each of them comes after the one before.
    chain: bool,
    stages: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Piece {
    /// 0 activity, 1 group, 2 group that fails fast, 3 group with a quorum.
    work: u8,
    /// 0 per item, 1 at a barrier, 2 driven, in the same way as one by one.
    feed: u8,
    /// 0 one to one, 1 one to two, 2 only even ones, 3 each after the one before.
    edge: u8,
    upstream: usize,
    concurrency: u32,
    policy: u8,
    optional: bool,
    /// What follows from a failure: 0 a skipped job, 1 nothing, 2 the failure of the stage.
    bad: u8,
    skip: bool,
    /// How many of its jobs are under way at a time: 2 of all that have this, 1, 3 of those with even inputs, and with odd
    /// ones, 2; else as many as there are places.
    key: u8,
    /// 0 and 1 normal, 2 before others, 3 after them, 4 each of its jobs as it says itself.
    priority: u8,
    /// What it has done is undone when the run does not end well.
    undo: bool,
}

fn all(_: &Value) -> String {
    "all".to_owned()
}

fn parity(input: &Value) -> String {
    format!("parity {}", input.as_u64().unwrap_or(0) % 2)
}

struct Any;

const NAMES: [&str; 5] = ["s0", "s1", "s2", "s3", "s4"];

fn number(key: &str) -> u64 {
    key.bytes().fold(7, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)))
}

fn one(_: &Value, upstream: &Upstream) -> Vec<JobSpec> {
    upstream.items().iter().map(|item| JobSpec::new(&item.key, &number(&item.key))).collect()
}

fn two(_: &Value, upstream: &Upstream) -> Vec<JobSpec> {
    let of = |key: &String| ["a", "b"].map(|end| JobSpec::new(format!("{key}{end}"), &number(key)));
    upstream.items().iter().flat_map(|item| of(&item.key)).collect()
}

fn even(_: &Value, upstream: &Upstream) -> Vec<JobSpec> {
    let items = upstream.items().iter().filter(|item| number(&item.key).is_multiple_of(2));
    items.map(|item| JobSpec::new(&item.key, &number(&item.key))).collect()
}

fn chain(_: &Value, upstream: &Upstream) -> Vec<JobSpec> {
    let mut keys: Vec<&String> = upstream.items().iter().map(|item| &item.key).collect();
    // They were made in the order of the ends that they follow from.
    keys.sort();
    let before = |place: usize| place.checked_sub(1).and_then(|place| keys.get(place).copied());
    let specs = keys.iter().enumerate();
    specs.map(|(place, key)| JobSpec::new(key, &number(key)).after(before(place))).collect()
}

const EDGES: [fn(&Value, &Upstream) -> Vec<JobSpec>; 4] = [one, two, even, chain];

impl StagedWorkflow for Any {
    const NAME: &'static str = "any";
    const VERSION: u32 = 1;
    type Input = Shape;
    type Output = ();

    fn plan(&self, shape: &Shape) -> Result<Plan, PlanProblems> {
        let mut plan = Plan::new();
        for (place, piece) in shape.stages.iter().enumerate() {
            let name = NAMES[place];
            let stage = match piece.work {
                0 => Stage::activity::<Work1>(name),
                1 => Stage::group::<Fan<0>>(name),
                2 => Stage::group::<Fan<1>>(name),
                _ => Stage::group::<Fan<2>>(name),
            };
            let edge = Edge::from(NAMES[piece.upstream], EDGES[piece.edge as usize]);
            let edge = edge.on_upstream_failure(match piece.bad {
                0 => UpstreamFailure::Skip,
                1 => UpstreamFailure::Omit,
                _ => UpstreamFailure::FailStage,
            });
            let feed = match (place, piece.feed) {
                (0, _) => {
                    let before =
                        |job: u64| (shape.chain && job > 0).then(|| format!("j{}", job - 1));
                    let own = |job: u64, spec: JobSpec| match piece.priority {
                        4 => spec.priority(Priority::new(10 * (job as i64 % 3)).unwrap()),
                        _ => spec,
                    };
                    Feed::jobs((0..shape.jobs).map(|job| {
                        own(job, JobSpec::new(format!("j{job}"), &job).after(before(job)))
                    }))
                }
                (_, 0) => Feed::per_item(edge),
                (_, 1) => Feed::barrier(edge),
                (_, _) => Feed::driven(),
            };
            let policy = match piece.policy {
                0 => FailurePolicy::default(),
                1 => FailurePolicy::tolerate(Tolerance::Count(1)),
                _ => FailurePolicy::FAIL_FAST,
            };
            let stage = stage.feed(feed).concurrency(piece.concurrency).on_failure(policy);
            let stage = if piece.optional { stage.optional() } else { stage };
            let stage = match piece.key {
                2 => stage.concurrency_key(all, 1),
                3 => stage.concurrency_key(parity, 2),
                _ => stage,
            };
            let stage = match piece.priority {
                2 => stage.priority(Priority::HIGH),
                3 => stage.priority(Priority::LOW),
                _ => stage,
            };
            let stage = if piece.undo { stage.compensate::<Undo1>() } else { stage };
            let skip = piece.skip && place > 0;
            plan = plan.stage(if skip { stage.skip(SkipReason::Disabled) } else { stage });
        }
        Ok(plan)
    }

    fn next(&self, shape: &Shape, report: &RunReport) -> NextJobs {
        let mut next = NextJobs::none();
        let driven = shape.stages.iter().enumerate().skip(1).filter(|(_, piece)| piece.feed == 2);
        for (place, piece) in driven {
            let upstream = report.stage(NAMES[piece.upstream]).unwrap();
            for item in upstream.items.iter().filter(|item| item.is_success()) {
                let items = vec![item.clone()];
                let specs = EDGES[piece.edge as usize](&Value::Null, &Upstream { items });
                next = next.jobs(NAMES[place], specs);
            }
            if upstream.state == StageState::Closed {
                next = next.seal(NAMES[place]);
            }
        }
        next
    }

    fn summarize(&self, _: &Shape, _: &RunReport) {}
}

fn any() -> Staged<Any> {
    Staged::new(Any).activity(Work1).activity(Undo1).group(Fan::<0>).group(Fan::<1>).group(Fan::<2>)
}

/// A sequence that a seed gives (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn shape(&mut self, settles: bool) -> Shape {
        let stages = 1 + self.roll(4) as usize;
        let piece = |place: usize, dice: &mut Self| Piece {
            // What gives the rest up depends on the order.
            work: if settles { dice.roll(2) } else { dice.roll(4) } as u8,
            feed: dice.roll(3) as u8,
            edge: dice.roll(4) as u8,
            upstream: dice.roll(place.max(1) as u64) as usize,
            concurrency: 1 + dice.roll(3) as u32,
            policy: if settles { dice.roll(2) } else { dice.roll(3) } as u8,
            optional: dice.roll(3) == 0,
            bad: if settles { dice.roll(2) } else { dice.roll(3) } as u8,
            skip: dice.roll(8) == 0,
            key: dice.roll(6) as u8,
            priority: dice.roll(5) as u8,
            undo: dice.roll(4) == 0,
        };
        let stages = (0..stages).map(|place| piece(place, self)).collect();
        Shape { jobs: 1 + self.roll(4), chain: self.roll(4) == 0, stages }
    }
}

struct Play {
    store: Arc<MemoryStore>,
    node: NodeRef,
    run: RunId,
    workflow: Arc<dyn Workflow>,
    shape: Shape,
    machine: Machine,
    /// How far the run has come.
    progress: u32,
    /// Rounds before this one.
    rounds: u64,
    /// Places that are taken, by stage.
    held: BTreeMap<String, usize>,
    of: String,
}

impl Play {
    async fn begin(store: &Arc<MemoryStore>, node: &NodeRef, shape: &Shape, name: &str) -> Self {
        Self::of(store, node, any().start(shape).unwrap(), shape, name).await
    }

    async fn of(
        store: &Arc<MemoryStore>,
        node: &NodeRef,
        start: StartRun,
        shape: &Shape,
        name: &str,
    ) -> Self {
        let staging = start.workflow.staging().unwrap();
        let run = RunId::parse(name).unwrap();
        let (stages, jobs) = staging.beginning(
            &run,
            &Offered::default(),
            &crate::EngineSettings::default(),
            store.now(),
        );
        let definition = start.workflow.definition();
        let created = store
            .create_run(NewRun {
                run: run.clone(),
                workflow: "any".to_owned(),
                definition: definition.digest,
                definition_bytes: definition.bytes.to_vec(),
                input_digest: definition.digest,
                settings: start.settings.clone(),
                owner: Some(node.clone()),
                deadline: None,
                stages,
                jobs,
                timers: Vec::new(),
                priority: Default::default(),
            })
            .await
            .unwrap();
        assert!(matches!(created, Created::New { .. }));
        let view = store.run(&run).await.unwrap();
        let machine = Machine::new(view, &*start.workflow).unwrap();
        let (store, node, of) = (store.clone(), node.clone(), format!("{name}: {shape:?}"));
        Self {
            store,
            node,
            run,
            workflow: start.workflow,
            shape: shape.clone(),
            machine,
            progress: 0,
            rounds: 0,
            held: BTreeMap::new(),
            of,
        }
    }

    async fn learn_order(&mut self) {
        if self.machine.asks_order() {
            let events = self.store.events(self.run.as_str(), 1, 99_999).await.unwrap();
            let mut completed = Completed::default();
            events.iter().for_each(|event| completed.take(event));
            self.machine.know_order(&*self.workflow, &completed);
        }
    }

    async fn decide(&mut self, fact: &Fact, claims: bool) -> bool {
        self.learn_order().await;
        let at = Circumstances {
            now: self.store.now(),
            jitter: 0.5,
            claim_for: claims.then(|| self.node.clone()),
            settings: crate::EngineSettings::default(),
            services: ServicesNow::default(),
            asked: None,
        };
        let Ok(Some(decision)) = self.machine.decide(&*self.workflow, fact, &at) else {
            return false;
        };
        let committed = self.store.commit(decision.clone()).await;
        let committed = committed
            .unwrap_or_else(|error| panic!("{}: {fact:?}: {error}\n{decision:#?}", self.of));
        assert!(matches!(committed, Committed::Now { .. }), "{committed:?}");
        self.machine.apply(decision, &committed);
        true
    }

    async fn look(&mut self) {
        let mut looks = 0;
        while self.decide(&Fact::Look, looks % 2 == 0).await {
            looks += 1;
            assert!(looks < 100, "{}: there is always something to decide", self.of);
        }
    }

    /// Whether that is worth another look.
    async fn claim(&mut self, limit: u32) -> bool {
        let due = self.machine.due(self.store.now(), limit as usize);
        let turns = self.machine.asks_turns() > 0;
        let aging = crate::EngineSettings::default().aging;
        let order = self.machine.order(self.store.now(), aging);
        let admissions = Admissions { turns, order: order.clone(), ..Admissions::default() };
        let claims = self.store.claim_by(&self.run, &self.node, limit, admissions).await.unwrap();
        let Claims { claimed, deferred, parked, admitted, ready, .. } = claims;
        assert!(deferred.is_empty(), "{}", self.of);
        if self.shape.stages.iter().all(|piece| !matches!(piece.key, 2 | 3)) {
            assert_eq!(claimed.len(), due.min(limit as usize), "{}", self.of);
            assert!(parked.is_empty() && admitted.is_empty() && ready.is_empty(), "{}", self.of);
        }
        let (now, again) = (self.store.now(), !parked.is_empty() || !admitted.is_empty());
        for (job, deferral) in parked {
            self.machine.parked(job, deferral, now);
        }
        for job in admitted {
            self.machine.has_turn(job, now);
        }
        for job in ready {
            self.machine.is_ready(job, now);
        }
        let place = |job: &Claimed| {
            let priority = self.machine.job(job.lease.job).map(|job| job.priority);
            // Who has come to its turn with the claim was not asked for.
            order.iter().position(|it| Some(*it) == priority).unwrap_or(usize::MAX)
        };
        let places: Vec<usize> = claimed.iter().map(place).collect();
        assert!(places.is_sorted(), "{}: {places:?}", self.of);
        for claimed in claimed {
            self.machine.claimed(&claimed.lease, now);
        }
        again
    }

    fn leases(&self) -> Vec<Lease> {
        let leased = self.machine.jobs().iter().filter(|job| job.state == JobState::Leased);
        leased.filter_map(|job| self.machine.lease(job)).collect()
    }

    /// Opens a further round, if there is something to be made again.
    async fn reopen(&mut self, which: &Which, cascade: bool) -> bool {
        let view = self.store.run(&self.run).await.unwrap();
        if view.run.state == RunState::Succeeded {
            return false;
        }
        let staging = self.workflow.staging().unwrap();
        let Ok(round) = plan_round(&view, staging, which, cascade, self.store.now()) else {
            return false;
        };
        let definition = self.workflow.definition();
        let reopened = self.store.reopen_run(Reopening {
            run: self.run.clone(),
            expected_revision: view.run.revision,
            owner: self.node.clone(),
            definition: definition.digest,
            definition_bytes: definition.bytes.to_vec(),
            input_digest: view.run.input_digest,
            settings: view.run.settings.clone(),
            deadline: None,
            again: round.again.clone(),
            stages: round.stages.clone(),
        });
        reopened.await.unwrap_or_else(|error| panic!("{}: {error}\n{round:#?}", self.of));
        (self.progress, self.rounds) = (0, self.rounds + 1);
        self.reload(self.store.run(&self.run).await.unwrap());
        true
    }

    /// How a job ends is written in its key, so that it is the same in any order; some fail in the first rounds only.
    async fn report(&mut self, lease: Lease) {
        let failed = |class| Outcome::Failed(Failure::new(class, "APP1", "no"));
        let outcome = match number(lease.key.as_str()) % 7 {
            0 if self.rounds > number(lease.key.as_str()) / 7 % 3 => Outcome::Succeeded(json!(3)),
            0 => failed(FailureClass::Permanent),
            1 => Outcome::Partial(json!(1)),
            2 => {
                let reason = SkipReason::NotApplicable;
                Outcome::Skipped { reason, record: json!("nothing to do") }
            }
            3 if lease.attempt == 1 => failed(FailureClass::Transient),
            // Never there: its time is over at a look, or at whatever else is decided then.
            4 if number(lease.key.as_str()) % 21 == 4 => {
                Outcome::Unavailable(Unavailable::new("away").at_most(Duration::from_secs(150)))
            }
            _ => Outcome::Succeeded(json!(2)),
        };
        let reported = Reported { outcome, warnings: Vec::new() };
        let how = Box::new(Ending::Reported(reported));
        self.decide(&Fact::Ended { lease, how }, true).await;
    }

    async fn check(&mut self) {
        let view = self.store.run(&self.run).await.unwrap();
        let progress = view.run.progress.unwrap();
        assert!(progress >= self.progress, "{}: {progress} after {}", self.of, self.progress);
        assert_eq!(progress == 100, view.run.state.is_terminal(), "{}", self.of);
        self.progress = progress;
        for stage in &view.stages {
            let held = view.jobs.iter().filter(|job| {
                let holds = matches!(job.state, JobState::Leased | JobState::Joining);
                holds && job.stage == stage.stage && job.parent.is_none()
            });
            let (held, most) = (held.count(), stage.concurrency.unwrap_or(99) as usize);
            // What was under way when there were more places goes on, and nothing else begins.
            let before = self.held.insert(stage.stage.clone(), held).unwrap_or(0);
            assert!(held <= most.max(before), "{}: {held} of {most}", self.of);
        }
        let anew = Machine::new(view, &*self.workflow).unwrap();
        let picture = |machine: &Machine| {
            let job = |job: &Job| {
                let (id, key, state, attempt) = (job.id, job.key.clone(), job.state, job.attempt);
                let more = (job.kind, job.parent.clone(), job.given.clone(), job.result.clone());
                let turn = job.keyed.as_ref().map(|keyed| (keyed.by.clone(), keyed.turn));
                let more = (more, job.priority);
                (id, key, state, attempt, job.skipped, job.lease.clone(), job.policy, more, turn)
            };
            let jobs: Vec<_> = machine.jobs.iter().map(job).collect();
            let now = (machine.revision, machine.progress, machine.priority);
            (machine.state, machine.stages.clone(), now, jobs)
        };
        assert_eq!(picture(&self.machine), picture(&anew), "{}", self.of);
        assert_eq!(self.machine.jobs.tally(), anew.jobs.tally(), "{}", self.of);
    }

    fn reload(&mut self, view: RunView) {
        self.machine = Machine::new(view, &*self.workflow).unwrap();
    }

    /// Everything that may happen, in an order that `dice` gives, until the run has ended. `stops`: it may be paused
    /// and cancelled.
    async fn play_on(&mut self, dice: &mut Dice, stops: bool) {
        for _ in 0..2_000 {
            if self.machine.state.is_terminal() {
                return;
            }
            match dice.roll(if stops { 40 } else { 8 }) {
                0 => self.reload(self.store.run(&self.run).await.unwrap()),
                1 | 2 => self.look().await,
                3 | 4 => drop(self.claim(1 + dice.roll(4) as u32).await),
                8 if dice.roll(3) == 0 => {
                    self.decide(&Fact::Stop(StopCause::Cancel), false).await;
                }
                9 => {
                    // Somebody may have waited for too long by then.
                    tokio::time::advance(Duration::from_secs(dice.roll(3) * 100)).await;
                    self.decide(&Fact::Pause, false).await;
                }
                10..=14 => {
                    self.decide(&Fact::Unpause, false).await;
                }
                16 => {
                    let stage =
                        NAMES[dice.roll(self.shape.stages.len() as u64) as usize].to_owned();
                    let most = std::num::NonZeroU32::MIN.saturating_add(dice.roll(4) as u32);
                    self.decide(&Fact::Limit(StageLimit { stage, most }), false).await;
                }
                17 => {
                    let priority = Priority::new(dice.roll(201) as i64 - 100).unwrap();
                    self.decide(&Fact::Priority(priority), false).await;
                }
                15 => {
                    if let Some(lease) = self.leases().first() {
                        self.store.release(lease, "test").await.unwrap();
                        self.machine.released(lease);
                    }
                }
                _ => {
                    tokio::time::advance(Duration::from_secs(60)).await;
                    let leases = self.leases();
                    if leases.is_empty() {
                        self.look().await;
                        while self.claim(4).await {
                            self.look().await;
                        }
                    } else {
                        let place = dice.roll(leases.len() as u64) as usize;
                        self.report(leases[place].clone()).await;
                    }
                }
            }
            self.check().await;
        }
        panic!("{} does not end: {:#?}", self.of, self.machine);
    }

    /// What is recorded in the end fits together: feeds, groups, outcomes.
    async fn judge(&self) -> RunView {
        let found = verify(&*self.store).await.unwrap();
        assert!(found.is_empty(), "{}: {found:#?}", self.of);
        let view = self.store.run(&self.run).await.unwrap();
        let events = self.store.events(self.run.as_str(), 1, 99_999).await.unwrap();
        for job in view.jobs.iter().filter(|job| job.kind == JobKind::Group) {
            let of = |kind: &str| {
                events
                    .iter()
                    .filter(|it| it.kind == kind && it.job.as_ref() == Some(&job.key))
                    .count()
            };
            assert!(of("group_expanded") <= 1 + self.rounds as usize);
            assert!(of("group_joined") <= of("group_expanded"));
            let children = view.jobs.iter().filter(|it| it.parent.as_ref() == Some(&job.key));
            let children: BTreeSet<&str> = children.map(|it| it.key.as_str()).collect();
            if of("group_expanded") > 0 {
                let input = job.input["input"].as_u64().unwrap();
                let expected = (0..input % 5).map(|child| format!("{}/c{child}", job.key));
                let expected: Vec<String> = expected.collect();
                assert!(children.iter().eq(expected.iter()), "{}: {children:?}", self.of);
            } else {
                assert!(children.is_empty(), "{}", self.of);
            }
        }
        if self.machine.failure.is_none() {
            self.judge_feeds(&view);
        }
        self.judge_outcomes(&view);
        self.judge_undone(&view, &events);
        view
    }

    /// Each stage has exactly the jobs that follow from those of its upstream, and of earlier rounds some that do not
    /// apply any more.
    fn judge_feeds(&self, view: &RunView) {
        for (place, piece) in self.shape.stages.iter().enumerate().skip(1) {
            let own = |stage: usize| {
                let of = NAMES[stage];
                view.jobs.iter().filter(move |job| job.stage == of && job.parent.is_none())
            };
            let mut expected = BTreeSet::new();
            for job in own(piece.upstream).filter(|_| !piece.skip) {
                let item = item(&job.key, &job.stage, job.state, job.skipped, None);
                let is_good = item.is_success();
                let key = item.key.clone();
                if is_good {
                    let edge = EDGES[piece.edge as usize];
                    let specs = edge(&Value::Null, &Upstream { items: vec![item] });
                    expected.extend(specs.into_iter().map(|spec| job_key(NAMES[place], &spec.key)));
                } else if piece.bad != 1 && piece.feed != 2 {
                    expected.insert(job_key(NAMES[place], &key));
                }
            }
            let counts = |job: &&perennial_store::JobRecord| {
                let is_left = job.skipped == Some(SkipReason::NotApplicable)
                    || job.state == JobState::Cancelled;
                expected.contains(&job.key) || self.rounds == 0 || !is_left
            };
            let found: BTreeSet<JobKey> =
                own(place).filter(counts).map(|job| job.key.clone()).collect();
            assert_eq!(found, expected, "{}", self.of);
        }
    }

    /// The outcome of each stage and of the run is a function of the rows (INV-40).
    fn judge_outcomes(&self, view: &RunView) {
        let mut ends = Vec::new();
        let cause = view.run.failure.as_ref().and_then(|failure| failure["cause"].as_str());
        let staging = self.workflow.staging().unwrap();
        for stage in &view.stages {
            let mut counted = Ends::default();
            let own =
                view.jobs.iter().filter(|job| job.stage == stage.stage && job.parent.is_none());
            own.for_each(|job| counted.add(job.state, job.skipped));
            let Some(planned) = staging.stage(&stage.stage) else { continue };
            let mut policy = planned.on_failure;
            let edge = planned.feed.edge();
            if edge.is_some_and(|edge| {
                let mut own = view.jobs.iter().filter(|job| job.stage == edge.upstream);
                edge.on_failure == UpstreamFailure::FailStage
                    && own.any(|job| job.parent.is_none() && fails(job.state, job.skipped))
            }) {
                policy = FailurePolicy::FAIL_FAST;
            }
            let outcome = stage.outcome.unwrap_or_else(|| panic!("{}: {view:#?}", self.of));
            if !matches!(cause, Some("cancel" | "deadline")) {
                assert_eq!(outcome, stage_outcome(&counted, &policy, false), "{}", self.of);
            }
            ends.push(StageEnd::new(outcome, stage.required, &counted));
        }
        let failure = view.run.failure.as_ref().unwrap_or(&Value::Null);
        let expected = match cause {
            Some(_) if failure["compensation"]["failed"].is_u64() => RunState::CompensationFailed,
            Some("cancel") => RunState::Cancelled,
            Some("deadline") => RunState::TimedOut,
            Some(_) => RunState::Failed,
            None => run_outcome_of(None, ends),
        };
        assert_eq!(view.run.state, expected, "{}", self.of);
    }
}

/// Plans: 60 in CI, as many as `PERENNIAL_PLANS` says elsewhere.
fn plans() -> u64 {
    std::env::var("PERENNIAL_PLANS").ok().and_then(|n| n.parse().ok()).unwrap_or(60)
}

fn seed(number: u64) -> Dice {
    let mut dice = Dice(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    for _ in 0..8 {
        dice.roll(2);
    }
    dice
}

/// Proves RF3, D21, INV-9, INV-40.
/// However claims, reports, looks and restarts follow each other: of the same plan with the same ends of its jobs comes
/// the same, also in further rounds.
#[tokio::test(start_paused = true)]
async fn the_end_of_a_plan_does_not_depend_on_the_order() {
    let mut ends: BTreeMap<&str, u32> = BTreeMap::new();
    let mut rounds = 0;
    for number in 0..plans() {
        let store = Arc::new(MemoryStore::open().unwrap());
        let node = store.register_node("n").await.unwrap().node;
        let mut dice = seed(number);
        let shape = dice.shape(true);
        let mut first = None;
        for order in 0..3 {
            let mut play = Play::begin(&store, &node, &shape, &format!("r{number}-{order}")).await;
            play.play_on(&mut dice, false).await;
            let mut view = play.judge().await;
            while play.rounds < 2 && play.reopen(&Which::Failed, true).await {
                play.play_on(&mut dice, false).await;
                view = play.judge().await;
                rounds += 1;
            }
            let jobs: BTreeMap<_, _> = view
                .jobs
                .iter()
                .map(|job| {
                    // What was waited for in vain tells how long that was, which the order decides.
                    let text =
                        |told: &Value| told["message"].as_str().unwrap_or_default().to_owned();
                    let vain = ["was not available", "nobody waits for it"];
                    let is_told = |told: &Value| !vain.iter().any(|it| text(told).contains(it));
                    let result = job.result.clone().filter(is_told);
                    (job.key.clone(), (job.state, job.skipped, result))
                })
                .collect();
            let stages: Vec<_> = view.stages.iter().map(|stage| stage.outcome).collect();
            let end = (view.run.state, stages, jobs);
            let first = first.get_or_insert_with(|| end.clone());
            assert_eq!(*first, end, "{}", play.of);
            *ends.entry(view.run.state.name()).or_default() += 1;
        }
    }
    assert!(ends.len() >= 3, "the plans end in too few ways: {ends:?}");
    assert!(rounds > plans() / 3, "{rounds} further rounds are too few");
}

/// Proves INV-2, INV-8, INV-10, INV-36, RF6, D4, B14, TRAP-8, TRAP-9, D20, D22.
/// With pauses, cancels, attempts that are given back and policies that give up: what is recorded fits together at
/// every moment, and every run ends. A stage closes when all that it may get is there and has ended, a group joins once
/// and when all of its children have ended, those that were skipped or cancelled as well.
#[tokio::test(start_paused = true)]
async fn whatever_happens_a_plan_is_followed_to_an_end_that_fits() {
    for number in 0..plans() {
        let store = Arc::new(MemoryStore::open().unwrap());
        let node = store.register_node("n").await.unwrap().node;
        let mut dice = seed(number + 1_000_000);
        let shape = dice.shape(false);
        for order in 0..2 {
            let mut play = Play::begin(&store, &node, &shape, &format!("r{number}-{order}")).await;
            play.play_on(&mut dice, true).await;
            let mut view = play.judge().await;
            for _ in 0..2 {
                let which = match dice.roll(3) {
                    0 => Which::Failed,
                    1 => Which::Stage(NAMES[dice.roll(3) as usize].to_owned()),
                    _ if view.jobs.is_empty() => continue,
                    _ => Which::Job(
                        view.jobs[dice.roll(view.jobs.len() as u64) as usize].key.clone(),
                    ),
                };
                if play.reopen(&which, dice.roll(3) > 0).await {
                    play.play_on(&mut dice, true).await;
                    view = play.judge().await;
                }
            }
        }
    }
}
