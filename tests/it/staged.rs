//! Runs in stages: models and templates become apps, each app is analysed by several tools at once.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use perennial::{
    RunId, Runtime, Store,
    engine::{
        AttemptCx, ReopenRun, RunOutcome, StartRun, Unavailable,
        staged::{
            Activity, ActivityError, Child, ChildOutcome, Edge, Ended, Feed, Group, JobSpec,
            JoinPolicy, Joined, Plan, PlanProblem, PlanProblems, RunReport, Stage, Staged,
            StagedWorkflow, Timeouts, Which,
        },
        workflow::{JobKey, JobState, RetryPolicy, SkipReason},
    },
    records::{Failure, FailureClass, RunError},
};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// What the test looks at, and what it holds up.
#[derive(Debug, Default)]
struct World {
    /// What was generated, each time.
    generated: Mutex<Vec<String>>,
    /// Generations, and groups, at the same time: now and at most.
    busy: AtomicU32,
    most: AtomicU32,
    /// An app at whose analysis the tool `slow` stays.
    stays: Mutex<Option<String>>,
    /// Told when it does.
    is_there: Notify,
    /// Where `static` of that app fails, once the other tool is there.
    fails_beside: Notify,
    /// Whether an attempt that stayed was dropped.
    dropped: AtomicU32,
    /// What failed does so no more.
    is_healed: AtomicBool,
    /// What the outside world was asked, by key.
    asked: Mutex<Vec<String>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Study {
    models: Vec<String>,
    templates: Vec<String>,
    tools: Vec<String>,
    barrier: bool,
    fails_fast: bool,
    /// How long a group may take.
    limit_ms: Option<u64>,
}

impl Study {
    fn new() -> Self {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Self {
            models: texts(&["m1", "m2"]),
            templates: texts(&["blog", "chat", "shop"]),
            tools: texts(&["static", "dynamic", "unknown"]),
            barrier: false,
            fails_fast: false,
            limit_ms: None,
        }
    }
}

struct Generate(Arc<World>);

impl Activity for Generate {
    const NAME: &'static str = "generate";
    type In = (String, String);
    type Out = String;

