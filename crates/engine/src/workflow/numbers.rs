//! Numbers that an attempt asks for: of sequences, which its job keeps, and of pools, which go back when it ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

pub use perennial_core::run::{InvalidNumbers, SequenceName, SlotPool};
use perennial_core::{Digest, FailureClass, failure::Failure, run::IdempotencyKey};
pub use perennial_store::{NewNumber, NewVersion, SlotGiven, SlotTaken};

use super::{AttemptCx, BoxFuture, CallJournal, Outcome, Unavailable};

/// Longer keys are kept as their digest.
const KEY_BYTES_MAX: usize = 1024;

/// What a journal says that gives no numbers.
pub(super) fn gives_none<T: Send + 'static>() -> BoxFuture<'static, Result<T, Failure>> {
    let text = "this journal gives no numbers".to_owned();
    Box::pin(std::future::ready(Err(Failure::new(FailureClass::Store, "PL901", text))))
}

/// What an attempt counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Counted {
    Numbers(SequenceName, String),
    Versions(SequenceName, String, u64),
    Slots(String),
}

/// What an attempt has asked for so far: the first, the second … of each kind. What it asked for in vain it asks for
/// again.
#[derive(Debug, Default)]
pub(crate) struct Ordinals(Mutex<BTreeMap<Counted, Count>>);

#[derive(Debug, Default)]
struct Count {
    last: u32,
    free: BTreeSet<u32>,
}

impl Ordinals {
    fn next(self: &Arc<Self>, of: Counted) -> Ordinal {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(of.clone()).or_default();
        let number = count.free.pop_first().unwrap_or_else(|| {
            count.last += 1;
            count.last
        });
        Ordinal { of, number, is_used: false, ordinals: self.clone() }
    }
}

/// A place in the order of what an attempt asks for. Dropped without use, it is free.
#[derive(Debug)]
struct Ordinal {
    of: Counted,
    number: u32,
    is_used: bool,
    ordinals: Arc<Ordinals>,
}

impl Ordinal {
    /// What came of it; the place is taken when that is something.
    fn used<T, E>(&mut self, came: Result<T, E>) -> Result<T, E> {
        self.is_used = came.is_ok();
        came
    }
}

impl Drop for Ordinal {
    fn drop(&mut self) {
        if !self.is_used {
            let mut counts = self.ordinals.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(count) = counts.get_mut(&self.of) {
                count.free.insert(self.number);
            }
        }
    }
}

/// Why an attempt has no number of a pool. As an [`Outcome`] it is what the attempt ends with: its job waits for a
/// number, and none of its attempts is used, or it has failed.
///
/// ```
/// use std::time::Duration;
/// use perennial::engine::{AfterWait, AttemptCx, NoSlot, Outcome, workflow::SlotPool};
///
/// async fn attempt(cx: AttemptCx) -> Outcome {
///     let ports = SlotPool::new("ports", 20_000..=20_999).expect("a name and numbers");
///     let port = match cx.slot(&ports).await {
///         Ok(port) => port,
///         // Ten minutes at the most, and then it is left out.
///         Err(NoSlot::Full(full)) => {
///             let full = full.at_most(Duration::from_secs(600)).then(AfterWait::Skip);
///             return Outcome::Unavailable(full);
///         }
///         Err(failed) => return failed.into(),
///     };
///     Outcome::Succeeded(port.number().into())
/// }
/// ```
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NoSlot {
    /// All are held, or fenced: it is worth another try later.
    #[error("{} is not available", .0.what)]
    Full(Unavailable),
    /// It could not be asked for.
    #[error("{}", .0.message)]
    Failed(Failure),
}

impl From<NoSlot> for Outcome {
    fn from(refused: NoSlot) -> Self {
        match refused {
            NoSlot::Full(unavailable) => Self::Unavailable(unavailable),
            NoSlot::Failed(failure) => Self::Failed(failure),
        }
    }
}

/// A number of a pool that an attempt holds, as long as the attempt lasts: whatever ends it, its return, its failure or
/// the death of its process, gives the number back. Dropping this changes nothing; what is to be free sooner is
/// [given back](Self::give_back).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
#[doc = include_str!("../../doc/attempts.txt")]
/// # use perennial::engine::workflow::SlotPool;
/// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// async fn attempt(cx: AttemptCx) -> Result<serde_json::Value, Failure> {
///     let ports = SlotPool::new("ports", 20_000..=20_999).expect("a name and numbers");
///     let (first, second) = (cx.slot(&ports).await.unwrap(), cx.slot(&ports).await.unwrap());
///     assert_ne!(first.number(), second.number());
///     first.conflict().await?; // somebody else listens there: the next one, please
///     Ok(second.number().into())
/// }
/// # let workflow = Arc::new(Greet(Definition::new(b"greet 1".to_vec())));
/// # let settings = serde_json::json!({});
/// # let run = runtime.runs().start(StartRun { run: None, workflow, settings, within: None, priority: Default::default() }).await?;
/// # let outcome = run.outcome().await?;
/// assert_eq!(outcome.view.jobs[0].result, Some(20_001.into()));
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SlotHold {
    pool: String,
    number: u32,
    ordinal: Ordinal,
    journal: Arc<dyn CallJournal>,
}

