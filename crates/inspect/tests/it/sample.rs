//! A tree of a runtime that has seen something, and small nodes to build others from.

use perennial_core::{
    Restart, Strategy,
    tree::{
        Finding, Intensity, LastExit, NodeKind, NodeState, Restarts, RuntimeInfo, SCHEMA, Severity,
        TreeNode, TreeSnapshot,
    },
};
use serde_json::{Value, json};

/// A run id.
pub(crate) const RUN: &str = "01M7WD7TG0QJ5Y3B1V9K2N4X6Z";
/// Another, of a run that started later.
pub(crate) const OTHER_RUN: &str = "01M7WE03PSWB4XV9M7H2CE5DKA";

const MINUTE: u64 = 60_000;

/// A runtime of 21 nodes that runs since four hours, in which two children died and came back.
pub(crate) fn running() -> TreeSnapshot {
    let mut nodes = skeleton();
    for node in &mut nodes {
        node.state = NodeState::Running;
        node.incarnation = 1;
        node.uptime_ms = Some(252 * MINUTE);
    }
    let mut edit = |path: &str, change: &dyn Fn(&mut TreeNode)| {
        change(nodes.iter_mut().find(|node| node.path == path).unwrap());
    };
    edit("/perennial/store", &|node| node.detail = json!({"backend": "sqlite", "lag": 0}));
    edit("/perennial/store/writer", &|node| {
        node.detail = json!({"queue": 3, "fsync_us": 412});
    });
    edit("/perennial/tool_registry", &|node| {
        node.detail = json!({"tools": ["read_file", "weather"], "in_flight": 1});
    });
    edit("/perennial/gateway/anthropic", &|node| {
        node.incarnation = 2;
        node.uptime_ms = Some(422_000);
        node.restarts = Restarts { total: 1, in_window: 1 };
        node.last_exit = Some(LastExit {
            reason: "panic".into(),
            message: Some("index out of bounds: the len is 3 but the index is 3".into()),
            location: Some("crates/tools/src/gateway.rs:41:9".into()),
            lived_ms: 38 * MINUTE,
            at_ms: 245 * MINUTE,
        });
        node.detail =
            json!({"breaker": {"state": "open", "probe_at_ms": 15_100_000}, "rpm": "41/50"});
    });
    edit("/perennial/gateway", &|node| {
        node.intensity = Some(Intensity { max: 3, window_ms: 5_000, in_window: 1 });
    });
    edit("/perennial/tasks", &|node| node.detail = json!({"running": 1, "limit": 64}));
    edit("/perennial/scheduler", &|node| node.detail = json!({"due": 0, "claimed": 2}));
    edit("/perennial/exporter", &|node| {
        node.state = NodeState::BackingOff;
        node.uptime_ms = None;
        node.incarnation = 4;
        node.restarts = Restarts { total: 4, in_window: 2 };
        node.last_exit = Some(LastExit {
            reason: "error".into(),
            message: Some("connect to 10.0.0.7:4317: connection refused".into()),
            location: None,
            lived_ms: 1_250,
            at_ms: 251 * MINUTE,
        });
    });
    let task = TreeNode {
        detail: json!({"asked_by": format!("/perennial/runs/{RUN}")}),
        uptime_ms: Some(2_400),
        ..node("/perennial/tasks/attempt-17", NodeKind::Task, Restart::Temporary)
    };
    let monitor = TreeNode {
        uptime_ms: Some(12 * MINUTE),
        ..node(&format!("/perennial/monitors/{RUN}"), NodeKind::Worker, Restart::Transient)
    };
    let run = TreeNode {
        mailbox_depth: Some(1),
        uptime_ms: Some(12 * MINUTE),
        detail: json!({
            "workflow": "review-pr", "step": "classify",
            "waiting_for": {"what": "approval", "since_ms": 250_000, "otherwise": "deny"},
        }),
        ..node(&format!("/perennial/runs/{RUN}"), NodeKind::Worker, Restart::Transient)
    };
    let other_run = TreeNode {
        mailbox_depth: Some(0),
        uptime_ms: Some(3_100),
        order: 1,
        detail: json!({"workflow": "hello", "step": "greet", "attempt": 1}),
        ..node(&format!("/perennial/runs/{OTHER_RUN}"), NodeKind::Worker, Restart::Transient)
    };
    for mut added in [task, monitor, run, other_run] {
        added.state = NodeState::Running;
        added.incarnation = 1;
        let after =
            nodes.iter().rposition(|n| added.path.starts_with(&n.path) || n.parent == added.parent);
        nodes.insert(after.unwrap() + 1, added);
    }
    let mut tree = declared();
    tree.declared = false;
    tree.taken_at = Some("2026-03-01T14:12:09.204Z".into());
    tree.uptime_ms = Some(252 * MINUTE);
    tree.took_us = Some(3_140);
    tree.nodes = nodes;
    tree.findings = vec![Finding {
        id: "PF-02".into(),
        name: "restart_storm".into(),
        severity: Severity::Warn,
        path: "/perennial/exporter".into(),
        message: "2 of 3 restarts used in 5s".into(),
        evidence: serde_json::Map::from_iter([("in_window".into(), json!(2))]),
        help: Some("look at how its last life ended".into()),
        command: Some("tree --dump FILE --match /perennial/exporter".into()),
    }];
    tree
}

