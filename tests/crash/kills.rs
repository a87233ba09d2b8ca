//! A run whose processes are killed, again and again and at every step: nothing is lost, nothing is recorded twice.
//!
//! A victim is this binary once more (`victim`), with the engine on a store that tells what it acknowledged and dies
//! where it is told to (`faults`), and one run (`flow`). Its parent reads what it tells (`ledger`), kills it, looks at the
//! store (`place`, `oracle`) and starts the next one. Kills come at random here, and at each step of the crash matrix
//! in `points` (`decisions` says which commit is which step); a run in stages is looked at at each commit (`commits`).
//!
//! `PERENNIAL_CRASH_KILLS` says how many there are in the random run, 60 without it; the release is tried with 300.
//! `PERENNIAL_SEED` repeats one.

mod commits;
mod decisions;
mod faults;
mod flow;
mod host;
mod ledger;
mod oracle;
mod place;
mod points;
mod processes;
mod serving;
mod staged;
mod study;
mod undoing;
mod victim;

use std::{collections::BTreeMap, time::Duration};

use perennial::{RunId, records::RunView};
use perennial_testkit::{Deadline, Seed};

use self::{
    flow::{Shape, key},
    ledger::{Told, Victim},
    oracle::Fold,
    place::Place,
    victim::Orders,
};

const RUN: &str = "r1";
const KILLS: u64 = 60;
/// Deaths of a job's process after which it would be given up, when it records no call between them.
const DEATHS_MAX: u32 = 3;
/// How often the store's own checker goes through it.
const WHOLE_EVERY: u64 = 10;
/// The last life must end the run by then.
const END_WITHIN: Duration = Duration::from_secs(120);

/// When a life ends.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// After so many lines of its ledger.
    Lines(u64),
    /// After so long, wherever it is.
    Elapsed(Duration),
}

/// A run, its store, and all that is known of it.
struct Trial {
    place: Place,
    shape: Shape,
    told: Told,
    fold: Fold,
    /// Deaths of jobs that may have been under way, since they last recorded a call.
    deaths: BTreeMap<usize, u32>,
    looks: u64,
}

impl Trial {
    fn new(place: Place, shape: Shape) -> Self {
        let (told, fold, deaths) = (Told::default(), Fold::default(), BTreeMap::new());
        Self { place, shape, told, fold, deaths, looks: 0 }
    }

    fn orders(&self) -> Orders {
        Orders {
            store: self.place.url(),
            run: RUN.to_owned(),
            shape: self.shape,
            events_from: self.fold.events() + 1,
            act: None,
            dies_at: None,
            samples: false,
            rooms: 100,
            blob: false,
            staged: false,
            watched: false,
            study: None,
            serving: None,
            undoing: false,
        }
    }

    fn take(&mut self, line: &str) {
        let recorded = self.told.recorded.len();
        self.told.take(line);
        if self.told.recorded.len() > recorded {
            let job = line.split(' ').nth(1).unwrap();
            self.deaths.remove(&flow::number(job));
        }
    }

    /// The jobs that may be under way: the first wave that is not known to be over, and the next one when
    /// all of it may be.
    fn may_be_under_way(&self) -> Vec<usize> {
        let name = |job: usize| key(job).as_str().to_owned();
        let has_ended =
            |job: usize| self.told.ended.contains(&name(job)) || self.fold.has_ended(&name(job));
        let mut found = Vec::new();
        for mut wave in self.shape.waves() {
            found.extend(wave.clone().filter(|job| !has_ended(*job)));
            if !wave.all(|job| has_ended(job) || self.told.returned.contains(&name(job))) {
                break;
            }
        }
        found
    }

    /// Whether no job would be given up for one more death.
    fn may_die(&self) -> bool {
        let deaths = |job: usize| self.deaths.get(&job).copied().unwrap_or(0);
        self.may_be_under_way().into_iter().all(|job| deaths(job) + 1 < DEATHS_MAX)
    }

    /// Takes in what a dead victim has left, and compares it with the store.
    fn buried(&mut self, lines: Vec<String>) -> Option<RunView> {
        lines.iter().for_each(|line| self.take(line));
        for job in self.may_be_under_way() {
            *self.deaths.entry(job).or_default() += 1;
        }
        self.check()
    }

    /// What is in the store, all of it as it must be.
    fn check(&mut self) -> Option<RunView> {
        let run = RunId::parse(RUN).unwrap();
        // All of a store that is large, now and then: each look reads it from the start.
        self.looks += 1;
        let whole = self.told.closed.is_some() || self.looks % WHOLE_EVERY == 1;
        let (fold, told) = (&mut self.fold, &self.told);
        self.place.look(async |store| {
            if let Err(error) = store.run(&run).await {
                assert!(!told.created && told.claimed.is_empty(), "lost: the run itself: {error}");
                return None;
            }
            // What a server had begun for the dead may still have been committed in between.
            fold.catch_up(store, &run).await.unwrap_or_else(|why| panic!("{why}"));
            if whole {
                let violations = perennial_store::verify(store).await.unwrap();
                assert!(violations.is_empty(), "{violations:?}");
            }
            let view = store.run(&run).await.unwrap();
            oracle::reconcile(told, fold, &view).unwrap_or_else(|why| panic!("{why}"));
            Some(view)
        })
    }

