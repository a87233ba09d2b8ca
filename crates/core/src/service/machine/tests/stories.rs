//! What is told of services, one by one.

use super::{at, secs};
use crate::{
    Uptime,
    service::{
        Admission, Epoch, Holder, ServiceAction, ServiceEventKind, ServiceInput, ServiceMachine,
        ServiceState, ServiceTerms, Steps, StopMode, Verdict,
    },
};

/// A machine with a clock and a driver that always does what it is told.
struct Story {
    machine: ServiceMachine,
    now: Uptime,
    told: Vec<(u64, ServiceEventKind)>,
    answers: Vec<(u64, Admission)>,
    stops: Vec<(u64, StopMode)>,
    probes: Vec<u64>,
    askers: u64,
    /// What the next probe finds.
    finds: Verdict,
    starts: bool,
}

impl Story {
    fn of(terms: ServiceTerms) -> Self {
        let (machine, steps) = ServiceMachine::new(terms, Uptime::ZERO);
        let mut story = Self {
            machine,
            now: Uptime::ZERO,
            told: Vec::new(),
            answers: Vec::new(),
            stops: Vec::new(),
            probes: Vec::new(),
            askers: 0,
            finds: Verdict::Healthy,
            starts: true,
        };
        story.perform(steps);
        story
    }

    fn tell(&mut self, input: ServiceInput) {
        let steps = self.machine.on(input, self.now, 0.0);
        self.perform(steps);
    }

    fn perform(&mut self, steps: Steps) {
        let second = self.now.elapsed().as_secs();
        self.told.extend(steps.events.iter().map(|event| (second, event.kind())));
        for action in steps.actions {
            match action {
                ServiceAction::Start { epoch, .. } if self.starts => {
                    self.tell(ServiceInput::Launched { epoch });
                }
                // It hangs.
                ServiceAction::Start { .. } => {}
                ServiceAction::Probe { epoch, probe } => {
                    self.probes.push(second);
                    let verdict = self.finds.clone();
                    self.tell(ServiceInput::Probed { epoch, probe, verdict });
                }
                ServiceAction::ConfirmDrain { epoch } => {
                    self.tell(ServiceInput::DrainConfirmed { epoch });
                }
                ServiceAction::Stop { epoch, mode } => {
                    self.stops.push((second, mode));
                    self.tell(ServiceInput::Cleaned { epoch, failed: None });
                }
                ServiceAction::Remove { epoch } => {
                    self.tell(ServiceInput::Cleaned { epoch, failed: None });
                }
                ServiceAction::Find { .. } => panic!("its shell was not lost"),
                ServiceAction::Answer { asker, admission } => self.answers.push((asker, admission)),
            }
        }
    }

    /// Lets time pass until `until`, waking the machine when it wants to be.
    fn pass(&mut self, until: u64) {
        while let Some(due) = self.machine.wake_at().filter(|due| *due <= at(until)) {
            self.now = self.now.max(due);
            self.tell(ServiceInput::Due);
        }
        self.now = at(until);
    }

    fn acquire(&mut self, holder: &str) -> Admission {
        self.askers += 1;
        let (asker, needed) = (self.askers, self.now);
        self.tell(ServiceInput::Acquire { holder: Holder::new(holder), asker, needed });
        self.answer()
    }

    fn ask_since(&mut self, needed: Uptime) -> Admission {
        self.askers += 1;
        self.tell(ServiceInput::Ask { asker: self.askers, needed });
        self.answer()
    }

    fn answer(&mut self) -> Admission {
        let (asker, admission) = self.answers.pop().expect("everybody is answered");
        assert_eq!(asker, self.askers);
        admission
    }

    fn release(&mut self, holder: &str) {
        self.tell(ServiceInput::Release { holder: Holder::new(holder) });
    }

    fn exit(&mut self) {
        let epoch = self.machine.epoch();
        self.tell(ServiceInput::Exited { epoch, why: "code 1".into() });
    }

    fn is_admitted(&self, admission: &Admission) -> bool {
        matches!(admission, Admission::Ready { epoch } if *epoch == self.machine.epoch())
    }
}

fn unready() -> Verdict {
    Verdict::Unready("booting".into())
}

/// Proves D28.
/// INV-22, SM-52.
#[test]
fn one_that_boots_for_170_seconds_is_admitted_with_its_first_readiness_and_has_failed_at_nothing() {
    let mut story = Story::of(ServiceTerms::default());
    story.finds = unready();
    let needed = story.now;
    assert!(matches!(
        story.acquire("a"),
        Admission::NotReady { state: ServiceState::Starting, .. }
    ));
    story.pass(169);
    assert_eq!(story.probes.len(), 85, "one every 2 s");
    assert!(matches!(
        story.ask_since(needed),
        Admission::NotReady { state: ServiceState::Starting, retry_at: Some(retry), .. } if retry == at(170)
    ));
    story.finds = Verdict::Healthy;
    story.pass(170);
    let admission = story.ask_since(needed);
    assert!(story.is_admitted(&admission));
    assert_eq!(story.machine.status(story.now).restarts, 0);
    let kinds = [(0, ServiceEventKind::ServiceStarting), (170, ServiceEventKind::ServiceUp)];
    assert_eq!(story.told, kinds);
}

