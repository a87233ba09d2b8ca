//! Requests whose answers are awaited: reply ports, one request, and sets of them.

use std::{collections::BTreeMap, fmt, future::Future, pin::Pin, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use ractor::RpcReplyPort;
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::{CallError, Incarnation, Refused, slot::Port};
use crate::{ProcessRef, load::Place, process::is_current, waits::Waiting};

/// What a request carries so that it can be answered: [`Reply`], or the port of a ractor actor.
///
/// ```
/// use perennial_supervision::{Address, CallError, ReplyPort};
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// /// Asks twice before it gives up: for questions that may be answered more than once.
/// async fn patient<M: Send + 'static, P: ReplyPort>(
///     address: &Address<M>,
///     question: impl Fn(P) -> M,
/// ) -> Result<P::Reply, CallError> {
///     match address.ask(&question).await {
///         Err(CallError::Exited(_)) => address.ask(&question).await,
///         answer => answer,
///     }
/// }
/// counter.cast(Ask::Fail)?;
/// assert_eq!(patient(&counter, Ask::Sum).await, Ok(0));
/// # root.shutdown().await; Ok(()) }
/// ```
pub trait ReplyPort: Send + 'static {
    /// What is answered.
    type Reply: Send + 'static;

    /// The port that answers `caller`.
    ///
    /// ```
    /// use perennial_supervision::{Reply, ReplyPort};
    ///
    /// // In a test of a message handler, without any process.
    /// let (caller, mut answer) = tokio::sync::oneshot::channel();
    /// let reply: Reply<u32> = ReplyPort::to(caller);
    /// reply.send(7);
    /// assert_eq!(answer.try_recv(), Ok(7));
    /// ```
    fn to(caller: oneshot::Sender<Self::Reply>) -> Self;

    /// The port that answers at a slot of our own, for those that can.
    #[doc(hidden)]
    fn at(slot: Port<Self::Reply>) -> Result<Self, Port<Self::Reply>>
    where
        Self: Sized,
    {
        Err(slot)
    }
}

impl<R: Send + 'static> ReplyPort for RpcReplyPort<R> {
    type Reply = R;

    fn to(caller: oneshot::Sender<R>) -> Self {
        caller.into()
    }
}

/// The right to answer one request, at once or later and from anywhere (GS-025). Dropping it
/// without an answer leaves the caller to its deadline, or to the end of the server.
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::{*, actor::ActorError};
/// use perennial_supervision::Reply;
///
/// /// Answers all who asked once there is something to answer.
/// struct Board(Vec<Reply<u32>>);
/// enum Message { Next(Reply<u32>), Publish(u32) }
///
/// impl GenServer for Board {
///     type Arguments = ();
///     type Message = Message;
/// #     async fn init((): (), _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> { Ok(Init::new(Self(Vec::new()))) }
///
///     async fn handle(&mut self, message: Message, _: &mut ServerCx<Self>) -> Result<Next<Message>, ActorError> {
///         match message {
///             Message::Next(reply) => self.0.push(reply),
///             Message::Publish(number) => self.0.drain(..).for_each(|reply| reply.send(number)),
///         }
///         Ok(Next::Continue)
///     }
/// }
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, board) = ChildSpec::server::<Board>("board", || ());
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// let next = board.send_request(Message::Next);
/// board.cast(Message::Publish(7))?;
/// assert_eq!(next.wait(Duration::from_secs(1)).await, Ok(7));
/// # root.shutdown().await; Ok(()) }
/// ```
pub struct Reply<R>(To<R>);

enum To<R> {
    Caller(oneshot::Sender<R>),
    Slot(Port<R>),
}

