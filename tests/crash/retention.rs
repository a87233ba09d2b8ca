//! A removal that is killed is finished by the next one (K42).

use std::{fs, time::Duration};

use perennial_testkit::Seed;

use crate::world::{SOON, World};

/// Removals that are killed, each at another moment.
const KILLS: usize = 3;
const RUNS: usize = 3;

/// Proves K42.
#[test]
fn a_killed_removal_leaves_no_half_run_and_the_next_one_finishes() {
    let world = World::new("kept", Duration::ZERO);
    // Many rows, so that a removal takes several transactions.
    let items: Vec<String> =
        (0..150).map(|n| format!("  - {{name: s{n}, type: echo, value: {n}}}")).collect();
    let text = format!("workflow:\n  name: wide\n  steps:\n{}\n", items.join("\n"));
    fs::write(world.path("wide.yaml"), text).unwrap();
    let mut seed = Seed::of_test("a_killed_removal");
    for kill in 0..KILLS {
        for run in 0..RUNS {
            let id = format!("r{kill}-{run}");
            let args = ["run", "wide.yaml", "--provider-mode", "mock", "--quiet", "--run-id", &id];
            let output = world.output(&args);
            assert!(output.status.success(), "{output:?}");
        }
        let mut removal = world.command(&["gc", "--older-than", "0s"]).spawn().unwrap();
        removal.wait_for_stdout(&format!("r{kill}-{}", RUNS - 1), SOON).unwrap();
        for _ in 0..seed.below(2_000) {
            std::hint::spin_loop();
            std::thread::yield_now();
        }
        drop(removal.kill());
        let output = world.output(&["journal", "verify"]);
        assert_eq!(output.status.code(), Some(0), "kill {kill}: {output:#?}");
        for run in 0..RUNS {
            // All of it is there, or it is removed.
            let shown = world.output(&["show", &format!("r{kill}-{run}"), "--json"]);
            match shown.status.code() {
                Some(0) => assert!(shown.stdout.contains("\"s149\""), "{shown:?}"),
                Some(12) => assert!(shown.stderr.contains("was removed on"), "{shown:?}"),
                _ => panic!("{shown:?}"),
            }
        }
    }
    let kept = world.start().wait(SOON).unwrap();
    assert!(kept.status.success());
    // By then the last of the others has ended; the young one stays.
    let output = world.output(&["gc", "--older-than", "1h"]);
    assert!(output.status.success(), "it finishes what was begun: {output:?}");
    world.shown();
    let output = world.output(&["gc", "--older-than", "0s", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let output = world.output(&["gc", "--older-than", "0s"]);
    assert_eq!(output.stdout, "nothing to remove\n");
}
