//! Everything at once, by seed: random trees, random faults, random requests, several threads.
//!
//! `PERENNIAL_STORM_SEEDS=500` runs that many seeds; `PERENNIAL_STORM_FIRST` sets the first one.

mod weather;

use std::{collections::HashMap, sync::Arc, time::Duration};

use perennial_core::{
    ExitReason, Restart,
    tree::{NodeState, TreeNode},
};
use perennial_supervision::{
    CallError, ChildSpec, Clock, DynamicSupervisor, Lifecycle, LifecycleEvent, LifecycleStream,
    Options, RequestError, Root, Supervisor, TaskError, TaskSupervisor,
};

use self::weather::{BRIEF, Weather, idle};
use crate::{
    dice::Dice,
    probe::{Log, Message, Probe, Start},
};

/// Longer than anything here takes; whoever waits so long hangs.
const HANGS: Duration = Duration::from_secs(20);

/// One of those who rage.
struct Gust {
    root: Arc<Root>,
    log: Log,
    dice: Dice,
    name: usize,
    supervisors: Arc<Vec<(Supervisor, Vec<ChildSpec>)>>,
    dynamic: Vec<DynamicSupervisor>,
    tasks: Vec<TaskSupervisor>,
    probes: Vec<Probe>,
}

impl Gust {
    async fn rage(mut self, steps: usize) {
        for step in 0..steps {
            let what = self.dice.roll(12);
            let doing = self.step(step, what);
            if tokio::time::timeout(HANGS, doing).await.is_err() {
                panic!(
                    "step {step} of gust {}, a {what}, hangs:\n{}",
                    self.name,
                    states(&self.root)
                );
            }
        }
    }

    async fn step(&mut self, step: usize, what: usize) {
        match what {
            0 | 1 => {
                let nodes = self.root.tree().nodes();
                let path = &self.dice.pick(&nodes).path;
                if path != "/top" {
                    let tree = self.root.tree();
                    let hit = if what == 0 { tree.crash(path) } else { tree.kill(path) };
                    // A crash may come too late for what ends already; a kill never does.
                    if let (Ok(victim), 1) = (hit, what) {
                        victim.exit().await;
                    }
                }
            }
            2..=4 => self.request().await,
            5 => self.dynamic_child(step).await,
            6 => self.task(step).await,
            7 => {
                let messages = [
                    || Message::Panic,
                    || Message::Fail,
                    || Message::StopSelf,
                    || Message::Work("x"),
                ];
                let message = self.dice.pick(&messages)();
                // Nobody may be there.
                let _ = self.dice.pick(&self.probes).address.cast(message);
            }
            8 => {
                let probe = self.dice.pick(&self.probes).clone();
                probe.script(&[*self.dice.pick(&[Start::Fails, Start::Panics, Start::Hangs])]);
            }
            _ => {
                let probe = self.dice.pick(&self.probes).clone();
                let answer = probe.address.call(Message::Ping, HANGS / 2).await;
                let hangs = answer == Err(CallError::Timeout);
                assert!(!hangs, "{} keeps its callers:\n{}", probe.name, states(&self.root));
            }
        }
    }

    async fn request(&mut self) {
        let supervisors = self.supervisors.clone();
        let (supervisor, children) = self.dice.pick(&supervisors);
        let child = self.dice.pick(children);
        let id = child.id().as_str();
        // Every answer is fine; none is not.
        let _ = match self.dice.roll(6) {
            0 => supervisor.terminate_child(id).await,
            1 => supervisor.delete_child(id).await,
            2 | 3 => supervisor.start_child(child.clone()).await.map(drop),
            _ => supervisor.restart_child(id).await.map(drop),
        };
        supervisor.count_children().unwrap_or_default();
    }

    async fn dynamic_child(&mut self, step: usize) {
        if self.dynamic.is_empty() {
            return;
        }
        let dynamic = self.dice.pick(&self.dynamic).clone();
        let (spec, probe) = Probe::new(&format!("extra{}-{step}", self.name), &self.log);
        if self.dice.roll(4) == 0 {
            probe.script(&[Start::Panics]);
        }
        let spec = spec.restart(*self.dice.pick(&[Restart::Temporary, Restart::Permanent]));
        let Ok(child) = dynamic.start_child(spec.clone()).await else {
            assert_eq!(probe.ping().await, Err(CallError::NoProc), "it never started");
            return;
        };
        if self.dice.roll(2) == 0 {
            // It may be gone, or its supervisor may.
            let _ = probe.address.cast(Message::Panic);
        }
        if self.dice.roll(3) > 0 && dynamic.terminate_child(&child).await.is_ok() {
            assert!(!matches!(probe.ping().await, Ok(_) | Err(CallError::Timeout)));
        }
    }

