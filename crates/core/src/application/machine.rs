//! The applications of one system as a machine: what happened goes in, steps to take come out.
//!
//! The machine decides and never does. Whoever drives it feeds one event and takes the steps that
//! [`Applications::next_step`] gives until there is none. Starting and stopping take their time: other
//! events may come before [`started`](Applications::started) and [`stopped`](Applications::stopped).

mod all;
mod down;

use std::collections::{BTreeMap, VecDeque};

use self::{all::All, down::Going};
use super::{
    APPLICATIONS_MAX, ApplicationName, Asker, Cause, Failure, Phase, Refusal, Request, Step,
    Wanted, end_brings_down, failed_start_brings_down, start_order,
};
use crate::{ExitReason, Restart};

#[derive(Clone, Debug)]
struct Entry {
    depends_on: Vec<ApplicationName>,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Loaded,
    Starting {
        restart: Restart,
        /// Who shares this start (APP-010).
        waiting: Vec<Request>,
        /// Who wants it stopped once it runs.
        then_stop: Vec<Request>,
        aborted: bool,
    },
    Running {
        restart: Restart,
        /// Place in start order.
        place: u64,
    },
    Stopping {
        restart: Restart,
        /// Why its top supervisor ended, where that ended by itself.
        own: Option<ExitReason>,
        waiting: Vec<Request>,
    },
    Died,
}

/// The applications of one system. `E` says why a start failed.
///
/// Invariants: at most one job, a start or a stop, is under way for each application; while the system
/// goes down nobody waits for an answer but to a stop that was under way.
#[derive(Clone, Debug)]
pub struct Applications<E> {
    entries: BTreeMap<ApplicationName, Entry>,
    alls: Vec<All<E>>,
    places: u64,
    going: Option<Going<E>>,
    steps: VecDeque<Step<E>>,
}

impl<E> Default for Applications<E> {
    fn default() -> Self {
        let (entries, alls, steps) = (BTreeMap::new(), Vec::new(), VecDeque::new());
        Self { entries, alls, places: 0, going: None, steps }
    }
}

/// What wanting an application to run has come to.
enum Want {
    Runs,
    /// A start of somebody else is under way.
    Joins,
    /// It was not there and is being started.
    Begins,
}

impl<E: Clone> Applications<E> {
    /// The next thing to do, until there is none.
    pub fn next_step(&mut self) -> Option<Step<E>> {
        self.steps.pop_front()
    }

