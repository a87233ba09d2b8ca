//! Parts of a tree: what was asked for, and all above it, so that every parent is there.

use std::{collections::HashSet, str::FromStr};

use perennial_core::tree::{NodeKind, NodeState, TreeNode, TreeSnapshot};

use crate::{
    outline::Outline,
    standing::{Standing, standings},
};

/// Which nodes are wanted. What is left empty wants all; what is filled in must all hold.
///
/// ```
#[doc = include_str!("../doc/tree.txt")]
/// use perennial_inspect::{Filter, filtered, PatternError};
///
/// let wanted = Filter { patterns: vec!["in*".parse()?], ..Filter::default() };
/// let part = filtered(tree("running", 1), &wanted);
/// assert!(part.nodes.iter().any(|node| node.id == "inbox"));
/// # Ok::<(), PatternError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// One of these matches the node, or one above it.
    pub patterns: Vec<PathPattern>,
    /// It is in one of these states.
    pub states: Vec<NodeState>,
    /// It is of one of these kinds.
    pub kinds: Vec<NodeKind>,
    /// It is not well, or a finding names it.
    pub only_problems: bool,
    /// It is at most so far below the root: 0 is the root alone.
    pub depth: Option<usize>,
}

/// A glob for nodes: `*` and `?` do not cross a slash, `**` does, `[ab]` is one of these characters.
///
/// With a leading slash it is matched with the whole path, else with the node's own name. What is below
/// a match is matched too.
///
/// ```
#[doc = include_str!("../doc/tree.txt")]
/// use perennial_inspect::{Filter, filtered, PathPattern, PatternError};
///
/// let below_the_root: PathPattern = "/perennial/*".parse()?;
/// let by_name: PathPattern = "inb?x".parse()?;
/// for pattern in [below_the_root, by_name] {
///     let wanted = Filter { patterns: vec![pattern], ..Filter::default() };
///     assert_eq!(filtered(tree("running", 1), &wanted).nodes.last().unwrap().id, "inbox");
/// }
/// # Ok::<(), PatternError>(())
/// ```
#[derive(Clone, Debug)]
pub struct PathPattern {
    glob: glob::Pattern,
    whole_path: bool,
}

/// A text that is no pattern.
///
/// ```
/// use perennial_inspect::{PathPattern, PatternError};
///
/// let refused: Result<PathPattern, PatternError> = "in[box".parse();
/// assert!(refused.unwrap_err().to_string().starts_with("`in[box` is no pattern"));
/// ```
#[derive(Debug, thiserror::Error)]
#[error("`{pattern}` is no pattern: {reason} at character {place}; write a literal bracket as `[[]`",
    pattern = crate::neutral(pattern))]
pub struct PatternError {
    pattern: String,
    place: usize,
    reason: &'static str,
}

impl FromStr for PathPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        // One slash at the end is meant kindly.
        let pattern = text.strip_suffix('/').filter(|rest| !rest.is_empty()).unwrap_or(text);
        let glob = glob::Pattern::new(pattern).map_err(|error| PatternError {
            pattern: text.to_owned(),
            place: error.pos + 1,
            reason: error.msg,
        })?;
        Ok(Self { glob, whole_path: text.starts_with('/') })
    }
}

impl PathPattern {
    fn matches(&self, node: &TreeNode) -> bool {
        const OPTIONS: glob::MatchOptions = glob::MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: false,
        };
        self.glob.matches_with(if self.whole_path { &node.path } else { &node.id }, OPTIONS)
    }
}

/// The part of `tree` that `filter` wants, in the order it had. Findings about nodes that are not wanted go;
/// those about nodes that are only too deep stay.
///
/// ```
#[doc = include_str!("../doc/tree.txt")]
/// use perennial_inspect::{Filter, filtered};
///
/// let troubled = Filter { only_problems: true, ..Filter::default() };
/// let part = filtered(tree("gave_up", 1), &troubled);
/// assert!(part.nodes.iter().any(|node| node.id == "inbox"));
/// assert!(filtered(tree("running", 1), &troubled).nodes.iter().all(|node| node.id != "inbox"));
/// ```
pub fn filtered(mut tree: TreeSnapshot, filter: &Filter) -> TreeSnapshot {
    let outline = Outline::of(&tree);
    let standings = standings(&tree);
    let named: HashSet<&str> = tree.findings.iter().map(|finding| finding.path.as_str()).collect();
    let count = tree.nodes.len();
    let (mut within, mut depth) = (vec![false; count], vec![0_usize; count]);
    let (mut shown, mut wanted) = (vec![false; count], vec![false; count]);
    for place in outline.breadth_first() {
        let node = &tree.nodes[place];
        if let Some(parent) = outline.parent[place] {
            within[place] = within[parent];
            depth[place] = depth[parent] + 1;
        }
        within[place] |= filter.patterns.is_empty()
            || filter.patterns.iter().any(|pattern| pattern.matches(node));
        wanted[place] = within[place]
            && filter.wants(node, standings[place], named.contains(node.path.as_str()));
        if wanted[place] && filter.depth.is_none_or(|max| depth[place] <= max) {
            outline.mark_upwards(place, &mut shown);
        }
    }
    let about: HashSet<&str> = tree
        .nodes
        .iter()
        .zip(&wanted)
        .filter(|(_, wanted)| **wanted)
        .map(|(node, _)| node.path.as_str())
        .collect();
    let mut findings = std::mem::take(&mut tree.findings);
    findings.retain(|finding| about.contains(finding.path.as_str()) || filter.is_open());
    let mut shown = shown.into_iter();
    tree.nodes.retain(|_| shown.next().unwrap_or(false));
    tree.findings = findings;
    tree
}

impl Filter {
    fn wants(&self, node: &TreeNode, standing: Standing, is_named: bool) -> bool {
        (self.states.is_empty() || self.states.contains(&node.state))
            && (self.kinds.is_empty() || self.kinds.contains(&node.kind))
            && (!self.only_problems || is_named || standing.is_problem())
    }

    /// Whether findings that no node belongs to are wanted.
    fn is_open(&self) -> bool {
        self.patterns.is_empty() && self.states.is_empty() && self.kinds.is_empty()
    }
}
