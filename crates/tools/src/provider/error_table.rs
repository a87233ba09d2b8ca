//! What an answer that is no reply means: its class, its code, and the pause it asks for
//! (ERC-1 to ERC-7).
//!
//! Pure: a function of status, headers, body and place in the stream (ERC-1). Nothing here decides
//! whether to try again; the class does, above.

use perennial_core::{FailureClass, failure::Failure, retry::http::RetryHeaders};
use serde_json::{Value, json};

use crate::secret::Redactor;

/// Most bytes of a body that are kept with a failure (ERC-3).
const BODY_PREFIX_MAX: usize = 4096;
/// Most bytes of the other side's own words in a message.
const WORDS_MAX: usize = 300;

/// The headers that bear on the meaning of an answer, as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerHeaders {
    /// `request-id`.
    pub request_id: Option<String>,
    /// `x-should-retry`.
    pub should_retry: Option<String>,
    /// `retry-after-ms`.
    pub retry_after_ms: Option<String>,
    /// `retry-after`.
    pub retry_after: Option<String>,
    /// `date`.
    pub date: Option<String>,
}

impl AnswerHeaders {
    /// What they say about trying again (ERC-5).
    fn hints(&self) -> RetryHeaders<'_> {
        RetryHeaders {
            should_retry: self.should_retry.as_deref(),
            retry_after_ms: self.retry_after_ms.as_deref(),
            retry_after: self.retry_after.as_deref(),
            date: self.date.as_deref(),
        }
    }
}

/// How far the exchange had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// Nothing of a reply was seen; headers speak about this failure.
    BeforeReply,
    /// Inside the stream, after status 200; headers were sent before anything failed.
    InReply,
}

/// An answer that is no reply.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The status of HTTP.
    pub status: u16,
    /// Its headers.
    pub headers: &'a AnswerHeaders,
    /// Its body, or the data of the error event.
    pub body: &'a [u8],
    /// Where it came.
    pub position: Position,
}

/// The failure that `answer` is.
///
/// ```
/// use perennial_core::FailureClass;
/// use perennial_tools::{Redactor, provider::error_table::{Answer, AnswerHeaders, Position, classify}};
///
/// let headers = AnswerHeaders::default();
/// let answer = Answer { status: 529, headers: &headers, body: b"", position: Position::BeforeReply };
/// assert_eq!(classify(&answer, &Redactor::new()).class, FailureClass::Overloaded);
/// ```
pub fn classify(answer: &Answer<'_>, redactor: &Redactor) -> Failure {
    let error = ErrorBody::of(answer.body);
    let wait = match answer.position {
        Position::BeforeReply => answer.headers.hints().told_wait(None),
        Position::InReply => None,
    };
    let status = match (answer.status, &error.kind) {
        // An error inside a success is classified like the status it would have had (ANT-6).
        (200..=299, Some(kind)) => status_of(kind),
        (status, _) => status,
    };
    let by_table = class_of(status, &error, wait.is_some());
    let told = match answer.position {
        Position::BeforeReply => answer.headers.hints().should_retry(),
        Position::InReply => None,
    };
    let class = as_told(by_table, status, told);
    let mut failure = Failure::new(class, code_of(class, status), message(answer, &error, class));
    failure.message = one_line(&redactor.redact(&failure.message));
    if class.is_retryable() {
        failure.retry_after_ms = wait.map(|wait| {
            let millis = wait.as_nanos().div_ceil(1_000_000);
            u64::try_from(millis).unwrap_or(u64::MAX)
        });
    }
    let request_id = answer.headers.request_id.clone().or(error.request_id);
    let body = redactor.redact(&String::from_utf8_lossy(answer.body));
    failure.detail = json!({
        "status": answer.status,
        "type": error.kind.map(|kind| redactor.redact(&kind)),
        "request_id": request_id.map(|id| redactor.redact(&id)),
        "body": prefix(&body, BODY_PREFIX_MAX),
    });
    if let Some(told) = told {
        failure.detail["should_retry"] = json!(told);
        failure.detail["class_by_table"] = json!(by_table);
    }
    failure
}

/// The class by the table alone.
fn class_of(status: u16, error: &ErrorBody, wait_told: bool) -> FailureClass {
    let spend_cap = error.code.as_deref() == Some("enforced_spend_limit_reached");
    let overloaded = error.kind.as_deref() == Some("overloaded_error");
    match status {
        429 if spend_cap && !wait_told => FailureClass::SpendCap,
        429 => FailureClass::RateLimited,
        529 => FailureClass::Overloaded,
        500..=599 if overloaded => FailureClass::Overloaded,
        408 | 409 | 500..=599 => FailureClass::Transient,
        // Redirects are off for calls: an answer that points elsewhere is a wrong address.
        300..=499 => FailureClass::Permanent,
        // A success without the promised stream, or no status of HTTP at all.
        _ => FailureClass::Interrupted,
    }
}

