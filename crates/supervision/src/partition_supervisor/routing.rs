//! Which number a key is.

use std::hash::{DefaultHasher, Hash, Hasher};

/// What keys are routed by. Other types than those that have it go as [`Hashed`].
///
/// ```
/// use perennial_supervision::RouteKey;
///
/// /// Routed by its first letter, so that neighbours are together.
/// struct Word(String);
/// impl RouteKey for Word {
///     fn number(&self) -> u64 {
///         self.0.bytes().next().map_or(0, u64::from)
///     }
/// }
/// assert_eq!(Word("ada".into()).number(), Word("alan".into()).number());
/// ```
pub trait RouteKey {
    /// Its number; equal keys have the same.
    ///
    /// ```
    /// use perennial_supervision::RouteKey;
    ///
    /// assert_eq!(7_u32.number(), 7);
    /// assert_eq!((-7_i32).number(), 7); // whole numbers go by their absolute value
    /// assert_eq!("ada".number(), String::from("ada").number());
    /// ```
    fn number(&self) -> u64;
}

/// A key of any type that can be hashed. Its number is the same in all runs of one build; nothing
/// that outlives the program may depend on it.
///
/// ```
/// use perennial_supervision::{Hashed, RouteKey};
///
/// let key = ("tenant", 7);
/// assert_eq!(Hashed(&key).number(), Hashed(&("tenant", 7)).number());
/// // `partitions.at(Hashed(&key))`
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Hashed<'a, T: ?Sized>(pub &'a T);

impl<T: Hash + ?Sized> RouteKey for Hashed<'_, T> {
    fn number(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.0.hash(&mut hasher);
        hasher.finish()
    }
}

impl RouteKey for &str {
    fn number(&self) -> u64 {
        Hashed(*self).number()
    }
}

impl RouteKey for &String {
    fn number(&self) -> u64 {
        Hashed(self.as_str()).number()
    }
}

impl RouteKey for String {
    fn number(&self) -> u64 {
        Hashed(self.as_str()).number()
    }
}

macro_rules! whole {
    ($($unsigned:ty),+; $($signed:ty),+) => {
        $(impl RouteKey for $unsigned {
            fn number(&self) -> u64 {
                u64::from(*self)
            }
        })+
        $(impl RouteKey for $signed {
            fn number(&self) -> u64 {
                u64::from(self.unsigned_abs())
            }
        })+
    };
}

whole!(u8, u16, u32, u64; i8, i16, i32, i64);

impl RouteKey for usize {
    fn number(&self) -> u64 {
        // Rust runs on nothing wider than 64 bits.
        u64::try_from(*self).unwrap_or(u64::MAX)
    }
}
