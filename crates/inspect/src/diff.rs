//! What changed between two dumps. Times and what only says when a dump was taken are no difference;
//! counters are one when they are asked for.

mod compare;
mod text;

use perennial_core::tree::{Finding, LastExit, NodeKind, NodeState};
use serde::Serialize;
use serde_json::Value;

pub use self::{compare::diff, text::diff_to_text};

/// The name and major version of the difference as a document.
///
/// ```
#[doc = include_str!("../doc/tree.txt")]
/// use perennial_inspect::{diff, DIFF_SCHEMA, DiffOptions};
///
/// assert_eq!(diff(&tree("running", 1), &tree("running", 1), &DiffOptions::default()).schema, DIFF_SCHEMA);
/// ```
pub const DIFF_SCHEMA: &str = "perennial.tree.diff/1";

/// What is compared beyond the structure.
///
/// ```
#[doc = include_str!("../doc/tree.txt")]
/// use perennial_inspect::{diff, DiffOptions};
///
/// let options = DiffOptions { counters: true, ..DiffOptions::default() };
/// let changes = diff(&tree("running", 1), &tree("running", 2), &options);
/// assert!(changes.counters.iter().any(|change| change.field.contains("restarts")));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiffOptions {
    /// Whether numbers that move while all is well are compared: restarts, and numbers in details.
    pub counters: bool,
    /// A mailbox is told of when the greater depth is at least this,
    pub load_min: u64,
    /// and at least so many times the smaller one.
    pub load_factor: u64,
}

impl Default for DiffOptions {
    fn default() -> Self {
        Self { counters: false, load_min: 10, load_factor: 2 }
    }
}

/// What changed from one dump to another; each list in the order of the dumps.
///
/// ```
#[doc = include_str!("../doc/tree.txt")]
/// use perennial_inspect::{diff, DiffOptions};
///
/// let changes = diff(&tree("running", 1), &tree("running", 2), &DiffOptions::default());
/// let restarted = &changes.restarted[0];
/// assert_eq!((restarted.path.as_str(), restarted.from, restarted.to), ("/perennial/inbox", 1, 2));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TreeDiff {
    /// Always [`DIFF_SCHEMA`].
    pub schema: &'static str,
    /// The dumps are of two starts: everything was restarted, and nodes are compared by path only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_changed: Option<FromTo>,
    /// Another version of Perennial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_changed: Option<FromTo>,
    /// Nodes that only the second has.
    pub added: Vec<Listed>,
    /// Nodes that only the first has.
    pub removed: Vec<Listed>,
    /// Nodes that stand elsewhere.
    pub moved: Vec<FromTo>,
    /// Nodes in another life.
    pub restarted: Vec<Restarted>,
    /// Nodes in another state.
    pub state_changed: Vec<Change>,
    /// Nodes that are restarted or stopped in another way.
    pub policy_changed: Vec<Change>,
    /// Mailboxes that filled or emptied.
    pub load: Vec<Change>,
    /// What components say they are at.
    pub progress: Vec<Change>,
    /// Numbers, if they were asked for.
    pub counters: Vec<Change>,
    /// Findings that only the second has.
    pub findings_raised: Vec<Finding>,
    /// Findings that only the first has.
    pub findings_cleared: Vec<Finding>,
}

/// Two texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FromTo {
    /// In the first dump.
    pub from: String,
    /// In the second.
    pub to: String,
}

/// A node that one dump has.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listed {
    /// Where it stands.
    pub path: String,
    /// What kind of thing it is.
    pub kind: NodeKind,
    /// Where it is in its life.
    pub state: NodeState,
    /// How its last life ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<LastExit>,
}

/// A node in another life.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Restarted {
    /// Where it stands.
    pub path: String,
    /// Its incarnation in the first dump.
    pub from: u64,
    /// In the second: a smaller one is another child under the same path.
    pub to: u64,
    /// How its last life ended, as the later life knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<LastExit>,
}

/// One field of one node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Where it stands.
    pub path: String,
    /// Which field, inner ones with a dot.
    pub field: String,
    /// In the first dump; null where it was not there.
    pub from: Value,
    /// In the second.
    pub to: Value,
}

impl TreeDiff {
    /// How many differences there are.
    ///
    /// ```
    #[doc = include_str!("../doc/tree.txt")]
    /// use perennial_inspect::{diff, DiffOptions};
    ///
    /// let changes = diff(&tree("running", 1), &tree("gave_up", 1), &DiffOptions::default());
    /// assert_eq!(changes.count(), 1);
    /// ```
    pub fn count(&self) -> usize {
        usize::from(self.boot_changed.is_some())
            + usize::from(self.version_changed.is_some())
            + self.added.len()
            + self.removed.len()
            + self.moved.len()
            + self.restarted.len()
            + self.state_changed.len()
            + self.policy_changed.len()
            + self.load.len()
            + self.progress.len()
            + self.counters.len()
            + self.findings_raised.len()
            + self.findings_cleared.len()
    }

    /// Whether the dumps show the same (DIFF-1).
    ///
    /// ```
    #[doc = include_str!("../doc/tree.txt")]
    /// use perennial_inspect::{diff, DiffOptions};
    ///
    /// assert!(diff(&tree("running", 1), &tree("running", 1), &DiffOptions::default()).is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }
}
