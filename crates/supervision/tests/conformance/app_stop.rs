//! Applications: how they stop, one and all.

use std::{future::pending, sync::Arc, time::Duration};

use perennial_core::{ExitReason, Restart};
use perennial_supervision::{
    ApplicationError, ApplicationPhase, Applications, DynamicSupervisor, DynamicSupervisorSpec,
    LifecycleEvent, Options, Shutdown, Supervisor, SupervisorSpec, SystemError, SystemSpec,
    TaskSupervisor, TaskSupervisorSpec, current_process,
};

use crate::{
    app_world::{App, Once, Say, World, at, kid, passes, plain, slow_kid, stubborn},
    fixture::{Gate, idle, told},
    harness::proves,
    probe::Log,
};

const HOUR: Duration = Duration::from_secs(3_600);

proves!(a_stop_honours_every_shutdown_option, ["APP-014"]);
async fn a_stop_honours_every_shutdown_option() {
    let world = World::start().await;
    let log = &world.log;
    let (patient, _) = slow_kid("patient", log, HOUR);
    let (hasty, _) = slow_kid("hasty", log, HOUR);
    let (brutal, _) = slow_kid("brutal", log, HOUR);
    let below = SupervisorSpec::new("below").child(kid("deep", log).0);
    let top = SupervisorSpec::new("top")
        .child(kid("first", log).0)
        .child(patient.shutdown(Shutdown::Infinity))
        .child(hasty.shutdown(Shutdown::Timeout(Duration::from_secs(2))))
        .child(brutal.shutdown(Shutdown::BrutalKill))
        .child(Supervisor::child_spec(below).0);
    world.load(App::new("web", log, top).spec()).await;
    world.starts("web", Restart::Permanent).await;
    let mut end = world.apps.which_applications()[0].top.monitor();
    let clock = world.system.tree().clock();
    let begun = clock.now();
    world.log.take();
    assert_eq!(world.apps.stop("web").await, Ok(()));
    assert_eq!(clock.now().since(begun), HOUR + Duration::from_secs(2));
    assert_eq!(end.down().await, ExitReason::Shutdown);
    assert_eq!(
        log.take(),
        [
            "web prep_stop [start]",
            "deep ends: shutdown",
            "deep gone",
            "brutal gone",
            "hasty ends: shutdown",
            "hasty gone",
            "patient ends: shutdown",
            "patient gone",
            "first ends: shutdown",
            "first gone",
            "web stop [start prep_stop]",
        ]
    );
    // A permanent one that is stopped takes nobody with it.
    idle().await;
    assert_eq!(world.apps.loaded_applications()[&"web".into()], ApplicationPhase::Loaded);
    let nodes = world.system.tree().nodes();
    assert!(!nodes.iter().any(|node| node.path.starts_with("/system/applications/")));
}

proves!(callbacks_around_a_stop_get_the_state, ["APP-015", "APP-017"]);
async fn callbacks_around_a_stop_get_the_state() {
    let world = World::start().await;
    world.chain(&["a"]).await;
    for _ in 0..2 {
        world.starts("a", Restart::Temporary).await;
        let first = world.apps.which_applications()[0].top.clone();
        assert!(first.is_alive());
        world.apps.stop("a").await.unwrap();
        assert!(!first.is_alive());
        assert_eq!(
            world.log.take(),
            [
                "a start []",
                "a-kid up",
                "a prep_stop [start]",
                "a-kid ends: shutdown",
                "a-kid gone",
                "a stop [start prep_stop]",
            ]
        );
    }
}

proves!(what_is_not_started_cannot_be_stopped, ["APP-016"]);
async fn what_is_not_started_cannot_be_stopped() {
    let world = World::start().await;
    world.chain(&["a"]).await;
    let refused = |name: &str| Err(ApplicationError::NotStarted(name.into()));
    assert_eq!(world.apps.stop("a").await, refused("a"));
    assert_eq!(world.apps.stop("nobody").await, refused("nobody"));
    world.starts("a", Restart::Temporary).await;
    world.apps.stop("a").await.unwrap();
    assert_eq!(world.apps.stop("a").await, refused("a"));
}

