//! What a process prints: read to the end, so that it never waits for a reader, and kept but for its last line not at
//! all.

use std::{convert::Infallible, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, ChildStderr, ChildStdout},
    sync::watch,
};

use crate::Redactor;

/// Bytes of a line that are looked at.
const LINE_MAX: usize = 4_096;
/// Characters of a line that are shown.
const SHOWN_MAX: usize = 200;

pub(super) struct Output {
    out: Lines<ChildStdout>,
    err: Lines<ChildStderr>,
    /// What the line begins with that says it is ready.
    ready: Option<Arc<str>>,
    tell: watch::Sender<Option<String>>,
    last: Option<String>,
    redactor: Redactor,
}

impl Output {
    /// Of `child`, which must be piped. The rest of the first line that begins with `ready` goes to `tell`.
    pub(super) fn of(
        child: &mut Child,
        ready: Option<Arc<str>>,
        tell: watch::Sender<Option<String>>,
        redactor: Redactor,
    ) -> Self {
        let (out, err) = (Lines::of(child.stdout.take()), Lines::of(child.stderr.take()));
        Self { out, err, ready, tell, last: None, redactor }
    }

    /// Reads for ever: when both have ended, it waits.
    pub(super) async fn read_on(&mut self) -> Infallible {
        self.read_rest().await;
        std::future::pending().await
    }

    /// Reads until both have ended.
    ///
    /// # Cancel safety
    ///
    /// What was read is kept.
    pub(super) async fn read_rest(&mut self) {
        while !(self.out.has_ended() && self.err.has_ended()) {
            let (line, is_out) = tokio::select! {
                line = self.out.next(), if !self.out.has_ended() => (line, true),
                line = self.err.next(), if !self.err.has_ended() => (line, false),
            };
            let Some(line) = line else { continue };
            let rest = self.ready.as_deref().and_then(|ready| line.strip_prefix(ready));
            if let Some(rest) = rest
                && is_out
                && self.tell.borrow().is_none()
            {
                self.tell.send_replace(Some(rest.trim().to_owned()));
            }
            if !line.trim().is_empty() {
                // Before it is cut: half of a secret is none that would be found.
                let line = self.redactor.redact(line.trim());
                self.last = Some(line.chars().take(SHOWN_MAX).collect());
            }
        }
    }

    pub(super) fn last_line(&self) -> Option<&str> {
        self.last.as_deref()
    }
}

/// Lines of a pipe; of a longer one only the beginning.
struct Lines<R> {
    pipe: Option<R>,
    chunk: Vec<u8>,
    line: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    fn of(pipe: Option<R>) -> Self {
        Self { pipe, chunk: Vec::new(), line: Vec::new() }
    }

    fn has_ended(&self) -> bool {
        self.pipe.is_none()
    }

    /// None at the end.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.chunk.iter().position(|byte| *byte == b'\n') {
                let rest = self.chunk.split_off(end + 1);
                self.keep(end);
                self.chunk = rest;
                return Some(self.take_line());
            }
            self.keep(self.chunk.len());
            self.chunk.clear();
            let pipe = self.pipe.as_mut()?;
            self.chunk.reserve(LINE_MAX);
            // A pipe that cannot be read has ended.
            if pipe.read_buf(&mut self.chunk).await.unwrap_or(0) == 0 {
                self.pipe = None;
                return (!self.line.is_empty()).then(|| self.take_line());
            }
        }
    }

    fn keep(&mut self, bytes: usize) {
        let room = LINE_MAX - self.line.len();
        self.line.extend_from_slice(&self.chunk[..bytes.min(room)]);
    }

    fn take_line(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned()
    }
}
