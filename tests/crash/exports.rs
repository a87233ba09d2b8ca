//! C-191: whenever the process is killed, the latest export is whole, and the next command brings it to the end.

use std::{fs, time::Duration};

use perennial_testkit::Seed;
use serde_json::Value;

use crate::world::{SOON, STEPS, World, results};

const SEEDS: u64 = 6;

#[test]
fn c_191_kill_9_leaves_a_whole_export_and_a_resume_completes_it() {
    for number in 1..=SEEDS {
        let mut seed = Seed::new(number);
        let world = World::new(&format!("export-{number}"), Duration::from_millis(5));
        let text = fs::read_to_string(world.path("chain.yaml")).unwrap();
        let keys = "workflow:\n  checkpoint_enabled: true\n";
        world.write("chain.yaml", &text.replace("workflow:\n", keys));
        let told = seed.between(1..STEPS as u64) as usize;
        let at = format!("seed {number}: killed at {told}");
        let mut process = world.start();
        let killed = process.kill_when(&at, SOON, |process| {
            // A reader at any moment sees a whole file.
            drop(latest(&world));
            process.stderr().matches('✓').count() >= told
        });
        killed.unwrap_or_else(|error| panic!("{at}: {error}"));
        if let Some(export) = latest(&world) {
            let done = export["results"].as_object().unwrap().len();
            assert!((1..=STEPS).contains(&done), "{at}: {export}");
            assert_eq!(export["execution_log"].as_array().unwrap().len(), done, "{at}");
        }
        world.fake.wait_for_quiet(SOON).unwrap();
        let resumed = world.resume();
        if resumed.status.code() == Some(2) {
            // The kill came after the end, and nothing is left to resume.
            continue;
        }
        assert!(resumed.status.success(), "{at}: {resumed:?}");
        let export = latest(&world).unwrap_or_else(|| panic!("{at}: no export"));
        assert_eq!(
            (&export["status"], &export["step_index"]),
            (&"completed".into(), &STEPS.into())
        );
        let expected: serde_json::Map<String, Value> =
            results(&world.shown()).into_iter().collect();
        assert_eq!(export["results"], Value::Object(expected), "{at}");
    }
}

/// The latest export, which is whole when it is there.
fn latest(world: &World) -> Option<Value> {
    let bytes = fs::read(world.path("checkpoints/chain_latest.json")).ok()?;
    Some(serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("a torn export: {error}")))
}