/// Runs `work` in a child.
async fn runs<R: Send + 'static>(
    at: &perennial_supervision::Address<Say>,
    work: impl Future<Output = R> + Send + 'static,
) -> R {
    let (sender, done) = tokio::sync::oneshot::channel();
    at.cast(Say::Run(Box::pin(async move { drop(sender.send(work.await)) }))).unwrap();
    done.await.unwrap()
}

proves!(what_belongs_to_an_application_elsewhere_is_killed, ["APP-019"]);
async fn what_belongs_to_an_application_elsewhere_is_killed() {
    for by_itself in [false, true] {
        let world = World::start().await;
        let (tasks, work) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 9));
        let (pool, many) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("pool", 9));
        let tools = SupervisorSpec::new("top").child(tasks).child(pool);
        world.load(App::new("tools", &world.log, tools).spec()).await;
        world.starts("tools", Restart::Permanent).await;
        let kids = world.chain(&["a"]).await;
        world.starts("a", Restart::Temporary).await;
        // One that is linked to a process of it, and ends by a kill only; one that is linked to that;
        // a task of it; and two that are not linked.
        let infinite = |name| stubborn(name, Shutdown::Infinity);
        let (pool, tasks) = (many.clone(), work.clone());
        let [near, far, linked, loose, free] = runs(&kids[0], async move {
            let me = current_process().unwrap();
            let near = pool.start_child(infinite("near").linked_to(me)).await.unwrap();
            let far = infinite("far").linked_to(near.process().clone());
            let far = pool.start_child(far).await.unwrap();
            let linked = tasks.async_linked("linked", pending::<()>()).await.unwrap();
            let linked = linked.reference().unwrap().process().clone();
            let loose = tasks.async_nolink("loose", pending::<()>()).await.unwrap();
            let loose = loose.reference().unwrap().process().clone();
            let free = pool.start_child(infinite("free")).await.unwrap();
            [near.process().clone(), far.process().clone(), linked, loose, free.process().clone()]
        })
        .await;
        if by_itself {
            world.system.tree().crash("/system/applications/a/top").unwrap();
            while world.apps.loaded_applications()[&"a".into()] != ApplicationPhase::Died {
                idle().await;
            }
        } else {
            world.apps.stop("a").await.unwrap();
        }
        let log = world.log.take();
        assert!(at(&log, "a-kid gone") < at(&log, "a stop"));
        assert_eq!(near.exit_reason(), Some(ExitReason::Killed));
        assert_eq!(far.exit_reason(), Some(ExitReason::Killed));
        assert!(!linked.is_alive(), "when the stop is done");
        assert!(loose.is_alive() && free.is_alive());
        assert_eq!(world.running(), ["tools"]);
        drop((many, work));
    }
}

proves!(those_that_depend_on_it_run_on, ["APP-020"]);
async fn those_that_depend_on_it_run_on() {
    let world = World::start().await;
    let kids = world.chain(&["a", "b"]).await;
    world.apps.ensure_all_started(["b"], Restart::Permanent).await.unwrap();
    world.apps.stop("a").await.unwrap();
    assert_eq!(world.running(), ["b"]);
    runs(&kids[1], async {}).await;
}

proves!(a_system_goes_down_in_reverse_order, ["APP-021"]);
async fn a_system_goes_down_in_reverse_order() {
    for dropped in [false, true] {
        let world = World::start().await;
        for name in ["a", "b", "c"] {
            let (app, _) = plain(name, &world.log);
            let slow = app.act(|callback| {
                let slow = callback == "prep_stop";
                Box::pin(async move {
                    passes(if slow { Duration::from_secs(9) } else { Duration::ZERO }).await;
                    Ok(())
                })
            });
            world.load(slow.spec()).await;
        }
        for name in ["b", "a", "c"] {
            world.starts(name, Restart::Permanent).await;
        }
        let tops = world.apps.which_applications();
        let (log, apps) = (world.log.clone(), world.apps.clone());
        log.take();
        if dropped {
            drop(world);
            for app in &tops {
                app.top.monitor().down().await;
            }
            while apps.begin_shutdown().await.is_ok() || !apps.which_applications().is_empty() {
                idle().await;
            }
            idle().await;
        } else {
            let report = world.system.shutdown().await;
            assert_eq!((report.reason, report.gave_up), (ExitReason::Shutdown, false));
            assert_eq!(report.took, Duration::from_secs(27));
            assert_eq!(world.system.ended().await, Ok(()));
        }
        let each = |name: &str| {
            ["prep_stop [start]", "-kid ends: shutdown", "-kid gone", "stop [start prep_stop]"].map(
                |line| {
                    let space = if line.starts_with('-') { "" } else { " " };
                    format!("{name}{space}{line}")
                },
            )
        };
        let log = log.take();
        assert_eq!(log, [each("c"), each("a"), each("b")].concat());
        for app in tops {
            assert_eq!(app.top.exit_reason(), Some(ExitReason::Shutdown), "{}", app.name);
        }
        let refused = apps.start("a", Restart::Temporary).await;
        assert_eq!(refused, Err(ApplicationError::ShuttingDown));
    }
}

