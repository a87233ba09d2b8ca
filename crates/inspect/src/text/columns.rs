//! What stands in which column.

use perennial_core::tree::{Intensity, NodeKind, NodeState, TreeNode, TreeSnapshot};

use super::{Page, Tone, branches::Branch, detail, duration};
use crate::{
    neutral::{neutral, width},
    words::{restart_word, state_word, strategy_word},
};

/// Longest name, guides not counted: a ULID has 26.
const NAME_COLUMNS_MAX: usize = 56;
/// Longest name of a type, its modules included: `Shell` alone would say nothing.
const TYPE_COLUMNS_MAX: usize = 56;
/// Longest reason of an exit.
const REASON_COLUMNS_MAX: usize = 24;
/// What takes less is not told beside a node.
const NOTED_MS: u64 = 1_000;

/// A column of the text tree.
///
/// ```
/// use perennial_inspect::Column;
///
/// let words: Vec<_> = Column::ALL.iter().map(|column| column.word()).collect();
/// assert_eq!(words[..3], ["name", "kind", "strategy"]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// Guides and the last part of the path.
    Name,
    /// What kind of thing it is.
    Kind,
    /// How a supervisor restarts its children, and when it gives up.
    Strategy,
    /// When the node itself is restarted.
    Restart,
    /// How it is stopped.
    Shutdown,
    /// Its type.
    Type,
    /// Where it is in its life.
    State,
    /// How often it was restarted.
    Restarts,
    /// Messages waiting.
    Mailbox,
    /// How long its present life is.
    Up,
    /// How its last life ended.
    LastExit,
    /// What it published itself.
    Detail,
}

/// Which columns are written, beside the names; always in the order of [`Column::ALL`].
///
/// ```
#[doc = include_str!("../../doc/tree.txt")]
/// use perennial_inspect::{Column, Columns, TextOptions, to_text};
///
/// let columns = Columns::of(&[Column::Kind, Column::State]);
/// let text = to_text(&tree("running", 1), &TextOptions { columns: Some(columns), ..Default::default() });
/// assert!(text.contains("KIND") && !text.contains("RESTARTS"), "{text}");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Columns(u16);

impl Columns {
    /// These.
    ///
    /// ```
    /// use perennial_inspect::{Column, Columns};
    ///
    /// assert!(Columns::of(&[Column::Kind]).has(Column::Kind));
    /// ```
    pub fn of(columns: &[Column]) -> Self {
        Self(columns.iter().fold(0, |all, column| all | column.bit()))
    }

    /// Whether `column` is among them.
    ///
    /// ```
    /// use perennial_inspect::{Column, Columns};
    ///
    /// assert!(!Columns::of(&[Column::Kind]).has(Column::State));
    /// ```
    pub fn has(self, column: Column) -> bool {
        self.0 & column.bit() != 0
    }
}

impl Column {
    /// All of them, in their order.
    pub const ALL: [Self; 12] = [
        Self::Name,
        Self::Kind,
        Self::Strategy,
        Self::Restart,
        Self::Shutdown,
        Self::Type,
        Self::State,
        Self::Restarts,
        Self::Mailbox,
        Self::Up,
        Self::LastExit,
        Self::Detail,
    ];

    fn bit(self) -> u16 {
        1 << self as u16
    }

