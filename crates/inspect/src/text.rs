//! The tree for people: a header, one line per node in aligned columns, and the findings.
//!
//! Whether the reader has a terminal, wants colours or reads Unicode is the caller's to know.

mod branches;
mod columns;
mod detail;
mod duration;
mod paint;

use perennial_core::tree::{Finding, LastExit, Severity, TreeSnapshot};

pub use self::columns::{Column, Columns};
use self::{branches::branches, columns::Cell};
pub(crate) use self::{
    duration::{declared, elapsed},
    paint::{Paint, Tone},
};
use crate::{
    neutral::{neutral, neutral_within, width},
    stable::{COUNT, ELAPSED, stable},
    words::severity_word,
};

/// Longest line of a message below a node or of a finding.
const MESSAGE_COLUMNS_MAX: usize = 120;
/// Longest part of the header that comes from outside.
const HEADER_COLUMNS_MAX: usize = 48;
/// Shortest detail that still says something.
const DETAIL_COLUMNS_MIN: usize = 16;
/// Shortest line of what says that columns are left out.
const HINT_COLUMNS_MIN: usize = 60;
/// What stands between two columns.
const GAP: &str = "  ";

/// The characters that draw the tree.
///
/// ```
#[doc = include_str!("../doc/tree.txt")]
/// use perennial_inspect::{Glyphs, TextOptions, to_text};
///
/// let options = TextOptions { glyphs: Glyphs::Ascii, ..TextOptions::default() };
/// assert!(to_text(&tree("running", 1), &options).is_ascii());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Glyphs {
    /// Box-drawing characters.
    #[default]
    Unicode,
    /// `|`, `-` and a back quote. Names keep their characters.
    Ascii,
}

impl Glyphs {
    fn branch(self) -> &'static str {
        match self {
            Self::Unicode => "├─ ",
            Self::Ascii => "|- ",
        }
    }

    fn last_branch(self) -> &'static str {
        match self {
            Self::Unicode => "└─ ",
            Self::Ascii => "`- ",
        }
    }

    fn trunk(self) -> &'static str {
        match self {
            Self::Unicode => "│  ",
            Self::Ascii => "|  ",
        }
    }

    /// Stands for what was cut.
    fn cut(self) -> &'static str {
        match self {
            Self::Unicode => "…",
            Self::Ascii => "...",
        }
    }
}

/// How the text tree is written. The default is Unicode, without colours, with real numbers.
///
/// ```
#[doc = include_str!("../doc/tree.txt")]
/// use perennial_inspect::{Column, Columns, TextOptions, to_text};
///
/// let options = TextOptions {
///     width: Some(40),
///     columns: Some(Columns::of(&[Column::Kind, Column::State])),
///     ..TextOptions::default()
/// };
/// let text = to_text(&tree("running", 1), &options);
/// assert!(text.contains("inbox") && text.contains("running"), "{text}");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TextOptions {
    /// The characters that draw the tree.
    pub glyphs: Glyphs,
    /// Whether to write colours as escape sequences.
    pub color: bool,
    /// Whether to write placeholders for all that differs from one start to the next, so that the
    /// text can be compared in a test.
    pub stable: bool,
    /// How many nodes the tree has, if only a part of it is written: the header says so.
    pub total: Option<usize>,
    /// How wide the reader's terminal is: details are cut, and then columns left out, until nodes fit
    /// where they can. Names, states, messages and findings are written whole.
    pub width: Option<usize>,
    /// Writes these columns beside the names, also where they are empty; without, those that say something
    /// about the tree.
    pub columns: Option<Columns>,
}

/// The dump as text for people, ending in a line break.
///
/// Columns that would be empty are left out; a declared tree has other columns than a running one.
///
/// ```
#[doc = include_str!("../doc/tree.txt")]
/// use perennial_inspect::{TextOptions, to_text};
///
/// let text = to_text(&tree("running", 1), &TextOptions::default());
/// assert!(text.starts_with("orders@node-a  perennial 0.1.0  up 4h12m  2 nodes\n"));
/// assert!(text.contains("└─ inbox"), "{text}");
/// ```
pub fn to_text(tree: &TreeSnapshot, options: &TextOptions) -> String {
    if options.stable {
        return Page { tree: &stable(tree), options: *options }.write();
    }
    Page { tree, options: *options }.write()
}

struct Page<'a> {
    tree: &'a TreeSnapshot,
    options: TextOptions,
}

