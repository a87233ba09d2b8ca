//! Twenty runs, each killed at a seeded moment and resumed (ACC-1.3).

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use perennial_testkit::{FakeReply, RunningBinary, Seed};
use serde_json::{Value, json};

use crate::world::{CANARY, SOON, STEPS, World, results};

const SEEDS_CI: usize = 20;
const REPLY_AFTER: Duration = Duration::from_millis(25);
/// Worlds at work at a time.
const AT_ONCE: usize = 4;

/// How many seeds: all of CI's, or as many as `PERENNIAL_CRASH_SEEDS` says.
fn seeds() -> usize {
    std::env::var("PERENNIAL_CRASH_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(SEEDS_CI)
}

/// The moment of the kill: always an event, never a time.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// The provider has seen this many requests: one is in flight.
    Asked(usize),
    /// The provider has sent this many whole replies.
    Replied(usize),
    /// The process has told of this many finished steps.
    Told(usize),
}

impl Moment {
    fn of(seed: &mut Seed) -> Self {
        let place = seed.between(1..STEPS as u64 + 1) as usize;
        match seed.below(3) {
            0 => Self::Asked(place),
            1 => Self::Replied(place),
            _ => Self::Told(place.min(STEPS - 1)),
        }
    }

    fn is_there(self, world: &World, process: &RunningBinary) -> bool {
        match self {
            Self::Asked(count) => world.fake.calls().len() >= count,
            Self::Replied(count) => {
                world.fake.calls().iter().filter(|call| call.completed).count() >= count
            }
            Self::Told(count) => process.stderr().matches('✓').count() >= count,
        }
    }
}

#[test]
fn a_killed_run_is_finished_by_one_more_command_without_paying_twice() {
    let undisturbed = World::new("undisturbed", Duration::ZERO);
    let output = undisturbed.start().wait(SOON).unwrap();
    assert!(output.status.success(), "{output:?}");
    let expected = results(&undisturbed.shown());
    assert_eq!((expected.len(), undisturbed.fake.calls().len()), (STEPS, STEPS));

    let (next, of) = (AtomicUsize::new(1), seeds());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed > of {
                        return;
                    }
                    kill_and_resume(seed, &expected);
                }
            });
        }
    });
}

fn kill_and_resume(number: usize, expected: &std::collections::BTreeMap<String, Value>) {
    let mut seed = Seed::new(number as u64);
    let moment = Moment::of(&mut seed);
    let at = format!("seed {number}: killed at {moment:?}");
    let world = World::new(&format!("run-{number}"), REPLY_AFTER);
    let mut process = world.start();
    let killed = process
        .kill_when(&at, SOON, |process| moment.is_there(&world, process))
        .unwrap_or_else(|error| panic!("{at}: {error}"));
    assert!(!killed.status.success() || killed.stdout.contains("completed"), "{at}: {killed:?}");
    // What the dead process asked last has been answered by now, or never will be.
    world.fake.wait_for_quiet(SOON).unwrap();
    let before = world.fake.calls().len();
    let recorded = recorded_keys(&world.shown());

    let resumed = world.resume();
    let finished = world.shown();
    if resumed.status.code() == Some(2) {
        // The kill came after the end: there was nothing to resume.
        assert_eq!(finished["state"], "succeeded", "{at}: {resumed:?}");
    } else {
        assert!(resumed.status.success(), "{at}: {resumed:?}");
    }
    assert_eq!(results(&finished), *expected, "{at}");
    check_calls(&world, &finished, &at);
    for key in recorded {
        let seen = world.fake.calls().iter().skip(before).filter(|call| call.key == key).count();
        assert_eq!(seen, 0, "{at}: {key} was recorded, and asked again");
    }
    let stored = String::from_utf8_lossy(&std::fs::read(world.store()).unwrap()).into_owned();
    for text in [&killed.stdout, &killed.stderr, &resumed.stdout, &resumed.stderr, &stored] {
        assert!(!text.contains(CANARY), "{at}: the key was shown");
    }
}