proves!(a_stop_may_have_a_limit_when_the_system_goes_down, ["APP-022"]);
async fn a_stop_may_have_a_limit_when_the_system_goes_down() {
    for limit in [None, Some(Duration::from_secs(2))] {
        let world =
            World::with(|spec| limit.into_iter().fold(spec, SystemSpec::shutdown_timeout)).await;
        for name in ["a", "b", "c"] {
            // Its cleanup takes an hour, whoever asks, and a kill is all that ends it sooner.
            let (slow, _) = slow_kid("slow", &world.log, HOUR);
            let top = SupervisorSpec::new("top").child(slow.shutdown(Shutdown::Infinity));
            world.load(App::new(name, &world.log, top).spec()).await;
            world.starts(name, Restart::Temporary).await;
        }
        let tops = world.apps.which_applications();
        // A stop that is under way when the system begins to go down is limited from then on.
        let apps = world.apps.clone();
        let early = async move { apps.stop("a").await };
        let mut lifecycle = world.system.tree().lifecycle();
        let (stopped, report) = tokio::join!(early, async {
            idle().await;
            world.system.shutdown().await
        });
        assert_eq!(stopped, Ok(()));
        assert!(report.unkillable.is_empty());
        let killed = told(&mut lifecycle).into_iter().filter(|it| {
            let LifecycleEvent::ShutdownError { reason, offender } = &it.event else {
                return false;
            };
            *reason == ExitReason::Killed && ["a", "b", "c"].contains(&offender.id.as_str())
        });
        match limit {
            None => assert_eq!((report.took, killed.count()), (HOUR * 3, 0)),
            Some(limit) => {
                // Of a supervisor that is killed the children may still clean up, within the kill
                // deadline: once below `top`, once above.
                let each = limit + Options::default().kill_deadline * 2;
                assert_eq!((report.took, killed.count()), (each * 3, 3), "each of them");
                for app in &tops {
                    assert_eq!(app.top.exit_reason(), Some(ExitReason::Killed));
                }
            }
        }
        assert_eq!(world.system.ended().await, Ok(()));
    }
}

proves!(a_hook_hears_of_it_first, ["APP-023"]);
async fn a_hook_hears_of_it_first() {
    for asked in [true, false] {
        let log = Log::default();
        let noted = log.clone();
        let world = World::with(|spec| {
            spec.on_shutdown(move |reason: Result<(), SystemError>| {
                let log = noted.clone();
                async move {
                    log.add(match reason {
                        Ok(()) => "hook: asked".to_owned(),
                        Err(error) => format!("hook: {error}"),
                    });
                    passes(Duration::from_secs(5)).await;
                    log.add("hook done");
                    Ok(())
                }
            })
        })
        .await;
        let world = World { log, ..world };
        world.chain(&["a", "b"]).await;
        world.apps.ensure_all_started(["b"], Restart::Permanent).await.unwrap();
        world.log.take();
        if asked {
            world.apps.begin_shutdown().await.unwrap();
            assert_eq!(world.system.ended().await, Ok(()));
        } else {
            world.system.tree().kill("/system/applications/b/top").unwrap();
            assert!(matches!(world.fails().await, SystemError::Exited { .. }));
        }
        let log = world.log.take();
        let first = at(&log, "hook: ");
        let reason = "hook: application `b` (permanent) ended: killed";
        assert_eq!(log[first], if asked { "hook: asked" } else { reason });
        assert_eq!(log[first + 1], "hook done");
        assert!(first + 1 < at(&log, "a prep_stop"), "{log:?}");
        assert_eq!(first == 0, asked, "b had wound up before");
    }
}