/// SM-53: and its driver's reason is told.
#[test]
fn one_that_is_not_ready_in_time_is_down_and_never_let_through() {
    let mut story = Story::of(ServiceTerms::default());
    story.finds = unready();
    let _ = story.acquire("a");
    story.pass(180);
    assert_eq!(story.machine.state(), ServiceState::Crashed);
    let why = story.machine.status(story.now).why.expect("it says why");
    assert_eq!(&*why, "it was not ready within 180s; last: booting");
}

#[test]
fn a_start_that_hangs_ends_with_its_time_and_after_all_restarts_it_has_failed() {
    let terms = ServiceTerms {
        ready_within: secs(20),
        restarts_max: 2,
        start_backoff: secs(4),
        ..ServiceTerms::default()
    };
    let mut story = Story::of(terms);
    story.starts = false;
    let _ = story.acquire("a");
    story.pass(1_000);
    let of = |kind| story.told.iter().filter(move |told| told.1 == kind).map(|told| told.0);
    // 20 s each; pauses of 4 s and 8 s, of which at least three quarters.
    assert_eq!(of(ServiceEventKind::ServiceStarting).collect::<Vec<_>>(), [0, 23, 49]);
    assert_eq!(of(ServiceEventKind::ServiceDown).collect::<Vec<_>>(), [20, 43, 69]);
    assert_eq!(of(ServiceEventKind::ServiceFailed).collect::<Vec<_>>(), [69]);
    assert!(matches!(
        story.acquire("b"),
        Admission::NotReady { state: ServiceState::Failed, retry_at: None, .. }
    ));
    // Only an operator helps, with a fresh budget.
    story.starts = true;
    let epoch = story.machine.epoch();
    let steps = story.machine.restart(story.now).expect("it has failed");
    story.perform(steps);
    assert_eq!((story.machine.state(), story.machine.epoch()), (ServiceState::Ready, epoch.next()));
    assert_eq!(story.machine.status(story.now).restarts, 0);
}

#[test]
fn a_start_that_can_only_fail_has_failed_at_once() {
    let mut story = Story::of(ServiceTerms::default());
    story.starts = false;
    let _ = story.acquire("a");
    let (epoch, why) = (story.machine.epoch(), "it does not build".into());
    story.tell(ServiceInput::LaunchFailed { epoch, why, permanent: true });
    assert_eq!(story.machine.state(), ServiceState::Failed);
    assert_eq!(&*story.machine.status(story.now).why.unwrap(), "it does not build");
}

#[test]
fn one_that_dies_every_second_has_failed_when_its_restarts_are_used_up() {
    let mut story = Story::of(ServiceTerms::default());
    let _ = story.acquire("a");
    for _ in 0..6 {
        assert_eq!(story.machine.state(), ServiceState::Ready);
        let now = story.now.elapsed().as_secs();
        story.pass(now + 1);
        story.exit();
        let due = story.machine.wake_at().unwrap_or(story.now);
        story.pass(due.elapsed().as_secs_f64().ceil() as u64);
    }
    assert_eq!(story.machine.state(), ServiceState::Failed);
    let starts = story.told.iter().filter(|told| told.1 == ServiceEventKind::ServiceStarting);
    assert_eq!(starts.count(), 6, "the first start and five restarts");
    assert!(story.now < at(300));
}

/// Proves D30.
/// INV-24, as far as holds are in memory.
#[test]
fn it_is_stopped_when_nobody_has_held_it_for_the_idle_time_and_not_before() {
    let mut story = Story::of(ServiceTerms { idle_stop: secs(60), ..ServiceTerms::default() });
    let _ = story.acquire("a");
    let _ = story.acquire("b");
    let _ = story.acquire("b"); // a second time changes nothing (DUR-81)
    assert_eq!(story.machine.holders().len(), 2);
    story.pass(100);
    story.release("b");
    story.pass(1_000);
    assert_eq!(story.stops, [], "somebody holds it");
    story.release("a");
    story.pass(1_059);
    let _ = story.acquire("c"); // and the time begins anew
    story.pass(1_100);
    story.release("c");
    story.pass(1_159);
    assert_eq!(story.stops, []);
    let epoch = story.machine.epoch();
    story.pass(1_160);
    assert_eq!(story.stops, [(1_160, StopMode::Graceful)]);
    assert_eq!(
        (story.machine.state(), story.machine.epoch()),
        (ServiceState::Stopped, epoch.next())
    );
}

