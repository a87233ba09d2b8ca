//! Starting an application with all that it depends on, or nothing of it (APP-006, 007).

use std::collections::VecDeque;

use super::{ApplicationName, Applications, Asker, Refusal, Restart, State, Want, start_order};

/// One request of that kind.
#[derive(Clone, Debug)]
pub(super) struct All<E> {
    asker: Asker,
    restart: Restart,
    /// What is not looked at yet.
    coming: VecDeque<ApplicationName>,
    /// What this request has started, in order, each with its place: one that was started again since
    /// is another one's.
    own: Vec<(ApplicationName, u64)>,
    waits: Waits,
    /// Why it is being undone.
    failed: Option<Refusal<E>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Waits {
    No,
    /// For a start, of this request or not.
    Start {
        name: ApplicationName,
        own: bool,
    },
    Stop(ApplicationName),
}

impl<E: Clone> Applications<E> {
    /// Somebody wants all of `names` to run, and what they depend on.
    pub fn start_all(&mut self, asker: Asker, names: &[ApplicationName], restart: Restart) {
        let entries = &self.entries;
        let below =
            |name: &ApplicationName| entries.get(name).map(|entry| entry.depends_on.as_slice());
        let order = self.is_open().and_then(|()| start_order(names, below));
        match order {
            Ok(order) => {
                let (coming, own, waits) = (order.into(), Vec::new(), Waits::No);
                self.go_on(All { asker, restart, coming, own, waits, failed: None });
            }
            Err(refusal) => self.answer(asker.request, Err(refusal)),
        }
    }

    pub(super) fn all_started(&mut self, name: &ApplicationName, place: u64) {
        for mut all in self.waiting_for_start(name) {
            if let Waits::Start { own: true, .. } = all.waits {
                all.own.push((name.clone(), place));
            }
            self.go_on(all);
        }
    }

    pub(super) fn all_failed(&mut self, name: &ApplicationName, error: &E) {
        for mut all in self.waiting_for_start(name) {
            let (application, error) = (name.clone(), error.clone());
            all.failed = Some(Refusal::Failed { application, error });
            self.go_on(all);
        }
    }

    pub(super) fn all_stopped(&mut self, name: &ApplicationName) {
        for all in self.take_alls(|all| all.waits == Waits::Stop(name.clone())) {
            self.go_on(all);
        }
    }

    /// The system goes down, which undoes all of it.
    pub(super) fn all_given_up(&mut self) {
        for all in std::mem::take(&mut self.alls) {
            let refusal = all.failed.unwrap_or(Refusal::ShuttingDown);
            self.answer(all.asker.request, Err(refusal));
        }
    }

    fn waiting_for_start(&mut self, started: &ApplicationName) -> Vec<All<E>> {
        self.take_alls(|all| match &all.waits {
            Waits::Start { name, .. } => name == started,
            Waits::No | Waits::Stop(_) => false,
        })
    }

    fn take_alls(&mut self, which: impl Fn(&All<E>) -> bool) -> Vec<All<E>> {
        let (taken, kept) = std::mem::take(&mut self.alls).into_iter().partition(which);
        self.alls = kept;
        taken
    }

    /// Goes on until it has to wait or is through.
    fn go_on(&mut self, mut all: All<E>) {
        while all.failed.is_none() {
            let Some(name) = all.coming.pop_front() else {
                let own = all.own.into_iter().map(|(name, _)| name).collect();
                return self.answer(all.asker.request, Ok(own));
            };
            match self.want(&all.asker, &name, all.restart) {
                Ok(Want::Runs) => (),
                Ok(Want::Joins) => {
                    all.waits = Waits::Start { name, own: false };
                    return self.alls.push(all);
                }
                Ok(Want::Begins) => {
                    all.waits = Waits::Start { name, own: true };
                    return self.alls.push(all);
                }
                Err(refusal) => all.failed = Some(refusal),
            }
        }
        // What it has started goes in reverse, one after the other; what ran before stays.
        while let Some((name, own)) = all.own.pop() {
            match self.state(&name) {
                Some(State::Running { place, .. }) if *place == own => {
                    self.begin_stop(&name, None, Vec::new());
                }
                Some(State::Stopping { .. }) => (),
                // Somebody else has stopped it, and may have started it again since.
                Some(
                    State::Running { .. } | State::Loaded | State::Died | State::Starting { .. },
                )
                | None => continue,
            }
            all.waits = Waits::Stop(name);
            return self.alls.push(all);
        }
        let result = all.failed.map_or(Ok(Vec::new()), Err);
        self.answer(all.asker.request, result);
    }
}
