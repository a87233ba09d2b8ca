//! Server-sent events: bytes in any split become events (WIR-3).
//!
//! Pure: the decoder neither reads nor waits. Lines end in LF, CRLF or CR; text is decoded line by
//! line, so a character may be split across chunks; a stream that ends inside an event is *cut*.

use std::{collections::VecDeque, mem, time::Duration};

/// One event as it was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SseEvent {
    /// Its name; `None` means `message`.
    pub event: Option<String>,
    /// Its data lines, joined by LF.
    pub data: String,
    /// Its id.
    pub id: Option<String>,
    /// How long to wait before connecting again.
    pub retry: Option<Duration>,
}

/// What the stream brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SseItem {
    /// An event with data.
    Event(SseEvent),
    /// A comment, or a block without data: the other side is alive.
    Heartbeat,
}

/// How much a stream may be.
///
/// ```
/// use perennial_tools::provider::sse::{SseDecoder, SseError, SseLimits};
/// use std::collections::VecDeque;
///
/// let limits = SseLimits { line_bytes_max: 8, ..SseLimits::default() };
/// let long = SseDecoder::with_limits(limits).push(b"data: much too long\n", &mut VecDeque::new());
/// assert_eq!(long, Err(SseError::LineTooLong(8)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SseLimits {
    /// Bytes of one line.
    pub line_bytes_max: usize,
    /// Bytes of data of one event.
    pub event_bytes_max: usize,
    /// Bytes of the whole body.
    pub body_bytes_max: usize,
    /// Events of the whole body, heartbeats included.
    pub events_max: usize,
}

impl Default for SseLimits {
    /// 1 MiB a line, 8 MiB an event, 64 MiB and a million events a body.
    fn default() -> Self {
        Self {
            line_bytes_max: 1 << 20,
            event_bytes_max: 8 << 20,
            body_bytes_max: 64 << 20,
            events_max: 1_000_000,
        }
    }
}

/// Why a stream is of no further use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    /// A line is too long.
    #[error("a line is longer than {0} bytes")]
    LineTooLong(usize),
    /// An event is too big.
    #[error("an event is bigger than {0} bytes")]
    EventTooBig(usize),
    /// The body is too big.
    #[error("the body is bigger than {0} bytes")]
    BodyTooBig(usize),
    /// There are too many events.
    #[error("the body has more than {0} events")]
    TooManyEvents(usize),
    /// A line is not UTF-8.
    #[error("a line is not UTF-8")]
    NotUtf8,
    /// The body ended inside an event, which is discarded.
    #[error("the body was cut inside an event")]
    Cut,
}

/// Turns the bytes of one body into events.
///
/// ```
/// use perennial_tools::provider::sse::{SseDecoder, SseItem};
/// use std::collections::VecDeque;
///
/// let (mut decoder, mut items) = (SseDecoder::new(), VecDeque::new());
/// decoder.push(b"data: hel", &mut items)?;
/// assert!(items.is_empty()); // the event has not ended
/// decoder.push(b"lo\n\n", &mut items)?;
/// assert!(matches!(&items[0], SseItem::Event(event) if event.data == "hello"));
/// # Ok::<(), perennial_tools::provider::sse::SseError>(())
/// ```
#[derive(Debug, Default)]
pub struct SseDecoder {
    limits: SseLimits,
    /// The line so far.
    line: Vec<u8>,
    /// The event so far.
    pending: Pending,
    /// Whether an LF would belong to the CR before it.
    after_cr: bool,
    /// Whether a line has ended; a byte order mark is stripped from the first.
    past_first_line: bool,
    body_bytes: usize,
    events: usize,
    failed: Option<SseError>,
}

#[derive(Debug, Default)]
struct Pending {
    begun: bool,
    has_data: bool,
    event: SseEvent,
}

