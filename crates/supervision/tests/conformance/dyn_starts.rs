//! DYN start_child and restarts: whose child it is, and what its init may answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use perennial_core::{ExitReason, Restart};
use perennial_supervision::{
    ChildSpec, ChildStatus, Counts, DynamicSupervisorSpec, Ignore, Name, RequestError, Supervisor,
    SupervisorSpec, pass_to_starter,
};

use crate::{
    dyn_children::{start, start_with},
    harness::proves,
    made,
    probe::{Log, Message, Probe, SOON, Start, until},
};

const NOTHING: Counts = Counts { specs: 0, active: 0, supervisors: 0, workers: 0 };

proves!(a_child_starts_at_once_and_belongs_to_its_supervisor, ["DYN-011"]);
async fn a_child_starts_at_once_and_belongs_to_its_supervisor() {
    let (root, dynamic) = start(9).await;
    let log = Log::default();
    let (spec, probe) = Probe::new("x", &log);
    let child = dynamic.start_child(spec).await.unwrap();
    assert_eq!(log.take(), ["x started"]);
    assert_eq!(child.process().path(), "/top/dyn/x");
    assert!(child.process().is_alive());
    assert_eq!(probe.ping().await, Ok(1));

    let (spec, of_another) = Probe::new("y", &log);
    let starts = dynamic.clone();
    let caller = ChildSpec::task("caller", move || {
        let (dynamic, spec) = (starts.clone(), spec.clone());
        async move {
            dynamic.start_child(spec).await.map_err(|error| error.to_string())?;
            Err::<(), String>("the caller fails".into())
        }
    })
    .restart(perennial_core::Restart::Permanent);
    let caller = caller.restart(Restart::Temporary);
    let mut lifecycle = root.tree().lifecycle();
    root.supervisor().start_child(caller).await.unwrap();
    let told = made::until_exit(&mut lifecycle, "/top/caller").await;
    let reason = ExitReason::Error("the caller fails".into());
    assert_eq!(made::exits(&told), [("/top/caller", reason)]);
    drop(root.supervisor().terminate_child("nobody").await);
    assert_eq!(of_another.ping().await, Ok(1), "it is not the caller's");
    assert_eq!(dynamic.count_children().unwrap().active, 2);
    log.take();
    root.tree().kill("/top/dyn").unwrap().exit().await;
    let mut lines = log.take();
    lines.retain(|line| line.ends_with("dropped"));
    lines.sort();
    assert_eq!(lines, ["x dropped", "y dropped"], "they go with their supervisor");
}

proves!(a_name_that_is_taken_is_an_error_with_its_holder, ["DYN-013"]);
async fn a_name_that_is_taken_is_an_error_with_its_holder() {
    let (root, dynamic) = start(9).await;
    let named = |id| made::child(id, || Ok(())).name("singleton");
    let holder = dynamic.start_child(named("x")).await.unwrap();
    for id in ["x", "y"] {
        let refused = dynamic.start_child(named(id)).await.unwrap_err();
        assert_eq!(refused, RequestError::AlreadyStarted(holder.process().clone()));
        assert_eq!(dynamic.count_children().unwrap().active, 1, "nothing is added");
        assert_eq!(dynamic.count_children().unwrap().specs, 1);
    }
    let name = Name::from("singleton");
    assert_eq!(root.names().whereis(&name).as_ref(), Some(holder.process()));
    dynamic.terminate_child(&holder).await.unwrap();
    dynamic.start_child(named("y")).await.unwrap();
}

proves!(an_init_may_say_ignore_or_pass_something_back, ["DYN-018", "DYN-019"]);
async fn an_init_may_say_ignore_or_pass_something_back() {
    let (_root, dynamic) = start(1).await;
    let ignores = made::child("x", || Err(Ignore.into()));
    for _ in 0..3 {
        let answer = dynamic.start_child(ignores.clone()).await.unwrap_err();
        assert_eq!(answer, RequestError::Ignore);
        assert_eq!(dynamic.which_children().unwrap(), []);
        assert_eq!(dynamic.count_children().unwrap(), NOTHING);
    }
    let passes = made::child("x", || {
        pass_to_starter(42_u32);
        Ok(())
    });
    let child = dynamic.start_child(passes).await.unwrap();
    assert_eq!(child.extra().and_then(|extra| extra.downcast_ref::<u32>()), Some(&42));
    assert!(child.process().is_alive());
    assert_eq!(dynamic.count_children().unwrap().active, 1);
}