/// INV-24, as far as holds are in memory.
#[test]
fn whoever_comes_before_the_stop_was_issued_keeps_it_running_and_who_comes_later_gets_the_next_life()
 {
    let terms = ServiceTerms { idle_stop: secs(60), ..ServiceTerms::default() };
    let draining = || {
        let mut story = Story::of(terms);
        let _ = story.acquire("a");
        story.release("a");
        story.pass(59);
        story.now = at(60);
        let steps = story.machine.on(ServiceInput::Due, story.now, 0.0);
        let epoch = story.machine.epoch();
        assert_eq!(steps.actions, [ServiceAction::ConfirmDrain { epoch }]);
        (story, epoch)
    };
    let (mut story, epoch) = draining();
    let admission = story.acquire("b");
    assert!(story.is_admitted(&admission));
    story.tell(ServiceInput::DrainConfirmed { epoch });
    assert_eq!((story.machine.state(), story.stops.len()), (ServiceState::Ready, 0));

    let (mut story, epoch) = draining();
    let steps = story.machine.on(ServiceInput::DrainConfirmed { epoch }, story.now, 0.0);
    assert_eq!(steps.actions, [ServiceAction::Stop { epoch, mode: StopMode::Graceful }]);
    assert!(matches!(
        story.acquire("b"),
        Admission::NotReady { state: ServiceState::Draining, .. }
    ));
    story.tell(ServiceInput::Cleaned { epoch, failed: None });
    // One for the stop, one for the start.
    assert_eq!(
        (story.machine.state(), story.machine.epoch()),
        (ServiceState::Ready, epoch.next().next())
    );

    // A confirmation that is lost counts as given.
    let (mut story, _) = draining();
    story.pass(61);
    assert_eq!(story.stops, [(61, StopMode::Graceful)]);
}

#[test]
fn a_stop_that_fails_or_hangs_is_tried_again_with_force() {
    let mut story = Story::of(ServiceTerms { idle_stop: secs(0), ..ServiceTerms::default() });
    let _ = story.acquire("a");
    story.release("a");
    let epoch = story.machine.epoch();
    let _ = story.machine.on(ServiceInput::Due, story.now, 0.0);
    let _ = story.machine.on(ServiceInput::DrainConfirmed { epoch }, story.now, 0.0);
    let failed = ServiceInput::Cleaned { epoch, failed: Some("busy".into()) };
    assert_eq!(story.machine.on(failed, story.now, 0.0).actions, []);
    story.now = story.machine.wake_at().unwrap();
    let kill = [ServiceAction::Stop { epoch, mode: StopMode::Kill }];
    assert_eq!(story.machine.on(ServiceInput::Due, story.now, 0.0).actions, kill);
    story.now = story.machine.wake_at().unwrap();
    assert_eq!(story.machine.on(ServiceInput::Due, story.now, 0.0).actions, kill);
    let why = story.machine.status(story.now).why.unwrap();
    assert_eq!(&*why, "it was not stopped within 15s");
}

/// Proves INV-23, I6, B36.
#[test]
fn no_verdict_decides_that_is_old_or_of_another_life_or_from_before_the_need() {
    let mut story = Story::of(ServiceTerms { probe_every: secs(100), ..ServiceTerms::default() });
    let first = story.now;
    let admission = story.acquire("a");
    assert!(!story.is_admitted(&admission)); // it was starting when it was asked
    let admission = story.ask_since(first);
    assert!(story.is_admitted(&admission));
    assert_eq!(story.probes, [0]);
    // Another run, a moment later: it has needed the service only since then.
    story.pass(1);
    let second = story.now;
    let admission = story.ask_since(second);
    assert!(story.is_admitted(&admission));
    assert_eq!(story.probes, [0, 1]);
    // Which clears nothing for the first.
    let admission = story.ask_since(first);
    assert!(story.is_admitted(&admission));
    assert_eq!(story.probes, [0, 1]);
    // It dies without a word: who comes then sees it down with its first decision.
    story.pass(20);
    story.finds = Verdict::Unresponsive("refused".into());
    let needed = story.now;
    let Admission::NotReady { why, .. } = story.ask_since(needed) else { panic!("it is dead") };
    assert_eq!(&*why, "refused");
    // It is started again: the old "down" is of another life.
    story.finds = Verdict::Healthy;
    let epoch = story.machine.epoch();
    story.exit();
    story.pass(22);
    assert_eq!(story.machine.epoch(), epoch.next());
    let admission = story.ask_since(needed);
    assert!(story.is_admitted(&admission));
    // And a verdict that has become old decides nothing.
    story.pass(51);
    let probes = story.probes.len();
    let admission = story.ask_since(needed);
    assert!(story.is_admitted(&admission));
    assert_eq!(story.probes.len(), probes);
    story.pass(55);
    let _ = story.ask_since(needed);
    assert_eq!(story.probes.len(), probes + 1);
}

