//! The tree for people.

use perennial_core::{
    Overflow, Restart,
    tree::{Finding, LastExit, Mailbox, NodeKind, NodeState, Severity, TreeSnapshot, WaitsFor},
};
use perennial_inspect::{Glyphs, TextOptions, stable, to_text};
use unicode_width::UnicodeWidthStr;

use crate::{
    golden::assert_is_file,
    sample::{declared, node, running},
};

const PLAIN: TextOptions = TextOptions {
    glyphs: Glyphs::Unicode,
    color: false,
    stable: false,
    total: None,
    width: None,
    columns: None,
};

fn assert_text(name: &str, tree: &TreeSnapshot, options: TextOptions) {
    assert_is_file(
        &format!("tests/it/golden/{name}.txt"),
        &to_text(tree, &options),
        "UPDATE_GOLDEN",
    );
}

/// FMT-2: golden files.
#[test]
fn a_running_tree_reads_well() {
    assert_text("running", &running(), PLAIN);
    assert_text("running_ascii", &running(), TextOptions { glyphs: Glyphs::Ascii, ..PLAIN });
    assert_text("running_color", &running(), TextOptions { color: true, ..PLAIN });
}

#[test]
fn a_declared_tree_shows_the_specification_and_no_zeros() {
    assert_text("declared", &declared(), PLAIN);
}

#[test]
fn chosen_columns_are_written_in_their_order_and_also_when_they_are_empty() {
    use perennial_inspect::{Column, Columns};
    let chosen = |tree: &TreeSnapshot, columns: &[Column]| {
        let columns = Some(Columns::of(columns));
        let text = to_text(tree, &TextOptions { columns, ..PLAIN });
        let titles = text.lines().nth(1).unwrap().split_whitespace().map(str::to_owned);
        titles.collect::<Vec<_>>()
    };
    let both = [Column::Up, Column::Mailbox];
    assert_eq!(chosen(&running(), &both), ["NAME", "MAILBOX", "UP"]);
    assert_eq!(chosen(&running(), &[Column::Name]), ["NAME"]);
    // A declared tree has no life to tell of.
    assert_eq!(chosen(&declared(), &both), ["NAME", "MAILBOX", "UP"]);
    for column in Column::ALL {
        assert_eq!(chosen(&running(), &[column]).len() > 1, column != Column::Name, "{column:?}");
        let words = Column::ALL.iter().filter(|other| other.word() == column.word());
        assert_eq!(words.count(), 1);
        for other in Column::ALL {
            assert_eq!(Columns::of(&[column]).has(other), column == other);
        }
    }
}

#[test]
fn a_stable_tree_has_placeholders() {
    assert_text("stable", &running(), TextOptions { stable: true, ..PLAIN });
}

#[test]
fn colours_change_nothing_but_the_escape_sequences() {
    let colored = to_text(&running(), &TextOptions { color: true, ..PLAIN });
    let mut bare = String::new();
    for (nth, part) in colored.split('\u{1b}').enumerate() {
        bare.push_str(if nth == 0 { part } else { part.split_once('m').unwrap().1 });
    }
    assert_eq!(bare, to_text(&running(), &PLAIN));
}

/// FMT-3.
#[test]
fn columns_are_aligned_by_display_width() {
    let mut tree = running();
    tree.nodes[1].id = "天気予報".into();
    tree.nodes[2].id = "👩‍🚀".into();
    let text = to_text(&tree, &PLAIN);
    let column_of = |line: &str, word: &str| line.find(word).map(|at| line[..at].width());
    let title = text.lines().find_map(|line| column_of(line, "KIND")).unwrap();
    for (name, kind) in [("天気予報", "supervisor"), ("👩‍🚀", "thread"), ("drain", "worker")]
    {
        let line = text.lines().find(|line| line.contains(name)).unwrap();
        assert_eq!(column_of(line, kind), Some(title), "{line}");
    }
}

/// FMT-3.
#[test]
fn nothing_from_outside_can_repaint_the_terminal_or_start_a_line() {
    let evil = "\u{1b}[2J\u{202e}x\nroot ok\r";
    let mut tree = running();
    tree.runtime.name = evil.into();
    tree.runtime.node = evil.into();
    tree.runtime.version = evil.into();
    for node in &mut tree.nodes {
        node.id = evil.into();
        node.shutdown = evil.into();
        node.type_name = Some(evil.into());
        node.detail = serde_json::json!({ evil: evil });
        node.last_exit = Some(LastExit {
            reason: evil.into(),
            message: Some(evil.into()),
            location: Some(evil.into()),
            lived_ms: 1,
            at_ms: 2,
        });
    }
    tree.findings = vec![Finding {
        id: evil.into(),
        name: evil.into(),
        severity: Severity::Error,
        path: evil.into(),
        message: evil.into(),
        evidence: serde_json::Map::from_iter([(evil.into(), evil.into())]),
        help: Some(evil.into()),
        command: Some(evil.into()),
    }];
    for declared in [false, true] {
        for stable in [false, true] {
            tree.declared = declared;
            let text = to_text(&tree, &TextOptions { stable, ..PLAIN });
            assert!(!text.contains(['\u{1b}', '\r', '\u{202e}']), "{text}");
            // Header, titles, two lines per node, three of one finding.
            assert_eq!(text.lines().count(), 2 + 2 * tree.nodes.len() + 3, "{text}");
        }
    }
}

