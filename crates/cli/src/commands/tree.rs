//! The tree of this version as specified, or a saved dump of one that ran.

mod diff;
mod dump;

use std::path::Path;

use perennial::{
    TreeSnapshot, declared_tree,
    inspect::{Columns, Thresholds, diagnosed, filtered},
    supervision::MAILBOX_MAX,
};

use crate::{
    args::{Format, TreeArgs, TreeCommand},
    commands::hint::quoted,
    exit::{self, failed, failed_with},
    output::{self, Shape},
};

pub(super) fn tree(args: &TreeArgs) -> anyhow::Result<i32> {
    if let Some(TreeCommand::Diff(args)) = &args.command {
        return diff::diff(args);
    }
    if !args.columns.is_empty() && args.format() != Format::Text {
        return Err(failed(
            exit::USAGE,
            "--columns shapes the text, and another format was asked for",
        ));
    }
    let tree = match &args.dump {
        Some(path) => {
            let earlier: Vec<TreeSnapshot> =
                args.earlier.iter().map(|path| dump::read(path)).collect::<Result<_, _>>()?;
            with_findings(dump::read(path)?, &earlier, Some(path))
        }
        None if args.declared => {
            declared_tree(Vec::new()).map_err(|error| failed(exit::STORE, error))?
        }
        None => {
            let text = "a process shows its own tree: add --tree to `run` or `resume`";
            let help = "perennial tree --declared   (as specified; --dump FILE shows a saved one)";
            return Err(failed_with(exit::USAGE, text, help.to_owned()));
        }
    };
    let total = tree.nodes.len();
    let filter = args.filter.filter();
    let tree = filtered(tree, &filter);
    let only_problems = filter.only_problems
        && filter.patterns.is_empty()
        && filter.states.is_empty()
        && filter.kinds.is_empty();
    if tree.nodes.is_empty() && total > 0 && only_problems {
        output::talk("nothing is wrong");
    } else if tree.nodes.is_empty() && total > 0 {
        output::talk(&format!("no node of {total} is what was asked for"));
    }
    let shape = Shape {
        format: args.format(),
        colour: args.output.color,
        stable: args.stable,
        total: Some(total),
        columns: (!args.columns.is_empty()).then(|| Columns::of(&args.columns)),
    };
    output::tree(&tree, shape)?;
    let is_bad = args
        .fail_on
        .is_some_and(|least| tree.findings.iter().any(|finding| finding.severity >= least));
    Ok(if is_bad { exit::FINDINGS } else { exit::COMPLETED })
}

/// What is wrong with the tree, with commands that work as they are typed: `source` is where it was
/// read from. Of a tree that was not saved none can be shown again.
pub(super) fn with_findings(
    tree: TreeSnapshot,
    earlier: &[TreeSnapshot],
    source: Option<&Path>,
) -> TreeSnapshot {
    let mut tree = diagnosed(tree, earlier, &thresholds());
    let source = source.filter(|path| *path != Path::new("-"));
    for finding in &mut tree.findings {
        let Some(rest) =
            finding.command.as_deref().and_then(|it| it.strip_prefix("tree --dump FILE --match"))
        else {
            continue;
        };
        finding.command = source.map(|path| {
            format!("tree --dump {} --match{rest}", quoted(&path.display().to_string()))
        });
    }
    tree
}

fn thresholds() -> Thresholds {
    Thresholds { mailbox_capacity: MAILBOX_MAX, ..Thresholds::default() }
}
