//! DYN start and options: what a dynamic supervisor is made of, and what it refuses.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use perennial_core::{ChildType, ExitReason, Restart, Shutdown};
use perennial_supervision::{
    CallError, ChildSpec, Clock, DynamicSupervisor, DynamicSupervisorSpec, Ignore, Name, Options,
    RequestError, Root, SpecError, StartFault, SupervisorSpec, extra_arguments,
};

use crate::{
    dyn_children::start_with,
    harness::proves,
    made,
    probe::{Log, Message, Probe, SOON, ids, root, until},
};

proves!(the_defaults_are_those_of_otp, ["DYN-002"]);
async fn the_defaults_are_those_of_otp() {
    let (root, dynamic) = start_with(DynamicSupervisorSpec::default()).await;
    let log = Log::default();
    let (own, noted) = (Arc::new(AtomicUsize::new(0)), log.clone());
    let extras = own.clone();
    let init = move || {
        let some = extra_arguments::<u32>().is_some() || extra_arguments::<()>().is_some();
        extras.fetch_add(usize::from(some), Ordering::SeqCst);
        noted.add("bystander");
        Ok(())
    };
    for _ in 0..2000 {
        dynamic.start_child(made::child("many", init.clone())).await.unwrap();
    }
    assert_eq!(dynamic.count_children().unwrap().active, 2000, "no limit");
    assert_eq!(own.load(Ordering::SeqCst), 0, "no extra arguments");
    assert_eq!(log.take().len(), 2000);

    let path = "/top/DynamicSupervisor/x";
    let crash = async || {
        let victim = root.tree().crash(path).unwrap();
        victim.exit().await;
        until(|| root.tree().is_succeeded(path, &victim)).await;
    };
    dynamic.start_child(made::child("x", || Ok(()))).await.unwrap();
    // Three in five seconds, again and again.
    for _ in 0..3 {
        for _ in 0..3 {
            crash().await;
        }
        assert!(log.take().is_empty(), "one for one");
        tokio::time::advance(Duration::from_millis(5001)).await;
    }
    for _ in 0..3 {
        crash().await;
    }
    assert_eq!(root.tree().nodes()[1].incarnation, 1);
    tokio::time::advance(Duration::from_secs(5)).await;
    let mut lifecycle = root.tree().lifecycle();
    root.tree().crash(path).unwrap().exit().await;
    let told = made::until_exit(&mut lifecycle, "/top/DynamicSupervisor").await;
    let exits = made::exits(&told);
    assert_eq!(exits.last(), Some(&("/top/DynamicSupervisor", ExitReason::Shutdown)));
}

proves!(a_period_of_zero_is_refused_at_the_start, ["DYN-004"]);
async fn a_period_of_zero_is_refused_at_the_start() {
    // What else the row names cannot be written: see the case of its id that does not compile.
    let zero = Duration::ZERO;
    let budget = DynamicSupervisorSpec::default().intensity(1, zero);
    let (child, dynamic) = DynamicSupervisor::child_spec(budget);
    let spec = SupervisorSpec::new("top").child(child);
    let refused = Root::start(spec, Clock::start(), Options::default()).await.unwrap_err();
    assert_eq!(refused.root_cause(), &StartFault::Invalid(SpecError::ZeroPeriod));
    let child = made::child("x", || Ok(()));
    assert_eq!(dynamic.start_child(child).await.unwrap_err(), RequestError::NoProc);
}

proves!(an_init_may_answer_ignore_or_fail, ["DYN-005"]);
async fn an_init_may_answer_ignore_or_fail() {
    let root = root(SupervisorSpec::new("top")).await;
    let ignoring = || Err(Ignore.into());
    let (child, dynamic) = DynamicSupervisor::child_spec_with_init("ignores", ignoring);
    assert_eq!(root.supervisor().start_child(child).await.unwrap().process, None);
    let child = made::child("x", || Ok(()));
    assert_eq!(dynamic.start_child(child.clone()).await.unwrap_err(), RequestError::NoProc);

    let failing = || Err("no configuration".into());
    let (spec, _) = DynamicSupervisor::child_spec_with_init("fails", failing);
    let refused = root.supervisor().start_child(spec).await.unwrap_err();
    let RequestError::StartFailed(error) = refused else { panic!("{refused}") };
    let reason = ExitReason::Error("no configuration".into());
    assert_eq!(error.reason, StartFault::Failed(reason));

    let bad = || Ok(DynamicSupervisorSpec::default().intensity(1, Duration::ZERO));
    let (spec, _) = DynamicSupervisor::child_spec_with_init("bad", bad);
    let refused = root.supervisor().start_child(spec).await.unwrap_err();
    let RequestError::StartFailed(error) = refused else { panic!("{refused}") };
    assert_eq!(error.reason, StartFault::Invalid(SpecError::ZeroPeriod));

    let good = || Ok(DynamicSupervisorSpec::default().max_children(1));
    let (spec, dynamic) = DynamicSupervisor::child_spec_with_init("good", good);
    root.supervisor().start_child(spec).await.unwrap();
    dynamic.start_child(child.clone()).await.unwrap();
    assert_eq!(dynamic.start_child(child).await.unwrap_err(), RequestError::MaxChildren(1));
}

