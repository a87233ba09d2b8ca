//! What tests of streams share.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use perennial_core::ExitReason;
use perennial_supervision::{StreamError, StreamOptions, TaskSupervisor};

use crate::{probe::Log, tsk_world::Dropped};

pub(crate) type Result<T, I = u64> = std::result::Result<T, StreamError<I>>;

/// Every way of running elements, so many at a time.
pub(crate) fn ways(width: usize) -> [StreamOptions; 2] {
    let options = StreamOptions::new().max_concurrency(width);
    [options.clone(), options.pooled()]
}

pub(crate) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Waits so many milliseconds and answers that number.
pub(crate) async fn waits(millis: u64) -> u64 {
    tokio::time::timeout(ms(millis), std::future::pending::<()>()).await.unwrap_err();
    millis
}

/// As [`waits`]; a number that ends in 7 fails, one in 9 never ends.
pub(crate) async fn works(millis: u64) -> u64 {
    match millis % 10 {
        7 => {
            waits(millis).await;
            panic!("seven")
        }
        9 => std::future::pending().await,
        _ => waits(millis).await,
    }
}

type Working = Pin<Box<dyn Future<Output = u64> + Send>>;

/// As [`works`], and tells `log` when it is over, by whatever way.
pub(crate) fn tells(log: &Log) -> impl Fn(u64) -> Working + use<> {
    let log = log.clone();
    move |millis| {
        let over = Dropped(log.clone(), "over");
        Box::pin(async move {
            let _over = over;
            works(millis).await
        })
    }
}

/// An element that ended without a value.
pub(crate) fn exit<T, I>(reason: ExitReason) -> Result<T, I> {
    Err(StreamError::Exit { input: None, reason })
}

pub(crate) fn panicked<T, I>(result: &Result<T, I>, text: &str) -> bool {
    matches!(result, Err(StreamError::Exit { input: None, reason }) if is_panic(reason, text))
}

pub(crate) fn is_panic(reason: &ExitReason, text: &str) -> bool {
    crate::tsk_world::panicked(reason, text)
}

/// How many run, and how many ever did at once.
#[derive(Clone, Default)]
pub(crate) struct Gauge(Arc<(AtomicUsize, AtomicUsize)>);

pub(crate) struct Inside(Gauge);

impl Gauge {
    pub(crate) fn enter(&self) -> Inside {
        let now = self.0.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.1.fetch_max(now, Ordering::SeqCst);
        Inside(self.clone())
    }

    pub(crate) fn now(&self) -> usize {
        self.0.0.load(Ordering::SeqCst)
    }

    pub(crate) fn peak(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A source that counts what is taken from it, and tells when it is dropped.
pub(crate) struct Counted<T> {
    items: T,
    pub(crate) taken: Arc<AtomicUsize>,
    _over: Dropped,
}

impl<T: Iterator> Counted<T> {
    pub(crate) fn new(items: T, log: &Log) -> (Self, Arc<AtomicUsize>) {
        let taken = Arc::<AtomicUsize>::default();
        let over = Dropped(log.clone(), "source");
        (Self { items, taken: taken.clone(), _over: over }, taken)
    }
}

impl<T: Iterator> Iterator for Counted<T> {
    type Item = T::Item;
    fn next(&mut self) -> Option<T::Item> {
        let item = self.items.next()?;
        self.taken.fetch_add(1, Ordering::SeqCst);
        Some(item)
    }
}

/// Nothing of a stream is left below the task supervisor, nor of the places that it took.
pub(crate) async fn nothing_is_left(tasks: &TaskSupervisor, places: usize) {
    crate::probe::until(|| tasks.children().is_empty()).await;
    let mut all = Vec::new();
    for _ in 0..places {
        all.push(tasks.start_child("place", std::future::pending()).await.unwrap());
    }
    for task in all {
        tasks.terminate_child(&task).await.unwrap();
    }
}
