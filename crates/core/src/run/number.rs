//! Names of what hands out numbers: sequences, whose numbers are never used again, and pools, whose numbers
//! are given back.

use std::{fmt, ops::RangeInclusive};

/// Longest name, in bytes.
const BYTES_MAX: usize = 256;

/// A text or a range that cannot name a sequence or a pool of numbers.
///
/// ```
/// use perennial_core::run::{SequenceName, SlotPool};
///
/// assert!(SequenceName::new("").unwrap_err().to_string().contains("1 to 256 bytes"));
/// assert!(SlotPool::new("ports", 9..=1).unwrap_err().to_string().contains("1 to 65536 numbers"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidNumbers {
    /// No name.
    #[error(
        "{0:?} cannot name a sequence or a pool: 1 to 256 bytes without control characters are needed"
    )]
    Name(String),
    /// A range of none, or of too many.
    #[error("the pool `{pool}` has no use for {first} to {last}: 1 to {max} numbers are needed", max = SlotPool::NUMBERS_MAX)]
    Range {
        /// The pool.
        pool: String,
        /// Its first number.
        first: u32,
        /// Its last number.
        last: u32,
    },
}

fn named(text: String) -> Result<String, InvalidNumbers> {
    let fits = (1..=BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control);
    if fits { Ok(text) } else { Err(InvalidNumbers::Name(text)) }
}

/// The name of a sequence. A sequence counts from 1 in each of its scopes, and gives no number twice.
///
/// ```
/// use perennial_core::run::SequenceName;
///
/// let invoices = SequenceName::new("invoice")?;
/// assert_eq!(invoices.as_str(), "invoice");
/// # Ok::<(), perennial_core::run::InvalidNumbers>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceName(String);

impl SequenceName {
    /// The sequence of this name.
    ///
    /// ```
    /// use perennial_core::run::SequenceName;
    ///
    /// assert!(SequenceName::new("invoice 2026").is_ok());
    /// assert!(SequenceName::new("two\nlines").is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidNumbers::Name`] when it is empty, longer than 256 bytes, or has a control character.
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidNumbers> {
        named(name.into()).map(Self)
    }

    /// Its text.
    ///
    /// ```
    /// use perennial_core::run::SequenceName;
    ///
    /// assert_eq!(SequenceName::new("invoice")?.as_str(), "invoice");
    /// # Ok::<(), perennial_core::run::InvalidNumbers>(())
    /// ```
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SequenceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Numbers of which each has one holder at a time, such as ports.
///
/// Pools of one name have the same numbers, wherever they are named: two that name different ranges of it hand out
/// each its own, and never a number that is held.
///
/// ```
/// use perennial_core::run::SlotPool;
///
/// let ports = SlotPool::new("ports", 20_000..=20_999)?;
/// assert_eq!((ports.name(), ports.first(), ports.last()), ("ports", 20_000, 20_999));
/// # Ok::<(), perennial_core::run::InvalidNumbers>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SlotPool {
    name: String,
    numbers: RangeInclusive<u32>,
}

impl SlotPool {
    /// The most numbers of a pool.
    pub const NUMBERS_MAX: u32 = 65_536;

    /// The pool of this name, with these numbers.
    ///
    /// ```
    /// use perennial_core::run::SlotPool;
    ///
    /// assert!(SlotPool::new("gpu", 0..=3).is_ok());
    /// assert!(SlotPool::new("", 0..=3).is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidNumbers::Name`] when the name is empty, longer than 256 bytes, or has a control character;
    /// [`InvalidNumbers::Range`] when the range has no numbers, or more than [`SlotPool::NUMBERS_MAX`].
    pub fn new(
        name: impl Into<String>,
        numbers: RangeInclusive<u32>,
    ) -> Result<Self, InvalidNumbers> {
        let name = named(name.into())?;
        let (first, last) = (*numbers.start(), *numbers.end());
        match last.checked_sub(first) {
            Some(more) if more < Self::NUMBERS_MAX => Ok(Self { name, numbers }),
            Some(_) | None => Err(InvalidNumbers::Range { pool: name, first, last }),
        }
    }

    /// Its name.
    ///
    /// ```
    /// use perennial_core::run::SlotPool;
    ///
    /// assert_eq!(SlotPool::new("gpu", 0..=3)?.name(), "gpu");
    /// # Ok::<(), perennial_core::run::InvalidNumbers>(())
    /// ```
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The least of its numbers.
    ///
    /// ```
    /// use perennial_core::run::SlotPool;
    ///
    /// assert_eq!(SlotPool::new("gpu", 1..=4)?.first(), 1);
    /// # Ok::<(), perennial_core::run::InvalidNumbers>(())
    /// ```
    pub fn first(&self) -> u32 {
        *self.numbers.start()
    }

    /// The greatest of its numbers.
    ///
    /// ```
    /// use perennial_core::run::SlotPool;
    ///
    /// assert_eq!(SlotPool::new("gpu", 1..=4)?.last(), 4);
    /// # Ok::<(), perennial_core::run::InvalidNumbers>(())
    /// ```
    pub fn last(&self) -> u32 {
        *self.numbers.end()
    }
}

impl fmt::Display for SlotPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} to {}", self.name, self.first(), self.last())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_has_at_least_one_number_and_no_more_than_it_can() {
        for (first, last, fits) in [
            (7, 7, true),
            (7, 6, false),
            (0, 65_535, true),
            (0, 65_536, false),
            (u32::MAX, u32::MAX, true),
            (0, u32::MAX, false),
        ] {
            assert_eq!(SlotPool::new("p", first..=last).is_ok(), fits, "{first} to {last}");
        }
    }

    #[test]
    fn names_have_room_for_256_bytes() {
        for (name, fits) in [
            ("", false),
            ("x", true),
            ("a b/c", true),
            ("a\0b", false),
            (&*"x".repeat(256), true),
            (&*"x".repeat(257), false),
        ] {
            assert_eq!(SequenceName::new(name).is_ok(), fits, "{name:?}");
            assert_eq!(SlotPool::new(name, 0..=1).is_ok(), fits, "{name:?}");
        }
    }
}