impl<R> Reply<R> {
    /// Answers. When the caller has given up, the answer is dropped: it reaches nobody else
    /// (GS-020).
    ///
    /// ```
    /// use perennial_supervision::{Reply, ReplyPort};
    ///
    /// let (caller, answer) = tokio::sync::oneshot::channel();
    /// let reply = Reply::to(caller);
    /// drop(answer);
    /// reply.send(7); // nobody waits any more: no error, and no panic
    /// ```
    pub fn send(self, answer: R) {
        // Nobody waits: that is the caller's decision.
        match self.0 {
            To::Caller(caller) => drop(caller.send(answer)),
            To::Slot(slot) => slot.send(answer),
        }
    }

    /// Whether the caller still waits.
    ///
    /// ```
    /// use perennial_supervision::{Reply, ReplyPort};
    ///
    /// let (caller, answer) = tokio::sync::oneshot::channel();
    /// let reply: Reply<u32> = Reply::to(caller);
    /// assert!(reply.is_awaited());
    /// drop(answer);
    /// assert!(!reply.is_awaited()); // the work for it can be saved
    /// ```
    pub fn is_awaited(&self) -> bool {
        match &self.0 {
            To::Caller(caller) => !caller.is_closed(),
            To::Slot(slot) => slot.is_awaited(),
        }
    }
}

impl<R> fmt::Debug for Reply<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("awaited", &self.is_awaited()).finish()
    }
}

impl<R: Send + 'static> ReplyPort for Reply<R> {
    type Reply = R;

    fn to(caller: oneshot::Sender<R>) -> Self {
        Self(To::Caller(caller))
    }

    fn at(slot: Port<R>) -> Result<Self, Port<R>> {
        Ok(Self(To::Slot(slot)))
    }
}

/// A request on its way to a process that whoever awaits it knows.
pub(super) struct Asked<R> {
    sent: Result<(), Refused>,
    /// Absent once the port was dropped without an answer.
    port: Option<oneshot::Receiver<R>>,
}

impl<R> Asked<R> {
    /// Sends what `request` makes of a port to `life`, now: in its `place`, where that was waited for.
    pub(super) fn send<M, P: ReplyPort<Reply = R>>(
        life: &Incarnation<M>,
        request: impl FnOnce(P) -> M,
        place: Option<Place<'_>>,
    ) -> Self {
        let (caller, reply) = oneshot::channel();
        let sent = life.post(request(P::to(caller)), place);
        Self { sent, port: Some(reply) }
    }

    /// Whoever waits for an answer is told of every refusal.
    fn is_refused(&self) -> bool {
        matches!(self.sent, Err(Refused::Full | Refused::Dropped))
    }

    /// The answer, if it is there. What was replied before the end counts.
    fn now(&mut self, process: &ProcessRef) -> Option<Result<R, CallError>> {
        if self.is_refused() {
            return Some(Err(CallError::Full));
        }
        // Read first: a reply that came in between is older than the end.
        let ended = process.exit_reason();
        match self.port.as_mut().map(oneshot::Receiver::try_recv) {
            Some(Ok(reply)) => return Some(Ok(reply)),
            // What was found closed must not be asked again.
            Some(Err(TryRecvError::Closed)) => self.port = None,
            Some(Err(TryRecvError::Empty)) | None => (),
        }
        ended.map(|reason| Err(CallError::Exited(reason)))
    }

    /// Waits for the answer, which the caller of this cannot be the one to give; it brings the deadline.
    ///
    /// # Cancel safety
    ///
    /// Safe: it can be awaited again.
    pub(super) async fn reply(&mut self, process: &ProcessRef) -> Result<R, CallError> {
        if self.is_refused() {
            return Err(CallError::Full);
        }
        let _waiting = Waiting::begin(process);
        tokio::select! {
            biased;
            reply = received(&mut self.port) => return Ok(reply),
            // A request that was sent at the very moment of the end lies in a mailbox that nobody
            // will read: that its port is not dropped says nothing.
            _ = process.ended().wait() => (),
        }
        self.now(process).unwrap_or(Err(CallError::NoProc))
    }
}

/// A request on its way.
pub(crate) struct Awaited<R> {
    process: ProcessRef,
    asked: Asked<R>,
}

