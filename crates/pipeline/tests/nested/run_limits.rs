//! Limits of a run and of its mode, while it runs (1.11, 6.6).

use std::sync::atomic::Ordering;

use perennial_core::run::JobState;
use perennial_pipeline::MemorySources;
use serde_json::json;

use crate::world::{flow, loaded, placed, world};

/// 6.6: what is limited for the run ends the run, wherever in it that is, and whatever is told to forgive it.
#[tokio::test(start_paused = true)]
async fn limits_of_the_run_end_it_whatever_forgives() {
    let steps = r#"
- {name: first, type: echo, value: 1, continue_on_error: true}
- name: n
  type: pipeline
  continue_on_error: true
  config: {max_retries: 2, fallback_value: 0, max_depth: 9, max_total_steps: 900}
  pipeline:
    name: c
    continue_on_error: true
    steps:
      - {name: a, type: echo, value: "{{ env.PART }}"}
      - {name: m, type: pipeline, config: {fallback_value: 0}, pipeline: {name: d, steps: [{name: e, type: echo}]}}
      - {name: z, type: echo}
- {name: after, type: echo}
"#;
    for (limit, code, message, jobs) in [
        (
            "max_step_executions: 4",
            "PL803",
            "Maximum step executions (4) exceeded: current total is 5",
            7,
        ),
        (
            "max_step_executions: 1",
            "PL803",
            "Maximum step executions (1) exceeded: current total is 2",
            3,
        ),
        ("memory_limit_mb: 1", "PL806", "Memory limit exceeded: 2.0 MB > 1.0 MB", 4),
        ("max_total_steps: 2", "PL802", "Maximum total steps (2) exceeded: current total is 3", 3),
        ("max_total_steps: 3", "PL802", "Maximum total steps (3) exceeded: current total is 4", 5),
    ] {
        let document = flow(steps).replace(
            "  steps:\n    \n",
            &format!("  resource_limits: {{{limit}}}\n  steps:\n    \n"),
        );
        assert!(document.contains(limit), "{document}");
        let part = "x".repeat(2 * 1024 * 1024);
        let sources = MemorySources::new().file("flow.yaml", document.as_str()).set("PART", &part);
        let world = loaded(&sources, json!({}));
        let done = world.run().await;
        let keys: Vec<&str> = done.iter().map(|job| job.key.as_str()).collect();
        let shown: Vec<&serde_json::Value> =
            done.iter().map(|job| &job.result["error"]["message"]).collect();
        assert!(
            done.iter().any(|job| {
                let error = &job.result["error"];
                error["code"] == code && error["message"].as_str().unwrap().contains(message)
            }),
            "{limit}: {shown:?}"
        );
        if code == "PL802" {
            // It is refused before it begins: a failure like any other, which is forgiven.
            assert_eq!(keys.last(), Some(&"after"), "{limit}: {keys:?}");
            continue;
        }
        let last = done.last().unwrap();
        assert_eq!((last.key.as_str(), last.state), ("n", JobState::Failed), "{limit}: {keys:?}");
        assert_eq!(done.len(), jobs, "{limit}: {keys:?}");
        assert_eq!(last.result["error"]["limit_of"], "", "{limit}");
    }
}

/// At the top there is no chain to tell.
#[tokio::test]
async fn a_limit_of_the_run_at_the_top_is_told_alone() {
    let document = "workflow:\n  name: x\n  resource_limits: {max_step_executions: 1}\n  steps:\n    - {name: a, type: echo}\n    - {name: b, type: echo, continue_on_error: true}\n";
    let done = world(document, json!({})).run().await;
    let last = done.last().unwrap();
    assert_eq!((last.key.as_str(), last.state), ("b", JobState::Failed));
    let error = &last.result["error"];
    assert_eq!(error["message"], "Maximum step executions (1) exceeded: current total is 2");
    assert_eq!((&error["code"], &error["class"]), (&json!("PL803"), &json!("limit")));
}

/// PL811: every `file_ops` step counts once for each time it was executed, in children and their rounds as well.
#[tokio::test]
async fn pl_811_file_operations_of_a_run_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let document = |keys: &str| {
        flow(
            r#"
- {name: f, type: file_ops, operation: list, path: "."}
- {name: skipped, type: file_ops, operation: list, path: ".", condition: "false"}
- name: n
  type: pipeline
  config: {max_retries: 1}
  pipeline:
    name: c
    steps:
      - {name: ask, type: claude, prompt: x, max_retries: 0, claude_options: {model: m}}
      - {name: "g/#[h]", type: file_ops, operation: list, path: "."}
      - {name: e, type: echo}
- {name: last, type: file_ops, operation: list, path: ".", continue_on_error: true}
"#,
        )
        .replace("  steps:\n    \n", &format!("{keys}  steps:\n    \n"))
    };
    for (keys, fails) in [
        ("", false),
        ("  resource_limits: {max_file_operations: 3}\n", false),
        ("  resource_limits: {max_file_operations: 2}\n", true),
        ("  safety: {max_file_operations: 2}\n", true),
        ("  safety: {sandbox_mode: true}\n", false),
    ] {
        let world = placed(&document(keys), folder.path());
        // The child is gone through twice.
        world.provider.failures.store(1, Ordering::Relaxed);
        let done = world.run().await;
        assert!(done.iter().any(|job| job.key.as_str().starts_with("n#2/g")), "{keys}");
        let last = done.last().unwrap();
        assert_eq!(last.key.as_str(), "last", "{keys}");
        assert_eq!(last.state == JobState::Failed, fails, "{keys}: {}", last.result);
        if fails {
            let error = &last.result["error"];
            assert_eq!(error["code"], "PL811");
            assert_eq!(
                error["message"],
                "Maximum file operations (2) exceeded: current total is 3"
            );
        }
    }
}