proves!(who_asks_while_it_stops_is_answered, ["APP-024"]);
async fn who_asks_while_it_stops_is_answered() {
    let world = World::start().await;
    let asks: Once<Applications> = Arc::default();
    let (log, handle) = (world.log.clone(), asks.clone());
    let gate = Gate::new();
    let held = gate.clone();
    let (app, _) = plain("a", &world.log);
    let app = app.act(move |callback| {
        let apps = handle.lock().unwrap().clone().filter(|_| callback == "prep_stop");
        let (log, gate) = (log.clone(), held.clone());
        Box::pin(async move {
            let Some(apps) = apps else { return Ok(()) };
            log.add(format!("tree: {}", apps.tree("a").unwrap_err()));
            log.add(format!("start: {}", apps.start("a", Restart::Permanent).await.unwrap_err()));
            log.add(format!("stop: {}", apps.stop("a").await.unwrap_err()));
            log.add(format!("all: {}", apps.which_applications().len()));
            gate.pass().await;
            Ok(())
        })
    });
    world.load(app.spec()).await;
    world.chain(&["b"]).await;
    world.starts("a", Restart::Temporary).await;
    *asks.lock().unwrap() = Some(world.apps.clone());
    world.log.take();
    let apps = &world.apps;
    let (stopped, others) = tokio::join!(apps.stop("a"), async {
        idle().await;
        assert_eq!(apps.tree("a").unwrap_err(), ApplicationError::Stopping("a".into()));
        let refused = apps.start("a", Restart::Temporary).await;
        assert_eq!(refused, Err(ApplicationError::Stopping("a".into())));
        // Others start and stop meanwhile.
        apps.start("b", Restart::Temporary).await.unwrap();
        apps.stop("b").await.unwrap();
        let (again, ()) = tokio::join!(apps.stop("a"), async {
            idle().await;
            gate.open();
        });
        again
    });
    assert_eq!((stopped, others), (Ok(()), Ok(())), "one stop, and both are told");
    assert_eq!(
        world.log.take()[1..5],
        [
            "tree: application `a` is being stopped",
            "start: application `a` is being stopped",
            "stop: application `a` cannot wait for itself",
            "all: 0",
        ]
    );
    assert_eq!(apps.tree("a").unwrap_err(), ApplicationError::NotStarted("a".into()));
}

proves!(a_callback_that_fails_stops_no_stop, ["APP-025"]);
async fn a_callback_that_fails_stops_no_stop() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum How {
        Fails,
        Panics,
        Hangs,
    }
    for how in [How::Fails, How::Panics, How::Hangs] {
        for alone in [true, false] {
            let world = World::start().await;
            let (app, _) = plain("a", &world.log);
            let app = app.act(move |callback| {
                let is_stop = callback.ends_with("stop");
                Box::pin(async move {
                    match (is_stop, how) {
                        (false, _) => Ok(()),
                        (true, How::Fails) => Err("cannot".into()),
                        (true, How::Panics) => panic!("cannot"),
                        (true, How::Hangs) => pending().await,
                    }
                })
            });
            world.load(app.spec().callbacks_within(Duration::from_secs(3))).await;
            world.starts("a", Restart::Permanent).await;
            world.log.take();
            let mut lifecycle = world.system.tree().lifecycle();
            if alone {
                assert_eq!(world.apps.stop("a").await, Ok(()));
            } else {
                world.system.shutdown().await;
                assert_eq!(world.system.ended().await, Ok(()));
            }
            assert_eq!(
                world.log.take(),
                [
                    "a prep_stop [start]",
                    "a-kid ends: shutdown",
                    "a-kid gone",
                    "a stop [start prep_stop]",
                ]
            );
            let told = told(&mut lifecycle);
            let faults = told.into_iter().filter_map(|it| {
                let LifecycleEvent::ApplicationFault { application, callback, reason } = it.event
                else {
                    return None;
                };
                assert_eq!(application, "a".into());
                Some((callback, reason.name()))
            });
            let faults: Vec<_> = faults.collect();
            let why = match how {
                How::Fails => "error",
                How::Panics => "panic",
                How::Hangs => "timeout",
            };
            assert_eq!(faults, [("prep_stop", why), ("stop", why)]);
        }
    }
}
