//! Calls and mailboxes of addresses, beyond the catalogue.

use std::time::Duration;

use perennial_core::{ExitReason, Restart};
use perennial_supervision::{CallError, CastError, MAILBOX_MAX};

use crate::probe::{Message, SOON, World};

#[tokio::test(start_paused = true)]
async fn a_pending_call_fails_with_the_reason_and_is_not_repeated() {
    let world = World::start_with(&[Restart::Permanent], |spec| spec).await.unwrap();
    let probe = &world.probes[0];
    let panic = probe.end(|| Message::Panic).await;
    let ExitReason::Panic { message, location: Some(location) } = panic else { panic!("{panic}") };
    assert_eq!(&*message, "asked to panic");
    assert!(location.contains("probe"), "{location}");
    probe.answers().await;
    assert_eq!(probe.end(|| Message::Fail).await, ExitReason::Error("asked to fail".into()));
    assert_eq!(probe.answers().await, 1, "the kept calls of earlier lives reached nobody else");
}

#[tokio::test(start_paused = true)]
async fn a_call_keeps_its_deadline() {
    let world = World::start_with(&[Restart::Permanent], |spec| spec).await.unwrap();
    let probe = &world.probes[0];
    probe.address.cast(Message::Hang).unwrap();
    let before = world.root.tree().clock().now();
    let within = Duration::from_secs(3);
    assert_eq!(probe.address.call(Message::Ping, within).await, Err(CallError::Timeout));
    assert_eq!(world.root.tree().clock().now().since(before), within);
}

#[tokio::test(start_paused = true)]
async fn a_mailbox_is_bounded_and_its_depth_is_visible() {
    let world = World::start_with(&[Restart::Permanent], |spec| spec).await.unwrap();
    let probe = &world.probes[0];
    probe.address.cast(Message::Hang).unwrap();
    tokio::task::yield_now().await;
    let mut sent = 0;
    let refused = loop {
        match probe.address.cast(Message::Work("x")) {
            Ok(()) => sent += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, CastError::Full);
    assert!((MAILBOX_MAX - 1..=MAILBOX_MAX).contains(&sent), "{sent}");
    assert_eq!(world.node("/top/a").mailbox_depth, Some(MAILBOX_MAX));
    assert_eq!(probe.ping().await, Err(CallError::Full));
}

#[tokio::test(start_paused = true)]
async fn an_error_of_an_address_can_name_whom_it_is_about() {
    let (spec, talk) = crate::gs_server::Talk::new("b");
    let never = talk.address.failed(CallError::NoProc);
    assert_eq!(never.to_string(), "a child that has never run: no such child");
    let world = World::start_with(&[Restart::Temporary], |top| top.child(spec)).await.unwrap();
    let address = &world.probes[0].address;
    world.probes[0].end(|| Message::Panic).await;
    let error = address.call(Message::Ping, SOON).await.unwrap_err();
    let failed = address.failed(error);
    assert_eq!((failed.to.as_deref(), &failed.error), (Some("/top/a"), &CallError::NoProc));
    assert_eq!(failed.to_string(), "/top/a: no such child");
    let full = talk.address.failed(CastError::Full);
    assert_eq!(full.to_string(), "/top/b: the mailbox is full");
    assert_eq!(format!("{:?}", talk.address), "Address { path: Some(\"/top/b\"), .. }");
}
