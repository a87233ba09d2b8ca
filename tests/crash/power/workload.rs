//! The process that writes: several clients of one store, who say what was acknowledged.
//!
//! Each client has a run whose steps follow each other, and a stream. A turn keeps a blob, commits the decision that ends
//! a step with the digest of that blob as its result, and appends to the stream; so whatever of a turn is in the store,
//! what came before it is there too. The writer is stopped and started now and then, for its checkpoint. A client
//! that gets an error of a kind that is foreseen reads what became of its operation, and goes on.

use std::{
    env, fmt,
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
    str::FromStr,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use perennial_core::{
    Digest,
    run::{AttemptEnd, JobKey, JobState, RunId},
};
use perennial_store::{
    Committed, Decision, JobPart, Lease, NewEvent, NewJob, NewRun, NewStage, NodeRef, Operation,
    Report, RunView, SqliteOptions, SqliteStore, Stopper, Store, StoreError, UnsafeSynchronous,
};
use perennial_testkit::Seed;
use serde_json::json;

/// The test that becomes the process.
pub(crate) const NAME: &str = "power::workload::the_process_that_writes";
/// Where its order is.
pub(crate) const ORDER: &str = "PERENNIAL_POWER_ORDER";
/// Name of the store's file.
pub(crate) const FILE: &str = "store.db";
/// Kind of the streams.
pub(crate) const KIND: &str = "power";
pub(crate) const STAGE: &str = "steps";
/// A process with more errors than this makes no progress.
const ERRORS_MAX: u64 = 60;

/// What the process shall do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// Distinguishes what it writes from what earlier processes wrote.
    pub(crate) round: u64,
    pub(crate) seed: u64,
    pub(crate) clients: u64,
    pub(crate) turns: u64,
    /// Most bytes of a blob.
    pub(crate) blob_max: u64,
    /// Whether the store is opened with `synchronous = NORMAL`.
    pub(crate) normal: bool,
    /// After so many errors, calls no longer fail.
    pub(crate) patience: u64,
    /// Whether nothing is read: the writer has the only connection, and whenever it reopens the file, the engine
    /// finds out from the log what was committed.
    pub(crate) alone: bool,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { round, seed, clients, turns, blob_max, normal, patience, alone } = self;
        let (normal, alone) = (u64::from(*normal), u64::from(*alone));
        write!(f, "{round} {seed} {clients} {turns} {blob_max} {normal} {patience} {alone}")
    }
}

impl FromStr for Order {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers = text.split(' ').map(str::parse).collect::<Result<Vec<u64>, _>>()?;
        let [round, seed, clients, turns, blob_max, normal, patience, alone] = numbers[..] else {
            panic!("an order has eight numbers: {text}")
        };
        Ok(Self {
            round,
            seed,
            clients,
            turns,
            blob_max,
            normal: normal == 1,
            patience,
            alone: alone == 1,
        })
    }
}

/// Not a test of its own: the others start it in a process under the shim. Elsewhere it does nothing.
#[test]
fn the_process_that_writes() {
    let Some(order) = env::var(ORDER).ok().map(|text| text.parse::<Order>().unwrap()) else {
        return;
    };
    let directory = env::var("PERENNIAL_POWER_DIR").unwrap();
    let marks = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(env::var("PERENNIAL_POWER_MARKS").unwrap())
        .unwrap();
    let witness = Witness { marks: Mutex::new(marks), errors: AtomicU64::new(0), order };
    let options = SqliteOptions {
        unsafe_synchronous: witness.order.normal.then_some(UnsafeSynchronous::Normal),
        ..SqliteOptions::default()
    };
    let path = Path::new(&directory).join(FILE);
    let store = loop {
        match SqliteStore::open(&path, options.clone()) {
            Ok(store) => break store,
            Err(error) => witness.bear("open", &error),
        }
    };
    witness.mark("opened");
    let process = Process {
        store,
        witness,
        writer: Mutex::default(),
        reader: Mutex::default(),
        ended: AtomicBool::new(false),
    };
    process.work();
    process.witness.mark("end");
}

/// What tells the log.
struct Witness {
    marks: Mutex<File>,
    errors: AtomicU64,
    order: Order,
}

impl Witness {
    fn mark(&self, text: &str) {
        // One call: the shim makes it one record.
        assert_eq!(self.marks.lock().unwrap().write(text.as_bytes()).unwrap(), text.len());
    }

    /// Notes an error that may be: the store cannot be written, read or reached now. Any other ends the process.
    fn bear(&self, what: &str, error: &StoreError) {
        let kind = if matches!(error, StoreError::Full(_)) {
            "full"
        } else if matches!(error, StoreError::Corrupt { .. }) {
            "corrupt"
        } else if error.is_transient() {
            "unavailable"
        } else {
            "other"
        };
        let errors = self.errors.fetch_add(1, Ordering::SeqCst) + 1;
        if kind == "other" || errors > ERRORS_MAX {
            self.mark(&format!("bad {what}: {error:?}"));
            // Others wait for this thread: there is no orderly way out.
            std::process::abort();
        }
        self.mark(&format!("error {kind} {what}: {error}"));
        if errors == self.order.patience {
            self.mark("heal");
        }
    }
}

