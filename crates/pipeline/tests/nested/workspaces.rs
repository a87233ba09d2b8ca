//! Workspaces of children (2.16, 4.8).

use std::{fs, path::Path};

use perennial_core::run::JobState;
use perennial_tools::files::ChosenDirectories;
use serde_json::json;

use crate::world::{flow, placed, placed_by};

/// Files and directories directly below `path`, by name.
fn below(path: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A child that writes into its workspace, and then does `last`.
fn writing(config: &str, last: &str) -> String {
    flow(&format!(
        "\
- {{name: before, type: file_ops, operation: write, path: own.txt, content: parent}}
- name: n
  type: pipeline
  continue_on_error: true
  config: {config}
  pipeline:
    name: c
    steps:
      - {{name: put, type: file_ops, operation: write, path: own.txt, content: child}}
      - {{name: see, type: file_ops, operation: read, path: own.txt}}
      - {last}
- {{name: after, type: file_ops, operation: read, path: own.txt}}"
    ))
}

/// C-161, 1.11: config, whether the child fails, what is left below the root of scratch directories, what the file
/// of the run holds at the end.
#[tokio::test]
async fn c_161_a_scratch_workspace_is_removed_when_it_shall_be() {
    let rows = [
        ("{}", false, 0, "child"),
        ("{workspace_enabled: false}", false, 0, "child"),
        ("{workspace_enabled: true}", false, 0, "parent"),
        ("{workspace_enabled: true}", true, 0, "parent"),
        ("{workspace_enabled: true, cleanup_on_success: false}", false, 1, "parent"),
        ("{workspace_enabled: true, cleanup_on_success: false}", true, 0, "parent"),
        ("{workspace_enabled: true, cleanup_on_error: false}", true, 1, "parent"),
        ("{workspace_enabled: true, cleanup_on_error: false}", false, 0, "parent"),
        ("{workspace: {create_on_start: true, cleanup_on_error: false}}", true, 1, "parent"),
        ("{workspace: {create_on_start: true}, cleanup_on_success: false}", false, 1, "parent"),
        ("{workspace_dir: workspace/inner}", false, 0, "parent"),
    ];
    for (config, fails, left, own) in rows {
        let root = tempfile::tempdir().unwrap();
        let last = format!("{{name: last, type: echo, fail: {fails}}}");
        let world = placed(&writing(config, &last), root.path());
        let results = world.results().await;
        let all = below(&root.path().join("nested_workspaces"));
        assert_eq!(all.len(), left, "{config} {fails}: {all:?}");
        assert_eq!(results["n/see"]["content"], "child", "{config} {fails}");
        assert_eq!(results["after"]["content"], own, "{config} {fails}");
        for name in all {
            assert!(name.starts_with("01RUN-n-"), "{name}");
        }
    }
}

/// C-169: the run's own only, and not what a link leads to.
#[tokio::test]
async fn c_169_only_the_own_directory_is_removed_and_it_may_be_gone() {
    let document = writing("{workspace_enabled: true}", "{name: last, type: echo}");
    for gone in ["kept", "gone", "root gone", "a link", "a file"] {
        let root = tempfile::tempdir().unwrap();
        let (scratches, elsewhere) = (root.path().join("nested_workspaces"), root.path().join("e"));
        for path in
            [scratches.join("02OTHER-n-0123"), scratches.join("01RUN-x-0123"), elsewhere.clone()]
        {
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("f"), "x").unwrap();
        }
        let world = placed(&document, root.path());
        let mut done = Vec::new();
        for _ in 0..5 {
            assert_eq!(world.step(&mut done).await, Some(JobState::Succeeded));
        }
        let own = Path::new(done[1].result["workspace"].as_str().unwrap()).to_owned();
        assert_eq!(below(&own), ["own.txt"]);
        if gone != "kept" {
            fs::remove_dir_all(if gone == "root gone" { &scratches } else { &own }).unwrap();
        }
        match gone {
            "a link" => std::os::unix::fs::symlink(&elsewhere, &own).unwrap(),
            "a file" => fs::write(&own, "x").unwrap(),
            _ => (),
        }
        while world.step(&mut done).await.is_some() {}
        assert_eq!(done.last().unwrap().key.as_str(), "after", "{gone}");
        let left =
            if gone == "root gone" { vec![] } else { vec!["01RUN-x-0123", "02OTHER-n-0123"] };
        assert_eq!(below(&scratches), left, "{gone}");
        assert_eq!(below(&elsewhere), ["f"], "{gone}");
        assert_eq!(world.warnings(), [""; 0], "{gone}");
    }
}

