//! The tree of this version as specified, or a saved dump of one that ran.

use std::{
    io::{self, Read},
    path::Path,
};

use perennial::{TreeSnapshot, declared_tree, inspect::from_json, tools::read_source};

use crate::{
    args::TreeArgs,
    exit::{self, failed, failed_with},
    output::{self, Shape},
};

/// Largest dump that is read: some hundred thousand nodes.
const DUMP_BYTES_MAX: u64 = 512 * 1024 * 1024;

pub(super) fn tree(args: &TreeArgs) -> anyhow::Result<i32> {
    let tree = match &args.dump {
        Some(path) => read_dump(path)?,
        None if args.declared => {
            declared_tree(Vec::new()).map_err(|error| failed(exit::STORE, error))?
        }
        None => {
            let text = "a process shows its own tree: add --tree to `run` or `resume`";
            let help = "perennial tree --declared   (as specified; --dump FILE shows a saved one)";
            return Err(failed_with(exit::USAGE, text, help.to_owned()));
        }
    };
    let shape = Shape { format: args.format(), colour: args.output.color, stable: args.stable };
    output::tree(&tree, shape)?;
    Ok(exit::COMPLETED)
}

/// The dump in the file at `path`, or on stdin where that is `-`.
fn read_dump(path: &Path) -> anyhow::Result<TreeSnapshot> {
    let about = |what: &dyn std::fmt::Display| format!("dump {}: {what}", path.display());
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        let read = io::stdin().lock().take(DUMP_BYTES_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|error| failed(exit::USAGE, about(&error)))?;
        if bytes.len() as u64 > DUMP_BYTES_MAX {
            return Err(failed(exit::USAGE, about(&"larger than 512 MiB")));
        }
        bytes
    } else {
        read_source(path, DUMP_BYTES_MAX)
            .map_err(|error| failed(exit::USAGE, format!("dump: {error}")))?
    };
    let text = String::from_utf8(bytes).map_err(|error| failed(exit::USAGE, about(&error)))?;
    from_json(&text).map_err(|error| {
        let help = "perennial run FILE --tree --json | tail -n 1 > dump.json";
        failed_with(exit::USAGE, about(&error), help.to_owned())
    })
}
