//! Reads a saved dump.

use std::{
    io::{self, Read},
    path::Path,
};

use perennial::{TreeSnapshot, inspect::from_json, tools::read_source};

use crate::exit::{self, failed, failed_with};

/// Largest dump that is read: some hundred thousand nodes.
const BYTES_MAX: u64 = 512 * 1024 * 1024;

/// The dump in the file at `path`, or on stdin where that is `-`.
pub(super) fn read(path: &Path) -> anyhow::Result<TreeSnapshot> {
    let about = |what: &dyn std::fmt::Display| format!("dump {}: {what}", path.display());
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        let read = io::stdin().lock().take(BYTES_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|error| failed(exit::USAGE, about(&error)))?;
        if bytes.len() as u64 > BYTES_MAX {
            return Err(failed(exit::USAGE, about(&"larger than 512 MiB")));
        }
        bytes
    } else {
        read_source(path, BYTES_MAX)
            .map_err(|error| failed(exit::USAGE, format!("dump: {error}")))?
    };
    let text = String::from_utf8(bytes).map_err(|error| failed(exit::USAGE, about(&error)))?;
    from_json(&text).map_err(|error| {
        let help = "perennial run FILE --tree --json | tail -n 1 > dump.json";
        failed_with(exit::USAGE, about(&error), help.to_owned())
    })
}