impl Page<'_> {
    fn write(&self) -> String {
        let mut out = String::new();
        self.header(&mut out);
        let left_out = self.nodes(&mut out);
        for finding in &self.tree.findings {
            self.finding(&mut out, finding);
        }
        if !left_out.is_empty() {
            let mut line = "not shown, for want of width:".to_owned();
            let room = self.options.width.unwrap_or_default().max(HINT_COLUMNS_MIN);
            for (place, what) in left_out.iter().enumerate() {
                let comma = if place + 1 < left_out.len() { "," } else { "" };
                if width(&line) + what.len() + 2 > room {
                    self.paint().put(&mut out, Tone::Faint, &line);
                    out.push('\n');
                    line = "  ".to_owned();
                }
                line.push_str(&format!(" {what}{comma}"));
            }
            self.paint().put(&mut out, Tone::Faint, &line);
            out.push('\n');
        }
        out
    }

    fn paint(&self) -> Paint {
        Paint { color: self.options.color }
    }

    fn cut(&self, text: &str, columns_max: usize) -> String {
        neutral_within(text, columns_max, self.options.glyphs.cut())
    }

    fn header(&self, out: &mut String) {
        let runtime = &self.tree.runtime;
        let name = self.cut(&runtime.name, HEADER_COLUMNS_MAX);
        let node = self.cut(&runtime.node, HEADER_COLUMNS_MAX);
        self.paint().put(out, Tone::Strong, &format!("{name}@{node}"));

        let mut facts =
            vec![format!("perennial {}", self.cut(&runtime.version, HEADER_COLUMNS_MAX))];
        if self.tree.declared {
            facts.push("declared, not running".to_owned());
        }
        if let Some(ms) = self.tree.uptime_ms {
            facts.push(format!("up {}", self.elapsed(ms)));
        }
        facts.push(match (self.tree.nodes.len(), self.options.total) {
            (n, Some(total)) if n != total => format!("{n} of {total} nodes"),
            (1, _) => "1 node".to_owned(),
            (n, _) => format!("{n} nodes"),
        });
        if let Some(us) = self.tree.took_us {
            let cost = if self.options.stable { ELAPSED.to_owned() } else { duration::cost(us) };
            facts.push(format!("taken in {cost}"));
        }
        match self.tree.findings.len() {
            0 => {}
            1 => facts.push("1 finding".to_owned()),
            n => facts.push(format!("{n} findings")),
        }
        for fact in facts {
            out.push_str(GAP);
            out.push_str(&fact);
        }
        out.push('\n');
    }

    /// Answers what was left out.
    fn nodes(&self, out: &mut String) -> Vec<&'static str> {
        let branches = branches(self.tree, self.options.glyphs);
        let chosen: Vec<Column> = match self.options.columns {
            None => Column::of(self.tree).to_vec(),
            Some(columns) => {
                let is_chosen = |column: &Column| *column == Column::Name || columns.has(*column);
                Column::ALL.into_iter().filter(is_chosen).collect()
            }
        };
        let mut columns: Vec<(Column, Vec<Cell>)> = chosen
            .into_iter()
            .map(|column| (column, branches.iter().map(|b| self.cell(column, b)).collect()))
            .filter(|(column, cells): &(Column, Vec<Cell>)| {
                *column == Column::Name
                    || self.options.columns.is_some()
                    || cells.iter().any(|cell| !cell.text.is_empty())
            })
            .collect();
        if branches.is_empty() {
            return Vec::new();
        }
        let mut left_out = Vec::new();

        let mut widths: Vec<usize> = columns
            .iter()
            .map(|(column, cells)| {
                cells.iter().map(Cell::width).max().unwrap_or(0).max(width(column.title()))
            })
            .collect();
        if let Some(room) = self.options.width {
            left_out = self.fit(&mut columns, &mut widths, room);
        }
        let titles: Vec<Cell> = columns
            .iter()
            .map(|(column, _)| Cell::new(column.title()).toned(Tone::Strong))
            .collect();
        self.row(out, &columns, &widths, |place| &titles[place]);
        for (line, branch) in branches.iter().enumerate() {
            self.row(out, &columns, &widths, |place| &columns[place].1[line]);
            if let Some(exit) = &branch.node.last_exit {
                self.message(out, &branch.below, exit);
            }
        }
        left_out
    }

    /// Cuts details and leaves columns out until a line has at most `room` columns, or only what nobody can
    /// do without is left; answers what it left out.
    fn fit(
        &self,
        columns: &mut Vec<(Column, Vec<Cell>)>,
        widths: &mut Vec<usize>,
        room: usize,
    ) -> Vec<&'static str> {
        let mut left_out = Vec::new();
        let mut dispensable = Column::DISPENSABLE.iter();
        loop {
            let needed = widths.iter().sum::<usize>() + GAP.len() * (widths.len() - 1);
            let too_many = needed.saturating_sub(room);
            let detail = columns.iter().position(|(column, _)| *column == Column::Detail);
            if too_many == 0 {
                return left_out;
            }
            if let Some(place) = detail
                && let Some(left) = widths[place].checked_sub(too_many)
                && left >= DETAIL_COLUMNS_MIN
            {
                widths[place] = left;
                for cell in &mut columns[place].1 {
                    cell.text = self.cut(&cell.text, left);
                }
                left_out.push("the ends of details");
                return left_out;
            }
            let Some(dropped) = dispensable.next() else { return left_out };
            if let Some(place) = columns.iter().position(|(column, _)| column == dropped) {
                columns.remove(place);
                left_out.push(dropped.title());
                widths.remove(place);
            }
        }
    }

    /// One line, without blanks at its end.
    fn row<'c>(
        &self,
        out: &mut String,
        columns: &[(Column, Vec<Cell>)],
        widths: &[usize],
        cell_of: impl Fn(usize) -> &'c Cell,
    ) {
        let mut blanks = 0;
        for (place, (column, _)) in columns.iter().enumerate() {
            let cell = cell_of(place);
            let missing = widths[place] - cell.width();
            let (before, after) = if column.is_number() { (missing, 0) } else { (0, missing) };
            if !cell.is_empty() {
                out.extend(std::iter::repeat_n(' ', blanks + before));
                self.paint().put(out, Tone::Faint, &cell.guides);
                self.paint().put(out, cell.tone, &cell.text);
                blanks = after + GAP.len();
            } else {
                blanks += missing + GAP.len();
            }
        }
        out.push('\n');
    }

    /// What the last life of a node had to say, below its name.
    fn message(&self, out: &mut String, below: &str, exit: &LastExit) {
        let text = match (&exit.message, &exit.location) {
            (None, None) => return,
            (Some(message), None) => message.clone(),
            (None, Some(location)) => format!("at {location}"),
            (Some(message), Some(location)) => format!("{message} at {location}"),
        };
        self.paint().put(out, Tone::Faint, below);
        self.paint().put(out, Tone::Warn, &format!("! {}", self.cut(&text, MESSAGE_COLUMNS_MAX)));
        out.push('\n');
    }

    fn finding(&self, out: &mut String, finding: &Finding) {
        let severity = severity_word(finding.severity);
        let tone = match finding.severity {
            Severity::Info => Tone::Strong,
            Severity::Warn => Tone::Warn,
            Severity::Error => Tone::Bad,
        };
        let title = format!("!! {} {} ({severity})", finding.id, finding.name);
        self.paint().put(out, tone, &self.cut(&title, MESSAGE_COLUMNS_MAX));
        out.push(' ');
        out.push_str(&self.cut(&finding.path, MESSAGE_COLUMNS_MAX));
        if !finding.message.is_empty() {
            out.push_str(GAP);
            out.push_str(&self.cut(&finding.message, MESSAGE_COLUMNS_MAX));
        }
        out.push('\n');
        if let Some(help) = &finding.help {
            out.push_str("   help: ");
            out.push_str(&self.cut(help, MESSAGE_COLUMNS_MAX));
            out.push('\n');
        }
        if let Some(command) = &finding.command {
            // Whole: a command that was cut would be another one.
            out.push_str("   try:  perennial ");
            out.push_str(&neutral(command));
            out.push_str(when(command));
            out.push('\n');
        }
    }

    fn elapsed(&self, ms: u64) -> String {
        if self.options.stable { ELAPSED.to_owned() } else { duration::elapsed(ms) }
    }

    fn count(&self, n: u64) -> String {
        if self.options.stable { COUNT.to_owned() } else { n.to_string() }
    }
}
/// What a command needs that its reader may not have: a dump that is kept, or a store that nobody holds.
fn when(command: &str) -> &'static str {
    if command.starts_with("tree --dump FILE ") {
        "  (FILE: this tree, saved as JSON)"
    } else if command.contains(" --store ") {
        "  (once the process that holds the store has ended)"
    } else {
        ""
    }
}
