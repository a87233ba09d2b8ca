//! Each finding is provoked and cleared (FND-1): a row of the file is dumps, oldest first, and what is found.

use std::collections::BTreeSet;

use perennial_core::{
    Restart,
    tree::{NodeKind, NodeState, TreeNode, TreeSnapshot},
};
use perennial_inspect::{Severity, TextOptions, Thresholds, diagnosed, to_text};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::sample::{declared, node, running};

#[derive(Deserialize)]
struct Row {
    row: String,
    samples: Vec<Sample>,
    found: Vec<(String, Severity, String)>,
}

#[derive(Deserialize)]
struct Sample {
    uptime_ms: u64,
    instance: String,
    taken_at: Option<String>,
    nodes: Vec<Map<String, Value>>,
}

impl Sample {
    fn tree(&self) -> TreeSnapshot {
        let mut tree = declared();
        tree.declared = false;
        tree.uptime_ms = Some(self.uptime_ms);
        tree.taken_at.clone_from(&self.taken_at);
        tree.runtime.instance.clone_from(&self.instance);
        tree.nodes = self.nodes.iter().map(whole).collect();
        tree
    }
}

/// A node of which only what matters was written.
fn whole(part: &Map<String, Value>) -> TreeNode {
    let path = part["path"].as_str().unwrap();
    let mut all = serde_json::to_value(node(path, NodeKind::Worker, Restart::Permanent)).unwrap();
    all.as_object_mut().unwrap().extend(part.clone());
    serde_json::from_value(all).unwrap()
}

fn rows() -> Vec<Row> {
    include_str!("../data/findings.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn each_finding_is_provoked_and_cleared() {
    for Row { row, samples, found } in rows() {
        let mut trees: Vec<TreeSnapshot> = samples.iter().map(Sample::tree).collect();
        let now = trees.pop().unwrap();
        let tree = diagnosed(now, &trees, &Thresholds::default());
        let told: Vec<(String, Severity, String)> = tree
            .findings
            .iter()
            .map(|finding| (finding.id.clone(), finding.severity, finding.path.clone()))
            .collect();
        assert_eq!(told, found, "{row}");
        for finding in &tree.findings {
            // FND-2.
            assert!(!finding.evidence.is_empty() && finding.command.is_some(), "{row}");
            assert!(finding.help.is_some() && !finding.message.is_empty(), "{row}");
        }
    }
}

/// FND-1: the file has rows for each finding that both tell of it and stay silent.
#[test]
fn every_finding_has_rows_of_both_kinds() {
    let (mut told, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for Row { row, found, .. } in rows() {
        told.extend(found.iter().map(|(id, ..)| id.clone()));
        if found.is_empty() {
            silent.extend(row.split(' ').filter(|word| word.starts_with("PF-")).map(str::to_owned));
        }
    }
    let ids = [
        "02", "03", "04", "07", "12", "13", "14", "16", "17", "18", "20", "23", "31", "32", "39",
        "40", "41", "42", "43",
    ];
    let ids: BTreeSet<String> = ids.iter().map(|id| format!("PF-{id}")).collect();
    assert_eq!((&told, &silent), (&ids, &ids));
}

/// FND-3.
#[test]
fn a_healthy_and_a_declared_tree_have_none() {
    for mut tree in [running(), declared()] {
        tree.findings.clear();
        assert_eq!(diagnosed(tree, &[], &Thresholds::default()).findings, []);
    }
}

#[test]
fn what_a_dump_brought_along_stays_and_is_not_doubled() {
    let mut tree = running();
    let gateway = tree.nodes.iter_mut().find(|node| node.id == "gateway").unwrap();
    gateway.intensity.as_mut().unwrap().in_window = 3;
    let once = diagnosed(tree, &[], &Thresholds::default());
    assert_eq!(once.findings.len(), 2);
    assert_eq!(diagnosed(once.clone(), &[], &Thresholds::default()), once);
}

/// What ends restarts nothing, however many restarts it has used.
#[test]
fn a_supervisor_that_ends_has_no_storm() {
    let storms = |state: NodeState| {
        let mut tree = running();
        tree.findings.clear();
        let node = tree.nodes.iter_mut().find(|node| node.id == "gateway").unwrap();
        let intensity = node.intensity.as_mut().unwrap();
        intensity.in_window = intensity.max;
        node.state = state;
        let path = node.path.clone();
        let found = diagnosed(tree, &[], &Thresholds::default()).findings;
        found.iter().filter(|finding| finding.id == "PF-02" && finding.path == path).count()
    };
    assert_eq!(storms(NodeState::Running), 1);
    for state in [NodeState::Stopping, NodeState::Stopped, NodeState::GaveUp] {
        assert_eq!(storms(state), 0, "{state:?}");
    }
}

#[test]
fn thresholds_are_the_callers() {
    let mut tree = running();
    tree.findings.clear();
    let thresholds = Thresholds { mailbox_capacity: 1, ..Thresholds::default() };
    let tree = diagnosed(tree, &[], &thresholds);
    assert_eq!(tree.findings[0].id, "PF-03");
    assert_eq!(tree.findings[0].severity, Severity::Error);
}

#[test]
fn commands_that_ask_a_store_name_it_where_the_dump_knows_it() {
    for Row { row, samples, .. } in rows() {
        let mut trees: Vec<TreeSnapshot> = samples.iter().map(Sample::tree).collect();
        let mut now = trees.pop().unwrap();
        now.runtime.store = Some("sqlite:my runs.db".to_owned());
        for finding in diagnosed(now, &trees, &Thresholds::default()).findings {
            let command = finding.command.unwrap();
            let asks_a_dump = command.starts_with("tree ");
            assert_ne!(asks_a_dump, command.ends_with(" --store 'sqlite:my runs.db'"), "{row}");
        }
    }
}

/// A path from outside cannot end the word that it stands in.
#[test]
fn a_command_is_one_that_a_shell_reads_back() {
    let part = serde_json::json!({"path": "/a/it's [1]\u{1b}", "state": "unkillable"});
    let mut tree = running();
    tree.nodes = vec![whole(part.as_object().unwrap())];
    tree.findings.clear();
    let tree = diagnosed(tree, &[], &Thresholds::default());
    let command = tree.findings[0].command.as_deref();
    assert_eq!(command, Some("tree --dump FILE --match '/a/it'\\''s [[]1[]]\u{1b}'"));
    let text = to_text(&tree, &TextOptions::default());
    assert!(
        text.contains(
            "try:  perennial tree --dump FILE --match '/a/it'\\''s [[]1[]]\\u{1b}'  (FILE: "
        ),
        "{text}"
    );
}