impl SseDecoder {
    /// A decoder with the default limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// A decoder with other limits.
    pub fn with_limits(limits: SseLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Takes the next bytes and appends to `items` what they complete.
    ///
    /// ```
    /// use perennial_tools::provider::sse::{SseDecoder, SseItem};
    /// use std::collections::VecDeque;
    ///
    /// let (mut decoder, mut items) = (SseDecoder::new(), VecDeque::new());
    /// decoder.push(b": still here\n\nevent: done\ndata: {}\n\n", &mut items)?;
    /// assert_eq!(items[0], SseItem::Heartbeat);
    /// assert!(matches!(&items[1], SseItem::Event(event) if event.event.as_deref() == Some("done")));
    /// # Ok::<(), perennial_tools::provider::sse::SseError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When a limit is crossed or a line is not UTF-8; what came before it is in `items`, and
    /// every further call gives the same error.
    pub fn push(&mut self, chunk: &[u8], items: &mut VecDeque<SseItem>) -> Result<(), SseError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let outcome = chunk.iter().try_for_each(|&byte| self.take(byte, items));
        self.failed = outcome.err();
        outcome
    }

    /// Ends the body.
    ///
    /// ```
    /// use perennial_tools::provider::sse::{SseDecoder, SseError};
    /// use std::collections::VecDeque;
    ///
    /// let mut decoder = SseDecoder::new();
    /// decoder.push(b"data: hal", &mut VecDeque::new())?;
    /// assert_eq!(decoder.finish(), Err(SseError::Cut));
    /// # Ok::<(), SseError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`SseError::Cut`] when an event was not finished, or the error that came before.
    pub fn finish(self) -> Result<(), SseError> {
        match self.failed {
            Some(error) => Err(error),
            None if self.pending.begun || !self.line.is_empty() => Err(SseError::Cut),
            None => Ok(()),
        }
    }

    fn take(&mut self, byte: u8, items: &mut VecDeque<SseItem>) -> Result<(), SseError> {
        self.body_bytes += 1;
        if self.body_bytes > self.limits.body_bytes_max {
            return Err(SseError::BodyTooBig(self.limits.body_bytes_max));
        }
        let after_cr = mem::take(&mut self.after_cr);
        match byte {
            b'\n' if after_cr => Ok(()),
            b'\n' => self.end_line(items),
            b'\r' => {
                self.after_cr = true;
                self.end_line(items)
            }
            _ if self.line.len() == self.limits.line_bytes_max => {
                Err(SseError::LineTooLong(self.limits.line_bytes_max))
            }
            other => {
                self.line.push(other);
                Ok(())
            }
        }
    }

    fn end_line(&mut self, items: &mut VecDeque<SseItem>) -> Result<(), SseError> {
        let bytes = mem::take(&mut self.line);
        let line = String::from_utf8(bytes).map_err(|_| SseError::NotUtf8)?;
        let first = !mem::replace(&mut self.past_first_line, true);
        let line = if first { line.strip_prefix('\u{feff}').unwrap_or(&line) } else { &line };
        if line.is_empty() {
            return self.dispatch(items);
        }
        if line.starts_with(':') {
            return self.emit(SseItem::Heartbeat, items);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        self.field(field, value.strip_prefix(' ').unwrap_or(value))
    }

    fn field(&mut self, field: &str, value: &str) -> Result<(), SseError> {
        self.pending.begun = true;
        let event = &mut self.pending.event;
        match field {
            "data" => {
                if event.data.len() + value.len() + 1 > self.limits.event_bytes_max {
                    return Err(SseError::EventTooBig(self.limits.event_bytes_max));
                }
                if mem::replace(&mut self.pending.has_data, true) {
                    event.data.push('\n');
                }
                event.data.push_str(value);
            }
            "event" => event.event = Some(value.to_owned()),
            "id" if !value.contains('\0') => event.id = Some(value.to_owned()),
            "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => {
                event.retry = value.parse().ok().map(Duration::from_millis);
            }
            // Fields of a newer grammar are ignored, as the standard says.
            _ => (),
        }
        Ok(())
    }

    fn dispatch(&mut self, items: &mut VecDeque<SseItem>) -> Result<(), SseError> {
        let pending = mem::take(&mut self.pending);
        if !pending.begun {
            return Ok(());
        }
        let item =
            if pending.has_data { SseItem::Event(pending.event) } else { SseItem::Heartbeat };
        self.emit(item, items)
    }