    async fn run(
        &self,
        cx: &AttemptCx,
        (model, template): (String, String),
    ) -> Result<Ended<String>, ActivityError> {
        let busy = self.0.busy.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.most.fetch_max(busy, Ordering::SeqCst);
        tokio::task::yield_now().await;
        self.0.busy.fetch_sub(1, Ordering::SeqCst);
        let app = format!("{model}:{template}");
        if app == "m2:shop" && !self.0.is_healed.load(Ordering::SeqCst) {
            return Err(Failure::new(FailureClass::Permanent, "APP1", "the model refuses").into());
        }
        if app == "m1:chat" && cx.attempt == 1 {
            return Err(Failure::new(FailureClass::Transient, "APP2", "overloaded").into());
        }
        self.0.generated.lock().unwrap().push(app.clone());
        Ok(Ended::Done(app))
    }
}

struct Analyse(Arc<World>);

struct Dropped(Arc<World>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

impl Activity for Analyse {
    const NAME: &'static str = "analyse";
    type In = (String, String);
    type Out = u32;

    async fn run(
        &self,
        cx: &AttemptCx,
        (app, tool): (String, String),
    ) -> Result<Ended<u32>, ActivityError> {
        self.0.asked.lock().unwrap().push(cx.idempotency_key.as_str().to_owned());
        let stays = self.0.stays.lock().unwrap().as_ref() == Some(&app) && tool == "dynamic";
        if stays {
            let _dropped = Dropped(self.0.clone());
            self.0.is_there.notify_one();
            self.0.fails_beside.notify_one();
            std::future::pending::<()>().await;
        }
        match (app.as_str(), tool.as_str()) {
            ("m2:chat", "static") if self.0.stays.lock().unwrap().is_some() => {
                self.0.fails_beside.notified().await;
                Err(Failure::new(FailureClass::Permanent, "APP4", "not a program").into())
            }
            ("m1:waits", "dynamic") => Err(Unavailable::new("the moon").into()),
            ("m1:blog", "dynamic") if !self.0.is_healed.load(Ordering::SeqCst) => {
                Err(Failure::new(FailureClass::Permanent, "APP3", "the app does not build").into())
            }
            ("m2:blog", "static") => Ok(Ended::Partial(1, vec!["a file was too large".to_owned()])),
            _ => Ok(Ended::Done(2)),
        }
    }
}

struct App;

impl Group for App {
    const NAME: &'static str = "app";
    type In = (String, Vec<String>);
    type Out = u32;

    fn expand(&self, (app, tools): &(String, Vec<String>)) -> Vec<Child> {
        assert!(app != "m1:odd", "expand is odd");
        let child = |tool: &String| match tool.as_str() {
            "unknown" => Child::skipped(tool, SkipReason::UnknownTool),
            _ => Child::activity::<Analyse>(tool, &(app, tool)).retry(RetryPolicy::ONCE),
        };
        tools.iter().map(child).collect()
    }

    fn join(&self, _: &(String, Vec<String>), children: &[ChildOutcome]) -> Joined<u32> {
        let found = children.iter().filter_map(ChildOutcome::output::<u32>).sum();
        Joined::by_ends(children, found)
    }
}

/// The same, which gives up with the first failure.
struct FastApp;

impl Group for FastApp {
    const NAME: &'static str = "fast_app";
    type In = (String, Vec<String>);
    type Out = u32;

    fn expand(&self, input: &(String, Vec<String>)) -> Vec<Child> {
        App.expand(input)
    }

    fn join(&self, input: &(String, Vec<String>), children: &[ChildOutcome]) -> Joined<u32> {
        App.join(input, children)
    }

    fn policy(&self) -> JoinPolicy {
        JoinPolicy::FailFast
    }
}

struct Studies;

fn analysis_of(
    input: &serde_json::Value,
    upstream: &perennial::engine::staged::Upstream,
) -> Vec<JobSpec> {
    let tools = &input["tools"];
    let app =
        |item: &perennial::engine::staged::Item| JobSpec::new(&item.key, &(&item.result, tools));
    upstream.succeeded().map(app).collect()
}

impl StagedWorkflow for Studies {
    const NAME: &'static str = "study";
    const VERSION: u32 = 1;
    type Input = Study;
    type Output = u32;

    fn plan(&self, study: &Study) -> Result<Plan, PlanProblems> {
        let pairs =
            study.models.iter().flat_map(|model| study.templates.iter().map(move |it| (model, it)));
        let jobs = pairs.enumerate().map(|(place, (model, template))| {
            JobSpec::new(format!("{place}:{model}:{template}"), &(model, template))
        });
        let retry = RetryPolicy { base_ms: 1, ..RetryPolicy::PROVIDER };
        let generation = Stage::activity::<Generate>("generation");
        let generation = generation.feed(Feed::jobs(jobs)).concurrency(2).retry(retry);
        let analysis = if study.fails_fast {
            Stage::group::<FastApp>("analysis")
        } else {
            Stage::group::<App>("analysis")
        };
        let edge = Edge::from("generation", analysis_of);
        let feed = if study.barrier { Feed::barrier(edge) } else { Feed::per_item(edge) };
        let limits = study.limit_ms.map(Duration::from_millis).map(Timeouts::schedule_to_close);
        let analysis = analysis.timeouts(limits.unwrap_or_default());
        Ok(Plan::new().stage(generation).stage(analysis.feed(feed).concurrency(2)))
    }

    fn summarize(&self, _: &Study, report: &RunReport) -> u32 {
        let analysis = report.stage("analysis").unwrap();
        analysis.items.iter().filter_map(|item| item.output::<u32>()).sum()
    }
}

fn studies(world: &Arc<World>) -> Staged<Studies> {
    Staged::new(Studies)
        .activity(Generate(world.clone()))
        .activity(Analyse(world.clone()))
        .group(App)
        .group(FastApp)
}

fn store(dir: Option<&Path>) -> Store {
    dir.map_or_else(Store::memory, |dir| Store::sqlite(dir.join("runs.db")))
}

fn start(studies: &Staged<Studies>, study: &Study) -> StartRun {
    let run = Some(RunId::parse("study").unwrap());
    StartRun { run, ..studies.start(study).unwrap() }
}

/// How many jobs of a stage ended how; its own, or the children of its groups.
fn ends(outcome: &RunOutcome, stage: &str, children: bool) -> Vec<(JobState, usize)> {
    let mut ends: Vec<(JobState, usize)> = Vec::new();
    let own = outcome
        .view
        .jobs
        .iter()
        .filter(|job| job.stage == stage && job.parent.is_some() == children);
    for job in own {
        match ends.iter_mut().find(|(state, _)| *state == job.state) {
            Some((_, count)) => *count += 1,
            None => ends.push((job.state, 1)),
        }
    }
    ends.sort_by_key(|(state, _)| state.name());
    ends
}

/// What the study comes to, whatever happened meanwhile.
fn check(outcome: &RunOutcome, studies: &Staged<Studies>) {
    assert_eq!(outcome.state.name(), "partially_succeeded");
    assert_eq!(outcome.view.run.progress, Some(100));
    assert_eq!(
        ends(outcome, "generation", false),
        [(JobState::Failed, 1), (JobState::Succeeded, 5)]
    );
    // One app was never made, and each of the others lacks the unknown tool.
    assert_eq!(ends(outcome, "analysis", false), [(JobState::Partial, 5), (JobState::Skipped, 1)]);
    let children = [
        (JobState::Failed, 1),
        (JobState::Partial, 1),
        (JobState::Skipped, 5),
        (JobState::Succeeded, 8),
    ];
    assert_eq!(ends(outcome, "analysis", true), children);
    assert_eq!(studies.output(&outcome.view).unwrap(), 2 + 4 + 4 + 3 + 4);
    let skipped =
        outcome.view.jobs.iter().find(|job| job.state == JobState::Skipped && job.parent.is_none());
    assert_eq!(skipped.unwrap().skipped, Some(SkipReason::Upstream));
    let tools = outcome.view.jobs.iter().filter(|job| job.key.as_str().ends_with("/unknown"));
    let reasons: Vec<_> = tools.map(|job| job.skipped).collect();
    assert_eq!(reasons, [Some(SkipReason::UnknownTool); 5]);
}

/// Proves FL6, FL8, D38, D48, B45, B46, B18, B23.
/// What fails, is not known or is in part is in the rows with its reason, and takes nothing from the others, whichever
/// way the jobs come; each app is made once.
#[tokio::test]
async fn a_study_is_followed_to_its_end_fed_one_by_one_or_at_a_barrier() {
    let dir = tempfile::tempdir().unwrap();
    for (place, barrier) in [(None, false), (None, true), (Some(dir.path()), false)] {
        let world = Arc::new(World::default());
        let studies = studies(&world);
        let runtime =
            Runtime::builder().store(store(place)).staged(&studies).start().await.unwrap();
        let study = Study { barrier, ..Study::new() };
        let run = runtime.runs().start(start(&studies, &study)).await.unwrap();
        let outcome = run.outcome().await.unwrap();
        check(&outcome, &studies);
        assert!(world.most.load(Ordering::SeqCst) <= 2, "more at once than the stage has places");
        let made: BTreeSet<String> = world.generated.lock().unwrap().iter().cloned().collect();
        assert_eq!((made.len(), world.generated.lock().unwrap().len()), (5, 5), "each once");
        // The same key and the same input is the same run.
        let again = runtime.runs().start(start(&studies, &study)).await.unwrap();
        assert_eq!(again.id(), run.id());
        runtime.shutdown().await;
    }
}

/// Proves D1, B50.
/// DUR-110, DUR-115. A process that is gone in the middle of a group: the next one goes on where it was, and makes
/// nothing twice.
#[tokio::test]
async fn a_study_goes_on_in_the_next_process() {
    let dir = tempfile::tempdir().unwrap();
    let world = Arc::new(World::default());
    let first = studies(&world);
    *world.stays.lock().unwrap() = Some("m1:shop".to_owned());
    let runtime =
        Runtime::builder().store(store(Some(dir.path()))).staged(&first).start().await.unwrap();
    runtime.runs().start(start(&first, &Study::new())).await.unwrap();
    world.is_there.notified().await;
    runtime.shutdown().await;
    *world.stays.lock().unwrap() = None;
    let second = studies(&world);
    let runtime =
        Runtime::builder().store(store(Some(dir.path()))).staged(&second).start().await.unwrap();
    let run = runtime.runs().get(&RunId::parse("study").unwrap()).await.unwrap();
    check(&run.outcome().await.unwrap(), &second);
    let made = world.generated.lock().unwrap().clone();
    assert_eq!(made.iter().collect::<BTreeSet<_>>().len(), made.len(), "{made:?}");
    runtime.shutdown().await;
}

/// Proves D20, TRAP-8.
/// With the first failure the rest of a group is given up: what was under way is stopped (SM-42).
#[tokio::test]
async fn a_group_that_fails_fast_stops_what_is_under_way() {
    let world = Arc::new(World::default());
    let studies = studies(&world);
    let runtime = Runtime::builder().store(Store::memory()).staged(&studies).start().await.unwrap();
    let one = |text: &str| vec![text.to_owned()];
    *world.stays.lock().unwrap() = Some("m2:chat".to_owned());
    let study =
        Study { models: one("m2"), templates: one("chat"), fails_fast: true, ..Study::new() };
    let run = runtime.runs().start(start(&studies, &study)).await.unwrap();
    let outcome = run.outcome().await.unwrap();
    assert_eq!(world.dropped.load(Ordering::SeqCst), 1, "the attempt was stopped");
    let children = [(JobState::Cancelled, 1), (JobState::Failed, 1), (JobState::Skipped, 1)];
    assert_eq!(ends(&outcome, "analysis", true), children);
    // What was generated is a success, the required stage behind it is none.
    assert_eq!(outcome.state.name(), "failed");
    let failure = outcome.view.run.failure.unwrap()["message"].as_str().unwrap().to_owned();
    assert!(failure.contains("analysis (1 of its jobs failed)"), "{failure}");
    runtime.shutdown().await;
}

/// Proves INV-15, B47.
/// A cancel stops the children that are under way, and their group with them.
#[tokio::test]
async fn a_cancel_stops_the_children_of_a_group() {
    let world = Arc::new(World::default());
    let studies = studies(&world);
    let runtime = Runtime::builder().store(Store::memory()).staged(&studies).start().await.unwrap();
    let one = |text: &str| vec![text.to_owned()];
    *world.stays.lock().unwrap() = Some("m2:blog".to_owned());
    let study = Study { models: one("m2"), templates: one("blog"), ..Study::new() };
    let run = runtime.runs().start(start(&studies, &study)).await.unwrap();
    world.is_there.notified().await;
    assert_eq!(world.dropped.load(Ordering::SeqCst), 0);
    run.cancel().await.unwrap();
    let outcome = run.outcome().await.unwrap();
    assert_eq!(outcome.state.name(), "cancelled");
    assert_eq!(world.dropped.load(Ordering::SeqCst), 1, "the attempt was stopped");
    let group =
        outcome.view.jobs.iter().find(|job| job.stage == "analysis" && job.parent.is_none());
    assert_eq!(group.unwrap().state, JobState::Cancelled);
    runtime.shutdown().await;
}

/// DUR-4: a group whose own code panics has failed; the others have not.
#[tokio::test]
async fn a_group_that_panics_fails_alone() {
    let world = Arc::new(World::default());
    let studies = studies(&world);
    let runtime = Runtime::builder().store(Store::memory()).staged(&studies).start().await.unwrap();
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let study =
        Study { models: texts(&["m1"]), templates: texts(&["odd", "shop"]), ..Study::new() };
    let run = runtime.runs().start(start(&studies, &study)).await.unwrap();
    let outcome = run.outcome().await.unwrap();
    assert_eq!(outcome.state.name(), "partially_succeeded");
    let odd = outcome.view.jobs.iter().find(|job| job.key.as_str() == "analysis/0:m1:odd").unwrap();
    assert_eq!(odd.state, JobState::Failed);
    let message = odd.result.as_ref().unwrap()["message"].as_str().unwrap();
    assert!(message.contains("expand is odd"), "{message}");
    runtime.shutdown().await;
}

/// A group may take so long with all that is below it, also with children that wait for what is not there (DUR-52). What is
/// made again of a run in stages is for its plan to say.
#[tokio::test]
async fn a_group_ends_in_time_whatever_its_children_wait_for() {
    let world = Arc::new(World::default());
    let studies = studies(&world);
    let runtime = Runtime::builder().store(Store::memory()).staged(&studies).start().await.unwrap();
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let (models, templates) = (texts(&["m1"]), texts(&["waits", "blog"]));
    let study = Study { models, templates, limit_ms: Some(1_000), ..Study::new() };
    let run = runtime.runs().start(start(&studies, &study)).await.unwrap();
    let outcome = run.outcome().await.unwrap();
    let group = |key: &str| outcome.view.jobs.iter().find(|job| job.key.as_str() == key).unwrap();
    let late = group("analysis/0:m1:waits");
    assert_eq!(late.result.as_ref().unwrap()["class"], "timeout");
    assert_eq!(group("analysis/0:m1:waits/dynamic").state, JobState::Cancelled);
    let workflow = studies.rebuild(&outcome.view.run).unwrap();
    let (settings, again) = (outcome.view.run.settings.clone(), Default::default());
    let reopen = ReopenRun { view: outcome.view.clone(), workflow, settings, within: None, again };
    let refused = runtime.runs().reopen(reopen).await;
    assert!(
        matches!(refused, Err(RunError::Ended { .. } | RunError::NotRunnable(_))),
        "{refused:?}"
    );
    runtime.shutdown().await;
}

/// Proves D5, B7.
/// All that is wrong with a plan is told at once, and nothing is started; a run of which nothing succeeded has failed.
#[tokio::test]
async fn a_plan_that_cannot_be_followed_is_refused_with_all_that_is_wrong() {
    let world = Arc::new(World::default());
    let complete = studies(&world);
    let empty = Study { models: Vec::new(), ..Study::new() };
    let refused = complete.start(&empty).unwrap_err();
    assert_eq!(refused.0, [PlanProblem::Empty]);
    let bare = Staged::new(Studies).activity(Generate(world.clone()));
    let refused = bare.start(&empty).unwrap_err().to_string();
    for part in ["has no job", "needs the group `app`, which is not registered"] {
        assert!(refused.contains(part), "{refused}");
    }
    let runtime =
        Runtime::builder().store(Store::memory()).staged(&complete).start().await.unwrap();
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let study = Study { models: texts(&["m2"]), templates: texts(&["shop"]), ..Study::new() };
    let run = runtime.runs().start(start(&complete, &study)).await.unwrap();
    let outcome = run.outcome().await.unwrap();
    assert_eq!(outcome.state.name(), "failed");
    assert_eq!(ends(&outcome, "analysis", false), [(JobState::Skipped, 1)]);
    runtime.shutdown().await;
}

/// Proves I4, TRAP-9.
/// What failed is made again in a further round, and only that: of a group the child that failed, and what was skipped for a
/// failure; the rest keeps its results.
#[tokio::test]
async fn what_failed_is_made_again_in_a_further_round() {
    let dir = tempfile::tempdir().unwrap();
    for place in [None, Some(dir.path())] {
        let world = Arc::new(World::default());
        let studies = studies(&world);
        let runtime =
            Runtime::builder().store(store(place)).staged(&studies).start().await.unwrap();
        let run = runtime.runs().start(start(&studies, &Study::new())).await.unwrap();
        check(&run.outcome().await.unwrap(), &studies);
        world.is_healed.store(true, Ordering::SeqCst);
        let (made, asked) =
            (world.generated.lock().unwrap().len(), world.asked.lock().unwrap().len());
        let unknown = run.retry(&Which::Stage("nobody".to_owned()), false).await;
        assert!(unknown.is_err(), "{unknown:?}");
        let again = run.retry(&Which::Failed, false).await.unwrap();
        // One app and the job behind it, one group and its child.
        assert_eq!(again, 4);
        let outcome = run.outcome().await.unwrap();
        assert_eq!(outcome.state.name(), "partially_succeeded", "a tool is still unknown");
        assert_eq!(ends(&outcome, "generation", false), [(JobState::Succeeded, 6)]);
        assert_eq!(ends(&outcome, "analysis", false), [(JobState::Partial, 6)]);
        let children = [(JobState::Partial, 1), (JobState::Skipped, 6), (JobState::Succeeded, 11)];
        assert_eq!(ends(&outcome, "analysis", true), children);
        assert_eq!(world.generated.lock().unwrap().len(), made + 1);
        assert_eq!(world.asked.lock().unwrap().len(), asked + 3, "no other tool ran again");
        let nothing = run.retry(&Which::Failed, false).await;
        assert!(nothing.is_err(), "nothing has failed: {nothing:?}");
        runtime.shutdown().await;
    }
}

/// Proves TRAP-9.
/// Where a stage has used what would change, that is refused; or what has used it is made again, and is another one for the outside
/// world.
#[tokio::test]
async fn what_has_used_a_result_is_made_again_with_it_or_nothing_is() {
    let world = Arc::new(World::default());
    let studies = studies(&world);
    let runtime = Runtime::builder().store(Store::memory()).staged(&studies).start().await.unwrap();
    let study = Study { barrier: true, ..Study::new() };
    let run = runtime.runs().start(start(&studies, &study)).await.unwrap();
    let before = run.outcome().await.unwrap();
    check(&before, &studies);
    world.is_healed.store(true, Ordering::SeqCst);
    let refused = run.retry(&Which::Stage("generation".to_owned()), false).await;
    let Err(RunError::WouldInvalidate { stages, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(stages, ["analysis"]);
    assert_eq!(run.view().await.unwrap(), before.view, "nothing was done");
    // One child alone is no matter of others.
    let one = JobKey::new("analysis/0:m1:blog/dynamic");
    assert_eq!(run.retry(&Which::Job(one), false).await.unwrap(), 2);
    run.outcome().await.unwrap();
    world.asked.lock().unwrap().clear();
    run.retry(&Which::Stage("generation".to_owned()), true).await.unwrap();
    let outcome = run.outcome().await.unwrap();
    assert_eq!(ends(&outcome, "generation", false), [(JobState::Succeeded, 6)]);
    assert_eq!(ends(&outcome, "analysis", false), [(JobState::Partial, 6)]);
    let asked = world.asked.lock().unwrap().clone();
    let anew = asked.iter().filter(|key| key.ends_with("#1")).count();
    assert_eq!((asked.len(), anew), (12, 10), "{asked:?}");
    runtime.shutdown().await;
}

/// Jobs of a stage come after each other; what comes after a failure is skipped, and a circle is refused with its way.
#[tokio::test]
async fn jobs_of_a_stage_come_after_each_other() {
    let world = Arc::new(World::default());
    let staged = Staged::new(Chain).activity(Generate(world.clone()));
    let runtime = Runtime::builder().store(Store::memory()).staged(&staged).start().await.unwrap();
    let after = |pairs: &[(&str, &str)]| -> Vec<(String, Vec<String>)> {
        let texts = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        pairs.iter().map(|(key, after)| ((*key).to_owned(), texts(after))).collect()
    };
    let circle = staged.start(&after(&[("a", "c"), ("b", "a"), ("c", "b"), ("d", "x a")]));
    let problems = circle.unwrap_err().0;
    let way = ["a", "c", "b", "a"].map(str::to_owned).to_vec();
    assert!(problems.contains(&PlanProblem::Cycle { stage: "s".to_owned(), path: way }));
    let (stage, key, other) = ("s".to_owned(), "d".to_owned(), "x".to_owned());
    assert!(problems.contains(&PlanProblem::UnknownJob { stage, key, after: other }));
    let shop = after(&[("last", "shop b"), ("b", "a"), ("a", ""), ("shop", ""), ("end", "last")]);
    let run = runtime.runs().start(staged.start(&shop).unwrap()).await.unwrap();
    let outcome = run.outcome().await.unwrap();
    let made = world.generated.lock().unwrap().clone();
    assert_eq!(made, ["m2:a", "m2:b"], "in their order");
    let skipped = |it: &perennial::records::JobRecord| it.skipped == Some(SkipReason::Upstream);
    assert_eq!(outcome.view.jobs.iter().filter(|job| skipped(job)).count(), 2);
    // Once it succeeds, those behind it follow.
    world.is_healed.store(true, Ordering::SeqCst);
    assert_eq!(run.retry(&Which::Failed, false).await.unwrap(), 3);
    assert_eq!(run.outcome().await.unwrap().state.name(), "succeeded");
    let made = world.generated.lock().unwrap().clone();
    assert_eq!(made, ["m2:a", "m2:b", "m2:shop", "m2:last", "m2:end"]);
    runtime.shutdown().await;
}

/// A group of one app, which is all there is to it.
struct One;

impl Group for One {
    const NAME: &'static str = "one";
    type In = String;
    type Out = ();

    fn expand(&self, app: &String) -> Vec<Child> {
        vec![Child::activity::<Generate>("app", &("m2", app)).retry(RetryPolicy::ONCE)]
    }

    fn join(&self, _: &String, children: &[ChildOutcome]) -> Joined<()> {
        Joined::by_ends(children, ())
    }
}

struct Groups;

impl StagedWorkflow for Groups {
    const NAME: &'static str = "groups";
    const VERSION: u32 = 1;
    type Input = ();
    type Output = ();

    fn plan(&self, (): &()) -> Result<Plan, PlanProblems> {
        let jobs = [JobSpec::new("shop", &"shop"), JobSpec::new("end", &"end").after(["shop"])];
        Ok(Plan::new().stage(Stage::group::<One>("s").feed(Feed::jobs(jobs))))
    }

    fn summarize(&self, (): &(), _: &RunReport) {}
}

/// What comes after a group follows when a child of it is made again, and the group with it.
#[tokio::test]
async fn what_comes_after_a_group_follows_when_a_child_of_it_is_made_again() {
    let world = Arc::new(World::default());
    let staged = Staged::new(Groups).activity(Generate(world.clone())).group(One);
    let runtime = Runtime::builder().store(Store::memory()).staged(&staged).start().await.unwrap();
    let run = runtime.runs().start(staged.start(&()).unwrap()).await.unwrap();
    assert_eq!(run.outcome().await.unwrap().state.name(), "failed");
    world.is_healed.store(true, Ordering::SeqCst);
    run.retry(&Which::Job(JobKey::new("s/shop/app")), false).await.unwrap();
    let outcome = run.outcome().await.unwrap();
    assert_eq!(outcome.state.name(), "succeeded", "{:?}", outcome.view.jobs);
    assert_eq!(*world.generated.lock().unwrap(), ["m2:shop", "m2:end"]);
    runtime.shutdown().await;
}

struct Chain;

impl StagedWorkflow for Chain {
    const NAME: &'static str = "chain";
    const VERSION: u32 = 1;
    type Input = Vec<(String, Vec<String>)>;
    type Output = ();

    fn plan(&self, jobs: &Self::Input) -> Result<Plan, PlanProblems> {
        let spec =
            |(key, after): &(String, Vec<String>)| JobSpec::new(key, &("m2", key)).after(after);
        let stage = Stage::activity::<Generate>("s").retry(RetryPolicy::ONCE);
        Ok(Plan::new().stage(stage.feed(Feed::jobs(jobs.iter().map(spec)))))
    }

    fn summarize(&self, _: &Self::Input, _: &RunReport) {}
}

/// Apps, and what is switched off.
struct Parts;

impl StagedWorkflow for Parts {
    const NAME: &'static str = "parts";
    const VERSION: u32 = 1;
    type Input = (Vec<String>, bool, bool);
    type Output = ();

    fn plan(&self, (apps, makes, analyses): &Self::Input) -> Result<Plan, PlanProblems> {
        let generation = Stage::activity::<Generate>("generation").concurrency(1);
        let jobs = apps.iter().map(|app| JobSpec::new(app, &("m1", app)));
        let generation = generation.feed(Feed::jobs(jobs));
        let listed = apps.iter().map(|app| JobSpec::new(app, &(app, "static")));
        let follow = |_: &serde_json::Value, apps: &perennial::engine::staged::Upstream| {
            let spec = |app: &perennial::engine::staged::Item| {
                JobSpec::new(&app.key, &(&app.key, "static"))
            };
            apps.succeeded().map(spec).collect()
        };
        let (generation, feed) = if *makes {
            (generation, Feed::per_item(Edge::from("generation", follow)))
        } else {
            (generation.skip(SkipReason::Disabled), Feed::jobs(listed))
        };
        let analysis = Stage::activity::<Analyse>("analysis").feed(feed);
        let analysis = if *analyses { analysis } else { analysis.skip(SkipReason::Disabled) };
        Ok(Plan::new().stage(generation).stage(analysis))
    }

    fn summarize(&self, _: &Self::Input, _: &RunReport) {}
}

/// Proves D51, B2, B5, B6, B24.
/// A stage that is switched off is closed when the run is recorded, in the same transaction as the next one is open; the run begins
/// with it, and ends with the other stage, at 100 %. One at a time is one.
#[tokio::test]
async fn a_stage_that_is_switched_off_is_closed_from_the_beginning() {
    let world = Arc::new(World::default());
    let parts =
        Staged::new(Parts).activity(Generate(world.clone())).activity(Analyse(world.clone()));
    let runtime = Runtime::builder().store(Store::memory()).staged(&parts).start().await.unwrap();
    let apps = ["blog", "m2/chat 7", "shop"].map(str::to_owned);
    for (makes, analyses) in [(false, true), (true, false), (true, true)] {
        world.generated.lock().unwrap().clear();
        let begin = match makes {
            true => ["blog", "chat", "shop"].map(str::to_owned).to_vec(),
            // However they are named: they exist.
            false => apps.iter().map(|app| app.replace('/', ":")).collect(),
        };
        let run = parts.start(&(begin.clone(), makes, analyses)).unwrap();
        let run = runtime.runs().start(run).await.unwrap();
        let outcome = run.outcome().await.unwrap();
        assert_eq!(outcome.state.name(), "succeeded");
        assert_eq!(outcome.view.run.progress, Some(100));
        let count = |stage: &str| {
            let own = outcome.view.jobs.iter().filter(|job| job.stage == stage);
            own.filter(|job| job.state == JobState::Succeeded).count()
        };
        let expected = |is_done: bool| if is_done { 3 } else { 0 };
        assert_eq!((count("generation"), count("analysis")), (expected(makes), expected(analyses)));
        assert_eq!(world.generated.lock().unwrap().len(), expected(makes), "none is made twice");
        let events = run.events(1).rest().await.unwrap();
        let first = events.iter().position(|it| it.kind == "attempt_started").unwrap();
        let started = events.iter().find(|it| it.kind == "run_started").unwrap();
        assert_eq!(started.at, outcome.view.run.created_at);
        let stages: Vec<_> = events[..first]
            .iter()
            .filter(|it| it.kind.starts_with("stage_"))
            .map(|it| (it.kind.as_str(), it.data["stage"].as_str().unwrap(), it.at))
            .collect();
        if !makes {
            assert_eq!((stages[0].0, stages[0].1), ("stage_closed", "generation"));
            assert_eq!((stages[1].0, stages[1].1), ("stage_opened", "analysis"));
            assert!(stages.iter().all(|(_, _, at)| *at == started.at), "{stages:?}");
        }
    }
    assert_eq!(world.most.load(Ordering::SeqCst), 1);
    runtime.shutdown().await;
}
