//! Numbers that look random and can be had again (splitmix64).

use std::hash::{BuildHasher, Hasher, RandomState};

/// The variable that repeats a seeded test.
const VARIABLE: &str = "PERENNIAL_SEED";

/// A generator for seeded tests. Not for secrets.
#[derive(Clone, Debug)]
pub struct Seed {
    state: u64,
}

impl Seed {
    /// The generator of `seed`; nothing is printed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The generator of the test `name`: of `PERENNIAL_SEED` when it is set, else of a new seed.
    /// Prints the seed, which the test harness shows when the test fails.
    ///
    /// # Panics
    ///
    /// When the variable is not a whole number.
    #[expect(clippy::print_stderr, reason = "the seed of a failed test must be seen")]
    pub fn of_test(name: &str) -> Self {
        let seed = match std::env::var(VARIABLE) {
            Ok(text) => text.parse().unwrap_or_else(|_| panic!("{VARIABLE}={text} is no number")),
            // Every state hashes the empty input differently.
            Err(_) => RandomState::new().build_hasher().finish(),
        };
        eprintln!("{name}: repeat with {VARIABLE}={seed}");
        Self::new(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    ///
    /// # Panics
    ///
    /// When `bound` is zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "there is no number below zero");
        // The upper half of a wide product; its bias is below 2^-32 for every bound of a test.
        let wide = u128::from(self.next_u64()) * u128::from(bound);
        u64::try_from(wide >> 64).expect("the upper half of 128 bits")
    }

    /// A number of `range`.
    ///
    /// # Panics
    ///
    /// When the range is empty.
    pub fn between(&mut self, range: std::ops::Range<u64>) -> u64 {
        assert!(!range.is_empty(), "there is no number in an empty range");
        range.start + self.below(range.end - range.start)
    }

    /// True in about `times` of `of` cases.
    pub fn chance(&mut self, times: u64, of: u64) -> bool {
        self.below(of) < times
    }

    /// One of `items`.
    ///
    /// # Panics
    ///
    /// When there are none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let place = self.below(items.len() as u64);
        &items[usize::try_from(place).expect("below a length")]
    }

    /// Puts `items` into another order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last as u64 + 1);
            items.swap(last, usize::try_from(other).expect("below a length"));
        }
    }

    /// A generator of its own, for a part of the test that may draw more or less.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self::new(self.next_u64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_splitmix64() {
        let mut seed = Seed::new(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| seed.next_u64()).collect();
        assert_eq!(
            first,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn equal_seeds_make_equal_choices_within_their_bounds() {
        let choices = |mut seed: Seed| -> Vec<u64> {
            let mut items: Vec<u64> = (0..9).collect();
            seed.shuffle(&mut items);
            items.extend([seed.below(3), seed.between(5..7), *seed.pick(&[1, 2])]);
            items.push(seed.fork().next_u64());
            items
        };
        assert_eq!(choices(Seed::new(7)), choices(Seed::new(7)));
        let mut seed = Seed::of_test("bounds");
        for _ in 0..1000 {
            assert!(seed.below(3) < 3);
            assert!((5..7).contains(&seed.between(5..7)));
        }
        let mut all: Vec<u64> = (0..9).collect();
        seed.shuffle(&mut all);
        all.sort_unstable();
        assert_eq!(all, (0..9).collect::<Vec<_>>());
    }
}
