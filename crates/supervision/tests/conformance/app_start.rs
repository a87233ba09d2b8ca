//! Applications: how they start.

use std::{pin::pin, time::Duration};

use perennial_core::{ChildId, ExitReason, Restart};
use perennial_supervision::{
    Agent, ApplicationError, ApplicationPhase, ApplicationSpec, ApplicationStartError,
    ApplicationStartFault, ChildSpec, Ignore, LifecycleEvent, StartFault, Supervisor,
    SupervisorSpec, SystemError,
};
use serde_json::json;

use crate::{
    app_world::{App, World, at, kid, passes, plain, times},
    fixture::{Gate, child, idle, told},
    gs_server::pending,
    harness::proves,
};

/// The failed start that a refusal is about.
fn failed(refused: ApplicationError) -> ApplicationStartError {
    let ApplicationError::StartFailed(error) = refused else { panic!("{refused:?}") };
    ApplicationStartError::clone(&error)
}

proves!(a_start_is_done_when_the_whole_tree_is_up, ["APP-001"]);
async fn a_start_is_done_when_the_whole_tree_is_up() {
    let world = World::start().await;
    let gate = Gate::new();
    let (first, _) = kid("first", &world.log);
    let (below, _) = Supervisor::child_spec(SupervisorSpec::new("below").child(gate.child("deep")));
    let top = SupervisorSpec::new("top").child(first).child(below);
    world.load(App::new("web", &world.log, top).spec()).await;
    {
        let mut start = pin!(world.apps.start("web", Restart::Permanent));
        pending(start.as_mut()).await;
        idle().await;
        pending(start.as_mut()).await;
        assert_eq!(world.log.take(), ["web start []", "first up"]);
        assert!(world.running().is_empty());
        assert_eq!(world.apps.loaded_applications()[&"web".into()], ApplicationPhase::Starting);
        gate.open();
        assert_eq!(start.await, Ok(()));
    }
    assert_eq!(world.running(), ["web"]);
    let top = world.apps.tree("web").unwrap();
    assert_eq!(top.process, Some(world.apps.which_applications()[0].top.clone()));
    let below = &top.which_children()[0];
    assert!(below.which_children()[0].process.as_ref().unwrap().is_alive());
    let path = "/system/applications/web/top/below/deep";
    assert!(world.system.tree().nodes().iter().any(|node| node.path == path));
}

proves!(one_that_runs_is_started_already, ["APP-002", "APP-005"]);
async fn one_that_runs_is_started_already() {
    let world = World::start().await;
    world.chain(&["a"]).await;
    assert_eq!(world.apps.ensure_started("a", Restart::Temporary).await, Ok(()));
    let already = Err(ApplicationError::AlreadyStarted("a".into()));
    assert_eq!(world.apps.start("a", Restart::Temporary).await, already);
    let top = world.apps.which_applications();
    for _ in 0..2 {
        assert_eq!(world.apps.ensure_started("a", Restart::Permanent).await, Ok(()));
    }
    assert_eq!(world.apps.which_applications(), top, "the same, as the same");
    assert_eq!(world.log.take(), ["a start []", "a-kid up"]);
}

proves!(a_dependency_must_run, ["APP-003", "APP-004"]);
async fn a_dependency_must_run() {
    let world = World::start().await;
    let kids = world.chain(&["a", "b"]).await;
    let lonely = plain("c", &world.log).0.spec().depends_on("nobody");
    world.load(lonely).await;
    for (name, dependency) in [("b", "a"), ("c", "nobody")] {
        let refused = Err(ApplicationError::NotStarted(dependency.into()));
        assert_eq!(world.apps.start(name, Restart::Permanent).await, refused);
        assert_eq!(world.apps.ensure_started(name, Restart::Permanent).await, refused);
        assert_eq!(world.apps.loaded_applications()[&name.into()], ApplicationPhase::Loaded);
    }
    assert!(world.log.take().is_empty() && world.running().is_empty(), "nothing is started");
    // It was started, and its tree died.
    world.starts("a", Restart::Temporary).await;
    let mut end = world.apps.which_applications()[0].top.monitor();
    drop(kids);
    world.system.tree().crash("/system/applications/a/top").unwrap();
    assert!(end.down().await.is_abnormal());
    idle().await;
    world.log.take();
    let refused = Err(ApplicationError::NotRunning("a".into()));
    assert_eq!(world.apps.start("b", Restart::Permanent).await, refused);
    assert!(world.log.take().is_empty());
    world.starts("a", Restart::Temporary).await;
    world.starts("b", Restart::Permanent).await;
    assert_eq!(world.running(), ["a", "b"]);
}

