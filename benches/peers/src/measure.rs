//! Lines, rounds, medians: what both binaries share.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    fmt::Write,
    pin::Pin,
    sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Pairs per line: odd, so that the median is one of them.
const ROUNDS: usize = 7;

type Measured = Pin<Box<dyn Future<Output = f64> + Send>>;

/// What a line should reach: the ratio of its first subject to its second.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
    /// That ratio, and so much of the unit by itself.
    AtMostBoth(f64, f64),
    /// For information.
    None,
}

impl Goal {
    fn verdict(self, ratio: f64, value: f64, unit: &str) -> String {
        let (is_met, text) = match self {
            Self::AtMost(most) => (ratio <= most, format!("<= {}", rounded(most))),
            Self::AtLeast(least) => (ratio >= least, format!(">= {}", rounded(least))),
            Self::AtMostBoth(most, alone) => {
                let is_met = ratio <= most && value <= alone;
                (is_met, format!("<= {} and <= {alone:.0} {unit}", rounded(most)))
            }
            Self::None => return "none".to_owned(),
        };
        format!("{text}  {}", if is_met { "met" } else { "missed" })
    }
}

/// One measure of several subjects. The second subject is the baseline of all others.
pub(crate) struct Line {
    name: &'static str,
    unit: &'static str,
    goal: Goal,
    subjects: Vec<Subject>,
}

struct Subject {
    name: &'static str,
    run: Box<dyn FnMut() -> Measured + Send>,
    values: Vec<f64>,
}

impl Line {
    pub(crate) fn new(name: &'static str, unit: &'static str, goal: Goal) -> Self {
        Self { name, unit, goal, subjects: Vec::new() }
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
        self.subjects.push(Subject { name, run, values: Vec::new() });
        self
    }

    /// Measures the subjects one after the other, round by round, each time beginning with another
    /// one, and prints the medians.
    pub(crate) async fn run(mut self) {
        let subjects = self.subjects.len();
        for round in 0..ROUNDS {
            for turn in 0..subjects {
                let subject = &mut self.subjects[(round + turn) % subjects];
                let value = (subject.run)().await;
                subject.values.push(value);
            }
        }
        let baseline = &self.subjects[1];
        let mut text = String::new();
        for (place, subject) in self.subjects.iter().enumerate().filter(|(place, _)| *place != 1) {
            // Goals are about time and bytes.
            let has_goal = place == 0 && !COUNT.load(Ordering::Relaxed);
            let goal = if has_goal { self.goal } else { Goal::None };
            let pairs = subject.values.iter().zip(&baseline.values);
            let ratio = median(pairs.map(|(value, baseline)| value / baseline).collect());
            let value = median(subject.values.clone());
            let verdict = goal.verdict(ratio, value, self.unit);
            writeln!(
                text,
                "{:<22} {:<17} {:>12}  {:<11} {:>12}  ratio {:>7}  goal {verdict}",
                self.name,
                subject.name,
                shown(value, self.unit),
                baseline.name,
                shown(median(baseline.values.clone()), self.unit),
                rounded(ratio),
            )
            .expect("a string takes everything");
        }
        print!("{text}");
    }
}

fn rounded(ratio: f64) -> String {
    if ratio < 0.05 { format!("{ratio:.4}") } else { format!("{ratio:.2}") }
}

fn shown(value: f64, unit: &str) -> String {
    let unit =
        if COUNT.load(Ordering::Relaxed) && matches!(unit, "ns" | "/s") { "allocs" } else { unit };
    if value < 100.0 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What the command line asks for.
#[derive(Debug)]
pub(crate) struct Wanted {
    quick: bool,
    names: Vec<String>,
}

impl Wanted {
    /// `[--quick] [--allocations] [name]...`; of the lines, those whose names begin with one given.
    pub(crate) fn from_args() -> Self {
        let mut wanted = Self { quick: false, names: Vec::new() };
        for argument in std::env::args().skip(1) {
            match argument.as_str() {
                "--quick" => wanted.quick = true,
                "--allocations" => COUNT.store(true, Ordering::Relaxed),
                // What `cargo bench` adds.
                "--bench" => (),
                name => wanted.names.push(name.to_owned()),
            }
        }
        wanted
    }

    /// `full`, or a tenth of it.
    pub(crate) fn size(&self, full: usize) -> usize {
        if self.quick { full / 10 } else { full }
    }

    pub(crate) fn wants(&self, line: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| line.starts_with(name.as_str()))
    }
}

