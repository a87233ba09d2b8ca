//! The tool protocol of the worked example, between an analyzer and who has it do work: what either says, whatever the other
//! says, and over which connection.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::stream::poll_fn;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex},
    sync::{Mutex, mpsc},
};

use crate::study::platform::{
    analyzer::{Analyzer, Bounds, Tools},
    caller::{NoResult, ask, lives},
    frames::{Ask, Code, Heard, Link, Order, Progress, Tell, WorkId},
    works::{End, Reporter},
};

/// Bytes of a frame, here.
const FRAME_MAX: usize = 400;
const BOUNDS: Bounds = Bounds {
    frame_max: FRAME_MAX,
    works_max: 2,
    connections_max: 8,
    taken_within: Duration::from_secs(10),
    said_within: Duration::from_secs(7_200),
};

/// What a tool does next.
enum Step {
    Tell(&'static str, f64),
    End(End),
}

/// An analyzer whose tools do what they are told, and nothing else.
struct Desk {
    connections: mpsc::UnboundedSender<DuplexStream>,
    steps: mpsc::UnboundedSender<Step>,
    begun: Arc<AtomicU32>,
    /// It has a message for each tool that has ended.
    ended: Mutex<mpsc::UnboundedReceiver<()>>,
}

impl Desk {
    fn stream(&self) -> DuplexStream {
        let (near, far) = duplex(64);
        self.connections.send(far).unwrap();
        near
    }

    fn link(&self) -> Link<DuplexStream> {
        Link::new(self.stream(), FRAME_MAX)
    }

    fn tool_does(&self, step: Step) {
        assert!(self.steps.send(step).is_ok());
    }

