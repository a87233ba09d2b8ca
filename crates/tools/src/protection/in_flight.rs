//! Equal requests that are under way at the same time share one.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, WeakShared},
};
use perennial_core::ExitReason;
use perennial_supervision::contain;

type Reply<V> = Result<V, ExitReason>;

/// Requests under way, by their keys. Cheap to clone; clones are the same.
///
/// The first who asks makes the request; who asks for the same while it is under way gets its answer. The answer is kept
/// for nobody who comes later. No task is started: those who wait make the request together, so that it goes on while one
/// of them is there, and ends when the last has left.
///
/// ```
/// use perennial_tools::protection::InFlight;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let in_flight = InFlight::new(1_000);
/// let ask = || {
///     in_flight.share("weather of Graz", || async {
///         tokio::task::yield_now().await; // it takes a while
///         "fine"
///     })
/// };
/// let (one, other) = tokio::join!(ask(), ask());
/// assert_eq!((one?, other?), ("fine", "fine")); // asked once
/// assert_eq!(in_flight.shared(), 1);
/// # Ok(())
/// # }
/// ```
pub struct InFlight<V>(Arc<Inner<V>>);

struct Inner<V> {
    keys_max: usize,
    state: Mutex<State<V>>,
}

struct State<V> {
    flights: HashMap<String, Flight<V>>,
    begun: u64,
    shared: u64,
}

struct Flight<V> {
    number: u64,
    reply: WeakShared<BoxFuture<'static, Reply<V>>>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InFlightError {
    /// The request panicked; all who share it are told.
    #[error("the shared request ended with a {0}")]
    Panicked(ExitReason),
    /// So many different requests are under way.
    #[error("{keys_max} different requests are under way already: ask again later")]
    TooManyKeys {
        /// How many there may be.
        keys_max: usize,
    },
}

impl<V: Clone + Send + Sync + 'static> InFlight<V> {
    /// At most `keys_max` different requests at a time.
    pub fn new(keys_max: usize) -> Self {
        let state = State { flights: HashMap::new(), begun: 0, shared: 0 };
        Self(Arc::new(Inner { keys_max, state: Mutex::new(state) }))
    }

    /// The answer to the request of `key`, which `request` makes unless it is under way.
    ///
    /// # Errors
    ///
    /// When it panics, or there are too many different ones. A failure is a value: let `V` be a `Result`.
    ///
    /// # Cancel safety
    ///
    /// Who is dropped leaves the request to the others; dropped by the last, it ends.
    pub async fn share<F>(&self, key: &str, request: impl FnOnce() -> F) -> Result<V, InFlightError>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let reply = {
            let mut state = self.0.state();
            let under_way = state.flights.get(key).and_then(|flight| flight.reply.upgrade());
            if let Some(reply) = under_way {
                state.shared += 1;
                drop(request);
                reply
            } else {
                if state.flights.len() >= self.0.keys_max && !state.flights.contains_key(key) {
                    return Err(InFlightError::TooManyKeys { keys_max: self.0.keys_max });
                }
                state.begun += 1;
                let number = state.begun;
                let landing = Landing { inner: Arc::clone(&self.0), key: key.to_owned(), number };
                let request = request();
                let reply = async move {
                    let _landing = landing;
                    contain(request).await
                };
                let reply = reply.boxed().shared();
                if let Some(weak) = reply.downgrade() {
                    state.flights.insert(key.to_owned(), Flight { number, reply: weak });
                }
                reply
            }
        };
        reply.await.map_err(InFlightError::Panicked)
    }

    /// Different requests under way.
    pub fn under_way(&self) -> usize {
        self.0.state().flights.len()
    }

    /// How often a request was not made, because it was under way.
    pub fn shared(&self) -> u64 {
        self.0.state().shared
    }
}

impl<V> Inner<V> {
    fn state(&self) -> MutexGuard<'_, State<V>> {
        // Nothing in it is half done when somebody panics elsewhere.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V> Clone for InFlight<V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<V> fmt::Debug for InFlight<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlight").field("keys_max", &self.0.keys_max).finish_non_exhaustive()
    }
}

/// Takes a request off the list when it ends, or when nobody is left who wants it.
struct Landing<V> {
    inner: Arc<Inner<V>>,
    key: String,
    number: u64,
}

impl<V> Drop for Landing<V> {
    fn drop(&mut self) {
        let mut state = self.inner.state();
        // Another one may have begun since.
        if state.flights.get(&self.key).is_some_and(|flight| flight.number == self.number) {
            state.flights.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        time::Duration,
    };

    use futures_util::future::join_all;

    use super::*;

    /// Proves B47.
    #[tokio::test(start_paused = true)]
    async fn equal_requests_share_one_and_later_ones_do_not() {
        let (in_flight, made) = (InFlight::new(9), Arc::new(AtomicU32::new(0)));
        let ask = |key: &'static str| {
            let made = Arc::clone(&made);
            in_flight.share(key, move || async move {
                let number = made.fetch_add(1, Ordering::Relaxed);
                // The request takes time, on a paused clock.
                tokio::time::sleep(Duration::from_secs(1)).await;
                number
            })
        };
        let replies = join_all((0..100).map(|number| ask(["a", "b"][number % 2]))).await;
        let expected: Vec<_> = (0..100).map(|number| Ok(number % 2)).collect();
        assert_eq!(replies, expected);
        assert_eq!((in_flight.shared(), in_flight.under_way()), (98, 0));
        assert_eq!(ask("a").await, Ok(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_ends_with_the_last_who_wants_it_and_a_panic_is_told_to_all() {
        let in_flight = InFlight::new(1);
        let ended = Arc::new(());
        let ask = || {
            let held = Arc::clone(&ended);
            in_flight.share("a", move || async move {
                let _held = held;
                std::future::pending::<u32>().await
            })
        };
        let mut first = Box::pin(ask());
        let mut second = Box::pin(ask());
        assert!(first.as_mut().now_or_never().is_none());
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        assert!(second.as_mut().now_or_never().is_none());
        assert_eq!((in_flight.under_way(), Arc::strong_count(&ended)), (1, 2));
        let full = in_flight.share("b", || async { 1 }).await;
        assert_eq!(full, Err(InFlightError::TooManyKeys { keys_max: 1 }));
        drop(second);
        assert_eq!((in_flight.under_way(), Arc::strong_count(&ended)), (0, 1));
        let panics = || in_flight.share("a", || async { panic!("a bug") });
        let (one, other) = tokio::join!(panics(), panics());
        assert!(matches!(&one, Err(InFlightError::Panicked(ExitReason::Panic { .. }))), "{one:?}");
        assert_eq!(one, other);
        assert_eq!(in_flight.under_way(), 0);
    }
}