    /// Lets a life go on to the end of the run, and compares everything.
    fn finish(&mut self) -> RunView {
        self.live_on(&Orders { samples: true, ..self.orders() });
        let view = self.check().unwrap();
        // Once more from the first event on.
        let run = RunId::parse(RUN).unwrap();
        let again = self.place.look(async |store| Fold::default().catch_up(store, &run).await);
        again.unwrap_or_else(|why| panic!("{why}"));
        view
    }

    /// A life that ends by itself.
    fn live_on(&mut self, orders: &Orders) {
        let deadline = Deadline::after(END_WITHIN);
        let mut victim = Victim::start(orders);
        while let Some(line) = victim.next() {
            self.take(&line);
            assert!(!deadline.left().is_zero(), "not over within {END_WITHIN:?}");
        }
        victim.ended();
        let errors = victim.errors();
        assert!(errors.is_empty(), "{errors}");
    }

    /// One life until `moment`, or a little longer where one more death would be too much for a job. Whether
    /// it was killed.
    fn one_life(&mut self, orders: &Orders, moment: Moment) -> bool {
        let victim = Victim::start(orders);
        match moment {
            Moment::Lines(lines) => {
                for _ in 0..lines {
                    let Some(line) = victim.next() else { break };
                    self.take(&line);
                }
            }
            Moment::Elapsed(within) => {
                let deadline = Deadline::after(within);
                while let Some(line) = victim.next_within(deadline.left()) {
                    self.take(&line);
                }
            }
        }
        while !self.may_die() {
            let Some(line) = victim.next() else { break };
            self.take(&line);
        }
        let is_over = self.told.closed.is_some();
        self.buried(victim.kill());
        !is_over
    }
}

/// Kills one run so often, and prints what came of it.
#[expect(clippy::print_stdout, reason = "how much was tried is what is published of it")]
fn killed_at_random(place: Place) {
    let kills = std::env::var("PERENNIAL_CRASH_KILLS").map_or(KILLS, |text| text.parse().unwrap());
    let name = place.name();
    let mut seed = Seed::of_test(&format!("kills at random, {name}"));
    // More calls, where there is to be more time for kills.
    let calls = if kills > 100 { 6 } else { 2 };
    let shape = Shape { jobs: 200, calls, width: 8, call_ms: 1, retry_ms: 5 };
    let all = shape.jobs as u64 * (shape.calls + 1);
    let (mut done, mut place) = (0, place);
    // A run that is over before there were so many is followed by another one.
    while done < kills {
        let mut trial = Trial::new(place, shape);
        let before = done;
        while done < kills {
            // A part of the run is left for the life that ends it.
            let left = (all * 4 / 5).saturating_sub(trial.told.progress()) / (kills - done);
            let moment = match seed.below(4) {
                0 => Moment::Elapsed(Duration::from_millis(seed.between(1..80))),
                _ => Moment::Lines(seed.below(5 * left.clamp(1, all / 20))),
            };
            let orders = Orders {
                act: seed.chance(1, 8).then(|| ("pause".to_owned(), seed.below(4))),
                samples: seed.chance(1, 4),
                ..trial.orders()
            };
            if !trial.one_life(&orders, moment) {
                break;
            }
            done += 1;
        }
        assert!(done > before, "a run was over before it was killed once");
        let view = trial.finish();
        oracle::undisturbed(shape, &trial.told, &view).unwrap_or_else(|why| panic!("{why}"));
        let Told { acknowledged, effects, samples, .. } = &trial.told;
        let effects: usize = effects.values().map(Vec::len).sum();
        let (attempts, events) = (view.attempts.len(), trial.fold.events());
        println!(
            "{name}: kills {}, acknowledged {acknowledged}, lost 0; {attempts} attempts, {effects} effects of {} \
             calls, {events} events, {samples} looks at it under way",
            done - before,
            all - shape.jobs as u64
        );
        place = trial.place.another();
    }
}

/// Runs each case on each store: a file of its own, and a database of its own where there is a server.
macro_rules! on_every_store {
    ($($case:ident),+ $(,)?) => {
        mod sqlite { $(
            #[test]
            fn $case() { super::$case(crate::kills::place::Place::sqlite()) }
        )+ }
        #[cfg(feature = "postgres")]
        mod postgres { $(
            #[test]
            fn $case() {
                if let Some(place) = crate::kills::place::Place::postgres(stringify!($case)) {
                    super::$case(place);
                }
            }
        )+ }
    };
}
use on_every_store;

on_every_store!(a_run_that_is_killed_at_random_ends_as_if_nothing_had_been);

/// Proves INV-6, INV-16, INV-28, INV-ST-2, INV-ST-9, INV-ST-11.
/// Proves INV-ST-16, INV-ST-22, INV-ST-23, INV-ST-29.
/// Proves INV-ST-1, INV-ST-19.
fn a_run_that_is_killed_at_random_ends_as_if_nothing_had_been(place: Place) {
    killed_at_random(place);
}
