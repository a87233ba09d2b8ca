//! The pure core: who may call now, who waits, and who is next.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::tool::ToolName;

/// Who may wait for one tool (TOOL-9).
const QUEUE_MAX: usize = 256;

/// Invariant: a permit is in `Entry::permits` from its grant until its one return; while somebody
/// waits for a tool, all its slots are taken.
#[derive(Debug)]
pub(super) struct Catalog<W> {
    permits_granted: u64,
    tools: BTreeMap<ToolName, Entry<W>>,
}

#[derive(Debug)]
struct Entry<W> {
    permits: BTreeSet<PermitId>,
    waiting: VecDeque<W>,
}

/// Unique within one incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PermitId(u64);

/// Whether to wait for a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// Now or not at all.
    None,
    /// Behind those who came before.
    InLine,
}

/// What became of a request.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict<W> {
    Granted(PermitId, W),
    Waits,
    Refused(W),
}

impl<W> Catalog<W> {
    pub(super) fn new() -> Self {
        Self { permits_granted: 0, tools: BTreeMap::new() }
    }

    /// `waiter` asks for `tool`; `still_there` tells which of those in line have not left.
    pub(super) fn acquire(
        &mut self,
        tool: &ToolName,
        calls_max: u32,
        patience: Patience,
        waiter: W,
        still_there: impl Fn(&W) -> bool,
    ) -> Verdict<W> {
        let entry = self.tools.entry(tool.clone()).or_default();
        if entry.has_room(calls_max) {
            return Verdict::Granted(entry.grant(&mut self.permits_granted), waiter);
        }
        if entry.waiting.len() == QUEUE_MAX {
            entry.waiting.retain(still_there);
        }
        match patience {
            Patience::InLine if entry.waiting.len() < QUEUE_MAX => {
                entry.waiting.push_back(waiter);
                Verdict::Waits
            }
            Patience::InLine | Patience::None => Verdict::Refused(waiter),
        }
    }

    /// `permit` comes back; who gets a slot now. `calls_max` may have changed since.
    pub(super) fn give_back(
        &mut self,
        tool: &ToolName,
        permit: PermitId,
        calls_max: u32,
    ) -> Vec<(PermitId, W)> {
        let entry = self.tools.get_mut(tool);
        let entry = entry.expect("a permit comes back to the incarnation that granted it");
        assert!(entry.permits.remove(&permit), "a permit comes back once");
        let mut granted = Vec::new();
        while entry.has_room(calls_max)
            && let Some(waiter) = entry.waiting.pop_front()
        {
            granted.push((entry.grant(&mut self.permits_granted), waiter));
        }
        granted
    }

    /// `tool` is gone; who waited for it.
    pub(super) fn dismiss(&mut self, tool: &ToolName) -> VecDeque<W> {
        self.tools.get_mut(tool).map(|entry| std::mem::take(&mut entry.waiting)).unwrap_or_default()
    }

    /// Calls in flight and callers in line.
    pub(super) fn load(&self, tool: &ToolName) -> (usize, usize) {
        self.tools.get(tool).map_or((0, 0), |entry| (entry.permits.len(), entry.waiting.len()))
    }
}

impl<W> Default for Entry<W> {
    fn default() -> Self {
        Self { permits: BTreeSet::new(), waiting: VecDeque::new() }
    }
}

impl<W> Entry<W> {
    fn has_room(&self, calls_max: u32) -> bool {
        self.permits.len() < usize::try_from(calls_max).unwrap_or(usize::MAX)
    }

    fn grant(&mut self, permits_granted: &mut u64) -> PermitId {
        *permits_granted += 1;
        let id = PermitId(*permits_granted);
        assert!(self.permits.insert(id), "ids are unique");
        id
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn grep() -> ToolName {
        ToolName::new("grep")
    }

    fn ask(catalog: &mut Catalog<u32>, patience: Patience, waiter: u32) -> Verdict<u32> {
        catalog.acquire(&grep(), 2, patience, waiter, |_| true)
    }

    #[test]
    fn a_returned_permit_goes_to_the_first_in_line() {
        let mut catalog = Catalog::new();
        let Verdict::Granted(first, 1) = ask(&mut catalog, Patience::None, 1) else { panic!() };
        assert!(matches!(ask(&mut catalog, Patience::InLine, 2), Verdict::Granted(_, 2)));
        assert_eq!(ask(&mut catalog, Patience::None, 3), Verdict::Refused(3));
        assert_eq!(ask(&mut catalog, Patience::InLine, 4), Verdict::Waits);
        assert_eq!(ask(&mut catalog, Patience::InLine, 5), Verdict::Waits);
        assert_eq!(catalog.load(&grep()), (2, 2));
        let next: Vec<u32> =
            catalog.give_back(&grep(), first, 2).into_iter().map(|(_, waiter)| waiter).collect();
        assert_eq!(next, [4]);
        assert_eq!(catalog.dismiss(&grep()), [5]);
    }

    #[test]
    fn a_line_is_bounded_and_those_who_left_make_room() {
        let mut catalog = Catalog::new();
        let most = u32::try_from(QUEUE_MAX).unwrap() + 2;
        for waiter in 0..most {
            assert!(!matches!(ask(&mut catalog, Patience::InLine, waiter), Verdict::Refused(_)));
        }
        assert_eq!(ask(&mut catalog, Patience::InLine, 999), Verdict::Refused(999));
        let even = |waiter: &u32| waiter.is_multiple_of(2);
        let verdict = catalog.acquire(&grep(), 2, Patience::InLine, 999, even);
        assert_eq!(verdict, Verdict::Waits);
        assert_eq!(catalog.load(&grep()), (2, QUEUE_MAX / 2 + 1));
    }

    proptest! {
        #[test]
        fn no_more_than_the_limit_are_out_and_nobody_waits_beside_a_free_slot(
            moves in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..200),
            calls_max in 1_u32..5,
        ) {
            let (mut catalog, mut out) = (Catalog::new(), Vec::new());
            for (number, (takes, which)) in moves.into_iter().enumerate() {
                if takes {
                    let patience = Patience::InLine;
                    let verdict = catalog.acquire(&grep(), calls_max, patience, number, |_| true);
                    if let Verdict::Granted(id, _) = verdict {
                        out.push(id);
                    }
                } else if !out.is_empty() {
                    let id = out.swap_remove(which.index(out.len()));
                    let granted = catalog.give_back(&grep(), id, calls_max);
                    out.extend(granted.into_iter().map(|(id, _)| id));
                }
                let (calls, waiting) = catalog.load(&grep());
                prop_assert_eq!(calls, out.len());
                prop_assert!(calls <= calls_max as usize);
                prop_assert!(waiting == 0 || calls == calls_max as usize);
            }
        }
    }
}