/// Every call beyond one per step belongs to an attempt shown as uncertain. The reverse has one
/// gap that nobody can close: an attempt killed after it announced its call in the journal and
/// before the request arrived is uncertain, and the provider never saw it.
fn check_calls(world: &World, shown: &Value, at: &str) {
    for step in shown["steps"].as_array().unwrap() {
        let uncertain = uncertain_attempts(step);
        let key = step["calls"][0]["idempotency_key"].as_str().unwrap();
        let seen = world.fake.calls().iter().filter(|call| call.key == key).count();
        assert!((1..=1 + uncertain).contains(&seen), "{at}: {key} was asked {seen} times");
        assert!(uncertain <= 1, "{at}: one kill, one uncertain attempt");
        if seen == 1 + uncertain {
            continue;
        }
        // Announced and never arrived: only the first attempt's request is missing.
        assert_eq!((seen, uncertain), (1, 1), "{at}: {key}");
    }
    assert!(world.fake.calls().iter().all(|call| !call.key.is_empty()), "{at}");
}

fn uncertain_attempts(step: &Value) -> usize {
    let attempts = step["attempts"].as_array().unwrap();
    attempts.iter().filter(|attempt| attempt["uncertain"] == json!(true)).count()
}

/// Keys of calls whose reply is in the store.
fn recorded_keys(shown: &Value) -> Vec<String> {
    let steps = shown["steps"].as_array().unwrap();
    let calls = steps.iter().flat_map(|step| step["calls"].as_array().unwrap());
    let recorded = calls.filter(|call| !call["recorded_at"].is_null());
    recorded.map(|call| call["idempotency_key"].as_str().unwrap().to_owned()).collect()
}

/// A death of the process is no failure of a step: also one that is never retried comes back.
#[test]
fn a_step_without_retries_survives_the_death_of_its_process() {
    let world = World::new("echoes", Duration::ZERO);
    world.write(
        "chain.yaml",
        "workflow:\n  name: echoes\n  steps:\n  - {name: a, type: echo, value: 1}\n  \
         - {name: b, type: echo, value: 2, delay_ms: 400}\n  - {name: c, type: echo, value: 3}\n",
    );
    let mut process = world.start();
    process.kill_when("step a is told", SOON, |process| process.stderr().contains('✓')).unwrap();
    let left = world.shown();
    assert_eq!((&left["state"], &left["owner_alive"]), (&json!("running"), &json!(false)));
    let resumed = world.resume();
    assert!(resumed.status.success(), "{resumed:?}");
    let shown = world.shown();
    assert_eq!(results(&shown)["c"], json!(3));
    assert_eq!(shown["steps"][1]["attempts"][0]["end"], "expired");
    assert_eq!(uncertain_attempts(&shown["steps"][1]), 0, "it called nobody");
}

const TREE: &str = "\
workflow:
  name: tree
  steps:
    - {name: first, type: claude, prompt: one}
    - name: n
      type: pipeline
      inputs: {said: '{{ steps.first.text }}'}
      pipeline:
        name: child
        steps:
          - {name: a, type: claude, prompt: 'after {{ inputs.said }}'}
          - name: deep
            type: pipeline
            inputs: {said: '{{ steps.a.text }}'}
            pipeline: {name: grandchild, steps: [{name: c, type: claude, prompt: 'then {{ said }}'}]}
          - {name: bad, type: echo, fail: true, continue_on_error: true}
    - {name: last, type: claude, prompt: 'last {{ steps.n.deep.c }}'}
";