/// Every process that goes on with the run finds the same directory, and the last removes it.
#[tokio::test]
async fn a_scratch_workspace_survives_the_death_of_its_process_and_is_removed_after() {
    let root = tempfile::tempdir().unwrap();
    let document = writing("{workspace_enabled: true}", "{name: last, type: echo}");
    let mut done = Vec::new();
    let world = placed(&document, root.path());
    for _ in 0..2 {
        world.step(&mut done).await;
    }
    // An opening that was not recorded before the process died is made again, and what it left goes.
    let own = Path::new(done[1].result["workspace"].as_str().unwrap()).to_owned();
    fs::write(own.join("stale"), "x").unwrap();
    let opened = done.pop().unwrap();
    while let Some(state) = placed(&document, root.path()).step(&mut done).await {
        assert_eq!(state, JobState::Succeeded);
        if done.len() == 3 {
            assert_eq!(done[1].result["workspace"], opened.result["workspace"]);
            assert_eq!(below(&own), ["own.txt"]);
        }
    }
    assert_eq!(below(&root.path().join("nested_workspaces")), [""; 0]);
    // So is a closing that removed it and was not recorded.
    let closed = done.iter().position(|job| job.key.as_str() == "n").unwrap();
    let before = done[closed].result.clone();
    done.truncate(closed);
    assert_eq!(placed(&document, root.path()).step(&mut done).await, Some(JobState::Succeeded));
    assert_eq!(done[closed].result, before);
}

