//! Random histories: after every step the supervisor is what the tables say it is.
//!
//! A seed makes a supervisor of some kind and a list of steps. The steps are taken twice: by a model
//! of OTP in words, written from the tables and nothing else, and by the supervisor on a paused
//! clock. The first step after which the two differ is printed with a history as short as can be
//! found that shows it.
//!
//! `PERENNIAL_HISTORY_SEEDS=10000` runs that many seeds; `PERENNIAL_HISTORY_FIRST` sets the first.

mod answers;
mod history;
mod model;
mod puppet;
mod world;

use std::{
    collections::HashMap,
    fmt::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use self::{
    history::{History, Step},
    model::{Model, Told},
    world::World,
};

/// Steps that are taken when the supervisor has ended.
const AFTERLIFE: usize = 3;

/// Where the supervisor is not what it should be.
struct Divergence {
    /// The number of the step; 0 is the start.
    step: usize,
    what: String,
}

/// Runs of lines that may mix with those of other children, and the rest in turn.
fn compare_logs(expected: &[Told], found: &[String]) -> Result<(), String> {
    let in_turn: Vec<&str> =
        expected.iter().filter(|told| told.in_turn).map(|told| told.text.as_str()).collect();
    let loose: Vec<&str> =
        expected.iter().filter(|told| !told.in_turn).map(|told| told.text.as_str()).collect();
    let order: Vec<&str> =
        found.iter().map(String::as_str).filter(|line| !loose.contains(line)).collect();
    let by_child = |lines: &mut dyn Iterator<Item = &str>| {
        let mut children: HashMap<String, Vec<String>> = HashMap::new();
        for line in lines {
            let label = line.split(' ').next().unwrap().to_owned();
            children.entry(label).or_default().push(line.to_owned());
        }
        children
    };
    let each = by_child(&mut expected.iter().map(|told| told.text.as_str()));
    if order == in_turn && each == by_child(&mut found.iter().map(String::as_str)) {
        return Ok(());
    }
    Err(format!("  expected log {in_turn:?}, at any time {loose:?}\n  found log    {found:?}"))
}

async fn compare(model: &mut Model, world: &mut World, labels: &[String]) -> Result<(), String> {
    let expected = model.picture();
    let found = world.picture(expected.at).await;
    if expected != found {
        return Err(format!("  expected {expected:?}\n  found    {found:?}"));
    }
    compare_logs(&model.take_told(), &world.take_log())?;
    for label in labels {
        if let Some(expected) = model.nobody_comes(label)
            && let Some(found) = world.nobody_comes(label).await
            && expected != found
        {
            let tell = |nobody| if nobody { "told at once that nobody comes" } else { "waiting" };
            let (expected, found) = (tell(expected), tell(found));
            return Err(format!("  a caller of {label} should be {expected} and is {found}"));
        }
    }
    world.wrong.take().map_or(Ok(()), Err)
}

async fn run(history: &History) -> Result<(), Divergence> {
    let mut labels: Vec<String> = history.declared.iter().map(|it| it.label.clone()).collect();
    for step in &history.steps {
        if let Step::End(more, _) | Step::KillAndAsk(more, _) = step {
            labels.extend(more.iter().cloned());
        }
    }
    labels.sort();
    labels.dedup();
    let mut model = Model::start(history);
    let mut world = World::start(history).await;
    let at = |step| move |what| Divergence { step, what };
    compare(&mut model, &mut world, &labels).await.map_err(at(0))?;
    let mut over = 0;
    for (step, number) in history.steps.iter().zip(1..) {
        over += usize::from(model.picture().over.is_some());
        if over > AFTERLIFE {
            break;
        }
        world.step(step).await;
        model.step(step);
        compare(&mut model, &mut world, &labels).await.map_err(at(number))?;
    }
    match world.finish().await {
        Some(what) => Err(Divergence { step: history.steps.len(), what }),
        None => Ok(()),
    }
}

fn diverges(history: &History) -> Option<Divergence> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    let ran = catch_unwind(AssertUnwindSafe(|| runtime.block_on(run(history))));
    let panicked = |_| {
        let what = "  it panics: see above".to_owned();
        Err(Divergence { step: history.steps.len(), what })
    };
    ran.unwrap_or_else(panicked).err()
}

/// Drops whatever the divergence does not need.
fn shrink(mut history: History, mut found: Divergence) -> (History, Divergence) {
    loop {
        history.steps.truncate(found.step);
        let without_step = (0..history.steps.len()).rev().map(|place| {
            let mut shorter = history.clone();
            shorter.steps.remove(place);
            shorter
        });
        let without_child = (0..history.declared.len()).map(|place| {
            let mut shorter = history.clone();
            shorter.declared.remove(place);
            shorter
        });
        let without_script = (0..history.scripts.len()).map(|place| {
            let mut shorter = history.clone();
            shorter.scripts.remove(place);
            shorter
        });
        let shorter = without_step.chain(without_child).chain(without_script);
        let still = shorter.filter_map(|it| diverges(&it).map(|found| (it, found))).next();
        match still {
            Some(shorter) => (history, found) = shorter,
            None => return (history, found),
        }
    }
}

/// The whole story of a seed that diverges.
fn report(seed: u64, history: History, found: Divergence) -> String {
    let mut text = format!("seed {seed}, step {}, diverges", found.step);
    let (history, found) = shrink(history, found);
    let History { kind, max_restarts, within, scripts, declared, steps } = &history;
    // Writing to a string does not fail.
    let _ = write!(text, "; shrunk:\n  {kind:?}, {max_restarts} restarts within {within} ms");
    for script in scripts {
        let _ = write!(text, "\n  first {script:?}");
    }
    for child in declared {
        let _ = write!(text, "\n  declares {child:?}");
    }
    for (step, number) in steps.iter().zip(1..) {
        let _ = write!(text, "\n  {number}. {step:?}");
    }
    let _ = write!(text, "\nafter step {}:\n{}", found.step, found.what);
    text
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[test]
fn after_every_step_of_a_random_history_a_supervisor_is_what_the_tables_say() {
    let first = setting("PERENNIAL_HISTORY_FIRST", 1);
    let end = first + setting("PERENNIAL_HISTORY_SEEDS", 4000);
    let (next, reports) = (AtomicU64::new(first), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed >= end || reports.lock().unwrap().len() >= 3 {
                return;
            }
            let history = History::of(seed);
            if let Some(found) = diverges(&history) {
                let report = report(seed, history, found);
                reports.lock().unwrap().push((seed, report));
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut reports = reports.into_inner().unwrap();
    reports.sort();
    let reports: Vec<String> = reports.into_iter().map(|(_, report)| report).collect();
    assert!(reports.is_empty(), "{}", reports.join("\n\n"));
}