impl SlotHold {
    /// The number.
    ///
    /// ```
    /// use perennial::engine::SlotHold;
    ///
    /// fn address(port: &SlotHold) -> String {
    ///     format!("127.0.0.1:{}", port.number())
    /// }
    /// ```
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Gives the number back before the attempt ends: anybody may have it next.
    ///
    /// ```
    /// use perennial::{engine::SlotHold, records::Failure};
    ///
    /// async fn done(port: SlotHold) -> Result<(), Failure> {
    ///     port.give_back().await
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// A failure of class `store` when the store is away, or the job is not this attempt's any more. The number
    /// then goes back with the attempt's end.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open whether it was given back; it is so with the attempt's end.
    pub async fn give_back(self) -> Result<(), Failure> {
        self.end(SlotGiven::Unused).await
    }

    /// Gives the number back because somebody uses it of whom the store knows nothing, such as another program
    /// that listens there: nobody gets it for 60 s.
    ///
    /// ```
    /// use perennial::{engine::SlotHold, records::Failure};
    /// use std::net::TcpListener;
    ///
    /// async fn listen(port: SlotHold) -> Result<Option<TcpListener>, Failure> {
    ///     match TcpListener::bind(format!("127.0.0.1:{}", port.number())) {
    ///         Ok(listener) => Ok(Some(listener)),
    ///         Err(_) => port.conflict().await.map(|()| None),
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`give_back`](Self::give_back).
    ///
    /// # Cancel safety
    ///
    /// As [`give_back`](Self::give_back).
    pub async fn conflict(self) -> Result<(), Failure> {
        self.end(SlotGiven::Conflict).await
    }

    async fn end(mut self, why: SlotGiven) -> Result<(), Failure> {
        self.journal.slot_give(&self.pool, self.number, why).await?;
        self.ordinal.is_used = false;
        Ok(())
    }
}

impl AttemptCx {
    /// The next number of `sequence` in `scope`, from 1: a number that nobody else ever gets. It belongs to the job:
    /// a later attempt that asks in the same order gets the same numbers, also when this one dies before it has used
    /// them. Several numbers of one sequence and scope are told apart by the order in which they are asked for.
    ///
    /// No number below one that was given is missing, and none comes back: one that belongs to a job that has
    /// failed stays with that job.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[doc = include_str!("../../doc/attempts.txt")]
    /// # use perennial::{records::FailureClass, engine::workflow::SequenceName};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// async fn attempt(cx: AttemptCx) -> Result<serde_json::Value, Failure> {
    ///     let invoices = SequenceName::new("invoice").expect("it can name a sequence");
    ///     let (first, second) = (cx.allocate(&invoices, "2026").await?, cx.allocate(&invoices, "2026").await?);
    ///     Ok(vec![first, second].into())
    /// }
    /// # for expected in [[1, 2], [3, 4]] {
    /// # let workflow = Arc::new(Greet(Definition::new(b"greet 1".to_vec())));
    /// # let settings = serde_json::json!({});
    /// # let run = runtime.runs().start(StartRun { run: None, workflow, settings, within: None, priority: Default::default() }).await?;
    /// # let outcome = run.outcome().await?;
    /// # assert_eq!(outcome.view.jobs[0].result, Some(expected.to_vec().into()));
    /// # }
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// A failure of class `store` when the store is away, or the job is not this attempt's any more; of class
    /// `internal` when the scope is empty, longer than 256 bytes, or has a control character.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open whether the number was given; asking again gets the same one.
    pub async fn allocate(&self, sequence: &SequenceName, scope: &str) -> Result<u64, Failure> {
        let of = Counted::Numbers(sequence.clone(), scope.to_owned());
        let mut ordinal = self.ordinals.next(of);
        let key = self.key_of(&ordinal.number.to_string());
        let new = NewNumber { sequence: sequence.clone(), scope: scope.to_owned(), key };
        ordinal.used(self.journal.allocate(new).await)
    }

