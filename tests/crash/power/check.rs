//! Whether a store that is found after a power cut, or after calls failed, has what it must have.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    thread,
};

use perennial_core::run::{JobState, RunId};
use perennial_store::{RunView, SqliteOptions, SqliteStore, Store, StoreError};

use super::workload::{FILE, KIND, block_on, stream_of};

const ALL: u32 = 100_000;

/// What was acknowledged: heard from the process in the order of its calls, so at every moment of its life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    blobs: BTreeSet<String>,
    /// Revisions of runs.
    runs: BTreeMap<String, u64>,
    /// Numbers of events of streams.
    streams: BTreeMap<String, u64>,
    /// How often the process said so.
    pub(crate) acknowledged: u64,
    /// Errors of the kinds that may be.
    pub(crate) errors: u64,
    /// Of those, that the disk is full.
    pub(crate) full: u64,
    /// And those that say that the file is damaged.
    pub(crate) damage: Vec<String>,
    pub(crate) ended: bool,
    /// Errors of other kinds.
    pub(crate) bad: Vec<String>,
}

impl Ledger {
    pub(crate) fn hear(&mut self, mark: &str) {
        let words: Vec<&str> = mark.splitn(3, ' ').collect();
        self.acknowledged += 1;
        match words[..] {
            ["opened"] => (),
            ["blob", digest] => {
                self.blobs.insert(digest.to_owned());
            }
            ["run", run, revision] => {
                self.runs.insert(run.to_owned(), revision.parse().unwrap());
            }
            ["stream", stream, events] => {
                self.streams.insert(stream.to_owned(), events.parse().unwrap());
            }
            ["error", kind, _] => {
                self.acknowledged -= 1;
                self.errors += 1;
                self.full += u64::from(kind == "full");
                if kind == "corrupt" {
                    self.damage.push(mark.to_owned());
                }
            }
            ["heal"] => self.acknowledged -= 1,
            ["end"] => self.ended = true,
            // What may not be: the process ends then, without having come to its end.
            ["bad", ..] => {
                self.acknowledged -= 1;
                self.bad.push(mark.to_owned());
            }
            _ => panic!("the process said: {mark}"),
        }
    }

    /// The process that comes next begins with what this one was acknowledged.
    pub(crate) fn of_next(&self) -> Self {
        let Self { blobs, runs, streams, .. } = self.clone();
        Self { blobs, runs, streams, ..Self::default() }
    }
}

/// What is wrong with a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is whole, and something that was acknowledged is not in it.
    Lost(String),
    /// It does not open, is damaged, has half of something, or does not go on.
    Broken(String),
}

/// Opens the store in `directory`, compares it with the ledger, and lets it go on.
pub(crate) fn examine(directory: &Path, ledger: &Ledger) -> Result<(), Fault> {
    let store = SqliteStore::open(directory.join(FILE), SqliteOptions::default())
        .map_err(|error| Fault::Broken(format!("it does not open: {error:?}")))?;
    thread::scope(|threads| {
        let (writer, reader) = (store.writer(), store.reader());
        let stoppers = [writer.stopper(), reader.stopper()];
        let closing = |served: Result<(), StoreError>| {
            // Nobody serves any more: whoever waits shall hear of it.
            if served.is_err() {
                store.close();
            }
            served
        };
        let loops = [
            threads.spawn(move || closing(writer.run())),
            threads.spawn(move || closing(reader.run())),
        ];
        let found = block_on(compare(&store, ledger));
        stoppers.iter().for_each(perennial_store::Stopper::stop);
        let served: Result<Vec<()>, StoreError> =
            loops.into_iter().map(|served| served.join().unwrap()).collect();
        match (found, served) {
            (Ok(Ok(())), Ok(_)) => Ok(()),
            (Ok(Err(fault)), Ok(_)) => Err(fault),
            // Of a loop that ended: what it ended with says more than that the store is closed.
            (_, Err(error)) | (Err(error), Ok(_)) => Err(Fault::Broken(format!("{error:?}"))),
        }
    })
}