struct Process {
    store: SqliteStore,
    witness: Witness,
    writer: Mutex<Option<Stopper>>,
    reader: Mutex<Option<Stopper>>,
    ended: AtomicBool,
}

impl Process {
    fn work(&self) {
        thread::scope(|threads| {
            let loops = [
                threads.spawn(|| {
                    self.keep("writer", &self.writer, || {
                        let writer = self.store.writer();
                        (writer.stopper(), move || writer.run())
                    });
                }),
                threads.spawn(|| {
                    if self.witness.order.alone {
                        return;
                    }
                    self.keep("reader", &self.reader, || {
                        let reader = self.store.reader();
                        (reader.stopper(), move || reader.run())
                    });
                }),
            ];
            let clients: Vec<_> = (0..self.witness.order.clients)
                .map(|number| {
                    threads.spawn(move || {
                        if self.witness.order.alone {
                            block_on(self.keeper_of_blobs(number));
                        } else {
                            block_on(self.client(number));
                        }
                    })
                })
                .collect();
            for client in clients {
                client.join().unwrap();
            }
            self.ended.store(true, Ordering::SeqCst);
            stop(&self.writer);
            stop(&self.reader);
            for kept in loops {
                kept.join().unwrap();
            }
        });
        self.store.close();
    }

    /// Starts a loop again whenever it ends, as supervision does.
    fn keep<R: FnOnce() -> Result<(), StoreError>>(
        &self,
        what: &str,
        stopper: &Mutex<Option<Stopper>>,
        start: impl Fn() -> (Stopper, R),
    ) {
        loop {
            let (its_stopper, run) = start();
            *stopper.lock().unwrap() = Some(its_stopper);
            if self.ended.load(Ordering::SeqCst) {
                return;
            }
            if let Err(error) = run() {
                self.witness.bear(what, &error);
            }
        }
    }

    async fn client(&self, number: u64) {
        let order = &self.witness.order;
        let name = format!("r{}-c{number}", order.round);
        let mut seed = Seed::new(order.seed.wrapping_mul(1000) + number);
        let node = self.acknowledged("node", || self.store.register_node(&name)).await.node;
        let run = RunId::parse(&name).unwrap();
        self.acknowledged("run", || self.store.create_run(new_run(&run, &node))).await;
        let mut place = Place::of(&self.view(&run).await);
        self.witness.mark(&format!("run {name} {}", place.revision));
        let stream = stream_of(&run);
        self.or_landed(
            "stream",
            || self.store.create_stream(&stream, KIND, vec![numbered(1)]),
            async || self.events_of(&stream).await.map(|_| ()),
            |_| (),
        )
        .await;
        let mut events = 1;
        self.witness.mark(&format!("stream {stream} {events}"));
        for turn in 1..=order.turns {
            if number == 0 && turn % order.turns.div_ceil(3) == 0 {
                stop(&self.writer);
            }
            let bytes = payload(&mut seed, order.blob_max);
            let digest = self.acknowledged("blob", || self.store.put_blob(bytes.clone())).await;
            self.witness.mark(&format!("blob {digest}"));
            let step = next_step(&run, &place, turn, digest, events);
            let landed = async || {
                let view = self.view(&run).await;
                (view.run.revision > step.expected_revision).then(|| Some(Place::of(&view)))
            };
            let attempt = || self.store.commit(step.clone());
            place = match self.or_landed("decision", attempt, landed, Place::after).await {
                Some(place) => place,
                None => Place::of(&self.view(&run).await),
            };
            self.witness.mark(&format!("run {name} {}", place.revision));
            let more = seed.between(1..4);
            let new: Vec<NewEvent> = (1..=more).map(|n| numbered(events + n)).collect();
            self.or_landed(
                "append",
                || self.store.append(&stream, events, new.clone(), false),
                async || self.events_of(&stream).await.filter(|now| *now > events).map(|_| ()),
                |_| (),
            )
            .await;
            events += more;
            self.witness.mark(&format!("stream {stream} {events}"));
        }
    }

    /// A client that reads nothing.
    async fn keeper_of_blobs(&self, number: u64) {
        let order = &self.witness.order;
        let mut seed = Seed::new(order.seed.wrapping_mul(1000) + number);
        for turn in 1..=3 * order.turns {
            if number == 0 && turn % order.turns == 0 {
                stop(&self.writer);
            }
            let bytes = payload(&mut seed, order.blob_max);
            let digest = self.acknowledged("blob", || self.store.put_blob(bytes.clone())).await;
            self.witness.mark(&format!("blob {digest}"));
        }
    }

