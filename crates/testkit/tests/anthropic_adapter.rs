//! The Anthropic adapter against the fake server: every fault the server knows has one meaning.

#![expect(clippy::unwrap_used, reason = "fixtures of tests")]

use std::time::Duration;

use futures_util::StreamExt;
use perennial_core::{
    FailureClass,
    failure::Failure,
    llm::{ChatRequest, Completion, FinishReason, Tokens},
    run::{IdempotencyKey, JobKey, RunId},
};
use perennial_testkit::{FakeAnthropic, FakeReply};
use perennial_tools::{
    Anthropic, AnthropicConfig, ApiKey, CallCx, Provider, ProviderEvent, complete,
};

const KEY: &str = "sk-canary-0123456789";
const SOON: Duration = Duration::from_secs(20);

fn adapter(fake: &FakeAnthropic) -> Anthropic {
    Anthropic::new(AnthropicConfig::new(ApiKey::new(KEY)).at(fake.base_url())).unwrap()
}

fn cx(job: &str) -> CallCx {
    let run = RunId::parse("r1").unwrap();
    CallCx::new(IdempotencyKey::new("w", &run, "steps", &JobKey::new(job)), job)
}

async fn ask(fake: &FakeAnthropic, prompt: &str) -> Result<Completion, Failure> {
    let request = ChatRequest::ask("claude-x", prompt, 100);
    complete(&adapter(fake), &request, &cx("job")).await
}

async fn failure(fake: &FakeAnthropic, prompt: &str) -> Failure {
    let failure = ask(fake, prompt).await.unwrap_err();
    assert!(!format!("{failure:?}").contains("canary"), "{failure:?}");
    failure
}

#[tokio::test]
async fn a_reply_comes_with_its_usage_and_its_key() {
    let fake = FakeAnthropic::start();
    let completion = ask(&fake, "say hello to everybody in the room").await.unwrap();
    assert_eq!(completion.text, "reply to: say hello to everybody in the room");
    assert_eq!(completion.finish, FinishReason::Stop);
    assert_eq!(completion.usage.input, Tokens(Some(9)));
    assert_eq!(completion.usage.output, Tokens(Some(12)));
    assert_eq!(completion.usage.cache_read, Tokens(None));
    assert_eq!(completion.request_id.as_deref(), Some("req_fake_1"));
    assert_eq!((completion.model.as_str(), completion.mock), ("claude-x", false));
    let record = fake.key("w/r1/steps/job").unwrap();
    assert_eq!((record.requests, record.replied), (1, 1));
    assert_eq!(record.body["messages"][0]["content"], "say hello to everybody in the room");
}

#[tokio::test]
async fn a_long_reply_is_whole_and_its_reason_is_told() {
    let fake = FakeAnthropic::start();
    let long = "wörter ".repeat(20_000);
    fake.script("long", [FakeReply::text(long.clone()).because("max_tokens")]);
    fake.script("tool", [FakeReply::text("").because("tool_use")]);
    let completion = ask(&fake, "long").await.unwrap();
    assert_eq!((completion.text, completion.finish), (long, FinishReason::Length));
    assert_eq!(ask(&fake, "tool").await.unwrap().finish, FinishReason::ToolUse);
}

/// Proves R3.9.
#[tokio::test]
async fn every_refusal_has_its_class_and_nothing_is_tried_twice() {
    let fake = FakeAnthropic::start();
    let told = FakeReply::rate_limited(Some("1.5"));
    let busy = FakeReply::status(503, "<html>busy</html>").header("x-should-retry", "false");
    for (words, reply, class, code, wait) in [
        ("529", FakeReply::overloaded(), FailureClass::Overloaded, "PL703", None),
        ("429", told, FailureClass::RateLimited, "PL702", Some(1_500)),
        ("bare", FakeReply::rate_limited(None), FailureClass::RateLimited, "PL702", None),
        ("spent", FakeReply::spend_cap(), FailureClass::SpendCap, "PL714", None),
        ("html", busy, FailureClass::Permanent, "PL705", None),
        ("moved", FakeReply::status(307, ""), FailureClass::Permanent, "PL705", None),
        ("page", FakeReply::status(200, "<html>"), FailureClass::Interrupted, "PL708", None),
    ] {
        fake.script(words, [reply]);
        let failure = failure(&fake, words).await;
        assert_eq!((failure.class, failure.code.as_str()), (class, code), "{failure:?}");
        assert_eq!(failure.retry_after_ms, wait, "{words}");
        assert!(failure.detail["request_id"].is_string(), "{failure:?}");
    }
    let calls = fake.calls();
    assert_eq!(calls.len(), 7, "one exchange per call");
    assert!(calls.iter().all(|call| !call.completed));
}

