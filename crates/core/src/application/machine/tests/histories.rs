//! Every order of events of a small world, and long random ones of the whole.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// What may happen next.
#[derive(Clone, Debug)]
enum Event {
    Start(ApplicationName, Restart, Wanted),
    StartAll(ApplicationName, Restart),
    Stop(ApplicationName),
    Started(ApplicationName, bool),
    Ended(ApplicationName, ExitReason),
    Stopped(ApplicationName),
    ShutDown,
    HostTold,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    Start,
    Stop,
}

/// What somebody who only sees the steps knows; objects to what breaks a promise.
#[derive(Clone, Default)]
struct Observer {
    jobs: BTreeMap<ApplicationName, Job>,
    /// Up, in start order; those of which a stop is under way are not.
    up: Vec<ApplicationName>,
    open: BTreeSet<Request>,
    requests: Request,
    going: bool,
    host_told: bool,
    down: bool,
    /// The present event is an end that nobody asked for.
    ends_itself: bool,
    /// Why the system should be going down by itself.
    fatal: bool,
}

#[derive(Clone)]
struct Play {
    machine: Machine,
    seen: Observer,
    depends_on: BTreeMap<ApplicationName, Vec<ApplicationName>>,
}

impl Play {
    fn new(world: &[(&str, &str)]) -> Self {
        let mut machine = Machine::default();
        let mut depends_on = BTreeMap::new();
        for (one, below) in world {
            machine.load(&name(one), names(below)).unwrap();
            depends_on.insert(name(one), names(below));
        }
        Self { machine, seen: Observer::default(), depends_on }
    }