/// The same runtime before it starts.
pub(crate) fn declared() -> TreeSnapshot {
    TreeSnapshot {
        schema: SCHEMA.into(),
        runtime: RuntimeInfo {
            name: "orders".into(),
            version: "0.1.0".into(),
            node: "node-a".into(),
            instance: "0192f0c1-7b7e-7cc3-98c4-dc0c0c07398f".into(),
            store: None,
        },
        taken_at: None,
        uptime_ms: None,
        completeness: None,
        took_us: None,
        declared: true,
        nodes: skeleton(),
        findings: vec![],
    }
}

fn skeleton() -> Vec<TreeNode> {
    use NodeKind::{DynamicSupervisor, Supervisor, TaskSupervisor, Thread, Worker};
    let mut root = node("/perennial", Supervisor, Restart::Permanent);
    root.parent = None;
    let mut nodes = vec![root];
    for (path, kind, type_name) in [
        ("/perennial/store", Supervisor, None),
        ("/perennial/store/writer", Thread, Some("perennial_store::sqlite::Writer")),
        ("/perennial/store/reader", Thread, Some("perennial_store::sqlite::Reader")),
        ("/perennial/tool_registry", Worker, Some("perennial_tools::registry::actor::Shell")),
        ("/perennial/gateway", Supervisor, None),
        ("/perennial/gateway/anthropic", Worker, Some("perennial_tools::gateway::Boundary")),
        ("/perennial/gateway/gemini", Worker, Some("perennial_tools::gateway::Boundary")),
        ("/perennial/sessions", Worker, Some("perennial_engine::sessions::actor::Shell")),
        ("/perennial/tasks", TaskSupervisor, None),
        ("/perennial/scheduler", Worker, Some("perennial_engine::scheduler::actor::Shell")),
        ("/perennial/monitors", DynamicSupervisor, None),
        ("/perennial/runs", DynamicSupervisor, None),
        ("/perennial/exporter", Worker, Some("orders::metrics::Exporter<alloc::string::String>")),
        ("/perennial/price_cache", Supervisor, None),
        ("/perennial/price_cache/loader", Worker, Some("orders::prices::Loader")),
        ("/perennial/drain", Worker, Some("perennial::runtime::Drain")),
    ] {
        let order = nodes.iter().filter(|n| n.parent.as_deref() == parent(path)).count();
        nodes.push(TreeNode {
            order: order as u64,
            type_name: type_name.map(str::to_owned),
            ..node(path, kind, Restart::Permanent)
        });
    }
    nodes.iter_mut().find(|n| n.id == "price_cache").unwrap().strategy = Some(Strategy::RestForOne);
    nodes
}

/// A node that was declared and not started.
pub(crate) fn node(path: &str, kind: NodeKind, restart: Restart) -> TreeNode {
    let (strategy, shutdown) = match kind {
        NodeKind::Supervisor | NodeKind::DynamicSupervisor => {
            (Some(Strategy::OneForOne), "infinity")
        }
        NodeKind::TaskSupervisor => (None, "30000ms"),
        NodeKind::Worker | NodeKind::Task => (None, "5000ms"),
        NodeKind::Thread => (None, "1500ms"),
    };
    TreeNode {
        path: path.into(),
        id: path.rsplit('/').next().unwrap().into(),
        parent: parent(path).map(str::to_owned),
        order: 0,
        kind,
        type_name: None,
        restart,
        shutdown: shutdown.into(),
        strategy,
        intensity: strategy.map(|_| Intensity { max: 3, window_ms: 5_000, in_window: 0 }),
        state: NodeState::Declared,
        incarnation: 0,
        restarts: Restarts::default(),
        last_exit: None,
        uptime_ms: None,
        mailbox_depth: None,
        mailbox_oldest_ms: None,
        mailbox: None,
        undelivered: 0,
        waits_for: Vec::new(),
        handled: None,
        current: None,
        working_ms: None,
        detail: Value::Null,
    }
}

fn parent(path: &str) -> Option<&str> {
    path.rsplit_once('/').map(|(above, _)| above).filter(|above| !above.is_empty())
}
