//! Every order of what clients and the server's own task do, up to a length, against a plain account.

use super::*;

/// What can happen next. Those of the task come in its order; those of others at any moment.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Happens {
    /// Somebody sends to whichever incarnation is there.
    Post,
    /// Somebody sends to the first incarnation.
    PostToFirst,
    /// Somebody asks for the end of the present incarnation.
    Ask,
    /// The supervisor ends it for good.
    Doom,
    /// The task goes on, and all is well.
    Go,
    /// The task goes on, and the user's code fails.
    Fail,
    /// The incarnation is killed: the task comes to its end, wherever it is.
    Die,
}

const ALL: [Happens; 7] = [
    Happens::Post,
    Happens::PostToFirst,
    Happens::Ask,
    Happens::Doom,
    Happens::Go,
    Happens::Fail,
    Happens::Die,
];

/// Where the task is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Task {
    Init,
    Serving,
    Waiting,
    Cleanup,
    Decides,
    Gone,
}

struct World {
    desk: Desk<u32>,
    task: Task,
    bound: Mailbox,
    /// Messages by number: to which incarnation they were sent.
    sent: u32,
    /// Those that were taken, in order, and not yet accounted for.
    taken: VecDeque<u32>,
    refused: u32,
    handled: Vec<u32>,
    undelivered: u32,
    displaced: u32,
    /// Messages of the present incarnation that were taken before it was first asked to stop.
    before_stop: Option<u32>,
    /// Messages of the present incarnation that left the queue.
    left: u32,
    is_doomed: bool,
    ends: u32,
    starts: u32,
    woken: bool,
}

impl World {
    fn new(bound: Mailbox) -> Self {
        Self {
            desk: Desk::new(),
            task: Task::Init,
            bound,
            sent: 0,
            taken: VecDeque::new(),
            refused: 0,
            handled: Vec::new(),
            undelivered: 0,
            displaced: 0,
            before_stop: None,
            left: 0,
            is_doomed: false,
            ends: 0,
            starts: 1,
            woken: false,
        }
    }

    fn post(&mut self, to: Option<u32>) {
        self.sent += 1;
        let is_there = !matches!(self.task, Task::Decides | Task::Gone);
        let is_it = to.is_none_or(|to| to == self.starts);
        let has_room = self.taken.len() < self.bound.capacity as usize;
        match self.desk.post(self.bound, to, self.sent, 7) {
            Posted::Taken { wake, displaced } => {
                assert!(is_there && is_it);
                if let Some(displaced) = displaced {
                    assert_eq!(self.taken.pop_front(), Some(displaced));
                    self.displaced += 1;
                    self.left += 1;
                } else {
                    assert!(has_room);
                }
                self.taken.push_back(self.sent);
                self.woken |= wake;
            }
            Posted::Refused(why, message) => {
                assert_eq!(message, self.sent);
                self.refused += 1;
                match why {
                    Refused::NoProc => assert!(!(is_there && is_it)),
                    Refused::Full => assert!(is_there && is_it && !has_room),
                    Refused::Dropped | Refused::Stranger => panic!("{why:?}"),
                }
            }
        }
    }

    fn end(&mut self) {
        let reason = ExitReason::Killed;
        let remains = self.desk.end(&reason, Uptime::ZERO, true);
        assert_eq!(remains.messages, self.taken.drain(..).collect::<Vec<_>>());
        assert_eq!(remains.doomed, self.is_doomed);
        self.undelivered += u32::try_from(remains.messages.len()).unwrap();
        self.ends += 1;
        self.task = Task::Decides;
        assert_eq!((self.desk.end_of(self.starts), self.desk.there()), (None, None));
        self.desk.told();
        assert_eq!(self.desk.end_of(self.starts), Some(reason));
    }

