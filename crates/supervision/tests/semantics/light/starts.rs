use perennial_supervision::{
    CallError, CastError, ExitReason, LightSupervisorSpec, Mailbox, RequestError, SpecError,
    StartFault,
};
use tokio::sync::oneshot;

use super::lamp::{Begin, Say, Wire, error, lamps, patient};
use crate::{gs_server::settle, probe::SOON};

fn fault(refused: Result<impl Sized, RequestError>) -> StartFault {
    match refused {
        Err(RequestError::StartFailed(error)) => error.reason,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it started"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_returns_when_its_init_did() {
    let (root, lamps, wire) = lamps(patient()).await;
    let (go, gate) = oneshot::channel();
    wire.begin(Begin::Wait(gate));
    let starting = tokio::spawn({
        let (lamps, wire) = (lamps.clone(), wire.clone());
        async move { lamps.start_child("a", wire).await }
    });
    settle().await;
    assert!(!starting.is_finished());
    // What is sent meanwhile is kept (GS-013).
    let early = lamps.find("a").unwrap();
    early.cast(Say::Note("early")).unwrap();
    go.send(()).unwrap();
    let lamp = starting.await.unwrap().unwrap();
    assert_eq!(lamp.call(Say::Ask, SOON).await, Ok(1));
    assert_eq!(wire.did(), ["a 1 started", "early"]);
    root.shutdown().await;
    assert_eq!(wire.did(), ["terminate shutdown", "dropped"]);
    assert_eq!(lamp.call(Say::Ask, SOON).await, Err(CallError::NoProc));
    assert_eq!(lamp.cast(Say::Note("late")), Err(CastError::NoProc));
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_leaves_nothing() {
    let (root, lamps, wire) = lamps(patient().start_within(SOON)).await;
    for (begin, expected) in [
        (Begin::Fail, error("no light")),
        (Begin::Hang, ExitReason::Timeout),
        (Begin::Wait(oneshot::channel().1), ExitReason::Normal),
        (Begin::Panic, ExitReason::Panic { message: "no light".into(), location: None }),
    ] {
        if matches!(begin, Begin::Wait(_)) {
            continue;
        }
        wire.begin(begin);
        let failed = fault(lamps.start_child("a", wire.clone()).await);
        match (failed, expected) {
            (StartFault::Failed(ExitReason::Panic { message, .. }), ExitReason::Panic { .. }) => {
                assert_eq!(&*message, "no light");
            }
            (failed, expected) => assert_eq!(failed, StartFault::Failed(expected)),
        }
        assert_eq!(lamps.count_children().unwrap().specs, 0);
        assert!(lamps.find("a").is_none());
    }
    wire.begin(Begin::Ignore);
    let ignored = lamps.start_child("a", wire.clone()).await;
    assert!(matches!(ignored, Err(RequestError::Ignore)), "{ignored:?}");
    assert_eq!(wire.did(), Vec::<String>::new());
    // None of it counts as a restart, and the id is free.
    assert!(lamps.start_child("a", wire).await.is_ok());
    assert!(lamps.is_up().await);
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn an_id_is_taken_once_and_so_is_a_place() {
    let spec = LightSupervisorSpec::new("lamps", 2);
    let (root, lamps, wire) = lamps(spec).await;
    let first = lamps.start_child("a", wire.clone()).await.unwrap();
    let again = lamps.start_child("a", wire.clone()).await;
    assert!(
        matches!(&again, Err(RequestError::AlreadyStarted(process)) if *process == first.whereis().unwrap()),
        "{again:?}"
    );
    lamps.start_child("b", wire.clone()).await.unwrap();
    let third = lamps.start_child("c", wire.clone()).await;
    assert!(matches!(third, Err(RequestError::MaxChildren(2))), "{third:?}");
    let there = lamps.start_child("b", wire.clone()).await;
    assert!(matches!(there, Err(RequestError::AlreadyStarted(_))), "{there:?}");
    lamps.terminate_child("a").await.unwrap();
    lamps.start_child("c", wire.clone()).await.unwrap();
    let gone = lamps.terminate_child("a").await;
    assert!(matches!(gone, Err(RequestError::NotFound(_))), "{gone:?}");
    let nameless = lamps.start_child("", wire).await;
    assert!(matches!(nameless, Err(RequestError::Invalid(SpecError::MissingId))), "{nameless:?}");
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_no_supervisor_can_do_is_refused_at_its_start() {
    use perennial_supervision::{Clock, LightSupervisor, Options, Root, SupervisorSpec};
    for (spec, refused) in [
        (patient().mailbox(Mailbox::new(0)), "the mailbox of child `lamps` has no room"),
        (
            patient().intensity(1, std::time::Duration::ZERO),
            "period of the restart intensity is zero",
        ),
        (
            patient().child_budget(1, std::time::Duration::ZERO),
            "period of the restart intensity is zero",
        ),
    ] {
        let (spec, _) = LightSupervisor::<super::lamp::Lamp>::child_spec(spec);
        let failed =
            Root::start(SupervisorSpec::new("top").child(spec), Clock::start(), Options::default())
                .await
                .unwrap_err();
        assert!(failed.to_string().contains(refused), "{failed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_withdraws_nothing() {
    let (root, lamps, wire) = lamps(patient()).await;
    let (go, gate) = oneshot::channel();
    wire.begin(Begin::Wait(gate));
    {
        let start = lamps.start_child("a", wire.clone());
        assert!(tokio::time::timeout(SOON / 9, start).await.is_err());
    }
    go.send(()).unwrap();
    settle().await;
    assert_eq!(wire.did(), ["a 1 started"]);
    assert!(lamps.find("a").is_some());
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn arguments_are_kept_for_each_init() {
    let (root, lamps, _) = lamps(patient()).await;
    let wires = [Wire::default(), Wire::default()];
    for (id, wire) in ["a", "b"].into_iter().zip(&wires) {
        let lamp = lamps.start_child(id, wire.clone()).await.unwrap();
        lamp.cast(Say::Panic).unwrap();
        settle().await;
        assert_eq!(lamp.call(Say::Ask, SOON).await, Ok(2));
    }
    for (id, wire) in ["a", "b"].into_iter().zip(&wires) {
        let did = wire.did();
        assert_eq!(did.first().unwrap(), &format!("{id} 1 started"));
        assert_eq!(did.last().unwrap(), &format!("{id} 2 started"));
    }
    root.shutdown().await;
}