async fn compare(store: &SqliteStore, ledger: &Ledger) -> Result<Result<(), Fault>, StoreError> {
    let mut lost = Vec::new();
    let wrong = store.integrity().await?;
    if !wrong.is_empty() {
        return Ok(Err(Fault::Broken(format!("{wrong:?}"))));
    }
    let mut streams = BTreeMap::new();
    for record in store.streams(KIND).await? {
        let events = store.events(&record.stream, 1, ALL).await?;
        let is_dense =
            events.iter().zip(1..).all(|(event, n)| event.seq == n && event.data["n"] == n);
        if !is_dense || events.len() as u64 != record.events {
            return Ok(Err(Fault::Broken(format!("stream {}: {events:?}", record.stream))));
        }
        streams.insert(record.stream, record.events);
    }
    let mut runs = BTreeMap::new();
    for summary in store.runs(ALL).await? {
        let view = store.run(&summary.run).await?;
        if let Err(what) = whole(store, &view, &streams).await? {
            return Ok(Err(Fault::Broken(format!("run {}: {what}", summary.run))));
        }
        runs.insert(summary.run.to_string(), view.run.revision);
    }
    for (found, told) in [(&streams, &ledger.streams), (&runs, &ledger.runs)] {
        for (name, least) in told {
            let there = found.get(name).copied().unwrap_or(0);
            if there < *least {
                lost.push(format!("{name} is at {there}, and {least} was acknowledged"));
            }
        }
    }
    for digest in &ledger.blobs {
        match store.blob(digest.parse().unwrap()).await {
            Ok(_) => (),
            Err(StoreError::NotFound { .. }) => lost.push(format!("blob {digest}")),
            Err(error) => return Err(error),
        }
    }
    goes_on(store).await?;
    Ok(if lost.is_empty() { Ok(()) } else { Err(Fault::Lost(lost.join(", "))) })
}

/// Whether each decision is there as a whole, after all that came before it.
async fn whole(
    store: &SqliteStore,
    view: &RunView,
    streams: &BTreeMap<String, u64>,
) -> Result<Result<(), String>, StoreError> {
    let run: &RunId = &view.run.run;
    let events = store.events(run.as_str(), 1, ALL).await?;
    if !events.iter().map(|event| event.seq).eq(1..view.run.next_seq) {
        return Ok(Err(format!("{events:?}")));
    }
    let done: Vec<_> = view.jobs.iter().filter(|job| job.state == JobState::Succeeded).collect();
    let told = |kind: &str| events.iter().filter(|event| event.kind == kind).count();
    let steps = done.len();
    let counts = [told("job_succeeded"), told("numbered"), told("attempt_started") - 1];
    let jobs = [view.jobs.len() - 1, view.attempts.len() - 1];
    if counts != [steps; 3] || jobs != [steps; 2] {
        return Ok(Err(format!("{steps} steps, {counts:?}, {jobs:?}")));
    }
    let ended = view.attempts.iter().filter(|attempt| attempt.end.is_some()).count();
    if ended != steps || view.run.revision < steps as u64 {
        return Ok(Err(format!("{ended} of {steps}, revision {}", view.run.revision)));
    }
    for job in done {
        let Some(result) = &job.result else { return Ok(Err(format!("no result: {job:?}"))) };
        let blob = result["blob"].as_str().unwrap().parse().unwrap();
        if let Err(error) = store.blob(blob).await {
            return Ok(Err(format!("{} is done without its blob: {error}", job.key)));
        }
        if result["events"].as_u64() > streams.get(&stream_of(run)).copied() {
            return Ok(Err(format!("{} came before what it follows", job.key)));
        }
    }
    Ok(Ok(()))
}

/// Whether a process that opens the store now can work.
async fn goes_on(store: &SqliteStore) -> Result<(), StoreError> {
    store.register_node("after").await?;
    store.rescue(None, ALL).await?;
    let digest = store.put_blob(vec![7; 9000]).await?;
    store.blob(digest).await.map(|_| ())
}