    fn begun(&self) -> u32 {
        self.begun.load(Ordering::SeqCst)
    }
}

/// Ends with `test`; in real time at once, as nothing but the clock of the runtime is waited for.
async fn at_a_desk(bounds: Bounds, test: impl AsyncFnOnce(&Desk)) {
    let (connections, mut come) = mpsc::unbounded_channel();
    let (steps, does) = mpsc::unbounded_channel();
    let (ends, ended) = mpsc::unbounded_channel();
    let (begun, does) = (Arc::new(AtomicU32::new(0)), Arc::new(Mutex::new(does)));
    let count = begun.clone();
    let tools = Tools::new(move |_, reporter| {
        count.fetch_add(1, Ordering::SeqCst);
        makes(does.clone(), reporter, Ending(ends.clone()))
    });
    let serves = Analyzer::new("fake", tools, bounds).serve(poll_fn(move |cx| come.poll_recv(cx)));
    let desk = Desk { connections, steps, begun, ended: Mutex::new(ended) };
    let works = async {
        tokio::select! {
            () = serves => unreachable!("it has no end"),
            () = test(&desk) => (),
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(3_600), works).await;
    ended.expect("something is waited for that never comes");
}

/// Tells that a tool has ended, or was dropped.
struct Ending(mpsc::UnboundedSender<()>);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

async fn makes(
    does: Arc<Mutex<mpsc::UnboundedReceiver<Step>>>,
    reporter: Reporter,
    _ending: Ending,
) -> End {
    let mut does = does.lock().await;
    loop {
        match does.recv().await.unwrap() {
            Step::Tell(stage, done) => reporter.tell(stage, done, "as told"),
            Step::End(end) => return end,
        }
    }
}

fn id(job: &str, attempt: u32) -> WorkId {
    WorkId { job: job.to_owned(), attempt }
}

fn order() -> Order {
    let (to, target) = ("fake".to_owned(), "its code".to_owned());
    Order {
        to,
        target,
        code: "1 + 1".to_owned(),
        tools: vec!["zap".to_owned()],
        deadline_ms: 60_000,
    }
}

fn request(id: &WorkId) -> Ask {
    Ask::Request { id: id.clone(), order: order() }
}

fn progress(stage: &str, done: f64) -> Progress {
    Progress { stage: stage.to_owned(), done, message: "as told".to_owned() }
}

/// Says it, and hears what is said then.
async fn asked(link: &mut Link<DuplexStream>, ask: &Ask) -> Tell {
    link.say(ask).await.unwrap();
    heard(link).await
}

async fn heard(link: &mut Link<DuplexStream>) -> Tell {
    let heard = link.hear().await;
    let Heard::Frame(told) = heard else { panic!("{heard:?}") };
    told
}

/// Of an error: what kind it is.
fn code(told: &Tell) -> Code {
    let Tell::Error { code, .. } = told else { panic!("no error: {told:?}") };
    *code
}

/// Proves B48.
#[tokio::test(start_paused = true)]
async fn what_is_no_message_is_answered_with_an_error_and_the_connection_stays() {
    let long = format!(r#"{{"type":"ping","nonce":1,"why":"{}"}}"#, "x".repeat(3 * FRAME_MAX));
    let (dance, sung) = ("dance".repeat(70), "\\n".repeat(150));
    let dance = format!(r#"{{"type":"{dance}"}}"#);
    let sung = format!(r#"{{"type":"ping","nonce":"{sung}"}}"#);
    let unknown =
        format!(r#"{{"type":"follow","id":{{"job":"{}","attempt":1}}}}"#, "x".repeat(340));
    let cases: [(&[u8], &str); 17] = [
        (b"", "malformed"),
        (b"{", "malformed"),
        (b"hello", "malformed"),
        (b"{\"type\":\"ping\",\"nonce\":1}}", "malformed"),
        (b"\xff\xfe", "malformed"),
        (br#"{"type":"ping"}"#, "malformed"),
        (br#"{"type":"ping","nonce":-1}"#, "malformed"),
        (br#"{"type":"request","id":{"job":"a","attempt":1}}"#, "malformed"),
        (b"null", "unknown_type"),
        (b"[1, 2]", "unknown_type"),
        (b"{}", "unknown_type"),
        (br#"{"type":3}"#, "unknown_type"),
        (br#"{"type":"dance","nonce":1}"#, "unknown_type"),
        (long.as_bytes(), "too_large"),
        // What was sent is not sent back at length.
        (dance.as_bytes(), "unknown_type"),
        (sung.as_bytes(), "malformed"),
        (unknown.as_bytes(), "too_large"),
    ];
    at_a_desk(BOUNDS, async |desk| {
        let (reads, mut writes) = tokio::io::split(desk.stream());
        let mut lines = BufReader::new(reads).lines();
        let mut next = async || -> Value {
            serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap()
        };
        for (nonce, (line, code)) in cases.iter().enumerate() {
            let ping = format!("{{\"type\":\"ping\",\"nonce\":{nonce}}}\n");
            // In one piece, as it may arrive: what is behind it is not lost either.
            let sent = [line, b"\n".as_slice(), ping.as_bytes()].concat();
            let write = async { writes.write_all(&sent).await.unwrap() };
            let ((), (error, pong)) = tokio::join!(write, async { (next().await, next().await) });
            let line = String::from_utf8_lossy(line);
            assert_eq!(
                (&error["type"], &error["code"]),
                (&"error".into(), &(*code).into()),
                "{line}"
            );
            assert!(error["id"].is_null() && !error["message"].as_str().unwrap().is_empty());
            assert_eq!(pong, json!({ "type": "pong", "nonce": nonce }), "{line}");
        }
        let told = |error: &Value| error["message"].as_str().unwrap().to_owned();
        writes.write_all(b"{\"type\":\"dance\"}\n").await.unwrap();
        let known =
            "there is no message of type \"dance\"; there is: request, follow, ack, cancel, ping";
        assert_eq!(told(&next().await), known);
        let write = async { writes.write_all(format!("{long}\n").as_bytes()).await.unwrap() };
        let ((), error) = tokio::join!(write, next());
        assert_eq!(told(&error), "it has more than 400 bytes");
        assert_eq!(desk.begun(), 0);
    })
    .await;
}

/// Proves B48.
#[tokio::test(start_paused = true)]
async fn many_pings_are_answered_in_their_order_while_a_tool_takes_its_time() {
    at_a_desk(BOUNDS, async |desk| {
        let (mut link, own) = (desk.link(), id("a", 1));
        assert_eq!(asked(&mut link, &request(&own)).await, Tell::Ack { id: own.clone() });
        for nonce in 0..50 {
            assert_eq!(asked(&mut link, &Ask::Ping { nonce }).await, Tell::Pong { nonce });
        }
        lives(async { Ok(desk.stream()) }, FRAME_MAX).await.unwrap();
        assert_eq!(desk.begun(), 1);
        desk.tool_does(Step::End(Ok(json!(7))));
        assert_eq!(heard(&mut link).await, Tell::Result { id: own, result: json!(7) });
    })
    .await;
}

/// Proves B48.
#[tokio::test(start_paused = true)]
async fn progress_reaches_all_who_follow_and_ends_nothing() {
    at_a_desk(BOUNDS, async |desk| {
        let (mut first, mut other, own) = (desk.link(), desk.link(), id("a", 1));
        let none = asked(&mut other, &Ask::Follow { id: own.clone() }).await;
        assert_eq!(code(&none), Code::UnknownWork);
        let ack = Tell::Ack { id: own.clone() };
        assert_eq!(asked(&mut first, &request(&own)).await, ack);
        assert_eq!(asked(&mut other, &Ask::Follow { id: own.clone() }).await, ack);
        let steps =
            [("begun", 0.0, 0.0), ("half", 0.5, 0.5), ("result", 1.0, 1.0), ("odd", 7.0, 1.0)];
        for (stage, done, shown) in steps.into_iter().chain([("none", f64::NAN, 0.0)]) {
            desk.tool_does(Step::Tell(stage, done));
            let told = Tell::Progress { id: own.clone(), progress: progress(stage, shown) };
            assert_eq!(heard(&mut first).await, told);
            assert_eq!(heard(&mut other).await, told);
            let early = asked(&mut first, &Ask::Ack { id: own.clone() }).await;
            assert_eq!(code(&early), Code::NotDone, "after {stage}");
        }
        // Who comes late hears how it stands.
        let mut late = desk.link();
        assert_eq!(asked(&mut late, &Ask::Follow { id: own.clone() }).await, ack);
        let told = Tell::Progress { id: own.clone(), progress: progress("none", 0.0) };
        assert_eq!(heard(&mut late).await, told);
        desk.tool_does(Step::End(Err((Code::Gone, "the app is gone".to_owned()))));
        for link in [&mut first, &mut other, &mut late] {
            assert_eq!(code(&heard(link).await), Code::Gone);
        }
    })
    .await;
}

/// Proves B48.
#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_result_takes_nothing_else_for_one() {
    let (near, far) = duplex(64);
    let (own, foreign) = (id("a", 2), id("a", 1));
    let of_service = async {
        let mut link = Link::new(far, FRAME_MAX);
        assert!(matches!(link.hear().await, Heard::Frame(Ask::Request { .. })));
        let mut done = progress("result", 1.0);
        done.message = r#"{"type":"result"}"#.to_owned();
        let said = [
            Tell::Ack { id: own.clone() },
            Tell::Progress { id: own.clone(), progress: done.clone() },
            Tell::Progress { id: foreign.clone(), progress: done },
            Tell::Result { id: foreign.clone(), result: json!("of another") },
            Tell::Error { id: Some(foreign.clone()), code: Code::Gone, message: String::new() },
            Tell::Pong { nonce: 3 },
            Tell::Result { id: own.clone(), result: json!("its own") },
        ];
        for told in &said {
            link.say(told).await.unwrap();
        }
        assert!(matches!(link.hear().await, Heard::Frame(Ask::Ack { id }) if id == own));
    };
    let mut streams = [near].into_iter();
    let connect = || std::future::ready(Ok(streams.next().unwrap()));
    let stages = Mutex::new(Vec::new());
    let heard = async |told: Progress| stages.lock().await.push(told.stage);
    let order = order();
    let (result, ()) = tokio::join!(ask(connect, FRAME_MAX, &own, &order, heard), of_service);
    assert_eq!(result.unwrap(), "its own");
    assert_eq!(stages.into_inner(), ["result"]);
}

/// Proves B48.
#[tokio::test(start_paused = true)]
async fn a_result_is_kept_until_it_is_acknowledged() {
    at_a_desk(BOUNDS, async |desk| {
        let own = id("a", 1);
        let ack = Tell::Ack { id: own.clone() };
        let result = Tell::Result { id: own.clone(), result: json!([1, 2]) };
        let mut cut = desk.link();
        assert_eq!(asked(&mut cut, &request(&own)).await, ack);
        drop(cut);
        desk.tool_does(Step::End(Ok(json!([1, 2]))));
        desk.ended.lock().await.recv().await.unwrap();
        for _ in 0..3 {
            let mut again = desk.link();
            assert_eq!(asked(&mut again, &request(&own)).await, ack);
            assert_eq!(heard(&mut again).await, result);
        }
        let mut last = desk.link();
        assert_eq!(asked(&mut last, &request(&own)).await, ack);
        assert_eq!(heard(&mut last).await, result);
        last.say(&Ask::Ack { id: own.clone() }).await.unwrap();
        let gone = asked(&mut last, &Ask::Follow { id: own.clone() }).await;
        assert_eq!(code(&gone), Code::UnknownWork);
        assert_eq!(desk.begun(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_is_made_again_and_the_result_fetched() {
    at_a_desk(BOUNDS, async |desk| {
        let (own, mut first) = (id("a", 1), desk.link());
        assert_eq!(asked(&mut first, &request(&own)).await, Tell::Ack { id: own.clone() });
        drop(first);
        desk.tool_does(Step::End(Ok(json!("kept"))));
        let mut tries = 0;
        let connect = || {
            tries += 1;
            // Nobody is at the other end of the first ones.
            let stream = if tries < 3 { duplex(64).0 } else { desk.stream() };
            std::future::ready(Ok(stream))
        };
        let order = order();
        let result = ask(connect, FRAME_MAX, &own, &order, async |_| ()).await;
        assert_eq!((result.unwrap(), tries, desk.begun()), (json!("kept"), 3, 1));
        let mut link = desk.link();
        assert_eq!(
            code(&asked(&mut link, &Ask::Follow { id: own.clone() }).await),
            Code::UnknownWork
        );

        let mut tries = 0;
        let connect = || {
            tries += 1;
            std::future::ready(Ok(duplex(64).0))
        };
        let lost = ask(connect, FRAME_MAX, &own, &order, async |_| ()).await.unwrap_err();
        let NoResult::Lost(why) = lost else { panic!("{lost:?}") };
        let closed = "fake gave no result over 4 connections; of the last one: broken pipe";
        assert_eq!((why.as_str(), tries), (closed, 4));
        let refuse = || std::future::ready(Err::<DuplexStream, _>(io::Error::other("no way")));
        let lost = ask(refuse, FRAME_MAX, &own, &order, async |_| ()).await.unwrap_err();
        assert!(matches!(lost, NoResult::Lost(why) if why == "no way"));
    })
    .await;
}

/// What will never be sent is not tried again, and it is told why there is no result.
#[tokio::test(start_paused = true)]
async fn an_order_that_is_too_long_or_an_answer_that_is_none_is_told_as_such() {
    let (own, mut tries) = (id("a", 1), 0);
    let connect = || {
        tries += 1;
        std::future::ready(Ok(duplex(64).0))
    };
    let long = Order { code: "x".repeat(FRAME_MAX), ..order() };
    let refused = ask(connect, FRAME_MAX, &own, &long, async |_| ()).await.unwrap_err();
    let NoResult::Told(Code::TooLarge, why) = refused else { panic!("{refused:?}") };
    assert!(why.starts_with("the order cannot be sent: ") && why.contains("400"), "{why}");
    assert_eq!(tries, 1);

    // Somebody else is at its address, who talks otherwise.
    let kept = Mutex::new(Vec::new());
    let connect = || async {
        let (near, mut far) = duplex(1 << 10);
        far.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await?;
        kept.lock().await.push(far);
        Ok(near)
    };
    let lost = ask(connect, FRAME_MAX, &own, &order(), async |_| ()).await.unwrap_err();
    let NoResult::Lost(why) = lost else { panic!("{lost:?}") };
    assert!(why.contains("fake gave no result over 4 connections"), "{why}");
    assert!(why.contains("it cannot be understood: it is no JSON"), "{why}");
}

/// Proves B48.
#[tokio::test(start_paused = true)]
async fn what_is_cancelled_ends_for_all_who_follow_and_its_tools_stop() {
    at_a_desk(BOUNDS, async |desk| {
        let (mut first, mut other, own) = (desk.link(), desk.link(), id("a", 1));
        asked(&mut first, &request(&own)).await;
        asked(&mut other, &Ask::Follow { id: own.clone() }).await;
        assert_eq!(
            code(&asked(&mut other, &Ask::Cancel { id: own.clone() }).await),
            Code::Cancelled
        );
        assert_eq!(code(&heard(&mut first).await), Code::Cancelled);
        desk.ended.lock().await.recv().await.unwrap();
        let none = asked(&mut other, &Ask::Cancel { id: own.clone() }).await;
        assert_eq!(code(&none), Code::UnknownWork);

        // Who does not wait any longer cancels it.
        let own = id("b", 1);
        // Longer than the test waits.
        let order = Order { deadline_ms: 10_000_000, ..order() };
        let (tells, mut told) = mpsc::unbounded_channel();
        let heard_it = async |it: Progress| tells.send(it.stage).unwrap();
        let connect = || std::future::ready(Ok(desk.stream()));
        let mut asks = Box::pin(ask(connect, FRAME_MAX, &own, &order, heard_it));
        desk.tool_does(Step::Tell("begun", 0.0));
        tokio::select! {
            end = &mut asks => panic!("{end:?}"),
            stage = told.recv() => assert_eq!(stage.unwrap(), "begun"),
        }
        drop(asks);
        desk.ended.lock().await.recv().await.unwrap();
        assert_eq!(code(&asked(&mut other, &Ask::Follow { id: own }).await), Code::UnknownWork);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_attempt_takes_the_place_of_earlier_ones_and_bounds_are_told() {
    at_a_desk(BOUNDS, async |desk| {
        let (mut link, mut next) = (desk.link(), desk.link());
        asked(&mut link, &request(&id("a", 1))).await;
        asked(&mut next, &request(&id("a", 2))).await;
        // Its tools are stopped, and it is told why.
        let Tell::Error { code: of_first, message, .. } = heard(&mut link).await else { panic!() };
        assert_eq!((of_first, message.as_str()), (Code::Cancelled, "attempt 2 of it has come"));
        desk.ended.lock().await.recv().await.unwrap();
        assert_eq!(code(&asked(&mut link, &request(&id("a", 1))).await), Code::Cancelled);

        let order = Order { to: "fake/2".to_owned(), ..order() };
        let wrong = asked(&mut link, &Ask::Request { id: id("b", 1), order }).await;
        let Tell::Error { code: of_wrong, message, .. } = wrong else { panic!() };
        assert_eq!(
            (of_wrong, message.as_str()),
            (Code::Gone, "this is fake, and fake/2 was asked")
        );

        assert!(matches!(asked(&mut link, &request(&id("b", 1))).await, Tell::Ack { .. }));
        let busy = asked(&mut link, &request(&id("c", 1))).await;
        let Tell::Error { code: of_busy, message, .. } = busy else { panic!() };
        assert_eq!((of_busy, message.as_str()), (Code::Busy, "2 works are under way or kept"));
        // What is under way already needs no other place.
        assert!(matches!(asked(&mut link, &request(&id("b", 1))).await, Tell::Ack { .. }));

        // Their time passes, and with it what is kept of them.
        assert_eq!(code(&heard(&mut next).await), Code::Deadline);
        assert_eq!(code(&heard(&mut link).await), Code::Deadline);
        assert!(matches!(asked(&mut link, &request(&id("c", 1))).await, Tell::Ack { .. }));
        desk.tool_does(Step::End(Ok(json!("x".repeat(FRAME_MAX)))));
        let Tell::Error { code: of_large, message, .. } = heard(&mut link).await else { panic!() };
        assert_eq!(of_large, Code::TooLarge, "{message}");
        assert!(link.say(&Ask::Ping { nonce: 1 }).await.is_ok());
        assert_eq!(heard(&mut link).await, Tell::Pong { nonce: 1 });
        // What would be refused is not sent.
        let long = Ask::Follow { id: id(&"x".repeat(FRAME_MAX), 1) };
        assert_eq!(link.say(&long).await.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    })
    .await;
}

/// Nobody is held up by who reads nothing; and who has no room waits until there is some.
#[tokio::test(start_paused = true)]
async fn who_reads_nothing_is_left_after_a_while() {
    at_a_desk(Bounds { connections_max: 2, ..BOUNDS }, async |desk| {
        let (mut deaf, mut link) = (desk.stream(), desk.link());
        let pings = "{\"type\":\"ping\",\"nonce\":1}\n".repeat(100);
        let others = async {
            assert_eq!(asked(&mut link, &Ask::Ping { nonce: 2 }).await, Tell::Pong { nonce: 2 });
            let mut third = desk.link();
            third.say(&Ask::Ping { nonce: 3 }).await.unwrap();
            // After a while there is room for it.
            assert_eq!(heard(&mut third).await, Tell::Pong { nonce: 3 });
        };
        let (left, ()) = tokio::join!(deaf.write_all(pings.as_bytes()), others);
        assert_eq!(left.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    })
    .await;
}

/// Those who say nothing keep nobody out, be it half a line that they have said; who follows work may be silent.
#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_left_after_a_while() {
    let bounds = Bounds { connections_max: 3, said_within: Duration::from_secs(10), ..BOUNDS };
    at_a_desk(bounds, async |desk| {
        let (mut follows, own) = (desk.link(), id("a", 1));
        assert_eq!(asked(&mut follows, &request(&own)).await, Tell::Ack { id: own.clone() });
        let (mute, mut slow) = (desk.stream(), desk.stream());
        slow.write_all(br#"{"type":"pi"#).await.unwrap();
        let mut next = desk.link();
        assert_eq!(asked(&mut next, &Ask::Ping { nonce: 1 }).await, Tell::Pong { nonce: 1 });
        for mut left in [mute, slow] {
            let mut rest = Vec::new();
            assert_eq!(left.read_to_end(&mut rest).await.unwrap(), 0, "it is closed");
        }
        desk.tool_does(Step::End(Ok(json!(7))));
        assert_eq!(heard(&mut follows).await, Tell::Result { id: own, result: json!(7) });
    })
    .await;
}

/// An acknowledgement of somebody whom it was not sent to takes the result from nobody who follows it.
#[tokio::test(start_paused = true)]
async fn a_result_that_somebody_else_acknowledges_reaches_who_follows_it() {
    at_a_desk(BOUNDS, async |desk| {
        let (mut link, mut other, own) = (desk.link(), desk.link(), id("a", 1));
        asked(&mut link, &request(&own)).await;
        desk.tool_does(Step::End(Ok(json!(7))));
        desk.ended.lock().await.recv().await.unwrap();
        other.say(&Ask::Ack { id: own.clone() }).await.unwrap();
        let gone = asked(&mut other, &Ask::Ack { id: own.clone() }).await;
        assert_eq!(code(&gone), Code::UnknownWork, "it was acknowledged");
        assert_eq!(heard(&mut link).await, Tell::Result { id: own, result: json!(7) });
    })
    .await;
}
