//! The differences for people: one line each, and how many there are.

use std::fmt::Write as _;

use perennial_core::tree::{Finding, LastExit};
use serde_json::Value;

use super::{Change, Listed, Restarted, TreeDiff};
use crate::{
    neutral::{neutral, neutral_within},
    text::{Paint, Tone, elapsed},
    words::{kind_word, severity_word, state_word},
};

/// Longest value or message.
const VALUE_COLUMNS_MAX: usize = 80;

/// The differences as text, ending in a line break: `+` came, `-` went, `>` moved, `~` changed,
/// `!` is a finding that was raised, `.` one that was cleared.
///
/// ```
#[doc = include_str!("../../doc/tree.txt")]
/// use perennial_inspect::{diff, diff_to_text, DiffOptions};
///
/// let changes = diff(&tree("running", 1), &tree("gave_up", 1), &DiffOptions::default());
/// let text = diff_to_text(&changes, false);
/// assert!(text.contains("~ /perennial/inbox"), "{text}");
/// ```
pub fn diff_to_text(diff: &TreeDiff, color: bool) -> String {
    let mut page = Page { out: String::new(), paint: Paint { color } };
    page.write(diff);
    page.out
}

struct Page {
    out: String,
    paint: Paint,
}

impl Page {
    fn write(&mut self, diff: &TreeDiff) {
        if let Some(boot) = &diff.boot_changed {
            let text = format!(
                "another start ({} -> {}): everything was restarted, nodes are compared by path only",
                cut(&boot.from),
                cut(&boot.to)
            );
            self.line(Tone::Strong, "=", &text);
        }
        if let Some(version) = &diff.version_changed {
            let text = format!("another version: {} -> {}", cut(&version.from), cut(&version.to));
            self.line(Tone::Strong, "=", &text);
        }
        for node in &diff.removed {
            self.line(Tone::Bad, "-", &listed(node));
        }
        for node in &diff.added {
            self.line(Tone::Good, "+", &listed(node));
        }
        for moved in &diff.moved {
            let text = format!("{} -> {}", neutral(&moved.from), neutral(&moved.to));
            self.line(Tone::Warn, ">", &text);
        }
        for node in &diff.restarted {
            self.line(Tone::Warn, "~", &restarted(node));
        }
        for (what, changes) in [
            ("", &diff.state_changed),
            ("policy ", &diff.policy_changed),
            ("", &diff.load),
            ("", &diff.progress),
            ("", &diff.counters),
        ] {
            for change in changes {
                self.line(Tone::Warn, "~", &changed(what, change));
            }
        }
        for finding in &diff.findings_raised {
            self.line(Tone::Bad, "!", &format!("raised {}", found(finding)));
        }
        for finding in &diff.findings_cleared {
            self.line(Tone::Good, ".", &format!("cleared {}", found(finding)));
        }
        // Of which start and version they are is said above; it is none of the differences listed.
        let of_another =
            usize::from(diff.boot_changed.is_some()) + usize::from(diff.version_changed.is_some());
        let verdict = match diff.count() - of_another {
            0 if of_another > 0 => "no other difference".to_owned(),
            0 => "no difference".to_owned(),
            1 => "1 difference".to_owned(),
            n => format!("{n} differences"),
        };
        writeln!(self.out, "{verdict}").expect("a String takes every write");
    }

    fn line(&mut self, tone: Tone, mark: &str, text: &str) {
        self.paint.put(&mut self.out, tone, mark);
        self.out.push(' ');
        self.out.push_str(text);
        self.out.push('\n');
    }
}

fn cut(text: &str) -> String {
    neutral_within(text, VALUE_COLUMNS_MAX, "…")
}

fn listed(node: &Listed) -> String {
    let what = format!("{}, {}", kind_word(node.kind), state_word(node.state));
    format!("{}  {what}{}", neutral(&node.path), last_exit(node.last_exit.as_ref()))
}

fn restarted(node: &Restarted) -> String {
    let how = match node.to.checked_sub(node.from) {
        Some(1) => "restarted".to_owned(),
        Some(times) => format!("restarted {times} times"),
        None => "another child under the same path".to_owned(),
    };
    let lives = format!("(incarnation {} -> {})", node.from, node.to);
    format!("{}  {how} {lives}{}", neutral(&node.path), last_exit(node.last_exit.as_ref()))
}

fn last_exit(exit: Option<&LastExit>) -> String {
    let Some(exit) = exit else { return String::new() };
    let message = exit.message.as_ref().map(|text| format!(": {}", cut(text))).unwrap_or_default();
    format!("; last exit: {}, lived {}{message}", cut(&exit.reason), elapsed(exit.lived_ms))
}

fn changed(what: &str, change: &Change) -> String {
    let (from, to) = (value(&change.from), value(&change.to));
    format!("{}  {what}{} {from} -> {to}", neutral(&change.path), cut(&change.field))
}

fn value(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => cut(text),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            cut(&value.to_string())
        }
    }
}

fn found(finding: &Finding) -> String {
    let severity = severity_word(finding.severity);
    let title = format!("{} {} ({severity})", cut(&finding.id), cut(&finding.name));
    format!("{title} {}  {}", neutral(&finding.path), cut(&finding.message))
}
