//! An analyzer as a service of its own: who connects has work done, follows it, and fetches what came of it, also over another
//! connection than that on which it was asked for. Whatever it works on, it answers meanwhile; a tool that would keep its thread
//! busy needs one of its own.

use std::{
    collections::BTreeSet,
    fmt, io,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{
    FutureExt, Stream, StreamExt,
    future::BoxFuture,
    stream::{FusedStream, FuturesUnordered},
};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

use super::{
    frames::{Ask, Code, FRAME_MAX, Heard, Link, Order, Tell, WorkId},
    works::{End, Reporter, Stand, Work, Works, refused},
};

/// What runs the tools of an order: their reports, or why there are none. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tools(Arc<Run>);

type Run = dyn Fn(Order, Reporter) -> BoxFuture<'static, End> + Send + Sync;

impl Tools {
    pub(crate) fn new<F: Future<Output = End> + Send + 'static>(
        run: impl Fn(Order, Reporter) -> F + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(move |order, reporter| run(order, reporter).boxed()))
    }
}

impl fmt::Debug for Tools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tools")
    }
}

/// What an analyzer may be asked to bear.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Bytes of a frame.
    pub(crate) frame_max: usize,
    /// Works that are under way or kept.
    pub(crate) works_max: usize,
    /// Connections at one time; others wait.
    pub(crate) connections_max: usize,
    /// How long a connection may take to take a frame, before it is closed.
    pub(crate) taken_within: Duration,
    /// How long one that follows nothing may say nothing, before it is closed: others wait for its place.
    pub(crate) said_within: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            frame_max: FRAME_MAX,
            works_max: 256,
            connections_max: 64,
            taken_within: Duration::from_secs(10),
            said_within: Duration::from_secs(10),
        }
    }
}

/// Work that is to be made.
type Begun = (WorkId, Order, Work);

/// What is answered at once, and what is followed from now on.
type Answer = (Option<Tell>, Option<(WorkId, watch::Receiver<Stand>)>);

#[derive(Debug)]
pub(crate) struct Analyzer {
    /// What it is asked as.
    name: String,
    tools: Tools,
    bounds: Bounds,
    works: Mutex<Works>,
}

impl Analyzer {
    pub(crate) fn new(name: &str, tools: Tools, bounds: Bounds) -> Self {
        Self { name: name.to_owned(), tools, bounds, works: Mutex::default() }
    }

    /// Serves whoever connects, without an end. Dropping it closes the connections, and ends what is under way.
    pub(crate) async fn serve<S>(self, connections: impl Stream<Item = S>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (begin, mut begun) = mpsc::channel(self.bounds.works_max);
        let mut connections = pin!(connections.fuse());
        let (mut open, mut works) = (FuturesUnordered::new(), FuturesUnordered::new());
        loop {
            let has_room = open.len() < self.bounds.connections_max;
            tokio::select! {
                Some(stream) = connections.next(), if has_room && !connections.is_terminated() => {
                    open.push(self.attend(stream, begin.clone()));
                }
                Some((id, order, work)) = begun.recv() => works.push(self.make(id, order, work)),
                Some(()) = open.next(), if !open.is_empty() => (),
                Some(()) = works.next(), if !works.is_empty() => (),
            }
        }
    }

