//! The server itself: one thread, one runtime, one handler.

use std::{
    collections::VecDeque,
    io,
    net::TcpListener,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, Method, Uri},
    response::Response,
};
use futures_util::stream;
use serde_json::Value;
use tokio::sync::{oneshot, watch};

use super::{
    ledger::{Call, Ledger},
    reply::{BrokenEnd, FakeReply, What},
    script::Scripts,
    wire,
};

/// What the handle and the server share.
#[derive(Debug)]
pub(super) struct Shared {
    ledger: Mutex<Ledger>,
    /// Notified with every change of the ledger.
    pub(super) changed: Condvar,
    scripts: Mutex<Scripts>,
    pub(super) held: watch::Sender<bool>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            ledger: Mutex::default(),
            changed: Condvar::new(),
            scripts: Mutex::default(),
            held: watch::Sender::new(false),
        }
    }
}

impl Shared {
    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn scripts(&self) -> MutexGuard<'_, Scripts> {
        self.scripts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, call: Call) -> usize {
        let mut ledger = self.ledger();
        ledger.calls.push(call);
        self.changed.notify_all();
        ledger.calls.len() - 1
    }

    fn change(&self, place: usize, change: impl FnOnce(&mut Call)) {
        change(&mut self.ledger().calls[place]);
        self.changed.notify_all();
    }
}

/// Runs the server until `stopped`.
#[expect(
    clippy::disallowed_methods,
    reason = "a fake of the outside world lives outside of every tree, on a thread that its handle joins"
)]
pub(super) fn thread(
    listener: TcpListener,
    shared: Arc<Shared>,
    stopped: oneshot::Receiver<()>,
) -> JoinHandle<()> {
    std::thread::Builder::new()
        .name("fake-anthropic".to_owned())
        .spawn(move || serve(listener, shared, stopped))
        .expect("a thread for the fake server")
}

fn serve(listener: TcpListener, shared: Arc<Shared>, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime for the fake server");
    runtime.block_on(async {
        listener.set_nonblocking(true).expect("a listener that does not block");
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener of tokio");
        let router =
            Router::new().fallback(answer).layer(DefaultBodyLimit::disable()).with_state(shared);
        tokio::select! {
            served = axum::serve(listener, router) => served.expect("the fake server serves"),
            // An error means that the handle is gone, which is the same.
            _ = stopped => (),
        }
    });
    // Dropping the runtime breaks what connections are open.
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if method != Method::POST || uri.path() != "/v1/messages" {
        return plain(&FakeReply::error(404, "not_found_error", uri.path()), None);
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let prompt = wire::prompt(&body);
    let key = header("idempotency-key").unwrap_or_default().to_owned();
    let call = Call {
        key: key.clone(),
        prompt: prompt.clone(),
        body: body.clone(),
        completed: false,
        ended: false,
    };
    let place = shared.record(call);
    let exchange = Exchange { shared: shared.clone(), place };
    let refused = if header("x-api-key").is_none_or(str::is_empty) {
        Some(FakeReply::error(401, "authentication_error", "x-api-key header is required"))
    } else if header("anthropic-version").is_none() {
        let message = "anthropic-version: header is required";
        Some(FakeReply::error(400, "invalid_request_error", message))
    } else {
        wire::objection(&body)
            .map(|message| FakeReply::error(400, "invalid_request_error", message))
    };
    let (reply, delay) = match refused {
        Some(reply) => (reply, Duration::ZERO),
        None => {
            let mut scripts = shared.scripts();
            let reply = scripts.next(&key, &prompt);
            let delay = scripts.delay + reply.delay;
            (reply, delay)
        }
    };
    tokio::time::sleep(delay).await;
    // The sender lives in `shared`: it cannot be gone.
    drop(shared.held.subscribe().wait_for(|held| !held).await.map(|held| *held));
    respond(reply, &body, &prompt, exchange)
}

/// The entry of one call in the ledger. Dropping it ends the call.
struct Exchange {
    shared: Arc<Shared>,
    place: usize,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.shared.change(self.place, |call| call.ended = true);
    }
}

/// One move of an answer.
enum Move {
    Send(Vec<u8>),
    /// The last bytes of a complete reply.
    Complete(Vec<u8>),
    Cut,
    Stall,
}

fn respond(reply: FakeReply, body: &Value, prompt: &str, exchange: Exchange) -> Response {
    let model = &body["model"];
    let sent = |event: String| Move::Send(event.into_bytes());
    let moves: Vec<Move> = match &reply.what {
        What::Status { .. } => return plain(&reply, Some(exchange)),
        What::Echo => {
            let beginning: String = prompt.chars().take(60).collect();
            let text = FakeReply::text(format!("reply to: {beginning}"));
            return respond(text, body, prompt, exchange);
        }
        What::Text { text, stop_reason } if body["stream"] != true => {
            let message = wire::message(model, prompt, text, stop_reason).to_string();
            let moves = [Move::Complete(message.into_bytes())];
            return streamed("application/json", moves.into(), exchange);
        }
        What::Text { text, stop_reason } => {
            let [stop, delta, last] = wire::ending(text, stop_reason);
            let events = wire::beginning(model, prompt, text).into_iter().chain([stop, delta]);
            events.map(sent).chain([Move::Complete(last.into_bytes())]).collect()
        }
        What::Broken { text, end } => {
            let last = match end {
                BrokenEnd::Error(kind) => Some(sent(wire::error(kind))),
                BrokenEnd::Cut => Some(Move::Cut),
                BrokenEnd::Stall => Some(Move::Stall),
                BrokenEnd::Early => None,
            };
            wire::beginning(model, prompt, text).into_iter().map(sent).chain(last).collect()
        }
        What::Raw { bytes } => vec![Move::Send(bytes.clone())],
    };
    streamed("text/event-stream; charset=utf-8", moves.into(), exchange)
}

/// A 200 whose body makes `moves`.
fn streamed(content_type: &str, moves: VecDeque<Move>, exchange: Exchange) -> Response {
    let request_id = format!("req_fake_{}", exchange.place + 1);
    let body = stream::unfold((moves, exchange), |(mut moves, exchange)| async {
        let next = moves.pop_front()?;
        if !matches!(next, Move::Send(_)) {
            // Lets the connection hand what was sent to the operating system.
            tokio::task::yield_now().await;
        }
        let chunk = match next {
            Move::Send(bytes) => Ok(Bytes::from(bytes)),
            Move::Complete(bytes) => {
                // Before the caller can know it, so that the ledger never lags behind.
                exchange.shared.change(exchange.place, |call| call.completed = true);
                Ok(Bytes::from(bytes))
            }
            Move::Cut => Err(io::Error::from(io::ErrorKind::ConnectionReset)),
            Move::Stall => std::future::pending().await,
        };
        Some((chunk, (moves, exchange)))
    });
    Response::builder()
        .header("content-type", content_type)
        .header("request-id", request_id)
        .body(Body::from_stream(body))
        .expect("known headers")
}

/// An answer without a stream.
fn plain(reply: &FakeReply, exchange: Option<Exchange>) -> Response {
    let What::Status { status, headers, body } = &reply.what else {
        unreachable!("only an answer with a status is plain");
    };
    let mut response = Response::builder().status(*status);
    if let Some(exchange) = &exchange {
        response = response.header("request-id", format!("req_fake_{}", exchange.place + 1));
    }
    for (name, value) in headers {
        response = response.header(name, value);
    }
    response.body(Body::from(body.clone())).expect("a status and headers that HTTP knows")
}