/// YR-71: in a scratch directory the child writes there, and not where its parent does.
#[tokio::test]
async fn a_child_is_confined_to_its_own_workspace() {
    let absent = |root: &Path| root.join("workspace/x.txt").display().to_string();
    let root = tempfile::tempdir().unwrap();
    let rows = [
        (absent(root.path()), "{workspace_enabled: true}", "PL609"),
        (absent(root.path()), "{workspace_dir: workspace/inner}", "PL609"),
        ("../x.txt".to_owned(), "{workspace_enabled: true}", "PL609"),
        ("x.txt".to_owned(), "{workspace_dir: src}", "PL609"),
        ("x.txt".to_owned(), "{workspace_dir: /}", "PL609"),
        ("x.txt".to_owned(), "{workspace_dir: \"{{ steps.made.path }}\"}", "PL609"),
    ];
    for (path, config, code) in rows {
        let document = flow(&format!(
            "\
- {{name: made, type: set_variable, variables: {{path: a/b}}}}
- name: n
  type: pipeline
  config: {config}
  pipeline:
    name: c
    steps: [{{name: put, type: file_ops, operation: write, path: \"{path}\", content: x}}]"
        ));
        let results = placed(&document, root.path()).results().await;
        let error = &results["n"]["error"];
        assert_eq!(error["cause"]["code"], code, "{path} {config}: {error}");
        assert!(!root.path().join("workspace/x.txt").exists(), "{config}");
        assert_eq!(below(&root.path().join("nested_workspaces")), [""; 0], "{config}");
    }
}

/// YR-71: what was put in the place of a child's workspace, or of where those are made, is not followed.
#[tokio::test]
async fn yr_71_a_workspace_of_a_child_that_became_a_link_is_not_followed() {
    for (config, opened) in [
        ("{workspace_enabled: true}", true),
        ("{workspace_dir: workspace/inner}", true),
        ("{workspace_enabled: true}", false),
    ] {
        let root = tempfile::tempdir().unwrap();
        let elsewhere = root.path().join("e");
        fs::create_dir(&elsewhere).unwrap();
        let world = placed(&writing(config, "{name: last, type: echo}"), root.path());
        let mut done = Vec::new();
        for _ in 0..1 + u32::from(opened) {
            assert_eq!(world.step(&mut done).await, Some(JobState::Succeeded));
        }
        let place = match opened {
            true => Path::new(done[1].result["workspace"].as_str().unwrap()).to_owned(),
            false => root.path().join("nested_workspaces"),
        };
        if opened {
            fs::remove_dir(&place).unwrap();
        }
        std::os::unix::fs::symlink(&elsewhere, &place).unwrap();
        assert_ne!(world.step(&mut done).await, Some(JobState::Succeeded), "{config} {opened}");
        let error = &done.last().unwrap().result["error"];
        assert_eq!(error["code"], "PL609", "{config} {opened}: {error}");
        assert!(error["message"].as_str().unwrap().contains("put it back"), "{error}");
        assert_eq!(below(&elsewhere), [""; 0], "{config} {opened}");
    }
}

/// A child of the child works where the child does, unless it has a directory of its own.
#[tokio::test]
async fn what_stands_inside_works_in_the_directory_around_it() {
    let document = flow(
        r#"
- name: n
  type: pipeline
  config: {workspace_enabled: true, cleanup_on_success: false}
  pipeline:
    name: c
    steps:
      - name: same
        type: pipeline
        pipeline:
          name: d
          steps: [{name: put, type: file_ops, operation: write, path: a.txt, content: x}]
      - name: other
        type: pipeline
        config: {workspace_enabled: true}
        pipeline:
          name: d
          steps: [{name: put, type: file_ops, operation: write, path: b.txt, content: x}]
"#,
    );
    let root = tempfile::tempdir().unwrap();
    let results = placed(&document, root.path()).results().await;
    assert_eq!(results["#n/same"]["workspace"], results["#n"]["workspace"]);
    assert_eq!(below(Path::new(results["#n"]["workspace"].as_str().unwrap())), ["a.txt"]);
    assert_eq!(below(&root.path().join("nested_workspaces")).len(), 1);
}

/// A further round keeps the directory, as it keeps what was completed in it. Around it, what was completed in a
/// directory that went with its round is done again.
#[tokio::test(start_paused = true)]
async fn further_rounds_find_the_files_of_completed_steps() {
    for inner in [false, true] {
        let (outside, inside) = if inner { ("false", "true") } else { ("true", "false") };
        let document = flow(&format!(
            "\
- name: n
  type: pipeline
  config: {{workspace_enabled: {outside}, max_retries: 1}}
  pipeline:
    name: c
    steps:
      - name: m
        type: pipeline
        config: {{workspace_enabled: {inside}}}
        pipeline:
          name: d
          steps:
            - {{name: put, type: file_ops, operation: write, path: a.txt, content: x}}
            - {{name: ask, type: claude, prompt: [{{type: static, content: q}}]}}
            - {{name: see, type: file_ops, operation: read, path: a.txt}}"
        ));
        let root = tempfile::tempdir().unwrap();
        let world = placed(&document, root.path());
        world.provider.failures.store(1, std::sync::atomic::Ordering::Relaxed);
        let results = world.results().await;
        assert_eq!(results["n#2/m/see"]["content"], json!("x"), "{inner}");
        assert_eq!(results.contains_key("n#2/m/put"), inner);
        assert_eq!(below(&root.path().join("nested_workspaces")), [""; 0], "{inner}");
    }
}

/// 1.11: fresh workspaces stand where the run was told to make them, also for a process that goes on with it.
#[tokio::test]
async fn fresh_workspaces_stand_where_the_run_says() {
    let root = tempfile::tempdir().unwrap();
    let config = "{workspace_enabled: true, cleanup_on_success: false}";
    let document = writing(config, "{name: last, type: echo}");
    let chosen =
        ChosenDirectories { nested_workspaces: Some("else/where".into()), ..Default::default() };
    let world = placed_by(&document, root.path(), chosen);
    let results = world.results().await;
    assert_eq!(results["n/see"]["content"], "child");
    let made = below(&root.path().join("else/where"));
    assert_eq!(made.len(), 1, "{made:?}");
    assert!(!root.path().join("nested_workspaces").exists());
}
