//! Turns over several nodes: whatever becomes of those that have one, and of those that wait, nobody waits for ever.

use std::{
    collections::BTreeMap,
    future::ready,
    sync::{Arc, Mutex},
    time::Duration,
};

use perennial_core::run::{JobKey, RunId, RunState};
use perennial_engine::{
    AttemptCx, Definitions, NotRunnable, StartRun, Workflow,
    scheduler::Adoption,
    staged::{
        Activity, ActivityError, Child, ChildOutcome, Ended, Feed, Group, JobSpec, Joined, Plan,
        PlanProblems, RunReport, Stage, Staged, StagedWorkflow,
    },
    workflow::BoxFuture,
};
use perennial_store::{LEASE_TTL, MemoryStore, RunRecord, Store as _, verify};
use perennial_testkit::Seed;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{link::Weather, node::Node, work::Log};

/// An app, and how long it is looked at.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Look {
    app: String,
    takes_ms: u64,
}

/// Of each app, how many look at it now, and at most.
#[derive(Clone, Debug, Default)]
struct Looks(Arc<Mutex<BTreeMap<String, (u32, u32)>>>);

struct Looking<'a>(&'a Looks, &'a str);

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        if let Some((now, _)) = self.0.0.lock().unwrap().get_mut(self.1) {
            *now -= 1;
        }
    }
}

impl Activity for Looks {
    const NAME: &'static str = "look";
    type In = Look;
    type Out = ();

    async fn run(&self, _: &AttemptCx, look: Look) -> Result<Ended<()>, ActivityError> {
        {
            let mut looks = self.0.lock().unwrap();
            let (now, most) = looks.entry(look.app.clone()).or_default();
            *now += 1;
            *most = (*most).max(*now);
        }
        let looking = Looking(self, &look.app);
        tokio::time::sleep(Duration::from_millis(look.takes_ms)).await; // paused clock
        drop(looking);
        Ok(Ended::Done(()))
    }
}

/// Two looks at an app, one after the other.
#[derive(Debug)]
struct Twice;

impl Group for Twice {
    const NAME: &'static str = "twice";
    type In = Look;
    type Out = ();

    fn expand(&self, look: &Look) -> Vec<Child> {
        let of = format!("eye/{}", look.app);
        ["left", "right"]
            .map(|eye| Child::activity::<Looks>(eye, look).concurrency_key(&of, 1))
            .into()
    }

    fn join(&self, _: &Look, children: &[ChildOutcome]) -> Joined<()> {
        Joined::by_ends(children, ())
    }
}

fn app_of(look: &Value) -> String {
    look["app"].as_str().unwrap_or_default().to_owned()
}

/// Alone, and as groups.
#[derive(Debug)]
struct Tour;

impl StagedWorkflow for Tour {
    const NAME: &'static str = "tour";
    const VERSION: u32 = 1;
    type Input = Vec<Look>;
    type Output = ();

    fn plan(&self, looks: &Vec<Look>) -> Result<Plan, PlanProblems> {
        let jobs = |of: &[Look]| {
            let jobs = of.iter().enumerate();
            Feed::jobs(jobs.map(|(n, look)| JobSpec::new(n.to_string(), look)).collect::<Vec<_>>())
        };
        let (alone, twice) = looks.split_at(looks.len() / 2);
        let alone = Stage::activity::<Looks>("alone").feed(jobs(alone)).concurrency(2);
        let twice = Stage::group::<Twice>("twice").feed(jobs(twice)).concurrency(2);
        let [alone, twice] = [alone, twice].map(|stage| stage.concurrency_key(app_of, 1));
        Ok(Plan::new().stage(alone).stage(twice))
    }

    fn summarize(&self, _: &Vec<Look>, _: &RunReport) {}
}

#[derive(Debug)]
struct Tours(Staged<Tour>);

impl Definitions for Tours {
    fn revive<'a>(
        &'a self,
        run: &'a RunRecord,
        _: Vec<u8>,
    ) -> BoxFuture<'a, Result<Arc<dyn Workflow>, NotRunnable>> {
        Box::pin(ready(self.0.rebuild(run)))
    }
}

async fn node(name: &str, store: &MemoryStore, tours: &Staged<Tour>) -> Node {
    let known = Arc::new(Tours(tours.clone()));
    Node::start_knowing(name, store, &Log::new(), (Adoption::AtBoot, 8), known).await
}