    /// What it is called where columns are chosen.
    ///
    /// ```
    /// use perennial_inspect::Column;
    ///
    /// assert_eq!(Column::LastExit.word(), "last_exit");
    /// ```
    pub fn word(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Kind => "kind",
            Self::Strategy => "strategy",
            Self::Restart => "restart",
            Self::Shutdown => "shutdown",
            Self::Type => "type",
            Self::State => "state",
            Self::Restarts => "restarts",
            Self::Mailbox => "mailbox",
            Self::Up => "up",
            Self::LastExit => "last_exit",
            Self::Detail => "detail",
        }
    }

    /// What a narrow terminal does without, the first one first.
    pub(super) const DISPENSABLE: [Self; 10] = [
        Self::Type,
        Self::Strategy,
        Self::Restart,
        Self::Shutdown,
        Self::LastExit,
        Self::Kind,
        Self::Detail,
        Self::Up,
        Self::Mailbox,
        Self::Restarts,
    ];

    /// The columns that say something about `tree`; a declared tree has no life to tell of, and its
    /// numbers would all be zero.
    pub(super) fn of(tree: &TreeSnapshot) -> &'static [Self] {
        if tree.declared {
            &[
                Self::Name,
                Self::Kind,
                Self::Strategy,
                Self::Restart,
                Self::Shutdown,
                Self::Type,
                Self::Detail,
            ]
        } else {
            &[
                Self::Name,
                Self::Kind,
                Self::Strategy,
                Self::Restart,
                Self::State,
                Self::Restarts,
                Self::Mailbox,
                Self::Up,
                Self::LastExit,
                Self::Detail,
            ]
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Name => "NAME",
            Self::Kind => "KIND",
            Self::Strategy => "STRATEGY",
            Self::Restart => "RESTART",
            Self::Shutdown => "SHUTDOWN",
            Self::Type => "TYPE",
            Self::State => "STATE",
            Self::Restarts => "RESTARTS",
            Self::Mailbox => "MAILBOX",
            Self::Up => "UP",
            Self::LastExit => "LAST EXIT",
            Self::Detail => "DETAIL",
        }
    }

    /// Numbers stand at the right of their column.
    pub(super) fn is_number(self) -> bool {
        match self {
            Self::Restarts | Self::Mailbox | Self::Up => true,
            Self::Name
            | Self::Kind
            | Self::Strategy
            | Self::Restart
            | Self::Shutdown
            | Self::Type
            | Self::State
            | Self::LastExit
            | Self::Detail => false,
        }
    }
}

/// What one node has to say in one column.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    pub(super) guides: String,
    pub(super) text: String,
    pub(super) tone: Tone,
}

impl Cell {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    pub(super) fn toned(self, tone: Tone) -> Self {
        Self { tone, ..self }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.guides.is_empty() && self.text.is_empty()
    }

    pub(super) fn width(&self) -> usize {
        width(&self.guides) + width(&self.text)
    }
}