proves!(all_are_started_after_what_they_need, ["APP-006"]);
async fn all_are_started_after_what_they_need() {
    let world = World::start().await;
    world.chain(&["a", "b", "c"]).await;
    world.load(plain("web", &world.log).0.spec()).await;
    world.starts("a", Restart::Temporary).await;
    world.log.take();
    let started = world.apps.ensure_all_started(["c", "web"], Restart::Temporary).await.unwrap();
    assert_eq!(started, ["b", "c", "web"].map(Into::into));
    let log = world.log.take();
    assert_eq!(log, ["b start []", "b-kid up", "c start []", "c-kid up", "web start []", "kid up"]);
    let again = world.apps.ensure_all_started(["c", "web"], Restart::Temporary).await;
    assert_eq!(again, Ok(Vec::new()));
    // What cannot be ordered starts nothing.
    let circle = |name: &'static str, needs: &'static str| {
        plain(name, &world.log).0.spec().depends_on("a").depends_on(needs)
    };
    world.load(circle("x", "y")).await;
    world.load(circle("y", "x")).await;
    let refused = world.apps.ensure_all_started(["x"], Restart::Temporary).await.unwrap_err();
    assert_eq!(refused, ApplicationError::Circular(vec!["x".into(), "y".into()]));
    assert_eq!(refused.to_string(), "applications depend on each other: x -> y -> x");
    let refused = world.apps.ensure_all_started(["a", "z"], Restart::Temporary).await;
    assert_eq!(refused, Err(ApplicationError::NotLoaded("z".into())));
    assert!(world.log.take().is_empty());
}

proves!(all_or_nothing_of_what_it_started_itself, ["APP-007"]);
async fn all_or_nothing_of_what_it_started_itself() {
    let world = World::start().await;
    world.chain(&["a", "b", "c"]).await;
    let broken = App::new("web", &world.log, SupervisorSpec::new("top"))
        .tree(|_| Err("no tree today".into()));
    world.load(broken.spec().depends_on("c")).await;
    world.starts("a", Restart::Temporary).await;
    world.log.take();
    let refused = world.apps.ensure_all_started(["web"], Restart::Temporary).await.unwrap_err();
    assert_eq!(failed(refused).application, "web".into());
    assert_eq!(
        world.log.take()[4..],
        [
            "web start []",
            "c prep_stop [start]",
            "c-kid ends: shutdown",
            "c-kid gone",
            "c stop [start prep_stop]",
            "b prep_stop [start]",
            "b-kid ends: shutdown",
            "b-kid gone",
            "b stop [start prep_stop]",
        ]
    );
    assert_eq!(world.running(), ["a"]);
}

proves!(a_failed_tree_tells_why_and_what_was_called, ["APP-008"]);
async fn a_failed_tree_tells_why_and_what_was_called() {
    let world = World::start().await;
    let (first, _) = kid("first", &world.log);
    let (second, _) = kid("second", &world.log);
    let bad = child("bad", || async { Err("no disk".into()) });
    let top = SupervisorSpec::new("top").child(first).child(second).child(bad);
    world.load(App::new("web", &world.log, top).spec()).await;
    let refused = world.apps.start("web", Restart::Temporary).await.unwrap_err();
    let shown = refused.to_string();
    let error = failed(refused);
    assert_eq!((&error.application, error.restart), (&"web".into(), Restart::Temporary));
    assert!(error.callback.ends_with("app_world::App::start"), "{}", error.callback);
    let ApplicationStartFault::Tree(tree) = &error.fault else { panic!("{error}") };
    assert_eq!((tree.path().as_str(), tree.child.as_str()), ("top/bad", "top"));
    let StartFault::Child(below) = &tree.reason else { panic!("{tree}") };
    assert_eq!(below.child, ChildId::from("bad"));
    assert_eq!(below.reason, StartFault::Failed(ExitReason::Error("no disk".into())));
    let told_as = error.fault.exit_reason();
    assert!(matches!(told_as, ExitReason::ShutdownWith(_)), "{told_as}");
    for part in ["web", "App::start", "top/bad", "no disk"] {
        assert!(shown.contains(part), "{shown}");
    }
    assert_eq!(
        world.log.take(),
        [
            "web start []",
            "first up",
            "second up",
            "second ends: shutdown",
            "second gone",
            "first ends: shutdown",
            "first gone",
        ]
    );
    let nodes = world.system.tree().nodes();
    assert!(!nodes.iter().any(|node| node.path.starts_with("/system/applications/")));
}