#[tokio::test]
async fn an_error_that_repeats_the_key_does_not_show_it() {
    let fake = FakeAnthropic::start();
    let message = format!("invalid x-api-key {KEY}");
    fake.script("", [FakeReply::error(401, "authentication_error", &message)]);
    let failure = failure(&fake, "hello").await;
    assert_eq!((failure.class, failure.code.as_str()), (FailureClass::Permanent, "PL709"));
    assert!(failure.message.contains("[redacted]"), "{failure:?}");
}

#[tokio::test]
async fn a_request_that_holds_the_key_is_not_sent() {
    let fake = FakeAnthropic::start();
    let failure = failure(&fake, &format!("my key is {KEY}")).await;
    assert_eq!(failure.class, FailureClass::Permanent);
    assert_eq!(fake.calls(), []);
}

#[tokio::test]
async fn what_breaks_inside_a_reply_is_no_reply() {
    let fake = FakeAnthropic::start();
    let no_json = FakeReply::raw("event: message_start\ndata: {\n\n");
    for (words, reply, class, code) in [
        (
            "busy",
            FakeReply::error_inside("half", "overloaded_error"),
            FailureClass::Overloaded,
            "PL703",
        ),
        ("cut", FakeReply::cut("half"), FailureClass::Interrupted, "PL708"),
        ("early", FakeReply::early_end("half"), FailureClass::Interrupted, "PL708"),
        ("inside", FakeReply::raw("event: ping\ndata: {\"ty"), FailureClass::Interrupted, "PL708"),
        ("json", no_json, FailureClass::Interrupted, "PL708"),
        ("text", FakeReply::raw(&b"data: \xff\n\n"[..]), FailureClass::Interrupted, "PL708"),
    ] {
        fake.script(words, [reply]);
        let failure = failure(&fake, words).await;
        assert_eq!((failure.class, failure.code.as_str()), (class, code), "{words}: {failure:?}");
    }
    assert!(fake.calls().iter().all(|call| !call.completed));
}

