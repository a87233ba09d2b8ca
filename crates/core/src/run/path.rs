//! Where a job stands in the tree of steps, as the text of its key (YR-3).
//!
//! A path is one component for each step from the outermost to the innermost, with `/` between
//! them: `review/security/summarise`. What is no plain name is escaped, so that no name can look
//! like a path. A step that opens a scope has further jobs:
//!
//! | key | job |
//! |---|---|
//! | `#n` | opens the scope of the step `n`, before its inner steps |
//! | `n/a` | the inner step `a` |
//! | `n` | closes the scope: its result is that of the step |
//! | `#n#2`, `n#2/a` | the same when the scope is gone through for the second time |
//!
//! A step that has failed for good and has a handler has, after its own job `s`, those of the handler:
//!
//! | key | job |
//! |---|---|
//! | `#s[error]` | opens the handler |
//! | `s[error]/a` | the step `a` of the handler |
//! | `s[error]` | closes the handler: what it says is what became of the step |

use super::JobKey;

/// What follows the path of a step in that of its handler.
pub const HANDLER: &str = "[error]";

/// The place of a step in the tree of steps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct StepPath {
    text: String,
}

impl StepPath {
    /// The run itself, in which the outermost steps stand.
    pub fn root() -> Self {
        Self::default()
    }

    /// The step `name` in this scope.
    #[must_use]
    pub fn step(&self, name: &str) -> Self {
        let mut text = self.text.clone();
        if !text.is_empty() {
            text.push('/');
        }
        for c in name.chars() {
            match c {
                '%' | '/' | '#' | '[' | ']' => text.push_str(&format!("%{:02X}", u32::from(c))),
                plain => text.push(plain),
            }
        }
        Self { text }
    }

    /// The scope of this step when it is gone through for the time number `round`, from 1.
    #[must_use]
    pub fn round(&self, round: u32) -> Self {
        let text = match round {
            0 | 1 => self.text.clone(),
            later => format!("{}#{later}", self.text),
        };
        Self { text }
    }

    /// The scope of this step's handler.
    #[must_use]
    pub fn handler(&self) -> Self {
        Self { text: format!("{}{HANDLER}", self.text) }
    }

    /// The name of the outermost step on it; empty for the run itself.
    pub fn outermost(&self) -> String {
        name(self.text.split('/').next().unwrap_or_default())
    }

    /// Its text; long ones are cut in keys only.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The key of the step's own job.
    pub fn key(&self) -> JobKey {
        JobKey::new(self.text.as_str())
    }

    /// The key of the job that opens this scope.
    pub fn opening(&self) -> JobKey {
        JobKey::new(format!("#{}", self.text))
    }
}

impl JobKey {
    /// Whether the job only opens a scope and is no step.
    pub fn is_opening(&self) -> bool {
        self.as_str().starts_with('#')
    }

    /// Whether the job closes the handler of a step and is no step; not known of a key that was cut.
    pub fn closes_handler(&self) -> bool {
        !self.is_opening() && self.as_str().ends_with(HANDLER)
    }

    /// The key of the job that closes the handler of this step.
    #[must_use]
    pub fn handler(&self) -> Self {
        Self::new(format!("{}{HANDLER}", self.as_str()))
    }

    /// The key of the step whose handler this job opens or closes; else its own.
    #[must_use]
    pub fn without_handler(&self) -> Self {
        let Some(path) = self.as_str().strip_suffix(HANDLER) else { return self.clone() };
        Self::new(path.strip_prefix('#').unwrap_or(path))
    }

    /// Whether the job is a step of a handler, maybe deep inside.
    pub fn is_in_handler(&self) -> bool {
        self.as_str().contains("[error]/")
    }

    /// In how many scopes the job stands: 0 for an outermost step.
    pub fn depth(&self) -> usize {
        self.as_str().matches('/').count()
    }

    /// The name of the step, as its document has it; of a key that was cut, what is left of it.
    pub fn step_name(&self) -> String {
        self.names().pop().unwrap_or_default()
    }

    /// The names of the steps from the outermost to this one.
    pub fn names(&self) -> Vec<String> {
        let path = self.as_str().strip_prefix('#').unwrap_or(self.as_str());
        path.split('/').map(name).collect()
    }
}

/// The name in a component, without the round and without what tells a handler.
fn name(component: &str) -> String {
    let escaped = component.split(['#', '[']).next().unwrap_or_default();
    let mut name = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some(at) = rest.find('%') {
        name.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 3).and_then(|code| u8::from_str_radix(code, 16).ok());
        match code {
            Some(code) => {
                name.push(char::from(code));
                rest = &rest[at + 3..];
            }
            None => {
                name.push('%');
                rest = &rest[at + 1..];
            }
        }
    }
    name.push_str(rest);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_looks_like_a_path_and_every_key_gives_its_names_back() {
        let odd = ["a", "a/b", "#a", "a#2", "a[3]", "100%", "%2F", "ü ?"];
        let mut keys = Vec::new();
        for outer in odd {
            let outer_path = StepPath::root().step(outer);
            assert_eq!(outer_path.key().names(), [outer]);
            assert_eq!(outer_path.key().depth(), 0);
            assert!(!outer_path.key().is_opening());
            keys.extend([outer_path.key(), outer_path.opening(), outer_path.round(2).opening()]);
            let handler = outer_path.handler();
            assert_eq!(handler.key(), outer_path.key().handler());
            assert!(handler.key().closes_handler() && !outer_path.key().closes_handler());
            assert_eq!(handler.key().without_handler(), outer_path.key());
            assert_eq!(handler.opening().without_handler(), outer_path.key());
            assert_eq!(outer_path.key().without_handler(), outer_path.key());
            assert_eq!((handler.key().names(), handler.key().depth()), (vec![outer.to_owned()], 0));
            keys.extend([handler.key(), handler.opening()]);
            for inner in odd {
                for scope in [outer_path.round(1), outer_path.round(2), handler.clone()] {
                    let path = scope.step(inner);
                    assert_eq!(path.key().is_in_handler(), scope == handler);
                    assert_eq!(path.key().names(), [outer, inner]);
                    assert_eq!(path.key().step_name(), inner);
                    assert_eq!(path.outermost(), outer);
                    assert_eq!(path.key().depth(), 1);
                    assert!(path.opening().is_opening());
                    keys.extend([path.key(), path.opening()]);
                }
            }
        }
        let all = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), all, "two jobs share a key");
    }

    #[test]
    fn plain_names_are_their_own_keys_and_long_paths_stay_openings() {
        let path = StepPath::root().step("review").round(1).step("final-check_2");
        assert_eq!(path.key().as_str(), "review/final-check_2");
        assert_eq!(path.opening().as_str(), "#review/final-check_2");
        let long = StepPath::root().step(&"x".repeat(128)).step(&"y".repeat(128)).step("z");
        assert!(long.opening().is_opening() && !long.key().is_opening());
        assert_ne!(long.key(), long.round(2).key());
    }
}