proves!(what_a_failed_start_means_is_said_by_the_type, ["APP-009"]);
async fn what_a_failed_start_means_is_said_by_the_type() {
    let normal = || ExitReason::Normal;
    let error = || ExitReason::Error("no".into());
    for (restart, reason, down) in [
        (Restart::Temporary, error(), false),
        (Restart::Temporary, normal(), false),
        (Restart::Transient, normal(), false),
        (Restart::Transient, error(), true),
        (Restart::Permanent, normal(), true),
        (Restart::Permanent, error(), true),
    ] {
        let gate = Gate::new();
        let held = gate.clone();
        let world = World::with(|spec| {
            spec.on_shutdown(move |_| {
                let gate = held.clone();
                async move {
                    gate.pass().await;
                    Ok(())
                }
            })
        })
        .await;
        world.chain(&["a", "b"]).await;
        world.apps.ensure_all_started(["b"], Restart::Temporary).await.unwrap();
        let told_as = reason.clone();
        let bad = App::new("web", &world.log, SupervisorSpec::new("top"))
            .tree(move |_| Err(told_as.clone().into()));
        world.load(bad.spec()).await;
        let mut lifecycle = world.system.tree().lifecycle();
        world.log.take();
        let refused = world.apps.start("web", restart).await.unwrap_err();
        let error = failed(refused);
        assert_eq!(error.fault, ApplicationStartFault::Callback(reason), "{restart}");
        idle().await;
        let reported = |it: &perennial_supervision::Lifecycle| matches!(&it.event, LifecycleEvent::ApplicationStartFailed(it) if **it == error);
        assert_eq!(told(&mut lifecycle).iter().filter(|it| reported(it)).count(), 1);
        assert_eq!(world.running(), ["a", "b"], "the error was returned first");
        gate.open();
        if down {
            let SystemError::StartFailed(cause) = world.fails().await else { panic!() };
            assert_eq!(*cause, error);
            let log = world.log.take();
            assert!(at(&log, "b stop") < at(&log, "a prep_stop"), "{log:?}");
        } else {
            idle().await;
            assert_eq!(world.log.take(), ["web start []"]);
            world.apps.stop("b").await.unwrap();
        }
    }
}

proves!(starts_at_the_same_time_are_one, ["APP-010"]);
async fn starts_at_the_same_time_are_one() {
    for works in [true, false] {
        let world = World::start().await;
        let gate = Gate::new();
        let held = gate.clone();
        let waits = child("waits", move || {
            let gate = held.clone();
            async move {
                gate.pass().await;
                if works { Ok(()) } else { Err("no".into()) }
            }
        });
        let top = SupervisorSpec::new("top").child(waits);
        world.load(App::new("web", &world.log, top).spec()).await;
        let opens = async {
            idle().await;
            gate.open();
        };
        let (one, other, third, ()) = tokio::join!(
            world.apps.start("web", Restart::Temporary),
            world.apps.start("web", Restart::Temporary),
            world.apps.ensure_started("web", Restart::Temporary),
            opens
        );
        assert_eq!(one.is_ok(), works);
        assert!(one == other && other == third);
        assert_eq!(times(&world.log.take(), "web start"), 1);
    }
}

proves!(a_start_in_phases, ["APP-011"]);
async fn a_start_in_phases() {
    for fails in [false, true] {
        let world = World::start().await;
        let (app, _) = plain("a", &world.log);
        let app = app.act(move |callback| {
            let fails = fails && callback == "serve";
            Box::pin(async move { if fails { Err("no port".into()) } else { Ok(()) } })
        });
        world.load(app.spec().phase("warm").phase("serve").phase("tell")).await;
        let started = world.apps.start("a", Restart::Temporary).await;
        let log = world.log.take();
        assert_eq!(log[..4], ["a start []", "a-kid up", "a warm [start]", "a serve [start warm]"]);
        if !fails {
            assert_eq!(started, Ok(()));
            assert_eq!(log[4..], ["a tell [start warm serve]"]);
            continue;
        }
        let (phase, reason) = ("serve".to_owned(), ExitReason::Error("no port".into()));
        let fault = ApplicationStartFault::Phase { phase, reason };
        assert_eq!(failed(started.unwrap_err()).fault, fault);
        assert_eq!(
            log[4..],
            [
                "a prep_stop [start warm serve]",
                "a-kid ends: shutdown",
                "a-kid gone",
                "a stop [start warm serve prep_stop]",
            ]
        );
        assert!(world.running().is_empty());
    }
}