    fn emit(&mut self, item: SseItem, items: &mut VecDeque<SseItem>) -> Result<(), SseError> {
        if self.events == self.limits.events_max {
            return Err(SseError::TooManyEvents(self.limits.events_max));
        }
        self.events += 1;
        items.push_back(item);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Decoded = (Vec<SseItem>, Result<(), SseError>);

    fn decode(limits: SseLimits, chunks: &[&[u8]]) -> Decoded {
        let (mut decoder, mut items) = (SseDecoder::with_limits(limits), VecDeque::new());
        for chunk in chunks {
            // The error is kept by the decoder and comes out of `finish`.
            let _ = decoder.push(chunk, &mut items);
        }
        (items.into(), decoder.finish())
    }

    fn whole(text: &str) -> Decoded {
        decode(SseLimits::default(), &[text.as_bytes()])
    }

    fn event(name: Option<&str>, data: &str) -> SseItem {
        SseItem::Event(SseEvent {
            event: name.map(str::to_owned),
            data: data.to_owned(),
            ..SseEvent::default()
        })
    }

    #[test]
    fn all_three_line_ends_mean_the_same() {
        for end in ["\n", "\r\n", "\r"] {
            let text = ["event: a", "data: 1", "data:2", "", "data", "", ""].join(end);
            assert_eq!(whole(&text), (vec![event(Some("a"), "1\n2"), event(None, "")], Ok(())));
        }
    }

    #[test]
    fn marks_comments_ids_and_retries_are_understood() {
        let (items, end) = whole("\u{feff}id: 7\nretry: 1500\ndata: é\n\n: ping\n\nevent: x\n\n");
        let told = SseEvent {
            data: "é".to_owned(),
            id: Some("7".to_owned()),
            retry: Some(Duration::from_millis(1500)),
            event: None,
        };
        assert_eq!(items, [SseItem::Event(told), SseItem::Heartbeat, SseItem::Heartbeat]);
        assert_eq!(end, Ok(()));
    }

    #[test]
    fn an_unfinished_event_is_discarded_and_reported_as_cut() {
        for text in ["data: 1\n\ndata: 2\n", "data: 1\n\nda", "data: 1\n\nevent: x\n"] {
            assert_eq!(whole(text), (vec![event(None, "1")], Err(SseError::Cut)), "{text:?}");
        }
        assert_eq!(whole(""), (vec![], Ok(())));
    }

    #[test]
    fn crossing_a_limit_ends_the_stream_and_keeps_what_came_before() {
        let long = format!("data: 1\n\n{}", "\n".repeat(40));
        let limits =
            SseLimits { line_bytes_max: 10, event_bytes_max: 6, body_bytes_max: 40, events_max: 3 };
        for (text, error) in [
            ("data: 1\n\ndata: 12345\n", SseError::LineTooLong(10)),
            ("data: 1\n\ndata: 123\ndata: 456\n", SseError::EventTooBig(6)),
            (&long, SseError::BodyTooBig(40)),
            ("data: 1\n\n:\n:\n:\n", SseError::TooManyEvents(3)),
        ] {
            let (items, end) = decode(limits, &[text.as_bytes()]);
            assert_eq!((items.first(), end), (Some(&event(None, "1")), Err(error)), "{text:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_an_error() {
        let (items, end) = decode(SseLimits::default(), &[b"data: 1\n\ndata: \xff\n\n"]);
        assert_eq!((items, end), (vec![event(None, "1")], Err(SseError::NotUtf8)));
    }

    fn bodies() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(&b"data: "[..]),
            Just(&b"data:x"[..]),
            Just(&b"event: ping"[..]),
            Just(&b": c"[..]),
            Just(&b"id: 1"[..]),
            Just("ü€𝄞".as_bytes()),
            Just(&b"\xef\xbb\xbf"[..]),
            Just(&b"\xff"[..]),
            Just(&b"\n"[..]),
            Just(&b"\r"[..]),
            Just(&b"\r\n"[..]),
            Just(&b"\n\n"[..]),
        ];
        prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_split_of_the_bytes_gives_the_same_events(
            body in bodies(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let limits = SseLimits { line_bytes_max: 24, events_max: 9, ..SseLimits::default() };
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
            cuts.extend([0, body.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &body[pair[0]..pair[1]]).collect();
            let bytes: Vec<&[u8]> = body.chunks(1).collect();
            let expected = decode(limits, &[&body]);
            prop_assert_eq!(&decode(limits, &chunks), &expected);
            prop_assert_eq!(&decode(limits, &bytes), &expected);
        }
    }
}
