//! Registrations against the ends of those whose they are, under the checker of schedules (see `races`).

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use perennial_core::ExitReason;
use shuttle::thread;

use super::{
    RegistryError,
    partition::{Partition, Rule},
};
use crate::{
    ProcessRef,
    life::{Control, Pid},
    races::check,
};

type Part = Arc<Partition<&'static str, u32>>;

/// What is linked to it reaches a process.
#[derive(Default)]
struct Severed(AtomicUsize);

impl Control for Severed {
    fn stop(&self, _: &ExitReason) {
        self.0.fetch_add(1, SeqCst);
    }

    fn kill(&self) {}

    #[cfg(feature = "testing")]
    fn crash(&self) {}
}

fn process(pid: u64) -> ProcessRef {
    ProcessRef::new("/app".into(), Pid(pid))
}

fn open(rule: Rule) -> (Part, ProcessRef) {
    let (part, stands) = (Partition::new(rule), process(0));
    part.open(stands.clone());
    (part, stands)
}

fn registers(part: &Part, who: &ProcessRef, key: &'static str) -> Result<(), RegistryError> {
    part.register(who, key, Arc::new(1), None)
}

/// The table and the lists of holders tell the same.
fn agrees(part: &Part, entries: usize, holders: usize) {
    let all = part.all();
    assert_eq!((all.len(), part.processes()), (entries, holders));
    assert_eq!(part.count(), entries as u64);
    for (_, entry) in all {
        assert!(entry.process.is_alive(), "the dead hold keys");
    }
}

/// A key never outlives its owner, and whoever wants it next gets it.
fn register_against_death(rule: Rule) {
    let (part, _stands) = open(rule);
    let (dying, heir) = (process(1), process(2));
    let (own, who) = (part.clone(), dying.clone());
    let registers_while = thread::spawn(move || {
        // Refused when the heir was first, or else taken, be it too late.
        let answers = [registers(&own, &who, "x"), registers(&own, &who, "y")];
        answers.map(|answer| answer.is_ok())
    });
    let who = dying.clone();
    let dies = thread::spawn(move || who.ended().announce(&ExitReason::Killed));
    let (own, who) = (part.clone(), heir.clone());
    let inherits = thread::spawn(move || match registers(&own, &who, "x") {
        Ok(()) => true,
        Err(RegistryError::AlreadyRegistered(holder)) => {
            assert_ne!(holder, who);
            false
        }
        Err(other) => panic!("{other}"),
    });
    let (own, reads) = (part.clone(), dying.clone());
    let looks = thread::spawn(move || {
        let ended = !reads.is_alive();
        let holder = own.holder("x").map(|it| it.process);
        assert!(!(ended && holder == Some(reads)), "the end was there before the look");
    });
    registers_while.join().unwrap();
    dies.join().unwrap();
    looks.join().unwrap();
    let inherited = inherits.join().unwrap();
    assert!(part.keys(&dying).is_empty());
    if !inherited {
        agrees(&part, 0, 0);
        registers(&part, &heir, "x").unwrap();
    }
    agrees(&part, 1, 1);
    part.unregister(&heir, "x", &[part.holder("x").unwrap().value]).unwrap();
    agrees(&part, 0, 0);
}

#[test]
fn a_registration_against_the_death_of_its_owner_leaves_no_key() {
    check(|| register_against_death(Rule::Unique));
    check(|| register_against_death(Rule::Duplicate));
}

/// Giving a key back against the death of whoever has it: it goes once.
#[test]
fn an_unregistration_against_the_death_of_its_owner_takes_a_key_once() {
    check(|| {
        let (part, _stands) = open(Rule::Duplicate);
        let (dying, other) = (process(1), process(2));
        let value = Arc::new(7);
        part.register(&dying, "x", value.clone(), None).unwrap();
        registers(&part, &dying, "x").unwrap();
        registers(&part, &other, "x").unwrap();
        let (own, who) = (part.clone(), dying.clone());
        let gives_back = thread::spawn(move || own.unregister(&who, &"x", &[value]).unwrap());
        let dies = thread::spawn(move || dying.ended().announce(&ExitReason::Normal));
        assert!(gives_back.join().unwrap() <= 1);
        dies.join().unwrap();
        agrees(&part, 1, 1);
    });
}

/// A registration against the end of the part itself: it is refused, or it is gone and the process was told.
#[test]
fn a_registration_against_the_end_of_its_part_is_refused_or_severed() {
    check(|| {
        let (part, stands) = open(Rule::Unique);
        let who = process(1);
        let severed = Arc::new(Severed::default());
        let control: Arc<dyn Control> = severed.clone();
        who.ended().reached_by(&control);
        let (own, process) = (part.clone(), who.clone());
        let first = thread::spawn(move || registers(&own, &process, "x"));
        let own = part.clone();
        let ends = thread::spawn(move || {
            own.close();
            stands.ended().announce(&ExitReason::Killed);
        });
        let registered = first.join().unwrap();
        ends.join().unwrap();
        agrees(&part, 0, 0);
        let told = severed.0.load(SeqCst);
        match registered {
            Ok(()) => assert_eq!(told, 1, "it is tied to the part that has its key"),
            Err(refused) => assert_eq!((refused, told), (RegistryError::NotRunning, 0)),
        }
    });
}
