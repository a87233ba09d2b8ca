//! YF-42: what functions make of a secret is kept out of records as well.

use perennial_pipeline::MemorySources;
use serde_json::json;

use super::{World, world_in};

const SECRET: &str = "Canary-Battery-7731";

fn world(document: &str) -> World {
    world_in(document, json!({}), &MemorySources::new().set("API_KEY", SECRET))
}

/// What is made of the secret `k`, and the text that must not be found.
const MADE: &[(&str, &str)] = &[
    ("upper(k)", "CANARY-BATTERY"),
    ("k | lower", "canary-battery"),
    ("substring(k, 0, 12)", "Canary-Batte"),
    ("substring(k, 0, 5)", "Canar"),
    ("split(k, '-')", "Battery"),
    ("split(k, '-') | join('_')", "Canary_Battery"),
    ("replace(k, '-', '+')", "Canary+Battery"),
    ("slug(k)", "canary-battery"),
    ("k | truncate(15)", "Canary"),
    ("'x' + upper(k) + 'y'", "CANARY-BATTERY"),
    ("{a: [{b: upper(k)}]}", "CANARY-BATTERY"),
    ("to_json({a: lower(k)})", "canary-battery"),
    ("[k, 'b'] | map(upper(@))", "CANARY-BATTERY"),
    ("upper(variables.held)", "CANARY-BATTERY"),
    ("upper(env.API_KEY)", "CANARY-BATTERY"),
    ("upper('${API_KEY}')", "CANARY-BATTERY"),
    ("to_json(variables) | upper", "CANARY-BATTERY"),
];

/// Places of a step that a value leaves it by.
const SINKS: &[&str] = &[
    "{type: echo, value: '{{ MADE }}'}",
    "{type: echo, value: ['a {{ MADE }} b']}",
    "{type: echo, fail: true, error_message: 'failed on {{ MADE }}'}",
    "{type: set_variable, scope: local, variables: {x: '{{ MADE }}'}}",
    "{type: claude, prompt: 'say {{ MADE }}'}",
    "{type: claude, prompt: [{type: dynamic, content: {p: '{{ MADE }}'}}]}",
    "{type: claude, prompt: 'say x', claude_options: {system_prompt: '{{ MADE }}'}}",
    // Made in two holes.
    "{type: echo, variables: {k: '${API_KEY}', m: '{{ MADE }}'}, value: '{{ replace(join(m, \"-\") ?? m, \"B\", \"#\") }}'}",
];

#[tokio::test]
async fn what_a_function_makes_of_a_secret_is_in_no_record() {
    for (made, clear) in MADE {
        for sink in SINKS {
            let made = made.replace('\'', "''");
            let step = sink.replace("MADE", &made);
            let step = step.strip_prefix('{').unwrap();
            let own =
                if step.contains("variables: {") { "" } else { "variables: {k: '${API_KEY}'}, " };
            let document = format!(
                "workflow:\n  name: x\n  variables: {{held: '${{API_KEY}}', k: '${{API_KEY}}'}}\n  \
                 steps:\n    - {{name: a, {own}{step}\n"
            );
            let done = world(&document).run().await;
            let shown = format!("{done:?}");
            assert!(!shown.contains(clear), "{made} in {sink}: {shown}");
            assert!(!shown.contains(SECRET), "{made} in {sink}: {shown}");
        }
    }
}

#[tokio::test]
async fn filters_of_parts_and_failures_of_functions_are_no_way_around() {
    let document = "\
workflow:
  name: x
  continue_on_error: true
  steps:
    - {name: part, type: claude, prompt: [{type: static, content: 'say ${API_KEY}', transform: uppercase}]}
    - {name: fault, type: claude, prompt: [{type: static, content: '{${API_KEY}', transform: uppercase | yaml_to_json}]}
    - {name: file, type: echo, value: 1, output_to_file: '{{ slug(env.API_KEY) }}.txt'}
    - {name: named, type: echo, value: 1, output_to_file: 'a ${API_KEY} b.txt'}
";
    let results = world(document).results().await;
    let shown = results.to_string();
    for clear in ["CANARY", "canary", "Canary"] {
        assert!(!shown.contains(clear), "{shown}");
    }
    assert_eq!(results["file"]["error"]["code"], "PL609", "{shown}");
    assert_eq!(results["named"]["error"]["code"], "PL609", "{shown}");
    assert_eq!(results["fault"]["status"], "failed", "{shown}");
}

#[tokio::test]
async fn what_only_asks_about_a_secret_stays_as_it_is() {
    let document = "\
workflow:
  name: x
  steps:
    - {name: a, type: echo, value: ['{{ length(env.API_KEY) }}', '{{ starts_with(env.API_KEY, \"Can\") }}',
        '{{ env.API_KEY | default(\"none\") }}', 'Bearer {{ env.API_KEY }}', '{{ upper(\"plain\") }}']}
    - {name: b, type: echo, value: held, condition: 'upper(env.API_KEY) contains \"BATTERY\"'}
";
    let results = world(document).results().await;
    assert_eq!(results["a"], json!([19, true, "[redacted]", "Bearer [redacted]", "PLAIN"]));
    assert_eq!(results["b"], "held");
}

#[tokio::test]
async fn a_run_that_makes_too_much_of_its_secrets_is_stopped() {
    let document = "\
workflow:
  name: x
  steps:
    - {name: a, type: echo, value: '{{ range(0, 400) | map(upper(env.API_KEY) + @) }}'}
";
    let results = world(document).results().await;
    assert_eq!(results["a"]["error"]["code"], "PL606", "{results}");
}
