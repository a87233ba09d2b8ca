//! SUP start: the order of a start, what a failed one leaves behind, and who waits meanwhile.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use perennial_core::ExitReason;
use perennial_supervision::{
    CallError, ChildSpec, Clock, LifecycleEvent, Options, RequestError, Root, StartFault,
    Supervisor, SupervisorSpec,
    ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent},
};

use crate::{
    fixture::{Answer, Gate, child, idle, start_error, told},
    harness::proves,
    probe::{Log, Probe, SOON, Start, root, until},
};

/// A child that tells when its factory is called and when its init is over.
struct Told(Log, Gate, &'static str);

impl Actor for Told {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Answer {
        self.1.pass().await;
        self.0.add(format!("{} acknowledges", self.2));
        if self.2 == "ignored" { Err(perennial_supervision::Ignore.into()) } else { Ok(()) }
    }
}

proves!(children_start_one_at_a_time_in_order, ["SUP-002"]);
async fn children_start_one_at_a_time_in_order() {
    let (log, gate) = (Log::default(), Gate::new());
    let mut spec = SupervisorSpec::new("inner");
    for id in ["first", "ignored", "last"] {
        let (log, gate) = (log.clone(), gate.clone());
        let (child, _) = ChildSpec::actor(id, move || {
            log.add(format!("{id} is made"));
            (Told(log.clone(), gate.clone(), id), ())
        });
        spec = spec.child(child);
    }
    let root = root(SupervisorSpec::new("top")).await;
    let starting = root.supervisor().start_child(Supervisor::child_spec(spec).0);
    let steps = async {
        let mut seen = Vec::new();
        for _ in 0..3 {
            idle().await;
            seen.push(log.take());
            gate.open();
        }
        seen
    };
    let (started, seen) = tokio::join!(starting, steps);
    started.unwrap();
    assert_eq!(
        seen,
        [
            vec!["first is made"],
            vec!["first acknowledges", "ignored is made"],
            vec!["ignored acknowledges", "last is made"]
        ]
    );
    assert_eq!(log.take(), ["last acknowledges"]);
}

proves!(an_init_that_fails_is_the_reason_of_the_start, ["SUP-006"]);
async fn an_init_that_fails_is_the_reason_of_the_start() {
    let root = root(SupervisorSpec::new("top")).await;
    let (errs, _) = Supervisor::child_spec_with_init("errs", || Err("no configuration".into()));
    let (panics, _) = Supervisor::child_spec_with_init("panics", || panic!("no configuration"));
    for spec in [errs, panics] {
        let id = spec.id().clone();
        let error = start_error(root.supervisor().start_child(spec).await.unwrap_err());
        assert_eq!(error.child, id);
        let StartFault::Failed(reason) = error.reason else { panic!("{error}") };
        let text = if let ExitReason::Panic { message, .. } = &reason {
            assert_eq!(id.as_str(), "panics");
            message
        } else if let ExitReason::Error(text) = &reason {
            assert_eq!(id.as_str(), "errs");
            text
        } else {
            panic!("{reason}")
        };
        assert_eq!(&**text, "no configuration");
    }
    let (spec, probe) = Probe::new("a", &Log::default());
    root.supervisor().start_child(spec).await.unwrap();
    assert_eq!(probe.ping().await, Ok(1), "the caller and its supervisor live");
    assert_eq!(root.tree().nodes()[0].incarnation, 1);
}

/// An actor that starts supervisors and writes down whatever reaches it.
struct Starter(Log, Supervisor, Arc<Mutex<Vec<ChildSpec>>>);

impl Actor for Starter {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Answer {
        Ok(())
    }

    async fn handle(&self, _: ActorRef<()>, (): (), (): &mut ()) -> Result<(), ActorProcessingErr> {
        let specs = std::mem::take(&mut *self.2.lock().unwrap());
        for spec in specs {
            let answer = self.1.start_child(spec).await;
            self.0.add(match answer {
                Ok(start) => format!("ok {:?}", start.process),
                Err(refused) => refused.to_string(),
            });
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<()>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        self.0.add(format!("event {event:?}"));
        Ok(())
    }
}

proves!(a_start_that_fails_or_is_ignored_is_told_by_its_answer_only, ["SUP-007"]);
async fn a_start_that_fails_or_is_ignored_is_told_by_its_answer_only() {
    let (log, quiet) = (Log::default(), Log::default());
    let root = root(SupervisorSpec::new("top")).await;
    let (fails, probe) = Probe::new("leaf", &quiet);
    probe.script(&[Start::Fails]);
    let specs = vec![
        Supervisor::child_spec_with_init("errs", || Err("errs".into())).0,
        Supervisor::child_spec_with_init("ignores", || Err(perennial_supervision::Ignore.into())).0,
        Supervisor::child_spec_with_init("zero", || {
            Ok(SupervisorSpec::new("zero").intensity(1, Duration::ZERO))
        })
        .0,
        Supervisor::child_spec(SupervisorSpec::new("inner").child(fails)).0,
        child("worker", || async { Err("errs".into()) }),
    ];
    let many = specs.len();
    let specs = Arc::new(Mutex::new(specs));
    let (own, top) = (log.clone(), root.supervisor().clone());
    let (starter, address) =
        ChildSpec::actor("starter", move || (Starter(own.clone(), top.clone(), specs.clone()), ()));
    let starter = root.supervisor().start_child(starter).await.unwrap().process.unwrap();
    let mut lifecycle = root.tree().lifecycle();
    address.cast(()).unwrap();
    let mut answers = Vec::new();
    while answers.len() < many {
        tokio::task::yield_now().await;
        answers.extend(log.take());
    }
    tokio::time::advance(SOON).await;
    root.supervisor().terminate_child("nobody").await.unwrap_err();
    assert!(log.take().is_empty(), "nothing comes after the answers: {answers:?}");
    assert!(starter.is_alive());
    assert_eq!(answers[1], "ok None");
    for event in told(&mut lifecycle) {
        let told = matches!(
            event.event,
            LifecycleEvent::StartFailed { .. } | LifecycleEvent::StartError { .. }
        );
        assert!(told, "{event:?}");
    }
}

proves!(a_failed_start_takes_back_what_was_started, ["SUP-008"]);
async fn a_failed_start_takes_back_what_was_started() {
    for how in [Start::Fails, Start::Panics] {
        let log = Log::default();
        let mut spec = SupervisorSpec::new("top");
        let mut probes = Vec::new();
        for id in ["a", "b", "c", "d", "e"] {
            let (child, probe) = Probe::new(id, &log);
            (spec, probes) = (spec.child(child), {
                probes.push(probe);
                probes
            });
        }
        probes[2].script(&[how]);
        let refused = Root::start(spec, Clock::start(), Options::default()).await.unwrap_err();
        assert_eq!(
            log.take(),
            ["a started", "b started", "b cleaned", "b dropped", "a cleaned", "a dropped"]
        );
        let StartFault::Child(failed) = &refused.reason else { panic!("{refused}") };
        assert_eq!(failed.child.as_str(), "c");
        let StartFault::Failed(reason) = &failed.reason else { panic!("{failed}") };
        assert_eq!(reason.name(), if how == Start::Fails { "error" } else { "panic" });
        let ExitReason::ShutdownWith(text) = refused.reason.exit_reason() else { panic!() };
        assert!(text.contains("child `c` did not start"), "{text}");
        for probe in &probes {
            assert_eq!(probe.ping().await, Err(CallError::NoProc));
        }
    }
}

proves!(a_failing_grandchild_fails_every_start_above_it, ["SUP-011"]);
async fn a_failing_grandchild_fails_every_start_above_it() {
    let log = Log::default();
    let (sibling, _) = Probe::new("sibling", &log);
    let (leaf, probe) = Probe::new("leaf", &log);
    probe.script(&[Start::Fails]);
    let (sub, _) = Supervisor::child_spec(SupervisorSpec::new("sub").child(leaf));
    let spec = SupervisorSpec::new("top").child(sibling).child(sub);
    let refused = Root::start(spec, Clock::start(), Options::default()).await.unwrap_err();
    assert_eq!(refused.child.as_str(), "top");
    let StartFault::Child(sub) = &refused.reason else { panic!("{refused}") };
    assert_eq!(sub.child.as_str(), "sub");
    assert!(matches!(sub.reason.exit_reason(), ExitReason::ShutdownWith(_)));
    let StartFault::Child(leaf) = &sub.reason else { panic!("{sub}") };
    assert_eq!(leaf.child.as_str(), "leaf");
    assert_eq!(leaf.reason, StartFault::Failed(ExitReason::Error("start fails".into())));
    assert_eq!(refused.path(), "top/sub/leaf");
    assert_eq!(log.take(), ["sibling started", "sibling cleaned", "sibling dropped"]);
}

proves!(who_asks_a_supervisor_that_starts_is_answered_when_it_has, ["SUP-034"]);
async fn who_asks_a_supervisor_that_starts_is_answered_when_it_has() {
    let root = root(SupervisorSpec::new("top")).await;
    for fails in [false, true] {
        let (log, gate) = (Log::default(), Gate::new());
        let (a, _) = Probe::new("a", &log);
        let (own, held) = (log.clone(), gate.clone());
        let slow = child("slow", move || {
            let (log, gate) = (own.clone(), held.clone());
            async move {
                gate.pass().await;
                log.add("slow acknowledges");
                if fails { Err("slow fails".into()) } else { Ok(()) }
            }
        });
        let spec = SupervisorSpec::new("inner").child(a).child(slow);
        let (inner, handle) = Supervisor::child_spec(spec);
        let starting = root.supervisor().start_child(inner);
        let asking = async {
            until(|| handle.which_child("a").is_ok_and(|child| child.process.is_some())).await;
            let (more, _) = Probe::new("more", &log);
            let requests = async {
                tokio::join!(
                    handle.start_child(more),
                    handle.terminate_child("a"),
                    handle.get_child_spec("nobody")
                )
            };
            let open = async {
                tokio::task::yield_now().await;
                assert_eq!(log.take(), ["a started"], "all are waiting");
                gate.open();
            };
            tokio::join!(requests, open).0
        };
        let (started, (more, terminated, missing)) = tokio::join!(starting, asking);
        let lines = log.take();
        assert_eq!(lines[0], "slow acknowledges", "{lines:?}");
        if fails {
            started.unwrap_err();
            let ended = |answer: Option<RequestError>| {
                assert!(matches!(answer, Some(RequestError::Ended(_))), "{answer:?}");
            };
            ended(more.err());
            ended(terminated.err());
            ended(missing.err());
            assert_eq!(lines[1..], ["a cleaned", "a dropped"]);
        } else {
            started.unwrap();
            assert!(more.unwrap().process.is_some());
            terminated.unwrap();
            assert_eq!(missing.unwrap_err(), RequestError::NotFound("nobody".into()));
            assert_eq!(lines[1..], ["more started", "a cleaned", "a dropped"]);
            root.supervisor().terminate_child("inner").await.unwrap();
            root.supervisor().delete_child("inner").await.unwrap();
        }
    }
}

proves!(a_supervisor_whose_init_answers_ignore_does_not_run, ["SUP-004"]);
async fn a_supervisor_whose_init_answers_ignore_does_not_run() {
    let root = root(SupervisorSpec::new("top")).await;
    let asked = Log::default();
    let (own, name) = (asked.clone(), "the name");
    let (spec, handle) = Supervisor::child_spec_with_init("inner", move || {
        own.add("init");
        Err(perennial_supervision::Ignore.into())
    });
    let start = root.supervisor().start_child(spec.name("the name")).await.unwrap();
    assert_eq!((asked.take(), start.process), (vec!["init".to_owned()], None));
    assert_eq!(root.supervisor().count_children().unwrap().active, 0);
    assert_eq!(handle.stop(SOON).await.unwrap_err(), perennial_supervision::StopError::NoProc);
    let refused = handle.terminate_child("a").await.unwrap_err();
    assert_eq!(refused, RequestError::NoProc);
    assert_eq!(root.names().whereis(name), None);
    let (other, probe) = Probe::new("other", &Log::default());
    root.supervisor().start_child(other.name("the name")).await.unwrap();
    assert_eq!(probe.ping().await, Ok(1));
}
