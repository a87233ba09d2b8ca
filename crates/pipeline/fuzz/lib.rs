//! What must hold for every input: shared by the fuzz targets and by the test that replays what
//! they found.

mod holds;

/// A document, whatever its bytes are.
pub fn document(bytes: &[u8]) {
    holds::document(bytes);
}

/// A template, whatever its text is.
pub fn template(text: &str) {
    holds::template(text);
}

/// A condition, whatever its text is.
pub fn condition(text: &str) {
    holds::condition(text);
}
