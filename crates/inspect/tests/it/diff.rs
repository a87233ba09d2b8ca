//! What changed between two dumps.

use perennial_core::{
    Restart,
    tree::{LastExit, NodeKind, NodeState, TreeNode, TreeSnapshot},
};
use perennial_inspect::{DiffOptions, TreeDiff, diff, diff_to_text};
use serde_json::json;

use crate::{
    golden::assert_is_file,
    sample::{RUN, node, running},
};

const COUNTERS: DiffOptions = DiffOptions { counters: true, load_min: 10, load_factor: 2 };

fn edit(tree: &mut TreeSnapshot, path: &str, change: impl FnOnce(&mut TreeNode)) {
    change(tree.nodes.iter_mut().find(|node| node.path == path).unwrap());
}

/// The sample after a bad minute: something of every class.
fn later() -> TreeSnapshot {
    let mut tree = running();
    edit(&mut tree, "/perennial/store/writer", |node| {
        node.incarnation += 2;
        node.restarts.total += 2;
        node.uptime_ms = Some(3);
        node.last_exit = Some(LastExit {
            reason: "panic".into(),
            message: Some("disk\u{1b}[2J full".into()),
            location: None,
            lived_ms: 61_000,
            at_ms: 1,
        });
        node.detail = json!({"queue": 9, "fsync_us": 500});
    });
    edit(&mut tree, "/perennial/exporter", |node| node.state = NodeState::GaveUp);
    edit(&mut tree, "/perennial/gateway", |node| node.restart = Restart::Transient);
    edit(&mut tree, &format!("/perennial/runs/{RUN}"), |node| {
        node.mailbox_depth = Some(10);
        node.detail = json!({"workflow": "review-pr", "step": "merge"});
    });
    tree.nodes.retain(|node| node.id != "gemini" && node.id != "attempt-17");
    let mut gemini = node("/perennial/price_cache/gemini", NodeKind::Worker, Restart::Permanent);
    gemini.state = NodeState::Running;
    gemini.incarnation = 1;
    let mut fresh = node("/perennial/tasks/attempt-18", NodeKind::Task, Restart::Temporary);
    fresh.state = NodeState::Running;
    tree.nodes.extend([gemini, fresh]);
    tree.findings.clear();
    tree
}

/// DIFF-1: golden file; every class has a line.
#[test]
fn every_class_of_difference_reads_well() {
    let changed = diff(&running(), &later(), &COUNTERS);
    assert_is_file("tests/it/golden/diff.txt", &diff_to_text(&changed, false), "UPDATE_GOLDEN");
    assert_is_file(
        "tests/it/golden/diff.json",
        &(serde_json::to_string_pretty(&changed).unwrap() + "\n"),
        "UPDATE_GOLDEN",
    );
}

/// DIFF-1.
#[test]
fn a_dump_does_not_differ_from_itself() {
    for tree in [running(), later()] {
        let none = diff(&tree, &tree, &COUNTERS);
        assert!(none.is_empty(), "{none:#?}");
        assert_eq!(diff_to_text(&none, false), "no difference\n");
    }
}

/// DIFF-1.
#[test]
fn both_directions_mirror() {
    let (there, back) =
        (diff(&running(), &later(), &COUNTERS), diff(&later(), &running(), &COUNTERS));
    let paths = |list: &[perennial_inspect::Listed]| {
        list.iter().map(|node| node.path.clone()).collect::<Vec<_>>()
    };
    assert_eq!(paths(&there.added), paths(&back.removed));
    assert_eq!(paths(&there.removed), paths(&back.added));
    assert_eq!(there.findings_cleared, back.findings_raised);
    assert_eq!(
        there.restarted.iter().map(|it| (it.from, it.to)).collect::<Vec<_>>(),
        back.restarted.iter().map(|it| (it.to, it.from)).collect::<Vec<_>>()
    );
    for list in [
        |diff: &TreeDiff| diff.state_changed.clone(),
        |diff: &TreeDiff| diff.policy_changed.clone(),
        |diff: &TreeDiff| diff.load.clone(),
        |diff: &TreeDiff| diff.progress.clone(),
        |diff: &TreeDiff| diff.counters.clone(),
    ] {
        let turned: Vec<_> = list(&back).into_iter().map(|it| (it.field, it.to, it.from)).collect();
        let mut turned: Vec<String> = turned.iter().map(|it| format!("{it:?}")).collect();
        let mut straight: Vec<String> = list(&there)
            .into_iter()
            .map(|it| format!("{:?}", (it.field, it.from, it.to)))
            .collect();
        turned.sort();
        straight.sort();
        assert_eq!(straight, turned);
    }
    assert_eq!(there.count(), back.count());
}

#[test]
fn time_that_passes_is_no_difference_and_counters_only_when_asked_for() {
    let mut tree = running();
    tree.taken_at = Some("2026-03-01T14:13:09.204Z".into());
    tree.uptime_ms = tree.uptime_ms.map(|ms| ms + 60_000);
    tree.took_us = Some(1);
    for node in &mut tree.nodes {
        node.uptime_ms = node.uptime_ms.map(|ms| ms + 60_000);
        node.restarts.in_window = 0;
    }
    assert!(diff(&running(), &tree, &COUNTERS).is_empty());
    edit(&mut tree, "/perennial/store/writer", |node| node.detail["queue"] = json!(4));
    assert!(diff(&running(), &tree, &DiffOptions::default()).is_empty());
    assert_eq!(diff(&running(), &tree, &COUNTERS).counters.len(), 1);
}

/// DIFF-2.
#[test]
fn another_start_is_told_first_and_restarts_are_not() {
    let mut tree = later();
    tree.runtime.instance = "another".into();
    tree.runtime.version = "9.9.9".into();
    let changed = diff(&running(), &tree, &COUNTERS);
    assert!(changed.restarted.is_empty() && changed.moved.is_empty(), "{changed:#?}");
    let text = diff_to_text(&changed, false);
    assert!(text.starts_with("= another start ("), "{text}");
    assert!(text.contains("\n= another version: 0.1.0 -> 9.9.9\n"), "{text}");
}

#[test]
fn a_mailbox_is_told_of_from_its_thresholds_on() {
    for (from, to, told) in [(0, 9, 0), (0, 10, 1), (10, 0, 1), (11, 20, 0), (10, 20, 1)] {
        let (mut before, mut after) = (running(), running());
        for (tree, depth) in [(&mut before, from), (&mut after, to)] {
            edit(tree, "/perennial/drain", |node| node.mailbox_depth = Some(depth));
        }
        let changed = diff(&before, &after, &DiffOptions::default());
        assert_eq!(changed.load.len(), told, "{from} -> {to}");
    }
}

/// FMT-3.
#[test]
fn nothing_from_outside_can_repaint_the_terminal() {
    let (before, mut after) = (running(), later());
    for node in &mut after.nodes {
        node.path.push_str("\u{1b}[2J\n");
        node.detail = json!({"\u{1b}": "\u{1b}\n"});
    }
    let text = diff_to_text(&diff(&before, &after, &COUNTERS), false);
    assert!(!text.contains('\u{1b}'), "{text}");
    assert!(
        text.lines().all(|line| line.starts_with(['+', '-', '~', '>', '!', '.', '='])
            || line.ends_with("differences")),
        "{text}"
    );
}