/// DUR-85, and INV-23 for who came while a probe was under way.
#[test]
fn those_who_ask_at_a_time_share_a_probe_and_who_comes_during_it_waits_for_the_next() {
    let mut story = Story::of(ServiceTerms::default());
    let _ = story.acquire("a");
    story.pass(1);
    let ask = |asker, needed| ServiceInput::Ask { asker, needed };
    let epoch = story.machine.epoch();
    let steps = story.machine.on(ask(101, at(1)), at(1), 0.0);
    let [ServiceAction::Probe { probe, .. }] = steps.actions[..] else { panic!("{steps:?}") };
    assert_eq!(story.machine.on(ask(102, at(1)), at(1), 0.0).actions, []);
    assert_eq!(story.machine.on(ask(103, at(2)), at(2), 0.0).actions, []);
    let verdict = Verdict::Healthy;
    let steps = story.machine.on(ServiceInput::Probed { epoch, probe, verdict }, at(3), 0.0);
    let admission = Admission::Ready { epoch };
    let answer = |asker| ServiceAction::Answer { asker, admission: admission.clone() };
    assert_eq!(
        steps.actions,
        [answer(101), answer(102), ServiceAction::Probe { epoch, probe: probe + 1 }]
    );
    // Its task is lost: that is no sign of life, and nobody waits for ever.
    let lost = at(3) + secs(11);
    assert_eq!(story.machine.wake_at(), Some(lost));
    let steps = story.machine.on(ServiceInput::Due, lost, 0.0);
    assert!(matches!(
        &steps.actions[..],
        [ServiceAction::Answer { asker: 103, admission: Admission::NotReady { .. } }]
    ));
}

#[test]
fn failed_probes_degrade_it_and_passed_ones_bring_it_back() {
    for admit_degraded in [false, true] {
        let mut story = Story::of(ServiceTerms { admit_degraded, ..ServiceTerms::default() });
        let _ = story.acquire("a");
        story.finds = unready();
        story.pass(29);
        assert_eq!(story.machine.state(), ServiceState::Ready, "two of three");
        story.pass(30);
        assert_eq!(story.machine.state(), ServiceState::Degraded);
        let admission = story.ask_since(at(30));
        assert_eq!(story.is_admitted(&admission), admit_degraded);
        story.finds = Verdict::Healthy;
        story.pass(40);
        assert_eq!(story.machine.state(), ServiceState::Degraded, "one of two");
        story.pass(50);
        assert_eq!(story.machine.state(), ServiceState::Ready);
        assert_eq!(story.machine.epoch(), Epoch::ZERO.next());
        // Without a sign of life it is down, and a process that is gone is so at once.
        story.finds = Verdict::Unresponsive("silent".into());
        story.pass(79);
        assert_eq!(story.machine.state(), ServiceState::Ready);
        story.pass(80);
        assert_eq!(story.machine.state(), ServiceState::Crashed);
        story.finds = Verdict::Healthy;
        story.pass(83);
        assert_eq!(story.machine.state(), ServiceState::Ready);
        story.finds = Verdict::Gone("exit code 1".into());
        story.pass(93);
        assert_eq!(story.machine.state(), ServiceState::Crashed);
    }
}

#[test]
fn one_settles_before_it_serves_and_one_that_is_always_on_needs_nobody() {
    let terms = ServiceTerms { settle_delay: secs(5), always_on: true, ..ServiceTerms::default() };
    let mut story = Story::of(terms);
    story.pass(4);
    assert_eq!(story.machine.state(), ServiceState::Starting);
    story.pass(5);
    assert_eq!(story.machine.state(), ServiceState::Ready);
    story.pass(10_000);
    assert_eq!((story.machine.state(), story.stops.len()), (ServiceState::Ready, 0));
    story.tell(ServiceInput::Shutdown);
    assert_eq!(story.machine.state(), ServiceState::Stopped);
    assert!(story.machine.is_at_rest());
    let _ = story.acquire("a");
    assert_eq!((story.machine.state(), story.machine.holders().len()), (ServiceState::Stopped, 0));
}

#[test]
fn as_many_hold_it_as_may() {
    let mut story = Story::of(ServiceTerms { holds_max: 1, ..ServiceTerms::default() });
    let _ = story.acquire("a");
    let Admission::NotReady { why, .. } = story.acquire("b") else { panic!("it is full") };
    assert_eq!(&*why, "as many as may hold it do");
    let admission = story.acquire("a");
    assert!(story.is_admitted(&admission));
    story.release("a");
    let admission = story.acquire("b");
    assert!(story.is_admitted(&admission));
}
