//! Which siblings the exit of one child touches.

use std::ops::Range;

/// What happens to the siblings of a child that is restarted.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Nothing.
    #[default]
    OneForOne,
    /// All are stopped in reverse start order, then all are started.
    OneForAll,
    /// Those started after it are stopped in reverse start order, then it and they are started.
    RestForOne,
}

impl Strategy {
    /// The places, in start order, of the children that restart with the child at `failed`.
    ///
    /// They are stopped from last to first and started from first to last.
    ///
    /// # Panics
    ///
    /// If `failed` is not a place among `children`.
    pub fn group(self, failed: usize, children: usize) -> Range<usize> {
        assert!(failed < children, "the failed child is one of the children");
        match self {
            Self::OneForOne => failed..failed + 1,
            Self::OneForAll => 0..children,
            Self::RestForOne => failed..children,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_holds_the_failed_child_and_only_its_strategy_s_siblings() {
        for children in 1..6 {
            for failed in 0..children {
                assert_eq!(Strategy::OneForOne.group(failed, children), failed..failed + 1);
                assert_eq!(Strategy::OneForAll.group(failed, children), 0..children);
                assert_eq!(Strategy::RestForOne.group(failed, children), failed..children);
            }
        }
    }
}