proves!(a_named_one_is_found_and_stopped_by_its_name_and_ends_with_its_starter, ["DYN-006"]);
async fn a_named_one_is_found_and_stopped_by_its_name_and_ends_with_its_starter() {
    let name = Name::from("jobs");
    for by_name in [true, false] {
        let (starter, probe) = Probe::new("starter", &Log::default());
        let root = root(SupervisorSpec::new("top").child(starter)).await;
        let owner = root.supervisor().which_child("starter").unwrap().process.unwrap();
        let spec = DynamicSupervisorSpec::named("jobs").restart(Restart::Temporary);
        let (child, dynamic) = DynamicSupervisor::child_spec(spec);
        root.supervisor().start_child(child.linked_to(owner)).await.unwrap();
        let process = root.names().whereis(&name).unwrap();
        let found: DynamicSupervisor = root.names().handle(&name).unwrap();
        let x = found.start_child(made::child("x", || Ok(()))).await.unwrap();
        assert_eq!(dynamic.count_children().unwrap().active, 1, "the same one");

        let mut monitor = process.monitor();
        if by_name {
            assert_eq!(found.stop(SOON).await, Ok(()));
            assert_eq!(monitor.down().await, ExitReason::Shutdown);
            assert_eq!(probe.ping().await, Ok(1), "its starter lives on");
        } else {
            let reason = probe.end(|| Message::Fail).await;
            assert_eq!(monitor.down().await, reason);
            assert_eq!(reason, ExitReason::Error("asked to fail".into()));
        }
        assert!(!x.process().is_alive());
        assert_eq!(root.names().whereis(&name), None);
        assert!(root.names().handle::<DynamicSupervisor>(&name).is_none());
    }
}

proves!(several_live_under_one_supervisor_by_their_names, ["DYN-007"]);
async fn several_live_under_one_supervisor_by_their_names() {
    let mut spec = SupervisorSpec::new("top");
    let names = [Name::from("one"), Name::from("two".to_owned())];
    let mut handles = Vec::new();
    for name in &names {
        let named = DynamicSupervisorSpec::named(name.clone());
        let (child, dynamic) = DynamicSupervisor::child_spec(named);
        spec = spec.child(child);
        handles.push(dynamic);
    }
    let (unnamed, _) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::default());
    let root = root(spec.child(unnamed)).await;
    let top = root.supervisor();
    assert_eq!(ids(top), ["DynamicSupervisor", "one", "two"]);
    for (name, dynamic) in names.iter().zip(&handles) {
        let process = top.which_child(name.as_str()).unwrap().process;
        assert!(process.is_some());
        assert_eq!(root.names().whereis(name), process);
        let found: DynamicSupervisor = root.names().handle(name).unwrap();
        found.start_child(made::child("x", || Ok(()))).await.unwrap();
        assert_eq!(dynamic.count_children().unwrap().active, 1, "{name}");
    }
    let running = top.which_child("DynamicSupervisor").unwrap().process.unwrap();
    let (second, _) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::default());
    let refused = top.start_child(second).await.unwrap_err();
    assert_eq!(refused, RequestError::AlreadyStarted(running));
}

proves!(as_a_child_it_has_its_name_as_id_and_can_be_changed, ["DYN-008"]);
async fn as_a_child_it_has_its_name_as_id_and_can_be_changed() {
    let (child, _) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::named("jobs"));
    assert_eq!(child.id().as_str(), "jobs");
    assert_eq!(child.get_name(), Some(&Name::from("jobs")));
    assert_eq!(child.get_type(), ChildType::Supervisor);
    let kept = (child.get_restart(), child.get_shutdown());
    assert_eq!(kept, (Restart::Permanent, Shutdown::Infinity));

    let spec = DynamicSupervisorSpec::named("jobs").id("other").restart(Restart::Transient);
    let (child, _) = DynamicSupervisor::child_spec(spec);
    let child = child.shutdown(Shutdown::Timeout(SOON));
    assert_eq!(child.id().as_str(), "other");
    assert_eq!(child.get_name(), Some(&Name::from("jobs")));
    assert_eq!(child.get_type(), ChildType::Supervisor);
    let changed = (child.get_restart(), child.get_shutdown());
    assert_eq!(changed, (Restart::Transient, Shutdown::Timeout(SOON)));
    let significant = child.name("third").restart(Restart::Temporary).significant(true);
    assert_eq!(significant.get_name(), Some(&Name::from("third")));
    assert_eq!(significant.get_restart(), Restart::Temporary);
    assert!(significant.is_significant());
}

