//! Going down: everybody who waits is told, then the host, then one application after the other is
//! stopped, the last one started first (APP-021).

use super::{Applications, Cause, Refusal, State, Step};

/// How far it is.
#[derive(Clone, Debug)]
pub(super) struct Going<E> {
    cause: Option<Cause<E>>,
    host_told: bool,
    down: bool,
}

impl<E: Clone> Applications<E> {
    /// The system goes down: somebody asked, or an application is the cause. The first counts.
    pub fn shut_down(&mut self, cause: Option<Cause<E>>) {
        if self.going.is_some() {
            return;
        }
        self.going = Some(Going { cause: cause.clone(), host_told: false, down: false });
        let mut left = Vec::new();
        for entry in self.entries.values_mut() {
            if let State::Starting { waiting, then_stop, .. } = &mut entry.state {
                left.append(waiting);
                left.append(then_stop);
            }
        }
        for request in left {
            self.answer(request, Err(Refusal::ShuttingDown));
        }
        self.all_given_up();
        self.steps.push_back(Step::TellHost(cause));
    }

    /// The host knows that the system goes down, or took too long to listen.
    pub fn host_told(&mut self) {
        if let Some(going) = &mut self.going {
            going.host_told = true;
        }
        self.go_down();
    }

    /// Whether the system goes down, or is down.
    pub fn is_going_down(&self) -> bool {
        self.going.is_some()
    }

    /// Why it goes down; nothing when it does not, or when somebody asked for it.
    pub fn cause(&self) -> Option<&Cause<E>> {
        self.going.as_ref()?.cause.as_ref()
    }

    /// One step further, when nothing is under way.
    pub(super) fn go_down(&mut self) {
        let Some(going) = &mut self.going else { return };
        if !going.host_told || going.down {
            return;
        }
        let mut busy = false;
        for (name, entry) in &mut self.entries {
            match &mut entry.state {
                State::Starting { aborted, .. } => {
                    busy = true;
                    if !std::mem::replace(aborted, true) {
                        self.steps.push_back(Step::Abort(name.clone()));
                    }
                }
                State::Stopping { .. } => busy = true,
                State::Loaded | State::Running { .. } | State::Died => (),
            }
        }
        if busy {
            return;
        }
        match self.running().pop() {
            Some((last, _)) => self.begin_stop(&last, None, Vec::new()),
            None => {
                if let Some(going) = &mut self.going {
                    going.down = true;
                }
                self.steps.push_back(Step::Down);
            }
        }
    }
}
