//! Who has an analyzer do work: a connection that breaks is made again, and what was done meanwhile is fetched.

use std::{io, time::Duration};

use futures_util::FutureExt;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

use super::frames::{Ask, Code, Heard, Link, Order, Progress, Tell, WorkId};

/// How often a connection is made again for one work.
const AGAIN_MAX: u32 = 3;
/// How long a connection may take to be made.
const CONNECTED_WITHIN: Duration = Duration::from_secs(5);

/// Why there is no result.
#[derive(Debug)]
pub(crate) enum NoResult {
    /// The analyzer is not reached, or not any more.
    Lost(String),
    /// It said so.
    Told(Code, String),
}

/// A connection on which work is waited for. What is dropped before its end is cancelled, as far as that can be said at once.
struct Call<S: AsyncRead + AsyncWrite + Unpin> {
    link: Link<S>,
    id: WorkId,
    is_over: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Drop for Call<S> {
    fn drop(&mut self) {
        if !self.is_over {
            let cancel = Ask::Cancel { id: self.id.clone() };
            // A connection that takes nothing now is left to the deadline of the work.
            let _ = self.link.say(&cancel).now_or_never();
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Call<S> {
    /// Asks, and waits for the end: nothing else is one. It is lost when the connection has broken.
    async fn end<H: Future<Output = ()>>(
        &mut self,
        order: &Order,
        heard: &mut impl FnMut(Progress) -> H,
    ) -> Result<Value, NoResult> {
        let request = Ask::Request { id: self.id.clone(), order: order.clone() };
        self.link.say(&request).await.map_err(|error| {
            // Over no other connection it is shorter.
            if error.kind() == io::ErrorKind::InvalidInput {
                NoResult::Told(Code::TooLarge, format!("the order cannot be sent: {error}"))
            } else {
                NoResult::Lost(error.to_string())
            }
        })?;
        loop {
            match self.link.hear().await {
                Heard::Frame(Tell::Progress { id, progress }) if id == self.id => {
                    heard(progress).await;
                }
                Heard::Frame(Tell::Result { id, result }) if id == self.id => {
                    // It is there: whether that is heard changes nothing here.
                    let _ = self.link.say(&Ask::Ack { id }).await;
                    return Ok(result);
                }
                Heard::Frame(Tell::Error { id, code, message })
                    if id.as_ref().is_none_or(|id| *id == self.id) =>
                {
                    return Err(NoResult::Told(code, message));
                }
                // Of other work.
                Heard::Frame(_) => (),
                Heard::Unreadable(it) => {
                    return Err(NoResult::Lost(format!("it cannot be understood: {}", it.why)));
                }
                Heard::Closed => return Err(NoResult::Lost("it was closed".to_owned())),
            }
        }
    }
}

/// What the analyzer at the other end of `connect` makes of `order`, and how far it is meanwhile.
pub(crate) async fn ask<S, C, H>(
    mut connect: impl FnMut() -> C,
    frame_max: usize,
    id: &WorkId,
    order: &Order,
    mut heard: impl FnMut(Progress) -> H,
) -> Result<Value, NoResult>
where
    S: AsyncRead + AsyncWrite + Unpin,
    C: Future<Output = io::Result<S>>,
    H: Future<Output = ()>,
{
    let mut last = String::new();
    for _ in 0..=AGAIN_MAX {
        let stream = connected(connect()).await.map_err(NoResult::Lost)?;
        let link = Link::new(stream, frame_max);
        let mut call = Call { link, id: id.clone(), is_over: false };
        let end = call.end(order, &mut heard).await;
        // What was lost is not cancelled: it is fetched.
        call.is_over = true;
        match end {
            Err(NoResult::Lost(why)) => last = why,
            Ok(_) | Err(NoResult::Told(..)) => return end,
        }
    }
    let (to, many) = (&order.to, AGAIN_MAX + 1);
    Err(NoResult::Lost(format!(
        "{to} gave no result over {many} connections; of the last one: {last}"
    )))
}

/// Whether somebody answers there, whatever else is done.
pub(crate) async fn lives<S: AsyncRead + AsyncWrite + Unpin>(
    connection: impl Future<Output = io::Result<S>>,
    frame_max: usize,
) -> Result<(), String> {
    let mut link = Link::new(connected(connection).await?, frame_max);
    let nonce = u64::from(std::process::id());
    link.say(&Ask::Ping { nonce }).await.map_err(|error| error.to_string())?;
    let heard = link.hear::<Tell>().await;
    match heard {
        Heard::Frame(Tell::Pong { nonce: same }) if same == nonce => Ok(()),
        Heard::Frame(_) | Heard::Unreadable(_) | Heard::Closed => {
            Err(format!("instead of a pong: {heard:?}"))
        }
    }
}

async fn connected<S>(connection: impl Future<Output = io::Result<S>>) -> Result<S, String> {
    match timeout(CONNECTED_WITHIN, connection).await {
        Ok(connected) => connected.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no connection within {CONNECTED_WITHIN:?}")),
    }
}