    async fn task(&mut self, step: usize) {
        if self.tasks.is_empty() {
            return;
        }
        let tasks = self.dice.pick(&self.tasks).clone();
        let name = format!("job{}-{step}", self.name);
        let work = idle(self.log.clone(), name.clone());
        if self.dice.roll(2) == 0 {
            if let Ok(task) = tasks.start_child(name, async { drop(work.await) }).await
                && self.dice.roll(3) > 0
            {
                let _ = tasks.terminate_child(&task).await;
                task.exit().await;
            }
        } else if let Ok(mut task) = tasks.async_nolink(name, async { 7 }).await {
            match task.join(HANGS).await {
                Ok(7) | Err(TaskError::Exited(_)) => (),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// By hand: what was terminated or deleted is started again, outer supervisors first.
async fn repair(root: &Root, top: &[ChildSpec], nested: &[(Supervisor, Vec<ChildSpec>)]) {
    let inner = nested.iter().rev().map(|(handle, children)| (handle, children.as_slice()));
    for (supervisor, children) in std::iter::once((root.supervisor(), top)).chain(inner) {
        for child in children {
            loop {
                let id = child.id().as_str();
                let mut answer = supervisor.restart_child(id).await;
                if let Err(RequestError::NotFound(_)) = answer {
                    answer = supervisor.start_child(child.clone()).await;
                }
                match answer {
                    Ok(_) | Err(RequestError::Running(_) | RequestError::AlreadyStarted(_)) => {
                        break;
                    }
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        }
    }
}

fn states(root: &Root) -> String {
    let line = |node: &TreeNode| {
        let TreeNode { path, kind, state, incarnation, last_exit, .. } = node;
        format!("{path} {kind:?} {state:?} {incarnation} {last_exit:?}\n")
    };
    root.tree().nodes().iter().map(line).collect()
}

fn alternates(lines: impl Iterator<Item = (String, bool)>) -> HashMap<String, bool> {
    let mut alive = HashMap::new();
    for (who, starts) in lines {
        // The first thing told of those that started before anybody listened is their end.
        let was = alive.insert(who.clone(), starts);
        assert_ne!(was, Some(starts), "two lives of {who} overlap, or one ends twice");
    }
    alive
}

async fn record(mut lifecycle: LifecycleStream) -> (Vec<Lifecycle>, u64) {
    let mut events = Vec::new();
    while let Some(event) = lifecycle.next().await {
        let over = event.path == "/top" && matches!(event.event, LifecycleEvent::Exited { .. });
        events.push(event);
        if over {
            break;
        }
    }
    (events, lifecycle.missed())
}

/// Answers how much happened.
async fn storm(seed: u64, steps: usize) -> usize {
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = alive();
    let mut weather = Weather::new(seed);
    let (spec, top) = weather.supervisor("top", 0);
    let Weather { log, dice, supervisors, dynamic, tasks, mut probes, .. } = weather;
    let root = Arc::new(Root::start(spec, Clock::start(), Options::default()).await.unwrap());
    if probes.is_empty() {
        let (extra, probe) = Probe::new("actor0", &log);
        root.supervisor().start_child(extra.start_within(BRIEF)).await.unwrap();
        probes.push(probe);
    }
    let mut asked = supervisors.clone();
    asked.push((root.supervisor().clone(), top.clone()));
    let asked = Arc::new(asked);
    #[expect(clippy::disallowed_methods, reason = "tests are outside the tree")]
    let recorder = tokio::spawn(record(root.tree().lifecycle()));
    let gusts = (0..4).map(|name| {
        let gust = Gust {
            root: root.clone(),
            log: log.clone(),
            dice: Dice(dice.0 ^ (name as u64 + 1)),
            name,
            supervisors: asked.clone(),
            dynamic: dynamic.clone(),
            tasks: tasks.clone(),
            probes: probes.clone(),
        };
        #[expect(clippy::disallowed_methods, reason = "tests are outside the tree")]
        tokio::spawn(gust.rage(steps))
    });
    for gust in gusts.collect::<Vec<_>>() {
        gust.await.unwrap();
    }

    for probe in &probes {
        probe.forget_script();
    }
    let calm = async {
        loop {
            repair(&root, &top, &supervisors).await;
            let mut all_answer = true;
            for probe in &probes {
                all_answer &= probe.ping().await.is_ok();
            }
            let running = |state| matches!(state, NodeState::Running);
            if all_answer && root.tree().nodes().iter().all(|node| running(node.state)) {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    if tokio::time::timeout(HANGS, calm).await.is_err() {
        panic!("the tree does not come to rest:\n{}", states(&root));
    }

    let report = root.shutdown().await;
    assert_eq!((report.reason, report.unkillable), (ExitReason::Shutdown, Vec::new()));
    for probe in &probes {
        assert_eq!(probe.ping().await, Err(CallError::NoProc), "{}", probe.name);
    }
    for node in root.tree().nodes() {
        assert_eq!(node.state, NodeState::Stopped, "{}", node.path);
        assert_eq!(node.mailbox_depth, None);
    }
    let (events, missed) = recorder.await.unwrap();
    let silence = async {
        while alive() > before {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(HANGS, silence).await.is_ok(), "{} tasks are left", alive());

    let lives = log.take().into_iter().filter_map(|line| {
        let (who, what) = line.split_once(' ')?;
        matches!(what, "started" | "dropped").then(|| (who.to_owned(), what == "started"))
    });
    assert!(alternates(lives).values().all(|alive| !alive), "something outlives its tree");
    if missed == 0 {
        let lives = events.iter().filter_map(|told| {
            let starts = matches!(told.event, LifecycleEvent::Started { .. });
            let ends = matches!(told.event, LifecycleEvent::Exited { .. });
            (starts || ends).then(|| (told.path.clone(), starts))
        });
        assert!(alternates(lives).values().all(|alive| !alive));
    }
    events.len()
}

pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[test]
fn a_storm_leaves_every_child_up_and_a_shutdown_leaves_nothing() {
    let first = setting("PERENNIAL_STORM_FIRST", 1);
    for seed in first..first + setting("PERENNIAL_STORM_SEEDS", 40) {
        println!("seed {seed}");
        let threads = usize::try_from(seed % 4).unwrap() + 1;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_time()
            .build()
            .unwrap();
        let events = runtime.block_on(storm(seed, 60));
        println!("seed {seed}: {events} events");
    }
}
