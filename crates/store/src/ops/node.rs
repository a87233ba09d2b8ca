//! Nodes and their incarnations.
//!
//! Every opening of a store has a number. An incarnation of an earlier opening is dead, because
//! the store is open in one process at a time; so is an earlier incarnation of the same name.

use serde_json::Value;

use crate::{
    NodeRef, Registered, StoreError,
    transaction::{Tx, int},
};

pub(crate) fn register(tx: &Tx<'_>, name: &str) -> Result<Registered, StoreError> {
    let last = tx.row(
        "SELECT incarnation FROM nodes WHERE node = ?1 ORDER BY incarnation DESC LIMIT 1",
        [name],
        |row| row.count(),
    )?;
    let ended = tx.rows(
        "SELECT incarnation FROM nodes WHERE node = ?1 AND ended_at IS NULL ORDER BY incarnation",
        [name],
        |row| row.count(),
    )?;
    tx.write(
        "UPDATE nodes SET ended_at = ?1 WHERE ended_at IS NULL AND (node = ?2 OR opening < ?3)",
        (tx.now().as_micros(), name, tx.opening()),
    )?;
    let incarnation = last.unwrap_or(0) + 1;
    tx.write(
        "INSERT INTO nodes (node, incarnation, opening, started_at) VALUES (?1, ?2, ?3, ?4)",
        (name, int(incarnation), tx.opening(), tx.now().as_micros()),
    )?;
    Ok(Registered { node: NodeRef { node: name.to_owned(), incarnation }, ended })
}

/// Repeatable: the first end and its report stay.
pub(crate) fn end(tx: &Tx<'_>, node: &NodeRef, report: &Value) -> Result<(), StoreError> {
    let report = tx.json("drain report", report)?;
    let changed = tx.write(
        "UPDATE nodes SET ended_at = ?1, report = ?2
         WHERE node = ?3 AND incarnation = ?4 AND ended_at IS NULL",
        (tx.now().as_micros(), report, &node.node, int(node.incarnation)),
    )?;
    if changed == 0 && is_alive(tx, node)?.is_none() {
        return Err(unknown(node));
    }
    Ok(())
}

/// Refuses to act for an incarnation that has ended.
pub(crate) fn require_alive(tx: &Tx<'_>, node: &NodeRef) -> Result<(), StoreError> {
    match is_alive(tx, node)? {
        Some(true) => Ok(()),
        Some(false) => Err(StoreError::Conflict { what: format!("node {}", name(node)) }),
        None => Err(unknown(node)),
    }
}

fn is_alive(tx: &Tx<'_>, node: &NodeRef) -> Result<Option<bool>, StoreError> {
    tx.row(
        "SELECT ended_at IS NULL FROM nodes WHERE node = ?1 AND incarnation = ?2",
        (&node.node, int(node.incarnation)),
        |row| row.get(),
    )
}

fn unknown(node: &NodeRef) -> StoreError {
    StoreError::NotFound { what: "node", id: name(node) }
}

fn name(node: &NodeRef) -> String {
    format!("{}/{}", node.node, node.incarnation)
}
