//! Lines, rounds, medians.

use std::{fmt::Write, pin::Pin, time::Instant};

/// Rounds of a line: odd, so that the median is one of them.
const ROUNDS: usize = 5;

type Measured = Pin<Box<dyn Future<Output = f64> + Send>>;

/// What a line should reach: the rate of its first subject divided by that of its second.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    AtLeast(f64),
}

impl Goal {
    fn verdict(self, ratio: f64) -> String {
        let Self::AtLeast(least) = self;
        format!(">= {least:.0}  {}", if ratio >= least { "met" } else { "missed" })
    }
}

/// One measure of several subjects, in operations per second. The first one is ours, the goal is about the second.
pub(crate) struct Line {
    name: &'static str,
    goal: Goal,
    subjects: Vec<Subject>,
}

struct Subject {
    name: &'static str,
    run: Box<dyn FnMut() -> Measured + Send>,
    rates: Vec<f64>,
}

impl Line {
    pub(crate) fn new(name: &'static str, goal: Goal) -> Self {
        Self { name, goal, subjects: Vec::new() }
    }

    pub(crate) fn subject<F>(
        mut self,
        name: &'static str,
        mut run: impl FnMut() -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = f64> + Send + 'static,
    {
        let run = Box::new(move || -> Measured { Box::pin(run()) });
        self.subjects.push(Subject { name, run, rates: Vec::new() });
        self
    }

    /// Measures the subjects one after the other, round by round, each time beginning with another one, and prints
    /// the medians of the rates, and of the ratios of the rounds.
    pub(crate) async fn run(mut self) {
        let subjects = self.subjects.len();
        for round in 0..ROUNDS {
            for turn in 0..subjects {
                let subject = &mut self.subjects[(round + turn) % subjects];
                let rate = (subject.run)().await;
                subject.rates.push(rate);
            }
        }
        let (ours, others) = self.subjects.split_first().expect("a line has subjects");
        let mut text = String::new();
        for (place, other) in others.iter().enumerate() {
            let ratios: Vec<f64> =
                ours.rates.iter().zip(&other.rates).map(|(a, b)| a / b).collect();
            let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
            let most = ratios.iter().copied().fold(0.0, f64::max);
            let ratio = median(ratios);
            let verdict = if place == 0 { self.goal.verdict(ratio) } else { "none".to_owned() };
            writeln!(
                text,
                "{:<16} {} {:>7.0}/s  {:<31} {:>7.0}/s  ratio {ratio:>6.2} ({least:.2} to {most:.2})  goal {verdict}",
                self.name,
                ours.name,
                median(ours.rates.clone()),
                other.name,
                median(other.rates.clone()),
            )
            .expect("a string takes everything");
        }
        print!("{text}");
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// How many of `count` there were in a second since `begun`.
pub(crate) fn rate(count: usize, begun: Instant) -> f64 {
    count as f64 / begun.elapsed().as_secs_f64()
}

/// What the command line asks for.
#[derive(Debug)]
pub(crate) struct Wanted {
    quick: bool,
    names: Vec<String>,
}

impl Wanted {
    /// `[--quick] [name]...`; of the lines, those whose names begin with one given.
    pub(crate) fn from_args() -> Self {
        let (options, names): (Vec<String>, _) =
            std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
        Self { quick: options.iter().any(|option| option == "--quick"), names }
    }

    /// `full`, or a tenth of it.
    pub(crate) fn size(&self, full: usize) -> usize {
        if self.quick { full / 10 } else { full }
    }

    pub(crate) fn wants(&self, line: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| line.starts_with(name.as_str()))
    }
}