    /// One connection, until it is closed.
    async fn attend<S>(&self, stream: S, begin: mpsc::Sender<Begun>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut link = Link::new(stream, self.bounds.frame_max);
        let mut followed = BTreeSet::new();
        let mut changes = FuturesUnordered::new();
        loop {
            let told = tokio::select! {
                heard = link.hear() => match heard {
                    Heard::Frame(ask) => {
                        let (told, follows) = self.answer(ask, &begin).unwrap_or_else(|no| (Some(no), None));
                        if let Some((id, stand)) = follows
                            && followed.insert((id.job.clone(), id.attempt))
                        {
                            changes.push(changed(id, stand));
                        }
                        told
                    }
                    Heard::Unreadable(it) => {
                        Some(Tell::Error { id: None, code: it.code, message: it.why })
                    }
                    Heard::Closed => return,
                },
                Some((id, stand, now)) = changes.next(), if !changes.is_empty() => {
                    let told = now.told(&id);
                    if now.is_last() {
                        followed.remove(&(id.job, id.attempt));
                    } else {
                        changes.push(changed(id, stand));
                    }
                    told
                }
                // real time: who says nothing has so long
                () = sleep(self.bounds.said_within), if followed.is_empty() => return,
            };
            let Some(told) = told else { continue };
            match timeout(self.bounds.taken_within, said(&mut link, &told)).await {
                Ok(Ok(())) => (),
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }

    /// What is said when it cannot be done is an answer as well.
    fn answer(&self, ask: Ask, begin: &mpsc::Sender<Begun>) -> Result<Answer, Tell> {
        let mut works = self.works();
        let work = match &ask {
            Ask::Ping { nonce } => return Ok((Some(Tell::Pong { nonce: *nonce }), None)),
            Ask::Ack { id } => return works.acknowledge(id).map(|()| (None, None)),
            Ask::Cancel { id } => return works.cancel(id).map(|()| (None, None)),
            Ask::Follow { id } => (id, works.known(id)?.follow()),
            Ask::Request { id, order } => (id, self.requested(&mut works, id, order, begin)?),
        };
        let (id, follower) = work;
        Ok((Some(Tell::Ack { id: id.clone() }), Some((id.clone(), follower))))
    }

    /// The work `id`: what there is of it, or a beginning.
    fn requested(
        &self,
        works: &mut Works,
        id: &WorkId,
        order: &Order,
        begin: &mpsc::Sender<Begun>,
    ) -> Result<watch::Receiver<Stand>, Tell> {
        if order.to != self.name {
            let why = format!("this is {}, and {} was asked", self.name, order.to);
            return Err(refused(id, Code::Gone, &why));
        }
        if let Some(work) = works.asked(id)? {
            return Ok(work.follow());
        }
        let busy = |many| format!("{many} works are under way or kept");
        let room = begin.try_reserve().ok().filter(|_| works.len() < self.bounds.works_max);
        let room = room.ok_or_else(|| refused(id, Code::Busy, &busy(works.len())))?;
        let work = works.begin(id);
        room.send((id.clone(), order.clone(), work.clone()));
        Ok(work.follow())
    }

    /// The work itself; then what came of it, for as long as it is kept.
    async fn make(&self, id: WorkId, order: Order, work: Work) {
        let within = Duration::from_millis(order.deadline_ms);
        let made = async {
            let end = (self.tools.0)(order, work.reporter()).await;
            work.end(end.and_then(|result| self.sendable(&id, result)));
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            () = work.forgotten() => (),
            _ = timeout(within, made) => self.works().expire(&id, &work),
        }
    }

    /// What is longer than a frame may be would never be received.
    fn sendable(&self, id: &WorkId, result: Value) -> End {
        let told = Tell::Result { id: id.clone(), result: result.clone() };
        let long = serde_json::to_vec(&told).map_or(usize::MAX, |bytes| bytes.len());
        if long <= self.bounds.frame_max {
            return Ok(result);
        }
        let why = format!("the result has {long} bytes, of {} at most", self.bounds.frame_max);
        Err((Code::TooLarge, why))
    }

    fn works(&self) -> MutexGuard<'_, Works> {
        self.works.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says it; of what is longer than a frame may be, that it is.
async fn said<S: AsyncRead + AsyncWrite + Unpin>(
    link: &mut Link<S>,
    told: &Tell,
) -> io::Result<()> {
    match link.say(told).await {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            let message = format!("the answer cannot be sent: {error}");
            link.say(&Tell::Error { id: None, code: Code::TooLarge, message }).await
        }
        said => said,
    }
}

/// How it stands, as soon as that has changed.
async fn changed(
    id: WorkId,
    mut stand: watch::Receiver<Stand>,
) -> (WorkId, watch::Receiver<Stand>, Stand) {
    // Who could change it is gone: so it stays, and its end was said.
    let _ = stand.changed().await;
    let now = stand.borrow_and_update().clone();
    (id, stand, now)
}