/// `x-should-retry` overrides every row of the table.
fn as_told(by_table: FailureClass, status: u16, told: Option<bool>) -> FailureClass {
    match told {
        Some(true) if by_table.is_retryable() => by_table,
        Some(true) if status == 429 => FailureClass::RateLimited,
        Some(true) => FailureClass::Transient,
        Some(false) if by_table.is_retryable() => FailureClass::Permanent,
        Some(false) | None => by_table,
    }
}

/// The language's code.
pub(super) fn code_of(class: FailureClass, status: u16) -> &'static str {
    match class {
        FailureClass::Timeout => "PL701",
        FailureClass::RateLimited => "PL702",
        FailureClass::Overloaded | FailureClass::Transient => "PL703",
        FailureClass::Interrupted => "PL708",
        FailureClass::SpendCap => "PL714",
        FailureClass::Permanent if matches!(status, 401..=403) => "PL709",
        FailureClass::Permanent
        | FailureClass::Semantic
        | FailureClass::Reference
        | FailureClass::Expression
        | FailureClass::Path
        | FailureClass::Io
        | FailureClass::Tool
        | FailureClass::Limit
        | FailureClass::Panic
        | FailureClass::Cancelled
        | FailureClass::Store
        | FailureClass::Internal
        | FailureClass::Lost => "PL705",
    }
}

/// The status that goes with an error type; an unknown one is a fault of the other side (ERC-2).
fn status_of(kind: &str) -> u16 {
    match kind {
        "invalid_request_error" => 400,
        "authentication_error" => 401,
        "billing_error" => 402,
        "permission_error" => 403,
        "not_found_error" => 404,
        "request_too_large" => 413,
        "rate_limit_error" => 429,
        "timeout_error" => 504,
        "overloaded_error" => 529,
        _ => 500,
    }
}

fn message(answer: &Answer<'_>, error: &ErrorBody, class: FailureClass) -> String {
    let place = match answer.position {
        Position::BeforeReply => format!("status {}", answer.status),
        Position::InReply => "error inside the reply".to_owned(),
    };
    let kind = error.kind.as_deref().map(|kind| format!(" {kind}")).unwrap_or_default();
    match error.message.as_deref() {
        Some(words) => format!("{class}: {place}{kind}: {words}"),
        None if (200..=299).contains(&answer.status) && error.kind.is_none() => {
            format!("{class}: {place} without an event stream")
        }
        None => format!("{class}: {place}{kind}"),
    }
}

/// What an error body says; all of it may be absent.
#[derive(Debug, Default)]
struct ErrorBody {
    kind: Option<String>,
    message: Option<String>,
    code: Option<String>,
    request_id: Option<String>,
}

impl ErrorBody {
    fn of(body: &[u8]) -> Self {
        let Ok(body) = serde_json::from_slice::<Value>(body) else { return Self::default() };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let error = &body["error"];
        Self {
            kind: text(&error["type"]),
            message: text(&error["message"]),
            code: text(&error["details"]["error_code"]),
            request_id: text(&body["request_id"]),
        }
    }
}

fn one_line(text: &str) -> String {
    let line: String =
        text.chars().map(|each| if each.is_control() { ' ' } else { each }).collect();
    prefix(&line, WORDS_MAX).to_owned()
}