proves!(its_options_change_at_run_time_as_a_whole_or_not_at_all, ["DYN-010"]);
async fn its_options_change_at_run_time_as_a_whole_or_not_at_all() {
    let (root, dynamic) = start_with(DynamicSupervisorSpec::new("dyn", 3)).await;
    let log = Log::default();
    let mut probes = Vec::new();
    for name in ["a", "b"] {
        let (spec, probe) = Probe::new(name, &log);
        dynamic.start_child(spec).await.unwrap();
        probes.push(probe);
    }
    let start = async || dynamic.start_child(Probe::new("c", &log).0).await;
    let bad = DynamicSupervisorSpec::new("dyn", 0).intensity(0, Duration::ZERO);
    let refused = dynamic.reconfigure(bad).await.unwrap_err();
    assert_eq!(refused, RequestError::Invalid(SpecError::ZeroPeriod));
    let third = start().await.unwrap();
    dynamic.terminate_child(&third).await.unwrap();
    probes[0].end(|| Message::Panic).await;
    assert_eq!(probes[0].settled().await, Ok(1), "the intensity is not zero");

    let lower = DynamicSupervisorSpec::new("dyn", 1).intensity(9, SOON);
    dynamic.reconfigure(lower).await.unwrap();
    assert_eq!((probes[0].ping().await, probes[1].ping().await), (Ok(2), Ok(1)), "both stay");
    assert_eq!(start().await.unwrap_err(), RequestError::MaxChildren(1));
    for _ in 0..6 {
        probes[1].end(|| Message::Panic).await;
        assert_eq!(probes[1].settled().await, Ok(1), "and are restarted");
    }
    assert_eq!(dynamic.count_children().unwrap().active, 2);
    let first = dynamic.find("a").unwrap();
    dynamic.terminate_child(&first).await.unwrap();
    assert_eq!(start().await.unwrap_err(), RequestError::MaxChildren(1));
    dynamic.terminate_child(&dynamic.find("b").unwrap()).await.unwrap();
    start().await.unwrap();
    assert_eq!(root.tree().nodes()[1].incarnation, 1);
}

proves!(extra_arguments_reach_every_start_beside_its_own, ["DYN-014", "DYN-029"]);
async fn extra_arguments_reach_every_start_beside_its_own() {
    let spec = DynamicSupervisorSpec::default().extra_arguments("extra".to_owned());
    let (root, dynamic) = start_with(spec).await;
    let log = Log::default();
    for own in ["one", "two"] {
        let noted = log.clone();
        let init = move || {
            let extra = extra_arguments::<String>().map(|extra| extra.to_string());
            noted.add(format!("{} {own}", extra.unwrap_or_default()));
            assert!(extra_arguments::<u32>().is_none(), "of another type");
            Ok(())
        };
        dynamic.start_child(made::child(own, init)).await.unwrap();
    }
    assert_eq!(log.take(), ["extra one", "extra two"]);
    let path = "/top/DynamicSupervisor/two";
    for _ in 0..2 {
        let victim = root.tree().crash(path).unwrap();
        victim.exit().await;
        until(|| root.tree().is_succeeded(path, &victim)).await;
        assert_eq!(log.take(), ["extra two"]);
    }
    assert!(extra_arguments::<String>().is_none(), "outside an init");
}

proves!(a_bad_specification_is_refused_without_asking_anybody, ["DYN-015", "DYN-016"]);
async fn a_bad_specification_is_refused_without_asking_anybody() {
    let (unused, nowhere) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::default());
    drop(unused);
    let (_root, somewhere) = start_with(DynamicSupervisorSpec::new("dyn", 9)).await;
    let (good, probe) = Probe::new("x", &Log::default());
    let bad: [(ChildSpec, SpecError); 3] = [
        (made::child("", || Ok(())), SpecError::MissingId),
        (good.clone().restart_budget(1, Duration::ZERO), SpecError::ZeroPeriod),
        (
            good.clone().restart(Restart::Transient).significant(true),
            SpecError::SignificantHere("x".into()),
        ),
    ];
    for (spec, error) in bad {
        for dynamic in [&nowhere, &somewhere] {
            let refused = dynamic.start_child(spec.clone()).await.unwrap_err();
            assert_eq!(refused, RequestError::Invalid(error.clone()));
        }
        assert_eq!(somewhere.which_children().unwrap(), []);
    }
    assert_eq!(probe.ping().await, Err(CallError::NoProc));
    assert_eq!(nowhere.start_child(good).await.unwrap_err(), RequestError::NoProc);
}