    /// The next version of what has the number `number` of `sequence` in `scope`, made from its version `parent`. The
    /// number stays; what [`allocate`](Self::allocate) gave is version 1, so that the first is 2. A later attempt that
    /// asks in the same order gets the same version.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[doc = include_str!("../../doc/attempts.txt")]
    /// # use perennial::engine::workflow::SequenceName;
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// async fn attempt(cx: AttemptCx) -> Result<serde_json::Value, Failure> {
    ///     let invoices = SequenceName::new("invoice").expect("it can name a sequence");
    ///     let number = cx.allocate(&invoices, "2026").await?;
    ///     let corrected = cx.allocate_version(&invoices, "2026", number, 1).await?;
    ///     Ok(vec![number, corrected.into()].into())
    /// }
    /// # let workflow = Arc::new(Greet(Definition::new(b"greet 1".to_vec())));
    /// # let settings = serde_json::json!({});
    /// # let run = runtime.runs().start(StartRun { run: None, workflow, settings, within: None, priority: Default::default() }).await?;
    /// # let outcome = run.outcome().await?;
    /// assert_eq!(outcome.view.jobs[0].result, Some(vec![1, 2].into()));
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`allocate`](Self::allocate); also of class `internal` when there is no such number, or no such parent.
    ///
    /// # Cancel safety
    ///
    /// As [`allocate`](Self::allocate).
    pub async fn allocate_version(
        &self,
        sequence: &SequenceName,
        scope: &str,
        number: u64,
        parent: u32,
    ) -> Result<u32, Failure> {
        let of = Counted::Versions(sequence.clone(), scope.to_owned(), number);
        let mut ordinal = self.ordinals.next(of);
        let key = self.key_of(&format!("{number}.{}", ordinal.number));
        let (sequence, scope) = (sequence.clone(), scope.to_owned());
        let new = NewVersion { sequence, scope, number, parent, key };
        ordinal.used(self.journal.allocate_version(new).await)
    }

    /// A free number of `pool`, the least one, which nobody else has until this attempt ends: see [`SlotHold`].
    ///
    /// ```
    /// use perennial::engine::{AttemptCx, Outcome, workflow::SlotPool};
    ///
    /// async fn attempt(cx: AttemptCx) -> Outcome {
    ///     let ports = SlotPool::new("ports", 20_000..=20_999).expect("a name and numbers");
    ///     match cx.slot(&ports).await {
    ///         Ok(port) => Outcome::Succeeded(port.number().into()),
    ///         Err(refused) => refused.into(), // waits until one may be free
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`NoSlot::Full`] when all are held or fenced; [`NoSlot::Failed`], of class `store`, when the store is away or
    /// the job is not this attempt's any more.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open whether a number was taken; asking again gets the same one, and the attempt's
    /// end gives it back.
    pub async fn slot(&self, pool: &SlotPool) -> Result<SlotHold, NoSlot> {
        let name = pool.name().to_owned();
        let mut ordinal = self.ordinals.next(Counted::Slots(name.clone()));
        let taken = self.journal.slot_take(pool, &ordinal.number.to_string()).await;
        match taken.map_err(NoSlot::Failed)? {
            SlotTaken::Number(number) => {
                ordinal.is_used = true;
                Ok(SlotHold { pool: name, number, ordinal, journal: self.journal.clone() })
            }
            SlotTaken::Full => {
                Err(NoSlot::Full(Unavailable::new(format!("a free number of the pool `{name}`"))))
            }
        }
    }

    /// The key of one of the job's numbers.
    fn key_of(&self, which: &str) -> String {
        number_key(self.first_key.as_ref().unwrap_or(&self.idempotency_key), which)
    }
}

/// Whose the number is that a job asks for, `which` of several; `first` is the job's key in its first round.
pub(crate) fn number_key(first: &IdempotencyKey, which: &str) -> String {
    let key = format!("{}#{which}", first.as_str());
    if key.len() <= KEY_BYTES_MAX { key } else { Digest::of(key.as_bytes()).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_in_vain_is_asked_for_again() {
        let ordinals = Arc::<Ordinals>::default();
        let next = |pool: &str| ordinals.next(Counted::Slots(pool.to_owned()));
        let used = |ordinal: &mut Ordinal| ordinal.used(Ok::<_, ()>(())).unwrap();
        let (mut one, mut two, three) = (next("p"), next("p"), next("p"));
        assert_eq!((one.number, two.number, three.number), (1, 2, 3));
        assert_eq!(next("q").number, 1);
        assert_eq!(next("q").number, 1, "dropped, and free");
        used(&mut one);
        used(&mut two);
        drop((one, two, three));
        assert_eq!(next("p").number, 3, "what was used stays");
        let mut three = next("p");
        assert!(three.used(Err::<(), _>("no")).is_err());
        drop(three);
        assert_eq!(next("p").number, 3);
    }
}