/// The first `bytes_max` bytes of `text`, less what would split a character.
fn prefix(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::ApiKey;

    const SPEND: &str = r#"{"type":"error","error":{"type":"rate_limit_error","message":"m","details":{"error_code":"enforced_spend_limit_reached"}},"request_id":"req_body"}"#;

    fn error(kind: &str) -> String {
        json!({"type": "error", "error": {"type": kind, "message": "words"}}).to_string()
    }

    fn before(status: u16, headers: &AnswerHeaders, body: &str) -> Failure {
        let position = Position::BeforeReply;
        let answer = Answer { status, headers, body: body.as_bytes(), position };
        classify(&answer, &Redactor::new())
    }

    fn row(status: u16, body: &str) -> (FailureClass, String) {
        let failure = before(status, &AnswerHeaders::default(), body);
        (failure.class, failure.code)
    }

    #[test]
    fn the_rows_of_the_table() {
        use FailureClass::{Interrupted, Overloaded, Permanent, RateLimited, SpendCap, Transient};
        for (status, body, class, code) in [
            (408, "", Transient, "PL703"),
            (409, "", Transient, "PL703"),
            (500, "", Transient, "PL703"),
            (502, "<html>", Transient, "PL703"),
            (503, "<html>", Transient, "PL703"),
            (504, "", Transient, "PL703"),
            (529, "", Overloaded, "PL703"),
            (503, error("overloaded_error").as_str(), Overloaded, "PL703"),
            (429, "", RateLimited, "PL702"),
            (429, SPEND, SpendCap, "PL714"),
            (400, "", Permanent, "PL705"),
            (401, "", Permanent, "PL709"),
            (402, "", Permanent, "PL709"),
            (403, "", Permanent, "PL709"),
            (404, "", Permanent, "PL705"),
            (413, "", Permanent, "PL705"),
            (422, "", Permanent, "PL705"),
            (418, "", Permanent, "PL705"),
            (302, "", Permanent, "PL705"),
            (599, "", Transient, "PL703"),
            (200, "<html>", Interrupted, "PL708"),
            (200, error("overloaded_error").as_str(), Overloaded, "PL703"),
            (200, error("authentication_error").as_str(), Permanent, "PL709"),
            (200, error("of_tomorrow").as_str(), Transient, "PL703"),
        ] {
            assert_eq!(row(status, body), (class, code.to_owned()), "{status} {body}");
        }
    }

    #[test]
    fn every_status_with_every_combination_of_headers_has_one_meaning() {
        let some = |text: &str| Some(text.to_owned());
        let date = || some("Sun, 06 Nov 1994 08:49:37 GMT");
        let later = || some("Sun, 06 Nov 1994 08:49:47 GMT");
        let mut seen = 0;
        for status in 100..=599 {
            for should_retry in [None, some("true"), some("false"), some("maybe")] {
                for retry_after_ms in [None, some("1500"), some("0"), some("x")] {
                    for retry_after in [None, some("2.5"), some("-1"), later()] {
                        for body in ["", "not json", SPEND] {
                            let headers = AnswerHeaders {
                                request_id: None,
                                should_retry: should_retry.clone(),
                                retry_after_ms: retry_after_ms.clone(),
                                retry_after: retry_after.clone(),
                                date: date(),
                            };
                            expect(status, &headers, body);
                            seen += 1;
                        }
                    }
                }
            }
        }
        assert_eq!(seen, 500 * 4 * 4 * 4 * 3);
    }

    /// States the rules again, over what comes out.
    fn expect(status: u16, headers: &AnswerHeaders, body: &str) {
        let failure = before(status, headers, body);
        let wait = match (headers.retry_after_ms.as_deref(), headers.retry_after.as_deref()) {
            (Some("1500"), _) => Some(1_500),
            (_, Some("2.5")) => Some(2_500),
            (_, Some("Sun, 06 Nov 1994 08:49:47 GMT")) => Some(10_000),
            (_, _) => None,
        };
        let says = format!("{status} {headers:?} {body} -> {failure:?}");
        assert_eq!(failure.detail["status"], status, "{says}");
        let inside_success = (200..=299).contains(&status) && body == SPEND;
        let status = if inside_success { 429 } else { status };
        match headers.should_retry.as_deref() {
            Some("true") => assert!(failure.class.is_retryable(), "{says}"),
            Some("false") => assert!(!failure.class.is_retryable(), "{says}"),
            _ if status == 429 && body == SPEND && wait.is_none() => {
                assert_eq!(failure.class, FailureClass::SpendCap, "{says}");
            }
            _ if status == 429 => assert_eq!(failure.class, FailureClass::RateLimited, "{says}"),
            _ => {
                let again = matches!(status, 408 | 409 | 100..=299 | 500..=599);
                assert_eq!(failure.class.is_retryable(), again, "{says}");
            }
        }
        let expected = if failure.class.is_retryable() { wait } else { None };
        assert_eq!(failure.retry_after_ms, expected, "{says}");
        assert!(failure.code.starts_with("PL7"), "{says}");
    }

    #[test]
    fn an_error_inside_a_reply_ignores_headers_sent_before_it() {
        let headers = AnswerHeaders {
            should_retry: Some("false".into()),
            retry_after: Some("9".into()),
            request_id: Some("req_1".into()),
            ..AnswerHeaders::default()
        };
        let body = error("overloaded_error");
        let position = Position::InReply;
        let answer = Answer { status: 200, headers: &headers, body: body.as_bytes(), position };
        let failure = classify(&answer, &Redactor::new());
        assert_eq!((failure.class, failure.retry_after_ms), (FailureClass::Overloaded, None));
        assert_eq!(failure.detail["request_id"], "req_1");
        assert_eq!(failure.message, "overloaded: error inside the reply overloaded_error: words");
    }

    #[test]
    fn the_original_survives_without_its_secrets() {
        let key = "sk-canary-0123456789";
        let redactor = Redactor::new().with(&ApiKey::new(key));
        let words = format!("bad key {key}\nsecond line {}", "é".repeat(5000));
        let body = json!({"error": {"type": key, "message": words}, "request_id": key}).to_string();
        let headers = AnswerHeaders::default();
        let position = Position::BeforeReply;
        let answer = Answer { status: 401, headers: &headers, body: body.as_bytes(), position };
        let failure = classify(&answer, &redactor);
        let shown = format!("{failure:?}");
        assert!(!shown.contains("canary"), "{shown}");
        assert!(failure.message.contains(Redactor::MARK) && !failure.message.contains('\n'));
        let kept = failure.detail["body"].as_str().unwrap();
        assert!(kept.len() <= BODY_PREFIX_MAX && kept.len() > BODY_PREFIX_MAX - 4);
    }
}