/// Proves INV-ST-20.
/// Nodes that are cut off, die and drain, runs that are paused, cancelled, and lose jobs by a skip: an app is looked at by one at a
/// time, everything ends, and then every turn is free.
#[tokio::test(start_paused = true)]
async fn whatever_happens_to_nodes_and_runs_every_turn_comes_back() {
    const NAMES: [&str; 3] = ["a", "b", "c"];
    let mut seed = Seed::of_test("whatever_happens_to_nodes_and_runs_every_turn_comes_back");
    let (store, looks) = (MemoryStore::open_shared().unwrap(), Looks::default());
    let tours = Staged::new(Tour).activity(looks.clone()).group(Twice);
    let mut nodes = Vec::new();
    for name in NAMES {
        nodes.push(node(name, &store, &tours).await);
    }
    let start = |id: &str, looks: &Vec<Look>| StartRun {
        run: Some(RunId::parse(id).unwrap()),
        ..tours.start(looks).unwrap()
    };
    let mut runs = Vec::new();
    for number in 0..12 {
        let look = |_| Look {
            app: seed.pick(&["blog", "chat", "shop"]).to_string(),
            takes_ms: seed.between(50..2_000),
        };
        let looks = (0..6).map(look).collect();
        let run = nodes[number % 3].runs.start(start(&format!("r{number}"), &looks)).await.unwrap();
        runs.push(run.id().clone());
    }
    for _ in 0..60 {
        let place = usize::try_from(seed.between(0..3)).unwrap();
        let run = nodes[place].runs.get(seed.pick(&runs)).await;
        match (seed.between(0..10), run) {
            (0..3, _) => {
                let weather = [
                    Weather::Fair,
                    Weather::Down,
                    Weather::Deaf,
                    Weather::NoRenewals,
                    Weather::DeafToClaims,
                    Weather::SlowCommits(LEASE_TTL * 2),
                ];
                nodes[place].link.set(*seed.pick(&weather));
            }
            (3, _) => {
                nodes.remove(place).stop().await;
                nodes.insert(place, node(NAMES[place], &store, &tours).await);
            }
            // What cannot be asked for now is not.
            (4, Ok(run)) => drop(run.pause().await),
            (5..7, Ok(run)) => drop(run.unpause().await),
            (7, Ok(run)) if seed.chance(1, 3) => drop(run.cancel().await),
            (8, Ok(run)) => {
                let stage = seed.pick(&["alone", "twice"]);
                let job = JobKey::new(format!("{stage}/{}", seed.between(0..3)));
                drop(run.skip(&job, "enough").await);
            }
            (_, _) => (),
        }
        let time = Duration::from_millis(seed.between(50..2_500));
        tokio::time::sleep(time).await; // paused clock
    }
    for node in &nodes {
        node.link.set(Weather::Fair);
    }
    for run in &runs {
        let handle = nodes[0].runs.get(run).await.unwrap();
        // One that is not paused is as it shall be.
        drop(handle.unpause().await);
    }
    let mut ends = BTreeMap::new();
    for run in &runs {
        let handle = nodes[0].runs.get(run).await.unwrap();
        let outcome = tokio::time::timeout(Duration::from_secs(600), handle.outcome()).await;
        let Ok(outcome) = outcome else {
            panic!("{run} does not end: {:#?}", store.run(run).await);
        };
        *ends.entry(outcome.unwrap().state.name()).or_insert(0) += 1;
    }
    assert_eq!(verify(&store).await.unwrap(), []);
    assert!(ends.contains_key("succeeded"), "{ends:?}");
    let most: Vec<u32> = looks.0.lock().unwrap().values().map(|(_, most)| *most).collect();
    assert_eq!(most, [1, 1, 1]);
    // Nobody has a turn any more.
    let last = ["blog", "chat", "shop"].map(|app| Look { app: app.to_owned(), takes_ms: 1 });
    let last = nodes[0].runs.start(start("last", &last.to_vec())).await.unwrap();
    let outcome = tokio::time::timeout(Duration::from_secs(5), last.outcome()).await; // paused clock
    assert_eq!(outcome.unwrap().unwrap().state, RunState::Succeeded);
    for node in nodes {
        node.stop().await;
    }
}

/// What waits for its turn wants no room before it has it: a run with more of that than there are rooms looks when something has
/// happened, and not without a pause.
#[tokio::test(start_paused = true)]
async fn a_run_that_waits_for_turns_looks_when_something_has_happened() {
    let (store, looks) = (MemoryStore::open_shared().unwrap(), Looks::default());
    let tours = Staged::new(Tour).activity(looks.clone()).group(Twice);
    let known = Arc::new(Tours(tours.clone()));
    let node = Node::start_knowing("a", &store, &Log::new(), (Adoption::AtBoot, 4), known).await;
    let look = Look { app: "shop".to_owned(), takes_ms: 60_000 };
    let run = node.runs.start(tours.start(&vec![look; 20]).unwrap()).await.unwrap();
    let claims = || node.link.asked().iter().filter(|(what, _)| *what == "claim").count();
    // Step by step: without a pause the clock would not go on by itself.
    let mut looked = 0;
    for _ in 0..300 {
        tokio::time::advance(Duration::from_millis(100)).await;
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        looked += claims();
        assert!(looked < 200, "{looked} claims, for one attempt");
    }
    assert!(looked > 0);
    assert_eq!(run.outcome().await.unwrap().state, RunState::Succeeded);
    node.stop().await;
}
