//! The tool protocol, as it is on the wire: one JSON value a line, either way, none longer than a cap. What cannot be read is
//! told as such, and the next line is read as if nothing had been.

use std::{fmt, io};

use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::{
    bytes::BytesMut,
    codec::{Decoder, Encoder, Framed, LinesCodec, LinesCodecError},
};

/// How many bytes a frame may have, unless somebody says otherwise.
pub(crate) const FRAME_MAX: usize = 16 << 20;

/// Which work is meant: a job, and which of its attempts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WorkId {
    pub(crate) job: String,
    pub(crate) attempt: u32,
}

/// What an analyzer is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Whom it is meant for, with its life: nobody else answers at an address that was somebody's before.
    pub(crate) to: String,
    /// Where the app is reached, or that its code is looked at.
    pub(crate) target: String,
    pub(crate) code: String,
    pub(crate) tools: Vec<String>,
    /// How long it may take, from when it is first heard; so long it is kept at most.
    pub(crate) deadline_ms: u64,
}

/// What is said to an analyzer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Ask {
    /// The work is begun and followed; what is begun already, or done, is not begun again.
    Request {
        id: WorkId,
        order: Order,
    },
    /// Work that somebody else has asked for is followed.
    Follow {
        id: WorkId,
    },
    /// The result has arrived: it need not be kept any longer.
    Ack {
        id: WorkId,
    },
    /// The result is not wanted any more.
    Cancel {
        id: WorkId,
    },
    Ping {
        nonce: u64,
    },
}

impl Ask {
    const KINDS: [&str; 5] = ["request", "follow", "ack", "cancel", "ping"];
}

/// What an analyzer says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Tell {
    /// The request is heard, and so many that follow.
    Ack { id: WorkId },
    /// How far it is. Whatever it says: it is no end.
    Progress { id: WorkId, progress: Progress },
    /// What came of it.
    Result { id: WorkId, result: Value },
    /// Nothing comes of it, or of what was said, where no work is named.
    Error { id: Option<WorkId>, code: Code, message: String },
    /// The answer to a ping, whatever else is done.
    Pong { nonce: u64 },
}

impl Tell {
    const KINDS: [&str; 5] = ["ack", "progress", "result", "error", "pong"];
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    pub(crate) stage: String,
    /// From 0 to 1.
    pub(crate) done: f64,
    pub(crate) message: String,
}

/// What kind of an error it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Code {
    /// It is no JSON, or not all of the message.
    Malformed,
    /// There is no such message.
    UnknownType,
    /// It is longer than the cap: a frame that was sent, or a result that would have been.
    TooLarge,
    /// There is no such work, or no more.
    UnknownWork,
    /// It has no result yet.
    NotDone,
    /// It was cancelled, or a later attempt of its job has come.
    Cancelled,
    /// It took too long.
    Deadline,
    /// There is too much to do.
    Busy,
    /// What was to be looked at is not there, or not who was asked.
    Gone,
}

/// What can be said: its names are known, so that others can be told apart.
pub(crate) trait Frame: Serialize + DeserializeOwned {
    const KINDS: &[&str];
}

impl Frame for Ask {
    const KINDS: &[&str] = &Ask::KINDS;
}

impl Frame for Tell {
    const KINDS: &[&str] = &Tell::KINDS;
}

/// A line that is no message.
#[derive(Clone, Debug)]
pub(crate) struct Unreadable {
    pub(crate) code: Code,
    pub(crate) why: String,
}

/// How many characters it is told in at most: what somebody has sent is not sent back to them, however long it is.
const WHY_MAX: usize = 200;

impl Unreadable {
    fn new(code: Code, why: impl fmt::Display) -> Self {
        Self { code, why: shortened(why.to_string(), WHY_MAX) }
    }
}

fn shortened(mut text: String, max: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(max) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// What came next.
#[derive(Debug)]
pub(crate) enum Heard<F> {
    Frame(F),
    Unreadable(Unreadable),
    Closed,
}

/// One end of a connection.
pub(crate) struct Link<S> {
    framed: Framed<S, Lines>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    /// No line may have more than `frame_max` bytes, either way.
    pub(crate) fn new(stream: S, frame_max: usize) -> Self {
        let lines = Lines { codec: LinesCodec::new_with_max_length(frame_max), frame_max };
        Self { framed: Framed::new(stream, lines) }
    }

    /// Dropping the future loses nothing.
    pub(crate) async fn hear<F: Frame>(&mut self) -> Heard<F> {
        match self.framed.next().await {
            Some(Ok(Ok(line))) => read(&line).map_or_else(Heard::Unreadable, Heard::Frame),
            Some(Ok(Err(unreadable))) => Heard::Unreadable(unreadable),
            Some(Err(_)) | None => Heard::Closed,
        }
    }

    /// Fails when the connection is closed, and when it is longer than the cap: then nothing of it is sent.
    pub(crate) async fn say<F: Frame>(&mut self, frame: &F) -> io::Result<()> {
        self.framed.send(serde_json::to_string(frame)?).await
    }
}

fn read<F: Frame>(line: &str) -> Result<F, Unreadable> {
    let value: Value = serde_json::from_str(line)
        .map_err(|error| Unreadable::new(Code::Malformed, format!("it is no JSON: {error}")))?;
    let kind = value["type"].as_str().unwrap_or_default();
    if !F::KINDS.contains(&kind) {
        let (kind, known) = (shortened(kind.to_owned(), 40), F::KINDS.join(", "));
        let why = format!("there is no message of type {kind:?}; there is: {known}");
        return Err(Unreadable::new(Code::UnknownType, why));
    }
    serde_json::from_value(value)
        .map_err(|error| Unreadable::new(Code::Malformed, format!("it is not whole: {error}")))
}

/// Lines as `LinesCodec` has them, except that one that cannot be had is no end of the stream: the rest of it is left out.
struct Lines {
    codec: LinesCodec,
    frame_max: usize,
}

impl Lines {
    fn told<T>(
        &self,
        line: Result<Option<T>, LinesCodecError>,
    ) -> io::Result<Option<Result<T, Unreadable>>> {
        match line {
            Ok(line) => Ok(line.map(Ok)),
            Err(LinesCodecError::MaxLineLengthExceeded) => {
                let why = format!("it has more than {} bytes", self.frame_max);
                Ok(Some(Err(Unreadable::new(Code::TooLarge, why))))
            }
            Err(LinesCodecError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                Ok(Some(Err(Unreadable::new(Code::Malformed, "it is no UTF-8"))))
            }
            Err(LinesCodecError::Io(error)) => Err(error),
        }
    }
}

impl Decoder for Lines {
    type Item = Result<String, Unreadable>;
    type Error = io::Error;

    fn decode(&mut self, bytes: &mut BytesMut) -> io::Result<Option<Self::Item>> {
        let line = self.codec.decode(bytes);
        self.told(line)
    }

    fn decode_eof(&mut self, bytes: &mut BytesMut) -> io::Result<Option<Self::Item>> {
        let line = self.codec.decode_eof(bytes);
        self.told(line)
    }
}

impl Encoder<String> for Lines {
    type Error = io::Error;

    fn encode(&mut self, line: String, bytes: &mut BytesMut) -> io::Result<()> {
        if line.len() > self.frame_max {
            let why = format!("{} bytes are more than {} for a frame", line.len(), self.frame_max);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        self.codec.encode(line, bytes).map_err(io::Error::other)
    }
}