/// Runs `lines` on a worker of a two-worker executor, as code of a server runs.
pub(crate) fn on_a_worker(lines: impl Future<Output = ()> + Send + 'static) {
    let executor =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let executor = executor.expect("an executor");
    executor.block_on(async { tokio::spawn(lines).await.expect("the lines were measured") });
}

/// Waits for all of them.
pub(crate) async fn all(tasks: Vec<tokio::task::JoinHandle<()>>) {
    for task in tasks {
        task.await.expect("it went well");
    }
}

/// Until what ended has let go of its memory, on whichever worker.
pub(crate) async fn settle() {
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// Nothing is printed of panics that are part of a line; of all others it is.
pub(crate) fn quiet<P: 'static>() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.payload().is::<P>() {
            tell(panic);
        }
    }));
}

/// Measures what happens from its start on: time, or allocations if those are asked for.
#[derive(Debug)]
pub(crate) struct Meter {
    begun: Instant,
    allocations: u64,
}

impl Meter {
    pub(crate) fn start() -> Self {
        Self { begun: Instant::now(), allocations: ALLOCATIONS.load(Ordering::Relaxed) }
    }

    /// Nanoseconds, or allocations, for each of `count` operations.
    pub(crate) fn per(&self, count: usize) -> f64 {
        let took = self.begun.elapsed();
        let allocations = ALLOCATIONS.load(Ordering::Relaxed) - self.allocations;
        let total =
            if COUNT.load(Ordering::Relaxed) { allocations as f64 } else { took.as_nanos() as f64 };
        total / count as f64
    }

    /// Operations per second; allocations as [`Self::per`].
    pub(crate) fn rate(&self, count: usize) -> f64 {
        let per = self.per(count);
        if COUNT.load(Ordering::Relaxed) { per } else { 1e9 / per }
    }
}

/// Bytes that are allocated now and were not when `before` was asked, for each of `count`.
pub(crate) fn bytes_since(before: i64, count: usize) -> f64 {
    (bytes() - before) as f64 / count as f64
}

/// Bytes allocated since the counting began.
pub(crate) fn bytes() -> i64 {
    BYTES.load(Ordering::Relaxed)
}

/// Counts from here on; frees of what was allocated before count as well.
pub(crate) fn count_bytes(counts: bool) {
    MEMORY.store(counts, Ordering::Relaxed);
}

/// Which of several latencies stands for them all.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pick {
    Median,
    Max,
}

/// Microseconds of each of 20 reads, a few milliseconds apart.
pub(crate) async fn latencies(pick: Pick, mut read: impl FnMut() -> usize) -> f64 {
    let mut took = Vec::new();
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(3)).await;
        let begun = Instant::now();
        let seen = read();
        took.push(begun.elapsed().as_nanos() as f64 / 1e3);
        assert!(seen > 0, "something was seen");
    }
    match pick {
        Pick::Median => median(took),
        Pick::Max => took.into_iter().fold(0.0, f64::max),
    }
}

/// Does something a thousand times a second, catching up when it was held up.
pub(crate) fn each_millisecond(
    mut act: impl FnMut() + Send + 'static,
) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(1));
        loop {
            ticks.tick().await;
            act();
        }
    })
}

static COUNT: AtomicBool = AtomicBool::new(false);
static MEMORY: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicI64 = AtomicI64::new(0);

/// The system's allocator; it counts only where a line asks for it, so that times are not disturbed.
#[derive(Debug)]
pub(crate) struct Counting;

impl Counting {
    fn note(grown: i64, allocations: u64) {
        if MEMORY.load(Ordering::Relaxed) {
            BYTES.fetch_add(grown, Ordering::Relaxed);
        }
        if COUNT.load(Ordering::Relaxed) {
            ALLOCATIONS.fetch_add(allocations, Ordering::Relaxed);
        }
    }
}

// SAFETY: every request is passed on to `System` unchanged, and its answer returned unchanged; what
// is counted touches no memory but four atomics.
#[expect(unsafe_code, reason = "an allocator cannot be implemented without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::note(layout.size() as i64, 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        Self::note(-(layout.size() as i64), 0);
        // SAFETY: the caller keeps the contract of `dealloc`, and `at` came from `System`.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::note(size as i64 - layout.size() as i64, 1);
        // SAFETY: the caller keeps the contract of `realloc`, and `at` came from `System`.
        unsafe { System.realloc(at, layout, size) }
    }
}
