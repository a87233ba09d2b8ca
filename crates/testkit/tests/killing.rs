//! A process is killed when the fake has seen what it should see.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "fixtures of tests")]

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use perennial_testkit::{BinaryError, FakeAnthropic, PerennialBinary};

const SOON: Duration = Duration::from_secs(20);

/// A request without a client library: what the fake says is what is on the wire.
fn post(fake: &FakeAnthropic, key: &str) -> String {
    let body = r#"{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"hi"}]}"#;
    let mut connection = TcpStream::connect(fake.base_url().trim_start_matches("http://")).unwrap();
    write!(
        connection,
        "POST /v1/messages HTTP/1.1\r\nhost: fake\r\nx-api-key: k\r\nanthropic-version: v\r\n\
         idempotency-key: {key}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_process_is_killed_after_the_calls_it_was_given() {
    let fake = FakeAnthropic::start();
    let mut running = PerennialBinary::new("/bin/sleep").arg("600").spawn().unwrap();
    let early = running.kill_after_calls(1, &fake, Duration::from_millis(20)).unwrap_err();
    assert!(matches!(early, BinaryError::TooLate(_)), "{early}");
    let answer = post(&fake, "a/b");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains(r#""text":"reply to: hi""#), "{answer}");
    let output = running.kill_after_calls(1, &fake, SOON).unwrap();
    assert_eq!(output.status.code(), None);
    assert_eq!(fake.key("a/b").unwrap().replied, 1);
    assert_eq!(fake.calls()[0].prompt, "hi");
}