proves!(what_a_restart_answers_decides_about_the_child, ["DYN-028", "DYN-047"]);
async fn what_a_restart_answers_decides_about_the_child() {
    let workers = |active| Counts { specs: 1, active, supervisors: 0, workers: 1 };
    for extra in [false, true] {
        let (root, dynamic) = start(9).await;
        let init = move || {
            if extra {
                pass_to_starter("for nobody");
            }
            Ok(())
        };
        dynamic.start_child(made::child("x", init)).await.unwrap();
        let victim = root.tree().crash("/top/dyn/x").unwrap();
        victim.exit().await;
        until(|| root.tree().is_succeeded("/top/dyn/x", &victim)).await;
        assert_eq!(dynamic.count_children().unwrap(), workers(1), "it is kept");
    }

    let (root, dynamic) = start(9).await;
    let starts = Arc::new(AtomicU32::new(0));
    let init = move || match starts.fetch_add(1, Ordering::SeqCst) {
        0 => Ok(()),
        _ => Err(Ignore.into()),
    };
    dynamic.start_child(made::child("x", init)).await.unwrap();
    root.tree().crash("/top/dyn/x").unwrap().exit().await;
    until(|| dynamic.which_children().unwrap().is_empty()).await;
    assert_eq!(dynamic.count_children().unwrap(), NOTHING, "it is dropped");

    let spec = DynamicSupervisorSpec::new("dyn", 9).intensity(u32::MAX, SOON);
    let (root, dynamic) = start_with(spec).await;
    let (spec, probe) = Probe::new("x", &Log::default());
    dynamic.start_child(spec).await.unwrap();
    probe.script(&[Start::Fails; 100_000]);
    probe.end(|| Message::Panic).await;
    until(|| root.tree().nodes()[2].incarnation > 9).await;
    let listed = dynamic.which_children().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0].id, listed[0].status), (&None, ChildStatus::Restarting));
    assert_eq!(listed[0].process, None);
    assert_eq!(dynamic.count_children().unwrap(), workers(0));
    probe.forget_script();
    assert_eq!(probe.answers().await, 1);
    let listed = dynamic.which_children().unwrap();
    assert_eq!((&listed[0].id, listed[0].status), (&None, ChildStatus::Running));
    assert_eq!(dynamic.count_children().unwrap(), workers(1));
}

proves!(a_restarted_child_is_known_by_its_new_incarnation, ["DYN-034"]);
async fn a_restarted_child_is_known_by_its_new_incarnation() {
    let (_root, dynamic) = start(9).await;
    let (spec, probe) = Probe::new("x", &Log::default());
    let delay = Duration::from_secs(10);
    let child = dynamic.start_child(spec.restart_delay(delay)).await.unwrap();
    probe.end(|| Message::Panic).await;
    assert_eq!(probe.answers().await, 1);
    let listed = dynamic.which_children().unwrap()[0].process.clone().unwrap();
    assert_ne!(&listed, child.process());
    assert!(listed.is_alive() && !child.process().is_alive());
    assert_eq!(child.now().as_ref(), Some(&listed));
    let last = dynamic.find("x").unwrap();
    assert_eq!(last.process(), &listed);
    // Between two lives the last one is what it is called by.
    probe.end(|| Message::Panic).await;
    until(|| dynamic.which_children().unwrap()[0].status == ChildStatus::Restarting).await;
    assert_eq!(dynamic.terminate_child(&last).await, Ok(()));
    assert_eq!(dynamic.which_children().unwrap(), []);
    let gone = RequestError::NotFound("x".into());
    assert_eq!(dynamic.terminate_child(&child).await, Err(gone));
    tokio::time::advance(2 * delay).await;
    assert_eq!(dynamic.count_children().unwrap(), NOTHING);
}

proves!(children_are_counted_by_type_and_state, ["DYN-048"]);
async fn children_are_counted_by_type_and_state() {
    let (root, dynamic) = start(9).await;
    let delay = Duration::from_secs(10);
    for name in ["a", "b", "c"] {
        let spec = made::child(name, || Ok(())).restart_delay(delay);
        dynamic.start_child(spec).await.unwrap();
    }
    for name in ["s", "t"] {
        let (spec, _) = Supervisor::child_spec(SupervisorSpec::new(name));
        dynamic.start_child(spec.restart_delay(delay)).await.unwrap();
    }
    let counts = |active| Counts { specs: 5, active, supervisors: 2, workers: 3 };
    assert_eq!(dynamic.count_children().unwrap(), counts(5));
    root.tree().crash("/top/dyn/b").unwrap().exit().await;
    assert_eq!(dynamic.count_children().unwrap(), counts(4));
    root.tree().kill("/top/dyn/t").unwrap().exit().await;
    assert_eq!(dynamic.count_children().unwrap(), counts(3));
    dynamic.terminate_child(&dynamic.find("s").unwrap()).await.unwrap();
    let left = Counts { specs: 4, active: 2, supervisors: 1, workers: 3 };
    assert_eq!(dynamic.count_children().unwrap(), left);
}
