//! A start is synchronous, sequential, all or nothing.

use perennial_core::ExitReason;
use perennial_supervision::{
    CallError, ChildSpec, Clock, Options, Root, Supervisor, SupervisorSpec,
    ractor::{Actor, ActorProcessingErr, ActorRef},
};

use crate::probe::{Log, Probe, Start};

#[tokio::test(start_paused = true)]
async fn a_failed_start_rolls_back_in_reverse_and_is_not_retried() {
    for (how, reason) in [
        (Start::Fails, ExitReason::Error("start fails".into())),
        (Start::Panics, ExitReason::Panic { message: "start panics".into(), location: None }),
        (Start::Hangs, ExitReason::Timeout),
    ] {
        let log = Log::default();
        let (a, _) = Probe::new("a", &log);
        let (b, _) = Probe::new("b", &log);
        let (c, third) = Probe::new("c", &log);
        third.script(&[how]);
        let spec = SupervisorSpec::new("top").child(a).child(b).child(c);
        let error = Root::start(spec, Clock::start(), Options::default()).await.unwrap_err();
        assert_eq!(error.path(), "top/c");
        match (&error.root_cause().exit_reason(), &reason) {
            (ExitReason::Panic { message, .. }, ExitReason::Panic { message: expected, .. }) => {
                assert_eq!(message, expected);
            }
            (found, expected) => assert_eq!(found, expected),
        }
        let lines = log.take();
        let kept: Vec<&String> = lines.iter().filter(|line| !line.ends_with("dropped")).collect();
        assert_eq!(kept, ["a started", "b started", "b cleaned", "a cleaned"], "{how:?}");
        assert_eq!(third.ping().await, Err(CallError::NoProc));
    }
}

#[tokio::test(start_paused = true)]
async fn a_nested_failure_names_the_way_to_it() {
    let log = Log::default();
    let (leaf, probe) = Probe::new("leaf", &log);
    probe.script(&[Start::Fails]);
    let (inner, _) = Supervisor::child_spec(SupervisorSpec::new("inner").child(leaf));
    let spec = SupervisorSpec::new("top").child(inner);
    let error = Root::start(spec, Clock::start(), Options::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "child `top/inner/leaf` did not start: error: start fails");
}

#[tokio::test(start_paused = true)]
async fn two_children_of_one_id_are_refused_before_anything_starts() {
    let log = Log::default();
    let (a, _) = Probe::new("a", &log);
    let (b, _) = Probe::new("a", &log);
    let spec = SupervisorSpec::new("top").child(a).child(b);
    let error = Root::start(spec, Clock::start(), Options::default()).await.unwrap_err();
    assert!(error.to_string().contains("two children have the id `a`"), "{error}");
    assert!(log.take().is_empty());
}

struct KillsItself;

impl Actor for KillsItself {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        me.kill();
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_is_killed_in_its_init_was_killed() {
    let (spec, _) = ChildSpec::actor("a", || (KillsItself, ()));
    let spec = SupervisorSpec::new("top").child(spec);
    let error = Root::start(spec, Clock::start(), Options::default()).await.unwrap_err();
    assert_eq!(error.root_cause().exit_reason(), ExitReason::Killed);
}