#[tokio::test]
async fn a_complete_reply_counts_whatever_follows_it() {
    let fake = FakeAnthropic::start();
    let reply = "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\
                 \"text\":\"hi\"}}\r\n\r\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\
                 \"end_turn\"}}\n\ndata: {\"type\":\"message_stop\"}\n\n\u{0}garbage";
    fake.script("", [FakeReply::raw(reply)]);
    assert_eq!(ask(&fake, "hello").await.unwrap().text, "hi");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_is_interrupted_and_a_late_reply_is_a_timeout() {
    let fake = FakeAnthropic::start();
    fake.script("stall", [FakeReply::stall("half")]);
    let anthropic = adapter(&fake);
    let request = ChatRequest::ask("claude-x", "stall", 100);
    let mut cx = cx("job");
    cx.idle = Duration::from_millis(100);
    let silent = complete(&anthropic, &request, &cx).await.unwrap_err();
    assert_eq!((silent.class, silent.code.as_str()), (FailureClass::Interrupted, "PL708"));
    cx.idle = SOON;
    cx.within = Duration::from_millis(100);
    let late = complete(&anthropic, &request, &cx).await.unwrap_err();
    assert_eq!((late.class, late.code.as_str()), (FailureClass::Timeout, "PL701"));
    // The stall would last for ever: only an aborted exchange ends it (PRV-15).
    fake.wait_for_quiet(SOON).unwrap();
}

#[tokio::test]
async fn no_first_byte_is_interrupted() {
    let fake = FakeAnthropic::start();
    fake.hold();
    let mut config = AnthropicConfig::new(ApiKey::new(KEY)).at(fake.base_url());
    config.first_byte = Duration::from_millis(50);
    let anthropic = Anthropic::new(config).unwrap();
    let request = ChatRequest::ask("claude-x", "hello", 100);
    let failure = complete(&anthropic, &request, &cx("job")).await.unwrap_err();
    assert_eq!((failure.class, failure.code.as_str()), (FailureClass::Interrupted, "PL708"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_stream_aborts_the_exchange() {
    let fake = FakeAnthropic::start();
    fake.script("stall", [FakeReply::stall("the beginning of something long")]);
    let anthropic = adapter(&fake);
    let request = ChatRequest::ask("claude-x", "stall", 100);
    let cx = cx("job");
    let mut events = anthropic.chat(&request, &cx).await.unwrap();
    let is_text = |event: &ProviderEvent| matches!(event, ProviderEvent::TextDelta { .. });
    while !is_text(&events.next().await.unwrap()) {}
    drop(events);
    fake.wait_for_quiet(SOON).unwrap();
    assert!(!fake.calls()[0].completed);
}

#[tokio::test]
async fn exactly_one_last_event_and_nothing_after_it() {
    let fake = FakeAnthropic::start();
    fake.script("cut", [FakeReply::cut("half")]);
    let anthropic = adapter(&fake);
    for prompt in ["hello", "cut"] {
        let (request, cx) = (ChatRequest::ask("claude-x", prompt, 100), cx("job"));
        let events: Vec<_> = anthropic.chat(&request, &cx).await.unwrap().collect().await;
        let last = |event: &ProviderEvent| {
            matches!(event, ProviderEvent::Finished { .. } | ProviderEvent::Failed(_))
        };
        assert_eq!(events.iter().filter(|event| last(event)).count(), 1, "{events:?}");
        assert!(events.last().is_some_and(last), "{events:?}");
    }
}

#[tokio::test]
async fn nobody_there_is_transient() {
    let fake = FakeAnthropic::start();
    let anthropic = adapter(&fake);
    drop(fake);
    let request = ChatRequest::ask("claude-x", "hello", 100);
    let failure = complete(&anthropic, &request, &cx("job")).await.unwrap_err();
    assert_eq!((failure.class, failure.code.as_str()), (FailureClass::Transient, "PL704"));
    assert!(!format!("{failure:?}").contains("canary"));
}

#[tokio::test]
async fn scripts_count_per_key_so_that_concurrent_calls_do_not_disturb_each_other() {
    let fake = FakeAnthropic::start();
    fake.script("", [FakeReply::overloaded(), FakeReply::text("now")]);
    let anthropic = adapter(&fake);
    let request = ChatRequest::ask("claude-x", "hello", 100);
    for job in ["a", "b"] {
        let cx = cx(job);
        assert!(complete(&anthropic, &request, &cx).await.is_err());
        assert_eq!(complete(&anthropic, &request, &cx).await.unwrap().text, "now");
    }
    let keys = fake.keys();
    assert_eq!(keys.len(), 2);
    assert!(keys.iter().all(|key| (key.requests, key.replied, key.same) == (2, 1, true)));
}

#[test]
fn the_fake_serves_a_synchronous_test_and_ends_with_its_handle() {
    let fake = FakeAnthropic::start();
    fake.hold();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let anthropic = adapter(&fake);
    let request = ChatRequest::ask("claude-x", "hello", 100);
    let cx = cx("job");
    let call = complete(&anthropic, &request, &cx);
    let failure = runtime.block_on(async {
        tokio::pin!(call);
        // Sends the request, and sees the connection break when the fake is gone.
        while fake.calls().is_empty() {
            tokio::select! {
                biased;
                reply = &mut call => panic!("held back, and yet {reply:?}"),
                () = tokio::task::yield_now() => (),
            }
        }
        fake.wait_for_requests(1, SOON).unwrap();
        let missed = fake.wait_for_replies(1, Duration::from_millis(1)).unwrap_err();
        assert_eq!(missed.so_far, "1 requests, 0 replies");
        drop(fake);
        call.await.unwrap_err()
    });
    assert!(failure.class.is_retryable(), "{failure:?}");
}
