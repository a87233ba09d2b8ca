//! Two starts of one host give one stable dump.

use perennial_inspect::{TextOptions, stable, to_json, to_text};
use serde_json::json;

use crate::sample::{OTHER_RUN, RUN, running};

/// FMT-2.
#[test]
fn nothing_that_changes_from_start_to_start_is_left() {
    let text = to_json(&stable(&running()));
    for volatile in
        [RUN, OTHER_RUN, "0192f0c1", "node-a", "2026", "14:12", "412", "attempt-17", ":41"]
    {
        assert!(!text.contains(volatile), "{volatile} in {text}");
    }
}

#[test]
fn another_start_gives_the_same_dump() {
    let mut again = running();
    again.took_us = Some(99);
    again.uptime_ms = Some(1);
    again.runtime.instance = "another".into();
    for node in &mut again.nodes {
        node.uptime_ms = node.uptime_ms.map(|ms| ms / 2 + 7);
        node.incarnation += 3;
        node.restarts.total += 1;
        node.restarts.in_window += 1;
        node.mailbox_depth = node.mailbox_depth.map(|depth| depth + 5);
        if let Some(intensity) = &mut node.intensity {
            intensity.in_window += 1;
        }
        if let Some(exit) = &mut node.last_exit {
            exit.lived_ms += 1;
            exit.at_ms += 1;
            exit.location = exit.location.as_ref().map(|location| format!("{location}0"));
        }
    }
    // The two runs have other ids, and started the other way round.
    let text = to_json(&again)
        .replace(RUN, "01ZZZZZZZZZZZZZZZZZZZZZZZZ")
        .replace(OTHER_RUN, "01AAAAAAAAAAAAAAAAAAAAAAAA");
    let mut again = perennial_inspect::from_json(&text).unwrap();
    let runs: Vec<usize> = (0..again.nodes.len())
        .filter(|place| again.nodes[*place].parent.as_deref() == Some("/perennial/runs"))
        .collect();
    again.nodes.swap(runs[0], runs[1]);
    again.nodes[runs[0]].order = 0;
    again.nodes[runs[1]].order = 1;

    assert_eq!(stable(&again), stable(&running()));
    let options = TextOptions { stable: true, ..TextOptions::default() };
    assert_eq!(to_text(&again, &options), to_text(&running(), &options));
}

#[test]
fn one_id_has_one_placeholder_wherever_it_stands() {
    let tree = stable(&running());
    let monitor = tree.nodes.iter().find(|n| n.path.starts_with("/perennial/monitors/")).unwrap();
    let task = tree.nodes.iter().find(|n| n.path.starts_with("/perennial/tasks/")).unwrap();
    assert_eq!(task.detail["asked_by"], json!(format!("/perennial/runs/{}", monitor.id)));
    assert!(tree.nodes.iter().any(|n| n.path == format!("/perennial/runs/{}", monitor.id)));
}

#[test]
fn paths_stay_unique_and_parents_stay_present() {
    let mut tree = running();
    for n in 1..4 {
        let mut task = tree.nodes.iter().find(|n| n.id == "attempt-17").unwrap().clone();
        task.id = format!("attempt-{n}");
        task.path = format!("/perennial/tasks/{}", task.id);
        tree.nodes.push(task);
    }
    let tree = stable(&tree);
    let mut paths: Vec<&str> = tree.nodes.iter().map(|node| node.path.as_str()).collect();
    for node in &tree.nodes {
        assert!(node.parent.as_deref().is_none_or(|parent| paths.contains(&parent)));
    }
    paths.sort_unstable();
    paths.dedup();
    assert_eq!(paths.len(), tree.nodes.len());
}

#[test]
fn a_stable_dump_is_its_own_stable_dump() {
    let once = stable(&running());
    assert_eq!(stable(&once), once);
}

#[test]
fn what_the_host_declared_stays() {
    let text = to_text(&running(), &TextOptions { stable: true, ..TextOptions::default() });
    for declared in ["price_cache", "rest_for_one 3/5s", "permanent", "review-pr", "thread"] {
        assert!(text.contains(declared), "{declared} in {text}");
    }
}