impl<R> Awaited<R> {
    /// Sends what `request` makes of a port to `life`, now.
    pub(crate) fn send<M, P: ReplyPort<Reply = R>>(
        life: &Incarnation<M>,
        request: impl FnOnce(P) -> M,
    ) -> Self {
        Self { process: life.process().clone(), asked: Asked::send(life, request, None) }
    }

    pub(crate) fn sent<M>(
        life: &Incarnation<M>,
        port: oneshot::Receiver<R>,
        sent: Result<(), Refused>,
    ) -> Self {
        Self { process: life.process().clone(), asked: Asked { sent, port: Some(port) } }
    }

    /// The answer, if it is there.
    fn now(&mut self) -> Option<Result<R, CallError>> {
        self.asked.now(&self.process)
    }

    /// Waits for the answer; the caller brings the deadline.
    ///
    /// # Cancel safety
    ///
    /// Safe: it can be awaited again.
    pub(crate) async fn answer(&mut self) -> Result<R, CallError> {
        if is_current(&self.process) {
            return self.now().unwrap_or(Err(CallError::CallingSelf));
        }
        self.asked.reply(&self.process).await
    }
}

/// Waits for ever when the port was dropped.
async fn received<R>(port: &mut Option<oneshot::Receiver<R>>) -> R {
    if let Some(receiver) = port
        && let Ok(reply) = receiver.await
    {
        return reply;
    }
    *port = None;
    std::future::pending().await
}

/// A request that was sent and whose answer is awaited later, or never: dropping it abandons the
/// answer, not the request (GS-029).
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// // Asked at once, answered in any order.
/// let (first, second) = (counter.send_request(Ask::Sum), counter.send_request(Ask::Never));
/// assert_eq!(first.wait(Duration::from_secs(1)).await, Ok(0));
/// drop(second); // its answer is not wanted any more
/// # root.shutdown().await; Ok(()) }
/// ```
#[must_use = "dropping it abandons the answer"]
pub struct PendingRequest<R>(Result<Awaited<R>, CallError>);

impl<R: Send + 'static> PendingRequest<R> {
    pub(crate) fn new(awaited: Result<Awaited<R>, CallError>) -> Self {
        Self(awaited)
    }

    /// Waits for the answer, and abandons it when it is not there `within` this time.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let question = counter.send_request(Ask::Never);
    /// assert_eq!(question.wait(Duration::from_secs(1)).await, Err(CallError::Timeout));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`CallError`]; also what prevented the sending is told here.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the answer.
    pub async fn wait(self, within: Duration) -> Result<R, CallError> {
        let answer = self.answer();
        tokio::time::timeout(within, answer).await.unwrap_or(Err(CallError::Timeout))
    }

    /// The answer if it is there, or else the request again.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let question = counter.send_request(Ask::Sum);
    /// let question = question.poll().expect_err("it has had no time yet");
    /// tokio::time::sleep(Duration::from_millis(1)).await; // paused clock
    /// assert_eq!(question.poll().expect("it is there"), Ok(0));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The request itself, which is still on its way.
    pub fn poll(mut self) -> Result<Result<R, CallError>, Self> {
        match &mut self.0 {
            Ok(awaited) => awaited.now().ok_or(self),
            Err(refused) => Ok(Err(refused.clone())),
        }
    }

    async fn answer(self) -> Result<R, CallError> {
        self.0?.answer().await
    }
}

impl<R> fmt::Debug for PendingRequest<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingRequest").finish_non_exhaustive()
    }
}

type Answer<R> = (u64, Result<R, CallError>);