proves!(configuration_has_defaults_and_changes_are_told, ["APP-013"]);
async fn configuration_has_defaults_and_changes_are_told() {
    let world = World::with(|spec| spec.env("web", "port", 80).env("b", "port", 1)).await;
    let log = world.log.clone();
    let app = App::new("web", &world.log, SupervisorSpec::new("top")).tree(move |env| {
        log.add(format!("port {} host {}", env.get("port").unwrap(), env.get("host").unwrap()));
        Ok(Supervisor::child_spec(SupervisorSpec::new("top")).0)
    });
    let spec = app.spec().env("port", 8080).env("host", "localhost");
    world.load(spec.clone()).await;
    world.load(plain("b", &world.log).0.spec().env("port", 2).env("other", true)).await;
    let env = world.apps.env("web").unwrap();
    assert_eq!(env.get("port"), Some(json!(80)), "configured over the default");
    assert_eq!(env.get("none"), None);
    let other = world.apps.env("b").unwrap();
    assert_eq!((other.get("port"), other.get("host")), (Some(json!(1)), None), "each its own");
    world.starts("web", Restart::Temporary).await;
    assert_eq!(world.log.take(), ["web start []", r#"port 80 host "localhost""#]);
    let change = world.apps.configure("web", [("host", json!("here")), ("new", json!(1))]).await;
    let told = r#"web changed {"host": String("here"), "port": Number(8080)} new {"new": Number(1)} removed []"#;
    assert_eq!(world.log.take(), [told]);
    assert_eq!(change.unwrap().new["new"], json!(1));
    assert_eq!(env.get("port"), Some(json!(8080)), "what it has sees the change");
    world.apps.configure("web", [("host", json!("here"))]).await.unwrap();
    assert_eq!(world.log.take(), [r#"web changed {} new {} removed ["new"]"#]);
    // Nothing changes, so nobody is told; and who does not run is not told either.
    world.apps.configure("web", [("host", json!("here"))]).await.unwrap();
    world.apps.configure("b", [("port", json!(3))]).await.unwrap();
    assert!(world.log.take().is_empty());
    // What is configured outlives the application.
    world.apps.stop("web").await.unwrap();
    world.apps.unload("web").await.unwrap();
    world.load(spec).await;
    assert_eq!(world.apps.env("web").unwrap().get("host"), Some(json!("here")));
    let unknown = world.apps.configure("z", [("a", json!(1))]).await;
    assert_eq!(unknown, Err(ApplicationError::NotLoaded("z".into())));
}

proves!(what_is_no_top_supervisor_is_no_start, ["APP-031"]);
async fn what_is_no_top_supervisor_is_no_start() {
    type Made =
        Box<dyn Fn() -> Result<ChildSpec, perennial_supervision::actor::ActorError> + Send + Sync>;
    let hour = Duration::from_secs(3_600);
    let cases: [(Made, ApplicationStartFault); 5] = [
        (
            Box::new(|| Err("no tree".into())),
            ApplicationStartFault::Callback(ExitReason::Error("no tree".into())),
        ),
        (
            Box::new(|| Err(ExitReason::Normal.into())),
            ApplicationStartFault::Callback(ExitReason::Normal),
        ),
        (
            Box::new(|| Ok(Agent::child_spec("worker", || ()).0)),
            ApplicationStartFault::NotASupervisor("worker".into()),
        ),
        (
            Box::new(|| Ok(Supervisor::child_spec_with_init("top", || Err(Ignore.into())).0)),
            ApplicationStartFault::Ignored("top".into()),
        ),
        (
            Box::new(|| {
                let top = SupervisorSpec::new("top");
                let twice = || Agent::child_spec("same", || ()).0;
                Ok(Supervisor::child_spec(top.child(twice()).child(twice())).0)
            }),
            ApplicationStartFault::Tree(perennial_supervision::StartError {
                child: "top".into(),
                reason: perennial_supervision::SpecError::DuplicateChild("same".into()).into(),
            }),
        ),
    ];
    let world = World::start().await;
    for (made, fault) in cases {
        let app = App::new("web", &world.log, SupervisorSpec::new("top")).tree(move |_| made());
        world.load(app.spec()).await;
        let refused = world.apps.start("web", Restart::Temporary).await.unwrap_err();
        assert_eq!(failed(refused).fault, fault);
        assert!(world.running().is_empty());
        world.apps.unload("web").await.unwrap();
    }
    let panics = App::new("web", &world.log, SupervisorSpec::new("top")).tree(|_| panic!("oh"));
    world.load(panics.spec()).await;
    let refused = world.apps.start("web", Restart::Temporary).await.unwrap_err();
    let ApplicationStartFault::Callback(ExitReason::Panic { .. }) = failed(refused).fault else {
        panic!()
    };
    world.apps.unload("web").await.unwrap();
    let hangs = App::new("web", &world.log, SupervisorSpec::new("top"));
    let hangs: ApplicationSpec = hangs
        .act(move |_| {
            Box::pin(async move {
                passes(hour).await;
                Ok(())
            })
        })
        .spec();
    world.load(hangs.callbacks_within(Duration::from_secs(7))).await;
    let clock = world.system.tree().clock();
    let begun = clock.now();
    let refused = world.apps.start("web", Restart::Temporary).await.unwrap_err();
    assert_eq!(failed(refused).fault, ApplicationStartFault::Callback(ExitReason::Timeout));
    assert_eq!(clock.now().since(begun), Duration::from_secs(7));
    // A tree cannot be made of anything else (`what_cannot_be_written`).
}
