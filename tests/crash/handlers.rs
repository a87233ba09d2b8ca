//! A process that is killed in the midst of a handler: one more command ends the run as if nothing had been.

use std::time::Duration;

use perennial_testkit::RunningBinary;

use crate::world::{SOON, World, results};

/// Two calls in a handler, one of them in a child, and one in the handler of the second.
const DOCUMENT: &str = r#"
workflow:
  name: chain
  steps:
  - name: s
    type: echo
    fail: true
    error_message: boom
    on_error:
    - {name: first, type: claude, prompt: "about {{ error.message }}"}
    - name: child
      type: pipeline
      pipeline:
        name: c
        steps:
        - name: x
          type: echo
          fail: true
          on_error: [{name: second, type: claude, prompt: "two"}]
    - {name: third, type: claude, prompt: "{{ steps.first.text }}"}
  - {name: after, type: echo, value: "{{ steps.s.handled }}"}
"#;
const CALLS: usize = 3;

fn world(name: &str) -> World {
    let world = World::new(name, Duration::from_millis(25));
    world.write("chain.yaml", DOCUMENT);
    world
}

/// The moment of the kill: the provider has seen so many requests, or has sent so many whole replies.
#[derive(Clone, Copy, Debug)]
enum Moment {
    Asked(usize),
    Replied(usize),
}

impl Moment {
    fn is_there(self, world: &World, _: &RunningBinary) -> bool {
        let calls = world.fake.calls();
        match self {
            Self::Asked(count) => calls.len() >= count,
            Self::Replied(count) => calls.iter().filter(|call| call.completed).count() >= count,
        }
    }
}

#[test]
fn a_run_that_is_killed_in_a_handler_ends_as_if_nothing_had_been() {
    let undisturbed = world("undisturbed");
    let output = undisturbed.start().wait(SOON).unwrap();
    assert!(output.status.success(), "{output:?}");
    let expected = results(&undisturbed.shown());
    assert_eq!(undisturbed.fake.calls().len(), CALLS);
    assert_eq!(expected["after"], expected["s"]["handled"]);

    for call in 1..=CALLS {
        for moment in [Moment::Asked(call), Moment::Replied(call)] {
            let at = format!("killed at {moment:?}");
            let world = world(&format!("run-{call}"));
            let mut process = world.start();
            let killed = process.kill_when(&at, SOON, |process| moment.is_there(&world, process));
            killed.unwrap_or_else(|error| panic!("{at}: {error}"));
            world.fake.wait_for_quiet(SOON).unwrap();
            let resumed = world.resume();
            // Two: the kill came after the end, and there was nothing to resume.
            assert!(
                resumed.status.success() || resumed.status.code() == Some(2),
                "{at}: {resumed:?}"
            );
            let shown = world.shown();
            assert_eq!(shown["state"], "partially_succeeded", "{at}");
            assert_eq!(results(&shown), expected, "{at}");
            // At most the one call that was in flight is made again.
            assert!((CALLS..=CALLS + 1).contains(&world.fake.calls().len()), "{at}");
        }
    }
}
