//! How the examples show a tree and what happens in it. Both are plain data: a tree is a list of
//! nodes, an event is a value.

use perennial_supervision::{Lifecycle, LifecycleEvent, Tree, TreeNode};

/// Prints one event.
pub(crate) fn tell(it: &Lifecycle) {
    let path = &it.path;
    match &it.event {
        LifecycleEvent::Started { incarnation, .. } => {
            println!("  + {path} started, life {incarnation}");
        }
        LifecycleEvent::Exited { incarnation, reason } => {
            println!("  - {path} ended, life {incarnation}: {reason}");
        }
        LifecycleEvent::StartFailed { reason } => println!("  x {path} did not start: {reason}"),
        LifecycleEvent::Crashed(report) => {
            let message = report.last_message.as_deref().unwrap_or("a message");
            println!("  ! {path} crashed, handling {message}");
        }
        LifecycleEvent::ShutdownError { reason, offender } => {
            println!("  ! {} did not stop as asked: {reason}", offender.id);
        }
        LifecycleEvent::ShutdownErrors { reason, count, .. } => {
            println!("  ! {count} below {path} did not stop as asked: {reason}");
        }
        LifecycleEvent::Undelivered { count } => {
            println!("  ! {count} messages for {path} were dropped with its mailbox");
        }
        LifecycleEvent::ApplicationExited { application, reason, .. } => {
            println!("  - {application} ended: {reason}");
        }
        LifecycleEvent::ApplicationStartFailed(error) => println!("  x {error}"),
        LifecycleEvent::ApplicationFault { application, callback, reason } => {
            println!("  ! {callback} of {application} failed: {reason}");
        }
        // Reports of supervisors about what is told above already.
        LifecycleEvent::ChildTerminated { .. }
        | LifecycleEvent::StartError { .. }
        | LifecycleEvent::Unkillable
        | LifecycleEvent::BudgetSpent
        | LifecycleEvent::GaveUp { .. } => (),
        _ => println!("  ? {path}: {:?}", it.event),
    }
}

/// Prints a tree as it is now. Reading it asks nobody, so that a child that hangs is shown as well.
pub(crate) fn draw(tree: &Tree) {
    let nodes = tree.nodes();
    for root in nodes.iter().filter(|node| node.parent.is_none()) {
        println!("{}", line(root));
        draw_below(root, &nodes, "");
    }
}

fn draw_below(parent: &TreeNode, nodes: &[TreeNode], indent: &str) {
    let children = |node: &&TreeNode| node.parent.as_ref() == Some(&parent.path);
    let mut children = nodes.iter().filter(children).peekable();
    while let Some(child) = children.next() {
        let is_last = children.peek().is_none();
        let (branch, below) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        println!("{indent}{branch}{}", line(child));
        draw_below(child, nodes, &format!("{indent}{below}"));
    }
}

fn line(node: &TreeNode) -> String {
    let TreeNode { id, state, incarnation, .. } = node;
    let line = format!("{id}: {state:?}, life {incarnation}");
    match &node.last_exit {
        Some(exit) => format!("{line}, last exit {}", exit.reason),
        None => line,
    }
}