/// Jobs of a child are jobs of the run: killed between any two of them, it goes on with the next.
#[test]
fn a_run_with_children_is_finished_by_one_more_command() {
    let world = |name: &str, after: Duration| {
        let world = World::new(name, after);
        world.write("chain.yaml", TREE);
        world
    };
    let undisturbed = world("tree", Duration::ZERO);
    let output = undisturbed.start().wait(SOON).unwrap();
    assert!(output.status.success(), "{output:?}");
    let expected = results(&undisturbed.shown());
    let calls = undisturbed.fake.calls().len();
    assert_eq!((expected.len(), calls), (7, 4), "{expected:?}");
    for told in 1..=5 {
        let at = format!("killed after {told} steps");
        let world = world(&format!("tree-{told}"), REPLY_AFTER);
        let mut process = world.start();
        let killed =
            process.kill_when(&at, SOON, |process| process.stderr().matches('✓').count() >= told);
        killed.unwrap_or_else(|error| panic!("{at}: {error}"));
        world.fake.wait_for_quiet(SOON).unwrap();
        let resumed = world.resume();
        assert!(resumed.status.success(), "{at}: {resumed:?}");
        let shown = world.shown();
        assert_eq!(results(&shown), expected, "{at}");
        let uncertain: usize =
            shown["steps"].as_array().unwrap().iter().map(uncertain_attempts).sum();
        let asked = world.fake.calls().len();
        assert!((calls..=calls + uncertain).contains(&asked), "{at}: {asked} calls");
    }
}

/// C-189, YR-53: killed in the middle, corrected, killed again in the round that follows. What
/// completed and was not corrected is never asked again, and the result is that of the corrected
/// document.
#[test]
fn a_killed_run_goes_on_by_a_corrected_file() {
    // The last call with a recorded reply, and the step that is corrected.
    for (replied, corrected) in [(3, 3), (5, 2), (1, 9), (8, 1)] {
        let at = format!("killed after reply {replied}, step {corrected} corrected");
        let world = World::new("corrected", REPLY_AFTER);
        let (old, new) = (format!("question {corrected}\""), format!("better {corrected}\""));
        let text = std::fs::read_to_string(world.path("chain.yaml")).unwrap().replace(&old, &new);
        world.write("fixed.yaml", &text);
        let mut process = world.start();
        let moment = Moment::Replied(replied);
        process.kill_when(&at, SOON, |process| moment.is_there(&world, process)).unwrap();
        world.fake.wait_for_quiet(SOON).unwrap();
        let recorded = recorded_keys(&world.shown());
        let before = world.fake.calls().len();

        let args = ["resume", &world.run, "--config", "perennial.toml", "--file", "fixed.yaml"];
        let mut process = world.command(&args).spawn().unwrap();
        let more = |_: &RunningBinary| {
            world.fake.calls().iter().filter(|call| call.completed).count() > before
        };
        process.kill_when(&at, SOON, more).unwrap();
        world.fake.wait_for_quiet(SOON).unwrap();
        // The first kill may have come before the new definition was committed.
        let resumed = world.command(&args).run(SOON).unwrap();
        let ended = world.shown();
        assert_eq!(ended["state"], "succeeded", "{at}: {resumed:?}");

        // Of the steps before the corrected one, what was recorded is asked no more.
        for (key, step) in recorded.iter().zip(1..).filter(|(_, step)| *step < corrected) {
            let calls = world.fake.calls();
            let seen = calls.iter().skip(before).any(|call| call.key == *key);
            assert!(!seen, "{at}: step {step} was asked again");
        }
        let undisturbed = World::new("undisturbed-corrected", Duration::ZERO);
        undisturbed.write("chain.yaml", &text);
        let output = undisturbed.start().wait(SOON).unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(results(&ended), results(&undisturbed.shown()), "{at}");
    }
}

const RATED: &str = "\
workflow:
  name: rated
  schemas:
    rating: {type: object, required: [score], properties: {score: {type: integer, maximum: 10}}, additionalProperties: false}
  steps:
    - {name: rate, type: claude, prompt: rate it, output_schema: rating}
    - {name: told, type: echo, value: '{{ steps.rate.score }}', output_schema: {type: integer}}
";

