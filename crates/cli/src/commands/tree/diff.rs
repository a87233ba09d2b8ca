//! What changed between two saved dumps.

use std::io;

use perennial::inspect::{DiffOptions, diff as compared, diff_to_text};

use super::{dump, with_findings};
use crate::{args::TreeDiffArgs, exit, output};

pub(super) fn diff(args: &TreeDiffArgs) -> anyhow::Result<i32> {
    let before = with_findings(dump::read(&args.before)?, &[], Some(&args.before));
    let after = with_findings(dump::read(&args.after)?, &[], Some(&args.after));
    let options = DiffOptions { counters: args.counters, ..DiffOptions::default() };
    let diff = compared(&before, &after, &options);
    if args.output.json {
        output::json(&serde_json::to_value(&diff)?)?;
    } else {
        output::text(&diff_to_text(&diff, args.output.color.on(&io::stdout())))?;
    }
    Ok(if diff.is_empty() { exit::COMPLETED } else { exit::DIFFERENT })
}
