//! Applications: what the end of a top supervisor means.

use std::time::Duration;

use perennial_core::{AutoShutdown, ExitReason, Restart};
use perennial_supervision::{
    Address, ApplicationError, ApplicationPhase, Lifecycle, LifecycleEvent, Supervisor,
    SupervisorSpec, SystemError,
};

use crate::{
    app_world::{App, Say, World, at, kid, times},
    fixture::{idle, told},
    harness::proves,
    probe::SOON,
};

/// How a top supervisor may end by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// What it is bound to ends so.
    Normal,
    AutoShutdown,
    GivesUp,
    Crash,
    Kill,
}

const ENDS: [End; 5] = [End::Normal, End::AutoShutdown, End::GivesUp, End::Crash, End::Kill];

impl End {
    fn reason(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::AutoShutdown | Self::GivesUp => "shutdown",
            Self::Crash => "panic",
            Self::Kill => "killed",
        }
    }
}

/// Two applications around a third, `web`, whose top supervisor can end in every way.
struct Scene {
    world: World,
    kid: Address<Say>,
    owner: Address<Say>,
}

impl Scene {
    async fn start(restart: Restart) -> Self {
        let world = World::start().await;
        world.chain(&["a", "b"]).await;
        // Not in an application, so that nothing ends with it but what is bound to it.
        let (owned, owner) = kid("owner", &world.log);
        let top = SupervisorSpec::new("top").child(owned.restart(Restart::Temporary));
        world.load(App::new("owners", &world.log, top).spec()).await;
        world.starts("owners", Restart::Temporary).await;
        world.starts("a", Restart::Temporary).await;
        let (spec, kid) = kid("kid", &world.log);
        let spec = spec.restart(Restart::Transient).significant(true);
        let bound_to = owner.whereis().unwrap();
        let app = App::new("web", &world.log, SupervisorSpec::new("top")).tree(move |_| {
            let top = SupervisorSpec::new("top")
                .intensity(0, SOON)
                .auto_shutdown(AutoShutdown::AnySignificant)
                .child(spec.clone());
            let (top, _) = Supervisor::child_spec(top);
            let bound = if bound_to.is_alive() { top.linked_to(bound_to.clone()) } else { top };
            // Its restart type is of no account.
            Ok(bound.restart(Restart::Permanent))
        });
        world.load(app.spec()).await;
        world.starts("web", restart).await;
        world.starts("b", Restart::Temporary).await;
        world.log.take();
        Self { world, kid, owner }
    }

    /// Its top supervisor ends, and what that leaves is done.
    async fn ends(&self, how: End) -> ExitReason {
        let running = self.world.apps.which_applications();
        let web = running.iter().find(|app| app.name == "web".into()).unwrap();
        let mut end = web.top.monitor();
        let tree = self.world.system.tree();
        match how {
            End::Normal => self.owner.cast(Say::Exit(ExitReason::Normal)).unwrap(),
            End::AutoShutdown => self.kid.cast(Say::Exit(ExitReason::Normal)).unwrap(),
            End::GivesUp => self.kid.cast(Say::Panic).unwrap(),
            End::Crash => drop(tree.crash("/system/applications/web/top").unwrap()),
            End::Kill => drop(tree.kill("/system/applications/web/top").unwrap()),
        }
        let reason = end.down().await;
        assert_eq!(reason.name(), how.reason(), "{how:?}");
        reason
    }

    /// The system goes down because of that: the others in order.
    async fn takes_all_down(&self, restart: Restart, reason: ExitReason) {
        let world = &self.world;
        let error = world.fails().await;
        let shown = format!("application `web` ({restart}) ended: {reason}");
        assert_eq!(error.to_string(), shown);
        let application = "web".into();
        assert_eq!(error, SystemError::Exited { application, restart, reason });
        let log = world.log.take();
        for (earlier, later) in [
            ("web prep_stop", "web stop"),
            ("web stop", "b prep_stop"),
            ("b stop", "a prep_stop"),
            ("a stop", "owners prep_stop"),
            ("owners prep_stop", "owners stop"),
        ] {
            assert!(at(&log, earlier) < at(&log, later), "{log:?}");
        }
        assert_eq!(times(&log, "b-kid ends: shutdown"), 1);
        assert!(world.running().is_empty());
        let refused = world.apps.start("a", Restart::Temporary).await;
        assert_eq!(refused, Err(ApplicationError::ShuttingDown));
    }

