//! A process that is killed after it has opened a child whose file a hole names; then the file is another one, or gone.

use std::time::Duration;

use crate::world::{SOON, World, results};

/// The child asks twice: the kill comes while it is open.
const DOCUMENT: &str = r#"
workflow:
  name: chain
  steps:
  - {name: which, type: echo, value: review}
  - name: child
    type: pipeline
    pipeline_file: "{{ steps.which }}.yaml"
    inputs: {depth: 2}
  - {name: after, type: echo, value: "{{ steps.child.told }}"}
"#;
const CHILD: &str = r#"
workflow:
  name: review
  inputs: {depth: {type: integer}}
  steps:
  - {name: ask, type: claude, prompt: "question {{ inputs.depth }}"}
  - name: deeper
    type: pipeline
    condition: "inputs.depth > 1"
    pipeline_file: '{{ "review" }}.yaml'
    inputs: {depth: "{{ inputs.depth - 1 }}"}
    config: {allow_recursion: true, max_depth: 3}
  - {name: told, type: echo, value: "{{ steps.ask.text }}"}
"#;
const CALLS: usize = 2;

fn world(name: &str) -> World {
    let world = World::new(name, Duration::from_millis(25));
    world.write("chain.yaml", DOCUMENT);
    world.write("review.yaml", CHILD);
    world
}

#[test]
fn a_killed_run_goes_on_with_the_child_that_it_has_read() {
    let undisturbed = world("undisturbed");
    let output = undisturbed.start().wait(SOON).unwrap();
    assert!(output.status.success(), "{output:?}");
    let expected = results(&undisturbed.shown());
    assert_eq!(undisturbed.fake.calls().len(), CALLS);

    let other = CHILD.replace("question", "another question");
    // The first call is in flight: the outer child is open. The second one: both are.
    for (call, change) in [(1, None), (2, None), (2, Some(other.as_str())), (2, Some("{"))] {
        let at = format!("killed in call {call}, then {change:?}");
        let world = world(&format!("run-{call}"));
        let mut process = world.start();
        let killed = process.kill_when(&at, SOON, |_| world.fake.calls().len() >= call);
        killed.unwrap_or_else(|error| panic!("{at}: {error}"));
        world.fake.wait_for_quiet(SOON).unwrap();
        match (call, change) {
            (_, Some(text)) => world.write("review.yaml", text),
            // What is opened later still needs it.
            (1, None) => (),
            (_, None) => std::fs::remove_file(world.path("review.yaml")).unwrap(),
        }
        let resumed = world.resume();
        // Two: the kill came after the end, and there was nothing to resume.
        let code = resumed.status.code();
        assert!(resumed.status.success() || code == Some(2), "{at}: {resumed:?}");
        let shown = world.shown();
        assert_eq!(shown["state"], "succeeded", "{at}: {shown:#}");
        assert_eq!(results(&shown), expected, "{at}");
        assert!((CALLS..=CALLS + 1).contains(&world.fake.calls().len()), "{at}");
    }
}