/// PL811: a key that is too long for the journal shows only its beginning, and counts as any other; also in a child
/// that is gone through twice.
#[tokio::test]
async fn file_operations_with_long_keys_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (outer, inner) = ("o".repeat(100), "i".repeat(100));
    let listing =
        |name: &str| format!("{{name: {name}, type: file_ops, operation: list, path: \".\"}}");
    let names = ["a", "b", "c"].map(|end| format!("{end}{}", "f".repeat(99)));
    let [a, b, c] = names.each_ref().map(|name| listing(name));
    let ask = format!(
        "{{name: {}, type: claude, prompt: x, max_retries: 0, claude_options: {{model: m}}}}",
        "q".repeat(100)
    );
    let handled = format!("{{name: s, type: echo, fail: true, on_error: [{b}]}}");
    let child = format!(
        "{{name: {inner}, type: pipeline, config: {{max_retries: 1}}, pipeline: {{name: d, steps: [{a}, {ask}, {handled}, {c}]}}}}"
    );
    let document = flow(&format!(
        "\n- {{name: {outer}, type: pipeline, pipeline: {{name: c, steps: [{child}]}}}}\n"
    ));
    for (most, fails) in [(3, false), (2, true)] {
        let limit = format!("  resource_limits: {{max_file_operations: {most}}}\n  steps:\n    \n");
        let world = placed(&document.replace("  steps:\n    \n", &limit), folder.path());
        world.provider.failures.store(1, Ordering::Relaxed);
        let done = world.run().await;
        let cut: Vec<_> = done.iter().filter(|job| job.key.is_cut()).collect();
        assert!(cut.len() >= 4, "{done:#?}");
        let is_stopped = done.iter().any(|job| job.result["error"]["code"] == "PL811");
        assert_eq!(is_stopped, fails, "{most}: {done:#?}");
        // What failed in the first round is made good by the second.
        let failed = cut.iter().find(|job| job.result["error"]["class"] == "overloaded");
        let failed = failed.unwrap_or_else(|| panic!("{done:#?}"));
        assert!(world.workflow().is_made_good(failed, &done), "{done:#?}");
    }
}

/// PL811: those of handlers, and those that a template chose, are operations as any other.
#[tokio::test]
async fn file_operations_of_handlers_and_of_chosen_types_are_counted() {
    let listing =
        |name: &str, kind: &str| format!("{{name: {name}, {kind}, operation: list, path: '.'}}");
    let plain = ["a", "b", "c"].map(|name| listing(name, "type: file_ops")).join(", ");
    let chosen = ["a", "b", "c"].map(|name| {
        let kind = "type: \"{{ 'file_ops' }}\", dynamic_types: [file_ops]";
        format!("- {}\n", listing(name, kind))
    });
    let handled = format!("- {{name: s, type: echo, fail: true, on_error: [{plain}]}}\n");
    let folder = tempfile::tempdir().unwrap();
    for (steps, last) in [(handled, "s[error]"), (chosen.concat(), "c")] {
        let document = flow(&format!("\n{steps}"));
        let limit = "  resource_limits: {max_file_operations: 2}\n  steps:\n    \n";
        let document = document.replace("  steps:\n    \n", limit);
        let done = placed(&document, folder.path()).run().await;
        let stopped = done.iter().find(|job| job.result["error"]["code"] == "PL811");
        let stopped = stopped.unwrap_or_else(|| panic!("{document}: {done:#?}"));
        assert!(stopped.key.as_str().ends_with('c'), "{}", stopped.key);
        let ended = done.last().unwrap();
        assert!(ended.key.as_str() == last || ended.key.as_str().ends_with("/c"), "{}", ended.key);
    }
}

/// 1.11: the mode gives children their limits, where nobody names others.
#[tokio::test(start_paused = true)]
async fn the_mode_gives_children_their_limits() {
    let steps = r#"
- name: n
  type: pipeline
  config: {continue_on_error: true}
  pipeline: {name: c, steps: [{name: slow, type: echo, delay_ms: 3600000}]}
"#;
    for (mode, seconds) in
        [(None, 300), (Some("development"), 600), (Some("test"), 30), (Some("production"), 300)]
    {
        let section =
            mode.map_or(String::new(), |mode| format!("  environment: {{mode: {mode}}}\n"));
        let document =
            flow(steps).replace("  steps:\n    \n", &format!("{section}  steps:\n    \n"));
        let world = world(&document, json!({}));
        let done = world.run().await;
        assert_eq!(world.elapsed().as_secs(), seconds, "{mode:?}");
        assert_eq!(done.last().unwrap().result["error"]["cause"]["code"], "PL807");
    }
}
