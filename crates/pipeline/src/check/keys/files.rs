//! Keys of `file_ops` (2.15).

use super::{Keys, Kind, POSITIVE, advisory, key, later};

pub(in crate::check) const FILE_OPS: Keys = Keys {
    home: "a `file_ops` step",
    keys: &[
        key("operation", Kind::Own(&OPERATION), "what is done").required(),
        key(
            "source",
            Kind::Tree,
            "a path, a glob, a list of them, or {pattern, exclude, older_than}",
        ),
        key("destination", Kind::Template, "a path below the workspace"),
        key("path", Kind::Template, "a path"),
        key("files", Kind::Tree, "what `validate` checks, or what `delete` removes"),
        key("recursive", Kind::Bool, "also below directories").default("false"),
        key("pattern", Kind::Template, "a glob or a regular expression on names"),
        key("pattern_type", PATTERN_TYPE, "which of the two"),
        key("include_hidden", Kind::Bool, "also names that begin with a dot").default("false"),
        key("sort_by", SORT_BY, "order of the list").default("\"name\""),
        key("limit", POSITIVE, "at most so many"),
        key("output_field", Kind::Text, "a further key of the record for the paths"),
        key("format", Kind::Template, "the conversion, or how a file is read"),
        key("processor", Kind::Tree, "what becomes of each line"),
        key("content", Kind::Tree, "what is written"),
        key("append", Kind::Bool, "behind what is there").default("false"),
        key("encoding", ENCODING, "of texts").default("\"utf-8\""),
        advisory("chunk_size", POSITIVE, "bytes that are copied at a time"),
        key("options", Kind::Map(&[&OPTIONS]), "of the operation").default("{}"),
        later("duration_seconds", "how long `wait` waits"),
    ],
    others: None,
};

/// The reader tells what is wrong with one (PL204), and which the nearest is.
const OPERATION: Kind = Kind::OneOf {
    names: &[
        "copy",
        "move",
        "delete",
        "validate",
        "list",
        "convert",
        "stream_copy",
        "stream_process",
        "write",
        "read",
    ],
    later: &["wait"],
};
const PATTERN_TYPE: Kind = Kind::OneOf { names: &["glob", "regex"], later: &[] };
const SORT_BY: Kind = Kind::OneOf { names: &["name", "modified", "size"], later: &[] };
const ENCODING: Kind = Kind::OneOf { names: &["utf-8", "utf8", "UTF-8"], later: &[] };

const OPTIONS: Keys = Keys {
    home: "`options` of a `file_ops` step",
    keys: &[
        key("recursive", Kind::Bool, "also below directories"),
        key("overwrite", Kind::Bool, "replaces what is there").default("true"),
        key("preserve_structure", Kind::Bool, "keeps directories of sources").default("false"),
        key("preserve_timestamps", Kind::Bool, "keeps when files were changed").default("false"),
        key("create_destination", Kind::Bool, "makes missing directories").default("true"),
        key("dry_run", Kind::Bool, "tells what would be done").default("false"),
        key("csv_delimiter", Kind::Text, "between fields").default("\",\""),
        key("csv_headers", Kind::Bool, "the first row has names").default("true"),
        key("json_indent", INDENT, "spaces of a level").default("2"),
        key("infer_types", Kind::Bool, "numbers and truth values of CSV").default("false"),
    ],
    others: None,
};

const INDENT: Kind = Kind::Count { least: 0, most: 16, texts: false };
