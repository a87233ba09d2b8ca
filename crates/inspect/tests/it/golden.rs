//! Files that say what a format looks like.

use std::{fs, path::Path};

/// Asserts that `actual` is what the file `name` under this crate says.
///
/// With the environment variable `update` set to 1 the file is written instead; read the difference before
/// committing it.
#[track_caller]
pub(crate) fn assert_is_file(name: &str, actual: &str, update: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os(update).is_some_and(|value| value == "1") {
        fs::write(&path, actual).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(actual, expected, "{name} differs; if it should, set {update}=1 and read the diff");
}