    /// All that are loaded, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&ApplicationName, Phase)> {
        self.entries.iter().map(|(name, entry)| (name, entry.state.phase()))
    }

    /// What it is at; nothing when it is not loaded.
    pub fn phase(&self, name: &ApplicationName) -> Option<Phase> {
        self.entries.get(name).map(|entry| entry.state.phase())
    }

    /// What a start that is under way is to make of it.
    pub fn starts_as(&self, name: &ApplicationName) -> Option<Restart> {
        match self.entries.get(name)?.state {
            State::Starting { restart, .. } => Some(restart),
            State::Loaded | State::Running { .. } | State::Stopping { .. } | State::Died => None,
        }
    }

    /// Those that run, in start order, with what they were started as.
    pub fn running(&self) -> Vec<(ApplicationName, Restart)> {
        let mut running: Vec<_> = self
            .entries
            .iter()
            .filter_map(|(name, entry)| match entry.state {
                State::Running { restart, place } => Some((place, (name.clone(), restart))),
                State::Loaded | State::Starting { .. } | State::Stopping { .. } | State::Died => {
                    None
                }
            })
            .collect();
        running.sort_by_key(|(place, _)| *place);
        running.into_iter().map(|(_, it)| it).collect()
    }

    /// Makes an application known. What it depends on need not be loaded yet.
    ///
    /// # Errors
    ///
    /// [`Refusal::InvalidName`], [`Refusal::AlreadyLoaded`], [`Refusal::TooMany`],
    /// [`Refusal::Circular`] for one that depends on itself, [`Refusal::ShuttingDown`].
    pub fn load(
        &mut self,
        name: &ApplicationName,
        depends_on: Vec<ApplicationName>,
    ) -> Result<(), Refusal<E>> {
        self.is_open()?;
        if !name.is_valid() {
            return Err(Refusal::InvalidName(name.clone()));
        }
        if self.entries.contains_key(name) {
            return Err(Refusal::AlreadyLoaded(name.clone()));
        }
        if depends_on.contains(name) {
            return Err(Refusal::Circular(vec![name.clone()]));
        }
        if self.entries.len() >= APPLICATIONS_MAX {
            return Err(Refusal::TooMany(APPLICATIONS_MAX));
        }
        self.entries.insert(name.clone(), Entry { depends_on, state: State::Loaded });
        Ok(())
    }

    /// Forgets an application that does not run.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotLoaded`], [`Refusal::InUse`], [`Refusal::ShuttingDown`].
    pub fn unload(&mut self, name: &ApplicationName) -> Result<(), Refusal<E>> {
        self.is_open()?;
        match self.phase(name) {
            None => Err(Refusal::NotLoaded(name.clone())),
            Some(Phase::Loaded | Phase::Died) => {
                self.entries.remove(name);
                Ok(())
            }
            Some(Phase::Starting | Phase::Running | Phase::Stopping) => {
                Err(Refusal::InUse(name.clone()))
            }
        }
    }

    /// Somebody wants `name` started (APP-001–005, 010).
    pub fn start(
        &mut self,
        asker: &Asker,
        name: &ApplicationName,
        restart: Restart,
        wanted: Wanted,
    ) {
        match (self.want(asker, name, restart), wanted) {
            (Ok(Want::Runs), Wanted::Start) => {
                self.answer(asker.request, Err(Refusal::AlreadyStarted(name.clone())));
            }
            (Ok(Want::Runs), Wanted::Running) => self.answer(asker.request, Ok(Vec::new())),
            (Ok(Want::Joins | Want::Begins), Wanted::Start | Wanted::Running) => {
                if let Some(State::Starting { waiting, .. }) = self.state(name) {
                    waiting.push(asker.request);
                }
            }
            (Err(refusal), Wanted::Start | Wanted::Running) => {
                self.answer(asker.request, Err(refusal));
            }
        }
    }

    /// Lets `name` start unless it runs or starts already.
    fn want(
        &mut self,
        asker: &Asker,
        name: &ApplicationName,
        restart: Restart,
    ) -> Result<Want, Refusal<E>> {
        self.is_open()?;
        match self.phase(name) {
            None => Err(Refusal::NotLoaded(name.clone())),
            Some(Phase::Running) => Ok(Want::Runs),
            Some(Phase::Starting) if asker.inside.as_ref() == Some(name) => {
                Err(Refusal::CallingSelf(name.clone()))
            }
            Some(Phase::Starting) => Ok(Want::Joins),
            Some(Phase::Stopping) => Err(Refusal::Stopping(name.clone())),
            Some(Phase::Loaded | Phase::Died) => {
                self.depends(name)?;
                let (waiting, then_stop) = (Vec::new(), Vec::new());
                if let Some(state) = self.state(name) {
                    *state = State::Starting { restart, waiting, then_stop, aborted: false };
                }
                self.steps.push_back(Step::Start(name.clone()));
                Ok(Want::Begins)
            }
        }
    }

    /// Whether all that `name` depends on runs; the first that does not is told (APP-003, 004).
    fn depends(&self, name: &ApplicationName) -> Result<(), Refusal<E>> {
        let below = self.entries.get(name).map_or(&[][..], |entry| &entry.depends_on);
        below.iter().try_for_each(|dependency| match self.phase(dependency) {
            Some(Phase::Running) => Ok(()),
            Some(Phase::Stopping | Phase::Died) => Err(Refusal::NotRunning(dependency.clone())),
            Some(Phase::Loaded | Phase::Starting) | None => {
                Err(Refusal::NotStarted(dependency.clone()))
            }
        })
    }

    /// Somebody wants `name` stopped (APP-014, 016). One that is starting is stopped once it runs.
    pub fn stop(&mut self, asker: &Asker, name: &ApplicationName) {
        let request = asker.request;
        let waits_for_itself = asker.inside.as_ref() == Some(name);
        let going = self.going.is_some();
        let refusal = match self.state(name) {
            None | Some(State::Loaded) => Refusal::NotStarted(name.clone()),
            Some(State::Starting { .. } | State::Running { .. } | State::Stopping { .. })
                if waits_for_itself =>
            {
                Refusal::CallingSelf(name.clone())
            }
            Some(State::Stopping { waiting, .. }) => return waiting.push(request),
            Some(State::Starting { .. } | State::Running { .. } | State::Died) if going => {
                Refusal::ShuttingDown
            }
            Some(State::Starting { then_stop, .. }) => return then_stop.push(request),
            Some(State::Running { .. }) => return self.begin_stop(name, None, vec![request]),
            Some(state @ State::Died) => {
                *state = State::Loaded;
                return self.answer(request, Ok(Vec::new()));
            }
        };
        self.answer(request, Err(refusal));
    }

    /// What a start has come to.
    pub fn started(&mut self, name: &ApplicationName, result: Result<(), Failure<E>>) {
        let place = self.places;
        let Some(state) = self.state(name) else { return };
        let State::Starting { restart, waiting, then_stop, aborted } = state else { return };
        let (restart, waiting, aborted) = (*restart, std::mem::take(waiting), *aborted);
        let then_stop = std::mem::take(then_stop);
        match result {
            Ok(()) => {
                *state = State::Running { restart, place };
                self.places += 1;
                for request in waiting {
                    self.answer(request, Ok(vec![name.clone()]));
                }
                self.all_started(name, place);
                if !then_stop.is_empty() {
                    self.begin_stop(name, None, then_stop);
                }
            }
            Err(Failure { error, normal }) => {
                *state = State::Loaded;
                let application = name.clone();
                for request in waiting {
                    let error = error.clone();
                    self.answer(request, Err(Refusal::Failed { application: name.clone(), error }));
                }
                for request in then_stop {
                    self.answer(request, Err(Refusal::NotStarted(name.clone())));
                }
                if !aborted {
                    let error = error.clone();
                    self.steps.push_back(Step::FailedToStart { application, restart, error });
                }
                self.all_failed(name, &error);
                if failed_start_brings_down(restart, normal) {
                    let application = name.clone();
                    self.shut_down(Some(Cause::FailedToStart { application, restart, error }));
                }
            }
        }
        self.go_down();
    }

    /// The top supervisor of `name` ended, and nobody had asked it to.
    pub fn ended(&mut self, name: &ApplicationName, reason: ExitReason) {
        if self.phase(name) == Some(Phase::Running) {
            self.begin_stop(name, Some(reason), Vec::new());
        }
    }

    fn begin_stop(
        &mut self,
        name: &ApplicationName,
        own: Option<ExitReason>,
        waiting: Vec<Request>,
    ) {
        let Some(state) = self.state(name) else { return };
        match state {
            State::Running { restart, .. } => {
                *state = State::Stopping { restart: *restart, own, waiting };
                self.steps.push_back(Step::Stop(name.clone()));
            }
            // It had just started, and the first who heard of that undid it.
            State::Stopping { waiting: others, .. } => others.extend(waiting),
            State::Loaded | State::Starting { .. } | State::Died => (),
        }
    }

    /// Nothing of `name` runs any more.
    pub fn stopped(&mut self, name: &ApplicationName) {
        let Some(state) = self.state(name) else { return };
        let State::Stopping { restart, own, waiting } = state else { return };
        let (restart, own, waiting) = (*restart, own.take(), std::mem::take(waiting));
        // Somebody who stops it has seen to it.
        *state = if own.is_some() && waiting.is_empty() { State::Died } else { State::Loaded };
        if let Some(reason) = &own {
            let (application, reason) = (name.clone(), reason.clone());
            self.steps.push_back(Step::Exited { application, restart, reason });
        }
        for request in waiting {
            self.answer(request, Ok(Vec::new()));
        }
        self.all_stopped(name);
        if let Some(reason) = own.filter(|reason| end_brings_down(restart, reason)) {
            let application = name.clone();
            self.shut_down(Some(Cause::Exited { application, restart, reason }));
        }
        self.go_down();
    }

    fn state(&mut self, name: &ApplicationName) -> Option<&mut State> {
        self.entries.get_mut(name).map(|entry| &mut entry.state)
    }

    fn answer(&mut self, request: Request, result: Result<Vec<ApplicationName>, Refusal<E>>) {
        self.steps.push_back(Step::Answer(request, result));
    }

    fn is_open(&self) -> Result<(), Refusal<E>> {
        if self.going.is_some() { Err(Refusal::ShuttingDown) } else { Ok(()) }
    }
}

impl State {
    fn phase(&self) -> Phase {
        match self {
            Self::Loaded => Phase::Loaded,
            Self::Starting { .. } => Phase::Starting,
            Self::Running { .. } => Phase::Running,
            Self::Stopping { .. } => Phase::Stopping,
            Self::Died => Phase::Died,
        }
    }
}

#[cfg(test)]
mod tests;
