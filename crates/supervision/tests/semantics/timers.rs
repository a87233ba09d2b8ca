//! Timers of servers: they belong to one incarnation.

use std::time::Duration;

use perennial_supervision::{
    ChildSpec, GenServer, Init, Next, Reply, ServerCx, SupervisorSpec, TimerRef, actor::ActorError,
};

use crate::probe::{Log, SOON, root, until};

struct Clockwork(Log);

enum Message {
    Set(u64, &'static str, Reply<TimerRef>),
    Unset(TimerRef, Reply<bool>),
    Left(TimerRef, Reply<Option<Duration>>),
    /// Does not answer messages for so long.
    Busy(u64),
    Note(&'static str),
    Sync(Reply<()>),
    Fail,
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

async fn waits(millis: u64) {
    tokio::time::timeout(ms(millis), std::future::pending::<()>()).await.unwrap_err();
}

impl GenServer for Clockwork {
    type Arguments = Log;
    type Message = Message;

    async fn init(log: Log, cx: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
        cx.send_after(ms(500), Message::Note("from the init"))?;
        Ok(Init::new(Self(log)))
    }

    async fn handle(
        &mut self,
        message: Message,
        cx: &mut ServerCx<Self>,
    ) -> Result<Next<Message>, ActorError> {
        match message {
            Message::Set(delay, line, reply) => {
                reply.send(cx.send_after(ms(delay), Message::Note(line))?);
            }
            Message::Unset(timer, reply) => reply.send(cx.cancel_timer(timer).is_some()),
            Message::Left(timer, reply) => reply.send(cx.timer_left(timer)),
            Message::Busy(millis) => waits(millis).await,
            Message::Note(line) => self.0.add(line),
            Message::Sync(reply) => reply.send(()),
            Message::Fail => panic!("asked to fail"),
        }
        Ok(Next::Continue)
    }
}

#[tokio::test(start_paused = true)]
async fn a_timer_is_a_message_behind_what_waits() {
    let log = Log::default();
    let given = log.clone();
    let (spec, address) = ChildSpec::server::<Clockwork>("clockwork", move || given.clone());
    let _root = root(SupervisorSpec::new("top").child(spec)).await;
    let set = |delay, line| address.call(move |reply| Message::Set(delay, line, reply), SOON);
    let timer = set(20, "twenty").await.unwrap();
    set(10, "ten").await.unwrap();
    let left = address.call(move |reply| Message::Left(timer, reply), SOON).await.unwrap();
    assert_eq!(left, Some(ms(20)));
    waits(15).await;
    assert_eq!(log.take(), ["ten"]);
    // It is due while the server is at something else, and others wait already.
    address.cast(Message::Busy(30)).unwrap();
    address.cast(Message::Note("waits")).unwrap();
    address.call(Message::Sync, SOON).await.unwrap();
    address.call(Message::Sync, SOON).await.unwrap();
    assert_eq!(log.take(), ["waits", "twenty"]);
    let left = address.call(move |reply| Message::Left(timer, reply), SOON).await.unwrap();
    assert_eq!(left, None, "it was handled");
    waits(500).await;
    assert_eq!(log.take(), ["from the init"]);
}

#[tokio::test(start_paused = true)]
async fn one_that_was_unset_does_not_arrive_even_from_the_mailbox() {
    let log = Log::default();
    let given = log.clone();
    let (spec, address) = ChildSpec::server::<Clockwork>("clockwork", move || given.clone());
    let _root = root(SupervisorSpec::new("top").child(spec)).await;
    let set = |delay, line| address.call(move |reply| Message::Set(delay, line, reply), SOON);
    let unset = |timer| address.call(move |reply| Message::Unset(timer, reply), SOON);
    let early = set(30, "early").await.unwrap();
    assert_eq!(unset(early).await, Ok(true));
    assert_eq!(unset(early).await, Ok(false));
    // This one rings while the server is busy, behind the request that unsets it.
    let late = set(10, "late").await.unwrap();
    address.cast(Message::Busy(30)).unwrap();
    assert_eq!(unset(late).await, Ok(true));
    waits(100).await;
    assert_eq!(log.take(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_nothing_of_the_timers_before_arrives() {
    let log = Log::default();
    let given = log.clone();
    let (spec, address) = ChildSpec::server::<Clockwork>("clockwork", move || given.clone());
    let _root = root(SupervisorSpec::new("top").child(spec)).await;
    let set = |delay, line| address.call(move |reply| Message::Set(delay, line, reply), SOON);
    let stale = set(100, "stale").await.unwrap();
    set(200, "stale too").await.unwrap();
    let first = address.whereis().unwrap();
    waits(10).await;
    address.cast(Message::Fail).unwrap();
    first.monitor().down().await;
    until(|| address.whereis().is_some_and(|now| now != first)).await;
    // The reference means another timer there, or none: not one of before.
    let left = address.call(move |reply| Message::Left(stale, reply), SOON).await.unwrap();
    assert_eq!(left, None);
    waits(300).await;
    assert_eq!(log.take(), Vec::<String>::new());
    waits(300).await;
    assert_eq!(log.take(), ["from the init"], "of its own");
}
