//! DOT and Mermaid. What stands for odd names is tested next to the code, from `tests/data`.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use perennial_core::{
    Restart,
    tree::{NodeKind, NodeState, TreeSnapshot},
};
use perennial_inspect::{stable, to_dot, to_mermaid};

use crate::{
    golden::assert_is_file,
    sample::{node, running},
};

/// FMT-2: golden files.
#[test]
fn a_running_tree_is_drawn() {
    assert_is_file("tests/it/golden/running.dot", &to_dot(&running()), "UPDATE_GOLDEN");
    assert_is_file("tests/it/golden/running.mmd", &to_mermaid(&running()), "UPDATE_GOLDEN");
    assert_is_file("tests/it/golden/stable.dot", &to_dot(&stable(&running())), "UPDATE_GOLDEN");
    assert_is_file("tests/it/golden/stable.mmd", &to_mermaid(&stable(&running())), "UPDATE_GOLDEN");
}

/// A tree whose names are all those of the data file.
fn odd() -> TreeSnapshot {
    let mut tree = running();
    for (nth, line) in include_str!("../data/odd_names.jsonl").lines().enumerate() {
        let [name, _, _]: [String; 3] = serde_json::from_str(line).unwrap();
        let mut odd = node(&format!("/perennial/odd{nth}"), NodeKind::Worker, Restart::Permanent);
        odd.path.push_str(&name);
        odd.id.clone_from(&name);
        tree.runtime.name = name;
        tree.nodes.push(odd);
    }
    tree
}

/// FMT-3.
#[test]
fn each_box_takes_one_line_whatever_its_name_is() {
    let nodes = odd().nodes.len();
    for (text, start) in [(to_dot(&odd()), "["), (to_mermaid(&odd()), "[\"")] {
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text}");
        let boxes = (0..nodes).filter(|place| {
            let at = [format!("  n{place} {start}"), format!("  n{place}{start}")];
            text.lines().any(|line| at.iter().any(|at| line.starts_with(at)))
        });
        assert_eq!(boxes.count(), nodes, "{text}");
    }
}

/// FMT-3.
#[test]
fn graphviz_reads_what_is_written_for_it() {
    for tree in [running(), odd(), stable(&odd())] {
        let dot = Command::new("dot")
            .arg("-Tcanon")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut dot) = dot else {
            println!("skipped: `dot` of Graphviz is not installed");
            return;
        };
        dot.stdin.take().unwrap().write_all(to_dot(&tree).as_bytes()).unwrap();
        let output = dot.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Section 6: at most 200 boxes, siblings collapse, and what is in trouble is never left out.
#[test]
fn a_large_tree_is_collapsed_for_mermaid_around_what_is_in_trouble() {
    let mut tree = running();
    for nth in 0..1_000 {
        let mut run =
            node(&format!("/perennial/runs/r{nth}"), NodeKind::Worker, Restart::Transient);
        run.order = 10 + nth;
        run.state = if nth % 500 == 499 { NodeState::Unkillable } else { NodeState::Running };
        tree.nodes.push(run);
    }
    let text = to_mermaid(&tree);
    let boxes = |text: &str| {
        text.lines()
            .filter(|line| line.starts_with("  n") && line.contains("[\"") && !line.contains("-->"))
            .count()
    };
    assert_eq!(boxes(&text), 200);
    assert!(text.contains("[\"… 820 more\"]"), "{text}");
    for broken in ["r499", "r999"] {
        assert!(text.contains(&format!("[\"{broken}<br/>worker, unkillable\"]")), "{text}");
    }
    for node in &mut tree.nodes {
        node.state = NodeState::Unkillable;
    }
    assert_eq!(boxes(&to_mermaid(&tree)), 1_021, "all of them are in trouble");
}