impl Page<'_> {
    pub(super) fn cell(&self, column: Column, branch: &Branch<'_>) -> Cell {
        let node = branch.node;
        match column {
            Column::Name => self.name(branch),
            Column::Kind => Cell::new(kind(node.kind)),
            Column::Strategy => Cell::new(self.strategy(node)),
            Column::Restart => Cell::new(restart_word(node.restart)),
            Column::Shutdown => Cell::new(self.shutdown(&node.shutdown)),
            Column::Type => {
                let name = node.type_name.as_deref().unwrap_or_default();
                Cell::new(self.cut(name, TYPE_COLUMNS_MAX)).toned(Tone::Faint)
            }
            Column::State => state(node.state),
            Column::Restarts => self.restarts(node),
            Column::Mailbox => Cell::new(
                node.mailbox_depth.map_or_else(String::new, |depth| self.mailbox(node, depth)),
            ),
            Column::Up => Cell::new(node.uptime_ms.map_or_else(String::new, |ms| self.elapsed(ms))),
            Column::LastExit => self.last_exit(node),
            Column::Detail => {
                let detail = neutral(&detail::one_line(&node.detail)).into_owned();
                match self.current(node) {
                    Some(current) if detail.is_empty() => Cell::new(current).toned(Tone::Warn),
                    Some(current) => Cell::new(format!("{current}; {detail}")).toned(Tone::Warn),
                    None => Cell::new(detail).toned(Tone::Faint),
                }
            }
        }
    }

    /// `3`, and `3 (12s)` where the first of them waits so long that it can be seen.
    fn mailbox(&self, node: &TreeNode, depth: u64) -> String {
        let depth = self.count(depth);
        match node.mailbox_oldest_ms.filter(|ms| *ms >= NOTED_MS) {
            Some(oldest) => format!("{depth} ({})", self.elapsed(oldest)),
            None => depth,
        }
    }

    /// What it is at and whom it waits for, where that takes long enough to be seen, and the messages that
    /// nobody handled.
    fn current(&self, node: &TreeNode) -> Option<String> {
        let current = node.current.as_ref().filter(|current| current.running_ms >= NOTED_MS);
        let current = current.map(|current| {
            let message = self.cut(&current.message, REASON_COLUMNS_MAX);
            format!("in `{message}` for {}", self.elapsed(current.running_ms))
        });
        let waits = node.waits_for.iter().filter(|wait| wait.ms >= NOTED_MS).map(|wait| {
            let path = self.cut(&wait.path, NAME_COLUMNS_MAX);
            format!("waits for {path} for {}", self.elapsed(wait.ms))
        });
        let counts = node.mailbox.map_or((0, 0), |mailbox| (mailbox.rejected, mailbox.dropped));
        let counts =
            [("refused", counts.0), ("dropped", counts.1), ("undelivered", node.undelivered)];
        let counts = counts.into_iter().filter(|(_, count)| *count > 0).map(|(what, count)| {
            let count = self.count(count);
            format!("{count} {what}")
        });
        let parts: Vec<String> = current.into_iter().chain(waits).chain(counts).collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    fn name(&self, branch: &Branch<'_>) -> Cell {
        let node = branch.node;
        if branch.orphan {
            let text = format!("(no parent) {}", self.cut(&node.path, NAME_COLUMNS_MAX));
            return Cell::new(text).toned(Tone::Bad);
        }
        Cell { guides: branch.guides.clone(), ..Cell::new(self.cut(&node.id, NAME_COLUMNS_MAX)) }
    }

    /// `one_for_one 3/5s`, and `(2 used)` while some of its restarts are.
    fn strategy(&self, node: &TreeNode) -> String {
        let strategy = node.strategy.map(|strategy| strategy_word(strategy).to_owned());
        let intensity = node.intensity.map(|Intensity { max, window_ms, in_window }| {
            let used = match in_window {
                _ if self.options.stable => String::new(),
                0 => String::new(),
                n => format!(" ({n} used)"),
            };
            format!("{max}/{}{used}", duration::declared(window_ms))
        });
        [strategy, intensity].into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    fn shutdown(&self, shutdown: &str) -> String {
        match shutdown.strip_suffix("ms").and_then(|ms| ms.parse().ok()) {
            Some(ms) => duration::declared(ms),
            None => self.cut(shutdown, REASON_COLUMNS_MAX),
        }
    }

    fn restarts(&self, node: &TreeNode) -> Cell {
        match node.state {
            NodeState::Declared => Cell::default(),
            NodeState::Starting
            | NodeState::Running
            | NodeState::BackingOff
            | NodeState::Stopping
            | NodeState::Stopped
            | NodeState::Unkillable
            | NodeState::GaveUp => {
                let tone = if node.restarts.total > 0 { Tone::Warn } else { Tone::Plain };
                Cell::new(self.count(node.restarts.total)).toned(tone)
            }
        }
    }

    fn last_exit(&self, node: &TreeNode) -> Cell {
        let text = node.last_exit.as_ref().map_or_else(String::new, |exit| {
            let reason = self.cut(&exit.reason, REASON_COLUMNS_MAX);
            format!("{reason}, lived {}", self.elapsed(exit.lived_ms))
        });
        Cell::new(text)
    }
}

fn kind(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::Supervisor => "supervisor",
        NodeKind::DynamicSupervisor => "dynamic",
        NodeKind::TaskSupervisor => "tasks",
        NodeKind::Worker => "worker",
        NodeKind::Task => "task",
        NodeKind::Thread => "thread",
    }
}

fn state(state: NodeState) -> Cell {
    let tone = match state {
        NodeState::Running => Tone::Good,
        NodeState::Declared | NodeState::Stopped => Tone::Faint,
        NodeState::Starting | NodeState::BackingOff | NodeState::Stopping => Tone::Warn,
        NodeState::Unkillable | NodeState::GaveUp => Tone::Bad,
    };
    Cell::new(state_word(state)).toned(tone)
}