    /// All that can happen here.
    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for one in self.depends_on.keys() {
            match self.seen.jobs.get(one) {
                Some(Job::Start) => {
                    events.push(Event::Started(one.clone(), true));
                    events.push(Event::Started(one.clone(), false));
                }
                Some(Job::Stop) => events.push(Event::Stopped(one.clone())),
                None if self.seen.up.contains(one) => {
                    events.push(Event::Ended(one.clone(), ExitReason::Normal));
                    events.push(Event::Ended(one.clone(), ExitReason::Shutdown));
                }
                None => (),
            }
            if !self.seen.down {
                events.push(Event::Start(one.clone(), Restart::Temporary, Wanted::Start));
                events.push(Event::Start(one.clone(), Restart::Transient, Wanted::Running));
                events.push(Event::StartAll(one.clone(), Restart::Permanent));
                events.push(Event::StartAll(one.clone(), Restart::Temporary));
                events.push(Event::Stop(one.clone()));
            }
        }
        if !self.seen.going {
            events.push(Event::ShutDown);
        } else if !self.seen.host_told {
            events.push(Event::HostTold);
        }
        events
    }

    fn happens(&mut self, event: &Event) {
        self.seen.ends_itself = matches!(event, Event::Ended(..));
        let mut ask = || {
            self.seen.requests += 1;
            self.seen.open.insert(self.seen.requests);
            asker(self.seen.requests)
        };
        match event.clone() {
            Event::Start(one, restart, wanted) => self.machine.start(&ask(), &one, restart, wanted),
            Event::StartAll(one, restart) => self.machine.start_all(ask(), &[one], restart),
            Event::Stop(one) => self.machine.stop(&ask(), &one),
            Event::Started(one, works) => {
                assert_eq!(self.seen.jobs.remove(&one), Some(Job::Start));
                if works {
                    self.seen.up.push(one.clone());
                }
                self.machine.started(&one, if works { Ok(()) } else { failed(1) });
            }
            Event::Ended(one, reason) => self.machine.ended(&one, reason),
            Event::Stopped(one) => {
                assert_eq!(self.seen.jobs.remove(&one), Some(Job::Stop));
                self.machine.stopped(&one);
            }
            Event::ShutDown => self.machine.shut_down(None),
            Event::HostTold => {
                self.seen.host_told = true;
                self.machine.host_told();
            }
        }
        while let Some(step) = self.machine.next_step() {
            self.takes(step);
        }
        self.agrees();
    }

    fn takes(&mut self, step: Step<u8>) {
        let seen = &mut self.seen;
        assert!(!seen.down || matches!(step, Step::Answer(..)), "after the end: {step:?}");
        match step {
            Step::Start(one) => {
                assert!(!seen.going, "a start while the system goes down");
                assert!(self.depends_on[&one].iter().all(|below| seen.up.contains(below)));
                assert_eq!(seen.jobs.insert(one, Job::Start), None, "two jobs at once");
            }
            Step::Abort(one) => {
                assert!(seen.going && seen.host_told);
                assert_eq!(seen.jobs.get(&one), Some(&Job::Start));
            }
            Step::Stop(one) => {
                // One that ends by itself does not wait for its turn.
                let turn = !seen.host_told || seen.jobs.is_empty() || seen.ends_itself;
                assert!(turn, "one at a time");
                let at = seen.up.iter().position(|it| *it == one).expect("what stops runs");
                seen.up.remove(at);
                assert_eq!(seen.jobs.insert(one, Job::Stop), None, "two jobs at once");
            }
            Step::Answer(request, _) => {
                assert!(seen.open.remove(&request), "answered twice, or never asked: {request}");
            }
            Step::Exited { restart, reason, .. } => {
                seen.fatal |= end_brings_down(restart, &reason);
            }
            Step::FailedToStart { restart, .. } => {
                seen.fatal |= failed_start_brings_down(restart, false);
            }
            Step::TellHost(cause) => {
                assert!(!seen.going, "told twice");
                assert_eq!(cause.is_some(), seen.fatal);
                seen.going = true;
            }
            Step::Down => {
                assert!(seen.host_told && seen.jobs.is_empty() && seen.up.is_empty());
                seen.down = true;
            }
        }
    }

    /// What the machine says of itself is what was seen.
    fn agrees(&self) {
        let seen = &self.seen;
        let running: Vec<_> = self.machine.running().into_iter().map(|(one, _)| one).collect();
        assert_eq!(running, seen.up);
        for (one, phase) in self.machine.iter() {
            let job = match phase {
                Phase::Starting => Some(Job::Start),
                Phase::Stopping => Some(Job::Stop),
                Phase::Loaded | Phase::Running | Phase::Died => None,
            };
            assert_eq!(seen.jobs.get(one).copied(), job, "{one}");
        }
        assert!(seen.going || !seen.fatal, "it should go down");
        if seen.jobs.is_empty() {
            assert!(seen.open.is_empty(), "nobody works, and somebody waits: {:?}", seen.open);
        }
        if seen.host_told && seen.jobs.is_empty() {
            assert!(seen.down, "nothing is under way, and it does not go on");
        }
    }

    /// Goes down from here and sees the order.
    fn ends(mut self) {
        if !self.seen.going {
            self.happens(&Event::ShutDown);
        }
        if !self.seen.host_told {
            self.happens(&Event::HostTold);
        }
        while let Some((one, job)) =
            self.seen.jobs.iter().next().map(|(one, job)| (one.clone(), *job))
        {
            let up = self.seen.up.clone();
            match job {
                Job::Start => self.happens(&Event::Started(one, false)),
                Job::Stop => self.happens(&Event::Stopped(one)),
            }
            // The next one is the last that started.
            let next: Vec<_> = up.iter().filter(|it| !self.seen.up.contains(it)).collect();
            assert!(next.is_empty() || next == [up.last().unwrap()]);
        }
        assert!(self.seen.down && self.seen.open.is_empty());
    }
}

fn explore(play: &Play, depth: u32, count: &mut u64) {
    *count += 1;
    if depth == 0 {
        play.clone().ends();
        return;
    }
    for event in play.events() {
        let mut next = play.clone();
        next.happens(&event);
        explore(&next, depth - 1, count);
    }
}

#[test]
fn every_history_of_two_applications_keeps_the_promises() {
    let mut count = 0;
    explore(&Play::new(&[("a", ""), ("b", "a")]), 5, &mut count);
    assert!(count > 100_000, "{count}");
}

/// A small generator: numbers from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

#[test]
fn long_histories_of_a_bigger_world_keep_the_promises() {
    let world = [("a", ""), ("b", "a"), ("c", "b"), ("d", ""), ("e", "ad"), ("f", "ce")];
    for seed in 0..3_000 {
        let mut dice = Dice(seed);
        let mut play = Play::new(&world);
        for _ in 0..dice.below(60) {
            let events = play.events();
            if events.is_empty() {
                break;
            }
            // Going down is one of many; starts and stops come to their ends as often as not.
            let event = &events[dice.below(events.len())];
            if matches!(event, Event::ShutDown) && dice.below(20) > 0 {
                continue;
            }
            play.happens(event);
        }
        println!("seed {seed}");
        play.ends();
    }
}