    /// Whether this can happen now; if so it has.
    fn happens(&mut self, what: Happens) -> bool {
        match (what, self.task) {
            (Happens::Post, _) => self.post(None),
            (Happens::PostToFirst, _) if self.starts > 1 => self.post(Some(1)),
            (Happens::PostToFirst, _) => return false,
            (Happens::Ask, _) => {
                let is_up = !matches!(self.task, Task::Decides | Task::Gone);
                let asked = self.desk.ask(None, &ExitReason::Shutdown);
                assert_eq!(asked, is_up);
                self.is_asked(asked);
            }
            (Happens::Doom, Task::Gone) => return false,
            (Happens::Doom, _) => {
                self.is_doomed = true;
                self.desk.doom();
                let asked = self.desk.ask(None, &ExitReason::Shutdown);
                self.is_asked(asked);
                self.woken = true;
            }
            (Happens::Go, Task::Init) => {
                self.desk.started(Uptime::ZERO);
                self.task = Task::Serving;
            }
            (Happens::Go, Task::Serving) => self.serve(),
            (Happens::Go, Task::Waiting) if self.woken => self.serve(),
            (Happens::Go, Task::Cleanup) => self.end(),
            (Happens::Go, Task::Decides) => {
                if self.desk.begin_again() {
                    assert!(!self.is_doomed, "what is doomed came back");
                    self.starts += 1;
                    (self.before_stop, self.left) = (None, 0);
                    self.task = Task::Init;
                } else {
                    assert!(self.is_doomed);
                    self.desk.over();
                    self.task = Task::Gone;
                }
            }
            (Happens::Fail, Task::Serving) => {
                self.desk.ending(7);
                self.task = Task::Cleanup;
            }
            (Happens::Fail, Task::Init) | (Happens::Die, Task::Init | Task::Serving) => self.end(),
            (Happens::Die, Task::Waiting | Task::Cleanup) => self.end(),
            (Happens::Go, Task::Waiting | Task::Gone)
            | (Happens::Fail, Task::Waiting | Task::Cleanup | Task::Decides | Task::Gone)
            | (Happens::Die, Task::Decides | Task::Gone) => return false,
        }
        true
    }

    fn is_asked(&mut self, asked: bool) {
        if asked {
            self.woken = true;
            if self.before_stop.is_none() && self.task != Task::Cleanup {
                self.before_stop = Some(self.left + u32::try_from(self.taken.len()).unwrap());
            }
        }
    }

    fn serve(&mut self) {
        self.woken = false;
        match self.desk.next(|| 7) {
            Todo::Handle(message) => {
                assert!(self.before_stop.is_none_or(|before| self.left < before));
                assert_eq!(self.taken.pop_front(), Some(message));
                self.handled.push(message);
                self.left += 1;
                self.task = Task::Serving;
            }
            Todo::Stop(_) => {
                assert!(self.before_stop.is_some_and(|before| self.left >= before));
                self.task = Task::Cleanup;
            }
            Todo::Nothing => {
                assert!(self.taken.is_empty(), "it sleeps over a message");
                assert!(self.before_stop.is_none(), "it sleeps over a stop");
                self.task = Task::Waiting;
            }
        }
    }

    /// What holds at every moment.
    fn holds(&self) {
        let accounted = u32::try_from(self.handled.len() + self.taken.len()).unwrap()
            + self.refused
            + self.undelivered
            + self.displaced;
        assert_eq!(accounted, self.sent, "a message was lost");
        assert!(self.handled.is_sorted(), "{:?}", self.handled);
        assert!(self.starts - self.ends <= 1);
        let look = self.desk.look("message");
        assert_eq!(look.depth, self.taken.len() as u64);
        assert_eq!((look.incarnation, look.restarts), (self.starts, self.starts - 1));
        assert_eq!(look.undelivered, u64::from(self.undelivered));
        // Whoever waits with something to do has been woken.
        if self.task == Task::Waiting && (!self.taken.is_empty() || self.before_stop.is_some()) {
            assert!(self.woken, "nobody woke it");
        }
    }
}

#[test]
fn every_order_of_events_keeps_every_promise() {
    const LENGTH: u32 = 7;
    for overflow in [Overflow::Reject, Overflow::DropOldest] {
        let bound = Mailbox::new(2).overflow(overflow);
        let mut orders = 0_u32;
        let choices = u32::try_from(ALL.len()).unwrap();
        'orders: for order in 0..choices.pow(LENGTH) {
            let (mut world, mut rest) = (World::new(bound), order);
            for _ in 0..LENGTH {
                let what = ALL[(rest % choices) as usize];
                rest /= choices;
                if !world.happens(what) {
                    continue 'orders;
                }
                world.holds();
            }
            orders += 1;
        }
        assert!(orders > 100_000, "{orders}");
    }
}
