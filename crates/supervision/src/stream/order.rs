//! In which order results are handed out, and how far ahead the stream may work.

use std::collections::VecDeque;

/// Results that wait for the consumer, or for an earlier one. Indices are given out from zero on, each
/// is put in once.
pub(super) struct Order<R> {
    ordered: bool,
    /// Of the first that was not handed out; in order only.
    next: u64,
    /// With gaps where earlier ones are missing.
    kept: VecDeque<Option<R>>,
    /// How many at the front can be handed out.
    ready: usize,
}

impl<R> Order<R> {
    pub(super) fn new(ordered: bool) -> Self {
        Self { ordered, next: 0, kept: VecDeque::new(), ready: 0 }
    }

    pub(super) fn put(&mut self, index: u64, result: R) {
        if !self.ordered {
            self.kept.push_back(Some(result));
            self.ready += 1;
            return;
        }
        // Far less than 2^64 are ahead.
        let place = usize::try_from(index.saturating_sub(self.next)).unwrap_or(usize::MAX);
        while self.kept.len() <= place {
            self.kept.push_back(None);
        }
        self.kept[place] = Some(result);
        while self.kept.get(self.ready).is_some_and(Option::is_some) {
            self.ready += 1;
        }
    }

    pub(super) fn take(&mut self) -> Option<R> {
        if self.ready == 0 {
            return None;
        }
        self.ready -= 1;
        self.next += 1;
        self.kept.pop_front().flatten()
    }

    /// How many could be handed out now.
    pub(super) fn ready(&self) -> usize {
        self.ready
    }

    /// How many are kept, and the gaps between them.
    pub(super) fn span(&self) -> usize {
        self.kept.len()
    }

    pub(super) fn clear(&mut self) {
        self.kept.clear();
        self.ready = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All orders in which `count` elements can finish.
    fn permutations(count: u64) -> Vec<Vec<u64>> {
        let mut all = vec![Vec::new()];
        for index in 0..count {
            all = all
                .into_iter()
                .flat_map(|order: Vec<u64>| {
                    (0..=order.len()).map(move |at| {
                        let mut longer = order.clone();
                        longer.insert(at, index);
                        longer
                    })
                })
                .collect();
        }
        all
    }

    #[test]
    fn whatever_finishes_first_results_come_in_order() {
        for finished in permutations(6) {
            let (mut order, mut given) = (Order::new(true), Vec::new());
            for (seen, index) in finished.iter().enumerate() {
                order.put(*index, *index);
                let so_far = &finished[..=seen];
                let prefix = (0..).take_while(|it| so_far.contains(it)).count();
                assert_eq!(order.ready(), prefix - given.len(), "{finished:?}");
                // Now and then one is taken in between.
                if index % 2 == 0 {
                    given.extend(order.take());
                }
            }
            given.extend(std::iter::from_fn(|| order.take()));
            assert_eq!(given, [0, 1, 2, 3, 4, 5], "{finished:?}");
            assert_eq!(order.span(), 0);
        }
    }

    #[test]
    fn without_order_results_come_as_they_finish() {
        for finished in permutations(5) {
            let mut order = Order::new(false);
            finished.iter().for_each(|index| order.put(*index, *index));
            assert_eq!((order.ready(), order.span()), (5, 5));
            let given: Vec<u64> = std::iter::from_fn(|| order.take()).collect();
            assert_eq!(given, finished);
        }
    }
}
