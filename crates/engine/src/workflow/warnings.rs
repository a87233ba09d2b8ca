//! What an attempt warns of, whatever becomes of it.

use std::{
    mem,
    sync::{Mutex, PoisonError},
};

/// Most warnings of one attempt; the others are dropped.
const WARNINGS_MAX: usize = 20;
/// Most characters of one. Escaped as JSON, all of them fit into one event.
const WARNING_CHARS_MAX: usize = 500;

/// Warnings of one attempt: at most 20, each once and cut to 500 characters.
///
/// ```
/// use perennial::engine::Warnings;
///
/// let warnings = Warnings::default();
/// warnings.push("the reply was cut");
/// warnings.push("the reply was cut");
/// assert_eq!(warnings.all(), ["the reply was cut"]); // said once
/// ```
#[derive(Debug, Default)]
pub struct Warnings(Mutex<Vec<String>>);

impl Warnings {
    /// Adds `text`, unless it is there or there are enough.
    ///
    /// ```
    /// use perennial::engine::Warnings;
    ///
    /// let warnings = Warnings::default();
    /// warnings.push(&"x".repeat(1_000));
    /// assert_eq!(warnings.all()[0].chars().count(), 500);
    /// ```
    pub fn push(&self, text: &str) {
        let cut: String = match text.char_indices().nth(WARNING_CHARS_MAX) {
            Some(_) => text.chars().take(WARNING_CHARS_MAX - 1).chain(['…']).collect(),
            None => text.to_owned(),
        };
        let mut warnings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if warnings.len() < WARNINGS_MAX && !warnings.contains(&cut) {
            warnings.push(cut);
        }
    }

    /// All of them so far.
    ///
    /// ```
    /// use perennial::engine::Warnings;
    ///
    /// assert!(Warnings::default().all().is_empty());
    /// ```
    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn take(&self) -> Vec<String> {
        mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_bounded_and_said_once() {
        let warnings = Warnings::default();
        warnings.push("same");
        warnings.push("same");
        warnings.push(&"ü".repeat(600));
        (0..30).for_each(|number| warnings.push(&number.to_string()));
        let all = warnings.take();
        assert_eq!((all.len(), all[0].as_str()), (20, "same"));
        assert_eq!(all[1].chars().count(), 500);
        assert!(all[1].ends_with("ü…"));
        assert_eq!(warnings.all(), Vec::<String>::new());
    }
}