/// Requests on their way, each with a label, awaited one answer at a time under one deadline
/// (GS-030). Dropping it abandons what has not been answered.
///
/// ```
/// use perennial_supervision::RequestSet;
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, left) = ChildSpec::server::<Counter>("left", || ());
/// # let (other, right) = ChildSpec::server::<Counter>("right", || ());
/// # let app = SupervisorSpec::new("app").child(spec).child(other);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// let mut sums = RequestSet::new(Duration::from_secs(1)); // one deadline for all
/// sums.insert("left", left.send_request(Ask::Sum));
/// sums.insert("right", right.send_request(Ask::Sum));
/// let mut answered = Vec::new();
/// while let Some((label, sum)) = sums.next().await? {
///     assert_eq!(sum, Ok(0));
///     answered.push(label);
/// }
/// answered.sort();
/// assert_eq!(answered, ["left", "right"]);
/// # root.shutdown().await; Ok(()) }
/// ```
pub struct RequestSet<L, R> {
    /// In the order of their insertion.
    labels: BTreeMap<u64, L>,
    inserted: u64,
    answers: FuturesUnordered<Pin<Box<dyn Future<Output = Answer<R>> + Send>>>,
    deadline: Pin<Box<tokio::time::Sleep>>,
}

/// The deadline of a set passed; these were not answered and are abandoned.
///
/// ```
/// use perennial_supervision::{Expired, RequestSet};
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// let mut sums = RequestSet::new(Duration::from_secs(1));
/// sums.insert("never", counter.send_request(Ask::Never));
/// assert_eq!(sums.next().await, Err(Expired(vec!["never"])));
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} requests were not answered within the deadline", .0.len())]
pub struct Expired<L>(pub Vec<L>);

impl<L, R: Send + 'static> RequestSet<L, R> {
    /// An empty set, whose answers must be there `within` this time from now.
    ///
    /// ```
    /// use perennial_supervision::RequestSet;
    ///
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let mut sums = RequestSet::<&str, u32>::new(Duration::from_secs(1));
    /// assert!(sums.is_empty());
    /// assert_eq!(sums.next().await, Ok(None));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn new(within: Duration) -> Self {
        Self {
            labels: BTreeMap::new(),
            inserted: 0,
            answers: FuturesUnordered::new(),
            deadline: Box::pin(tokio::time::sleep(within)),
        }
    }

    /// Adds a request. Labels may repeat.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let mut sums = RequestSet::new(Duration::from_secs(1));
    /// sums.insert(1, counter.send_request(Ask::Sum));
    /// sums.insert(1, counter.send_request(Ask::Sum)); // a label is a note, not a key
    /// assert_eq!(sums.len(), 2);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn insert(&mut self, label: L, request: PendingRequest<R>) {
        let number = self.inserted;
        self.inserted += 1;
        self.labels.insert(number, label);
        self.answers.push(Box::pin(async move { (number, request.answer().await) }));
    }

    /// How many are not answered.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether all are answered.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The next answer with its label, in the order of arrival; `None` when all are answered. The
    /// error of one server is the answer of its label and of no other.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let mut asked = RequestSet::new(Duration::from_secs(1));
    /// asked.insert("sum", counter.send_request(Ask::Sum));
    /// counter.cast(Ask::Fail)?;
    /// asked.insert("late", counter.send_request(Ask::Sum));
    /// assert_eq!(asked.next().await?, Some(("sum", Ok(0))));
    /// // The error of one is the answer of one.
    /// assert!(matches!(asked.next().await?, Some(("late", Err(CallError::Exited(_))))));
    /// assert_eq!(asked.next().await?, None);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When the deadline passed: the rest is abandoned, and the set is empty.
    ///
    /// # Cancel safety
    ///
    /// Safe: no answer is lost.
    pub async fn next(&mut self) -> Result<Option<(L, Result<R, CallError>)>, Expired<L>> {
        if self.is_empty() {
            return Ok(None);
        }
        tokio::select! {
            biased;
            Some((number, answer)) = self.answers.next() => {
                Ok(self.labels.remove(&number).map(|label| (label, answer)))
            }
            () = &mut self.deadline => {
                self.answers = FuturesUnordered::new();
                Err(Expired(std::mem::take(&mut self.labels).into_values().collect()))
            }
        }
    }
}

impl<L: fmt::Debug, R> fmt::Debug for RequestSet<L, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestSet").field("labels", &self.labels).finish_non_exhaustive()
    }
}