    /// It is reported, and everything else runs on.
    async fn is_only_reported(&self, how: End, restart: Restart, reported: Vec<Lifecycle>) {
        let world = &self.world;
        assert_eq!(world.running(), ["owners", "a", "b"]);
        assert_eq!(world.apps.loaded_applications()[&"web".into()], ApplicationPhase::Died);
        let gone = world.apps.tree("web").unwrap_err();
        assert_eq!(gone, ApplicationError::NotRunning("web".into()));
        let reported: Vec<_> = reported.into_iter().filter_map(exited).collect();
        assert_eq!(reported, [("web".to_owned(), restart, how.reason())]);
    }
}

fn exited(it: Lifecycle) -> Option<(String, Restart, &'static str)> {
    let LifecycleEvent::ApplicationExited { application, restart, reason } = it.event else {
        return None;
    };
    Some((application.to_string(), restart, reason.name()))
}

proves!(the_end_of_a_permanent_one_is_the_end_of_all, ["APP-026", "APP-029"]);
async fn the_end_of_a_permanent_one_is_the_end_of_all() {
    for how in ENDS {
        let scene = Scene::start(Restart::Permanent).await;
        let reason = scene.ends(how).await;
        scene.takes_all_down(Restart::Permanent, reason).await;
    }
}

proves!(of_a_transient_one_only_a_normal_end_is_tolerated, ["APP-027", "APP-029"]);
async fn of_a_transient_one_only_a_normal_end_is_tolerated() {
    for how in ENDS {
        let scene = Scene::start(Restart::Transient).await;
        let mut lifecycle = scene.world.system.tree().lifecycle();
        let reason = scene.ends(how).await;
        if how == End::Normal {
            idle().await;
            scene.is_only_reported(how, Restart::Transient, told(&mut lifecycle)).await;
        } else {
            scene.takes_all_down(Restart::Transient, reason).await;
        }
    }
}

proves!(the_end_of_a_temporary_one_is_its_own, ["APP-028"]);
async fn the_end_of_a_temporary_one_is_its_own() {
    for how in ENDS {
        let scene = Scene::start(Restart::Temporary).await;
        let mut lifecycle = scene.world.system.tree().lifecycle();
        scene.ends(how).await;
        idle().await;
        scene.is_only_reported(how, Restart::Temporary, told(&mut lifecycle)).await;
        scene.world.starts("web", Restart::Temporary).await;
        assert_eq!(scene.world.running(), ["owners", "a", "b", "web"]);
        scene.world.system.shutdown().await;
        assert_eq!(scene.world.system.ended().await, Ok(()));
    }
}

proves!(callbacks_run_after_an_end_of_its_own, ["APP-018"]);
async fn callbacks_run_after_an_end_of_its_own() {
    for how in ENDS {
        let scene = Scene::start(Restart::Temporary).await;
        scene.ends(how).await;
        idle().await;
        let log = scene.world.log.take();
        let (prepared, gone) = (at(&log, "web prep_stop [start]"), at(&log, "kid gone"));
        assert!(gone < prepared && prepared < at(&log, "web stop [start prep_stop]"), "{log:?}");
        assert_eq!((times(&log, "web prep_stop"), times(&log, "web stop")), (1, 1));
    }
}

proves!(a_top_supervisor_is_never_restarted, ["APP-030"]);
async fn a_top_supervisor_is_never_restarted() {
    for how in ENDS {
        let scene = Scene::start(Restart::Temporary).await;
        let mut lifecycle = scene.world.system.tree().lifecycle();
        scene.ends(how).await;
        // Nothing comes later either.
        tokio::time::advance(Duration::from_secs(3_600)).await;
        idle().await;
        let log = scene.world.log.take();
        assert_eq!((times(&log, "web start"), times(&log, "kid up")), (0, 0), "{log:?}");
        let started = told(&mut lifecycle).into_iter().filter(|it| {
            let starts = matches!(it.event, LifecycleEvent::Started { .. });
            starts && it.path.starts_with("/system/applications/web")
        });
        assert_eq!(started.count(), 0);
    }
}

proves!(the_end_of_the_system_itself_is_told, ["APP-029"]);
async fn the_end_of_the_system_itself_is_told() {
    for part in ["controller", "applications", "work"] {
        let scene = Scene::start(Restart::Temporary).await;
        scene.world.system.tree().crash(&format!("/system/{part}")).unwrap();
        let error = scene.world.fails().await;
        assert!(matches!(error, SystemError::Failed(_)), "{part}: {error}");
        let again = scene.world.apps.start("a", Restart::Temporary).await;
        assert_eq!(again, Err(ApplicationError::ShuttingDown));
    }
}
