//! The names of what the children of one supervisor handle, by small numbers: each child has the number of its
//! own, which is written and read without a lock.

use std::sync::OnceLock;

use crate::gen_server::MESSAGE;

/// A list that only grows: by one for each name, of which a host has as many as its code names.
pub(super) struct Kinds {
    name: &'static str,
    next: OnceLock<Box<Kinds>>,
}

impl Default for Kinds {
    fn default() -> Self {
        Self::of(MESSAGE)
    }
}

impl Kinds {
    fn of(name: &'static str) -> Self {
        Self { name, next: OnceLock::new() }
    }

    /// That of `name`, which has one from here on.
    pub(super) fn number(&self, name: &'static str) -> u32 {
        let (mut number, mut at) = (0, self);
        // Mostly it is the very same text.
        while !std::ptr::eq(at.name, name) && at.name != name {
            at = at.next.get_or_init(|| Box::new(Self::of(name)));
            number += 1;
        }
        number
    }

    /// The name of this number, which somebody was given.
    pub(super) fn name(&self, number: u32) -> &'static str {
        let mut at = self;
        for _ in 0..number {
            at = at.next.get().map_or(at, |next| next);
        }
        at.name
    }
}

impl Drop for Kinds {
    fn drop(&mut self) {
        // One after the other: the list may be long.
        let mut next = self.next.take();
        while let Some(mut kinds) = next {
            next = kinds.next.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_keeps_its_number() {
        let kinds = Kinds::default();
        let names = [MESSAGE, "put", "items", "put", MESSAGE];
        let numbers = names.map(|name| kinds.number(name));
        assert_eq!(numbers, [0, 1, 2, 1, 0]);
        assert_eq!(numbers.map(|number| kinds.name(number)), names);
    }

    /// A drop within a drop would take more of the stack than there is.
    #[test]
    fn a_long_list_is_dropped_one_after_the_other() {
        let kinds = Kinds::default();
        let mut at = &kinds;
        for _ in 0..200_000 {
            at = at.next.get_or_init(|| Box::new(Kinds::of(MESSAGE)));
        }
    }
}