/// YR-67: repairs are calls as any other; those that were answered are not made again.
#[test]
fn a_run_killed_between_repairs_pays_for_none_of_them_twice() {
    let world = |name: &str, after: Duration| {
        let world = World::new(name, after);
        world.write("chain.yaml", RATED);
        world.fake.script("rate it", [FakeReply::text("{\"score\": 11}")]);
        world.fake.script("score: Value must be <= 10", [FakeReply::text("{\"score\": \"x\"}")]);
        world
            .fake
            .script("score: Expected integer, got string", [FakeReply::text("{\"score\": 9}")]);
        world
    };
    let undisturbed = world("rated", Duration::ZERO);
    let output = undisturbed.start().wait(SOON).unwrap();
    assert!(output.status.success(), "{output:?}");
    let expected = results(&undisturbed.shown());
    assert_eq!((&expected["told"], &expected["rate"]["repairs"]), (&json!(9), &json!(2)));
    let sent: Vec<Value> = undisturbed.fake.calls().iter().map(|call| call.body.clone()).collect();
    assert_eq!(sent.len(), 3);
    for body in &sent {
        assert_eq!(body["output_config"]["format"]["type"], "json_schema", "{body}");
    }
    for moment in [
        Moment::Asked(1),
        Moment::Replied(1),
        Moment::Asked(2),
        Moment::Replied(2),
        Moment::Asked(3),
    ] {
        let at = format!("killed at {moment:?}");
        let name = format!("rated-{moment:?}").to_lowercase().replace(['(', ')'], "");
        let world = world(&name, REPLY_AFTER);
        let mut process = world.start();
        let killed = process.kill_when(&at, SOON, |process| moment.is_there(&world, process));
        killed.unwrap_or_else(|error| panic!("{at}: {error}"));
        world.fake.wait_for_quiet(SOON).unwrap();
        let recorded = recorded_keys(&world.shown());
        let before = world.fake.calls().len();
        let resumed = world.resume();
        assert!(resumed.status.success(), "{at}: {resumed:?}");
        let shown = world.shown();
        assert_eq!(results(&shown), expected, "{at}");
        for key in recorded {
            let seen =
                world.fake.calls().iter().skip(before).filter(|call| call.key == key).count();
            assert_eq!(seen, 0, "{at}: {key} was recorded, and asked again");
        }
        let uncertain = uncertain_attempts(&shown["steps"][0]);
        let asked = world.fake.calls().len();
        assert!((3..=3 + uncertain).contains(&asked), "{at}: {asked} calls");
    }
}

/// What a killed run has kept is taken by the next one, and what it had paid for is not lost to it.
#[test]
fn results_that_a_killed_run_has_kept_are_taken_by_the_next_one() {
    let world = World::new("first", REPLY_AFTER);
    let text = std::fs::read_to_string(world.path("chain.yaml")).unwrap();
    let text = text.replace("  steps:\n", "  defaults: {cache_results: true}\n  steps:\n");
    world.write("chain.yaml", &text);
    let mut process = world.start();
    let half = |process: &RunningBinary| Moment::Told(STEPS / 2).is_there(&world, process);
    process.kill_when("killed half way", SOON, half).unwrap();
    world.fake.wait_for_quiet(SOON).unwrap();
    let before = world.fake.calls().len();
    let args = ["run", "chain.yaml", "--config", "perennial.toml", "--run-id", "second", "--json"];
    let second = world.output(&args);
    assert!(second.status.success(), "{second:?}");
    let asked = world.fake.calls().len() - before;
    assert!(asked <= STEPS / 2, "{asked} calls, although half of the results were kept");
    // Nothing that either of them asked is asked again.
    let resumed = world.resume();
    assert!(resumed.status.success(), "{resumed:?}");
    let args = ["run", "chain.yaml", "--config", "perennial.toml", "--run-id", "third", "--json"];
    let calls = world.fake.calls().len();
    let third = world.output(&args);
    assert!(third.status.success(), "{third:?}");
    assert_eq!(world.fake.calls().len(), calls, "all results are kept");
}
