//! When messages came, for some of them: enough to tell how long the first one waits.

use std::collections::VecDeque;

use super::Stamp;

/// Marks that are kept; beyond, every second one is dropped.
const KEPT: usize = 16;
/// The fewest messages between two marks.
const STRIDE_MIN: u64 = 8;

/// How many messages later the next mark is due, where `depth` wait. The estimate is wrong by the time
/// in which so many came, at the most.
pub(super) fn stride(depth: u64) -> u64 {
    STRIDE_MIN.max(depth / 8)
}

/// Messages by their numbers, and when they came. Takes no memory before the first.
#[derive(Debug, Default)]
pub(super) struct Marks(VecDeque<(u64, Stamp)>);

impl Marks {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Numbers rise, but for senders that overtake each other.
    pub(super) fn add(&mut self, number: u64, at: Stamp) {
        if self.0.back().is_some_and(|(last, _)| *last >= number) {
            return;
        }
        if self.0.len() == KEPT {
            let mut place = 0;
            self.0.retain(|_| {
                place += 1;
                place % 2 == 1
            });
        }
        self.0.push_back((number, at));
    }

    /// When message `number` came, estimated between the marks around it; `last` is behind them all:
    /// the last message that waits, and now. Nothing where no mark is at or before it: then it came
    /// before the first mark, which is the best that is known.
    pub(super) fn came(&self, number: u64, last: (u64, Stamp)) -> Option<Stamp> {
        let behind = self.0.partition_point(|(mark, _)| *mark <= number);
        let Some(place) = behind.checked_sub(1) else { return self.0.front().map(|(_, at)| *at) };
        let (from, at) = self.0[place];
        let (to, until) = self.0.get(behind).copied().unwrap_or(last);
        if to <= from {
            return Some(at);
        }
        let (part, whole) = (u128::from(number - from), u128::from(to - from));
        let span = u128::from(until.saturating_sub(at));
        let later = u64::try_from(span * part.min(whole) / whole).unwrap_or(u64::MAX);
        Some(at.saturating_add(later))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_two_marks_time_is_shared_out_by_number() {
        let mut marks = Marks::default();
        assert_eq!(marks.came(1, (9, 9)), None);
        marks.add(10, 1_000);
        marks.add(20, 2_000);
        marks.add(20, 7_000);
        for (number, came) in [(5, 1_000), (10, 1_000), (15, 1_500), (20, 2_000), (25, 2_500)] {
            assert_eq!(marks.came(number, (30, 3_000)), Some(came), "{number}");
        }
        assert_eq!(marks.came(25, (20, 3_000)), Some(2_000));
    }

    #[test]
    fn no_more_than_a_few_are_kept_and_the_first_is_among_them() {
        let mut marks = Marks::default();
        for number in 1..10_000 {
            marks.add(number, number * 10);
            assert!(marks.0.len() <= KEPT);
        }
        assert_eq!(marks.came(1, (10_000, 100_000)), Some(10));
    }
}