    /// Tries until it is acknowledged; for what may be done twice.
    async fn acknowledged<'a, T>(&self, what: &str, attempt: impl Fn() -> Operation<'a, T>) -> T {
        loop {
            match attempt().await {
                Ok(value) => return value,
                Err(error) => self.witness.bear(what, &error),
            }
        }
    }

    /// Tries until it is acknowledged, or found to have taken effect without that.
    async fn or_landed<'a, T, U>(
        &self,
        what: &str,
        attempt: impl Fn() -> Operation<'a, T>,
        landed: impl AsyncFn() -> Option<U>,
        acknowledged: impl Fn(T) -> U,
    ) -> U {
        loop {
            match attempt().await {
                Ok(value) => return acknowledged(value),
                Err(error) => self.witness.bear(what, &error),
            }
            if let Some(value) = landed().await {
                return value;
            }
        }
    }

    async fn view(&self, run: &RunId) -> RunView {
        self.acknowledged("view", || self.store.run(run)).await
    }

    async fn events_of(&self, stream: &str) -> Option<u64> {
        let streams = self.acknowledged("streams", || self.store.streams(KIND)).await;
        streams.iter().find(|record| record.stream == stream).map(|record| record.events)
    }
}

/// Where a run is.
struct Place {
    revision: u64,
    lease: Lease,
}

impl Place {
    fn of(view: &RunView) -> Self {
        let job = view.jobs.iter().find(|job| job.state == JobState::Leased).unwrap();
        let lease = Lease {
            run: view.run.run.clone(),
            job: job.id,
            key: job.key.clone(),
            attempt: job.attempt,
            node: job.lease.clone().unwrap(),
        };
        Self { revision: view.run.revision, lease }
    }
}

impl Place {
    /// Where the run is after a commit; none when that was in the store before.
    fn after(committed: Committed) -> Option<Self> {
        match committed {
            Committed::Now { revision, mut leases, .. } => {
                Some(Self { revision, lease: leases.remove(0) })
            }
            Committed::AlreadyRecorded { .. } => None,
        }
    }
}

/// The stream of the client of a run.
pub(crate) fn stream_of(run: &RunId) -> String {
    format!("{run}-stream")
}

fn stop(stopper: &Mutex<Option<Stopper>>) {
    if let Some(stopper) = &*stopper.lock().unwrap() {
        stopper.stop();
    }
}

fn new_run(run: &RunId, owner: &NodeRef) -> NewRun {
    NewRun {
        run: run.clone(),
        workflow: "power".to_owned(),
        definition: Digest::of(b"definition"),
        definition_bytes: b"definition".to_vec(),
        input_digest: Digest::of(b"input"),
        settings: json!({}),
        owner: Some(owner.clone()),
        deadline: None,
        stages: vec![NewStage::driven(STAGE)],
        jobs: vec![new_job(0, owner)],
        timers: Vec::new(),
        priority: Default::default(),
    }
}

fn new_job(turn: u64, owner: &NodeRef) -> NewJob {
    NewJob {
        stage: STAGE.to_owned(),
        key: JobKey::new(format!("s{turn}")),
        max_attempts: 1,
        crashes_max: 3,
        input: json!({"turn": turn}),
        claim_for: Some(owner.clone()),
        part: JobPart::default(),
    }
}

/// Ends the job that is under way and starts the next one.
fn next_step(run: &RunId, place: &Place, turn: u64, blob: Digest, events: u64) -> Decision {
    let report = Report {
        lease: place.lease.clone(),
        end: AttemptEnd::Succeeded,
        job: JobState::Succeeded,
        skipped: None,
        run_after: None,
        result: Some(json!({"blob": blob.to_string(), "events": events})),
        class: None,
        code: None,
        message: None,
        dead_letter: false,
        deferral: None,
        wait: None,
    };
    Decision {
        run: run.clone(),
        expected_revision: place.revision,
        report: Some(report),
        jobs: Vec::new(),
        new_jobs: vec![new_job(turn, &place.lease.node)],
        stages: Vec::new(),
        run_step: None,
        events: vec![numbered(turn)],
        timers: Vec::new(),
        progress: None,
        limits: Vec::new(),
        priority: None,
    }
}

fn numbered(n: u64) -> NewEvent {
    NewEvent { kind: "numbered".to_owned(), job: None, attempt: None, data: json!({"n": n}) }
}

/// Mostly small, at times as large as may be.
fn payload(seed: &mut Seed, max: u64) -> Vec<u8> {
    let max = if seed.chance(1, 4) { max } else { max / 8 };
    let length = seed.between(1..max.max(2));
    (0..length.div_ceil(8)).flat_map(|_| seed.next_u64().to_le_bytes()).collect()
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}