#[test]
fn a_message_stands_below_its_node_and_above_its_children() {
    let mut tree = declared();
    tree.declared = false;
    tree.runtime.name = "small".into();
    let mut root = node("/r", NodeKind::Supervisor, Restart::Permanent);
    root.state = NodeState::GaveUp;
    root.last_exit = Some(LastExit {
        reason: "shutdown".into(),
        message: Some("restart intensity reached".into()),
        location: None,
        lived_ms: 61_000,
        at_ms: 61_000,
    });
    let mut leaf = node("/r/leaf", NodeKind::Worker, Restart::Transient);
    leaf.state = NodeState::Stopped;
    tree.nodes = vec![root, leaf];
    insta::assert_snapshot!(to_text(&tree, &PLAIN), @r"
    small@node-a  perennial 0.1.0  2 nodes
    NAME     KIND        STRATEGY          RESTART    STATE    RESTARTS  LAST EXIT
    r        supervisor  one_for_one 3/5s  permanent  gave_up         0  shutdown, lived 1m01s
    │  ! restart intensity reached
    └─ leaf  worker                        transient  stopped         0
    ");
}

#[test]
fn a_damaged_dump_is_shown_whole() {
    let mut tree = running();
    tree.nodes.retain(|node| node.path != "/perennial/store");
    let runs = tree.nodes.iter_mut().find(|node| node.path == "/perennial/runs").unwrap();
    runs.parent = Some(runs.path.clone());
    let text = to_text(&tree, &PLAIN);
    assert!(text.contains("(no parent) /perennial/store/writer"), "{text}");
    assert!(text.contains("(no parent) /perennial/runs"), "{text}");
    for node in &tree.nodes {
        assert_eq!(
            text.lines().filter(|line| line.contains(&node.id)).count().min(1),
            1,
            "{}",
            node.path
        );
    }
}

#[test]
fn siblings_stand_in_start_order_whatever_the_order_of_the_list() {
    let mut tree = running();
    let first = to_text(&tree, &PLAIN);
    tree.nodes.reverse();
    assert_eq!(to_text(&tree, &PLAIN), first);
}

#[test]
fn a_tree_without_nodes_is_a_header() {
    let mut tree = running();
    tree.nodes.clear();
    tree.findings.clear();
    assert_eq!(
        to_text(&tree, &PLAIN),
        "orders@node-a  perennial 0.1.0  up 4h12m  0 nodes  taken in 3.1ms\n"
    );
}

#[test]
fn a_very_deep_tree_needs_no_deep_stack() {
    let mut tree = running();
    let mut path = String::new();
    tree.nodes.clear();
    for _ in 0..1_000 {
        path.push_str("/n");
        tree.nodes.push(node(&path, NodeKind::Supervisor, Restart::Permanent));
    }
    assert_eq!(to_text(&tree, &PLAIN).lines().count(), 1_005);
}

/// The lines of nodes, without what stands below them.
fn rows(text: &str) -> Vec<&str> {
    text.lines()
        .skip(1)
        .filter(|line| !line.contains(" ! ") && !line.starts_with(['!', ' ']))
        .collect()
}

#[test]
fn a_narrow_terminal_gets_fewer_columns_and_all_nodes() {
    assert_text("narrow", &running(), TextOptions { width: Some(80), ..PLAIN });
    let cut = to_text(&running(), &TextOptions { width: Some(100), ..PLAIN });
    assert!(cut.contains("DETAIL") && cut.contains("backend sqlite, lag 0"), "{cut}");
    assert!(cut.contains("workflow review-pr, step c…"), "{cut}");
    let full = to_text(&running(), &PLAIN);
    let widest = rows(&full).iter().map(|line| line.width()).max().unwrap();
    for width in [0, 20, 60, 80, 100, 120, 160, widest] {
        for tree in [running(), declared()] {
            let text = to_text(&tree, &TextOptions { width: Some(width), ..PLAIN });
            for node in &tree.nodes {
                assert!(text.contains(&node.id), "{} in {width}: {text}", node.id);
            }
            let too_wide = rows(&text).iter().any(|line| line.width() > width.max(60));
            assert!(!too_wide, "{width}: {text}");
        }
    }
    assert_eq!(to_text(&running(), &TextOptions { width: Some(widest), ..PLAIN }), full);
}

#[test]
fn whom_a_node_waits_for_and_what_nobody_handled_stands_in_its_detail() {
    let mut tree = running();
    tree.findings.clear();
    let mut one = node("/app", NodeKind::Worker, Restart::Permanent);
    let policy = Overflow::DropOldest;
    one.mailbox = Some(Mailbox { capacity: 3, policy, rejected: 2, dropped: 1_500 });
    one.undelivered = 4;
    one.waits_for = vec![
        WaitsFor { path: "/app/other".into(), ms: 3_000 },
        WaitsFor { path: "/app/briefly".into(), ms: 999 },
    ];
    tree.nodes = vec![one];
    let text = to_text(&tree, &PLAIN);
    let told = "waits for /app/other for 3.0s, 2 refused, 1500 dropped, 4 undelivered";
    assert!(text.contains(told), "{text}");
    assert!(!text.contains("briefly"), "{text}");
    // A golden file knows neither.
    let text = to_text(&stable(&tree), &PLAIN);
    assert!(!text.contains("waits for") && !text.contains("dropped"), "{text}");
}
