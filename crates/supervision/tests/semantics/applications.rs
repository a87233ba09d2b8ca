//! Many who start, stop and crash applications at once, on several threads.

use futures_util::future::join_all;
use perennial_supervision::{
    Agent, ApplicationError, ApplicationSpec, Applications, Clock, Options, Restart,
    SupervisorSpec, System, SystemSpec,
};

use crate::dice::Dice;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

async fn one(system: &System, applications: &Applications, mut dice: Dice) {
    for _ in 0..30 {
        let name = *dice.pick(&NAMES);
        let outcome = match dice.roll(5) {
            0 => applications.start(name, Restart::Temporary).await,
            1 => applications.ensure_started(name, Restart::Temporary).await,
            2 => applications.ensure_all_started([name], Restart::Temporary).await.map(drop),
            3 => applications.stop(name).await,
            _ => {
                // It may not run.
                drop(system.tree().crash(&format!("/system/applications/{name}/{name}")));
                Ok(())
            }
        };
        match outcome {
            Ok(())
            | Err(
                ApplicationError::AlreadyStarted(_)
                | ApplicationError::NotStarted(_)
                | ApplicationError::NotRunning(_)
                | ApplicationError::Stopping(_)
                // It was crashed before it was up.
                | ApplicationError::StartFailed(_),
            ) => (),
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_is_answered_and_nothing_is_left() {
    for seed in 0..20 {
        println!("seed {seed}");
        let spec = SystemSpec::new("system");
        let system = System::start(spec, Clock::start(), Options::default()).await.unwrap();
        let applications = system.applications();
        let mut before: Option<&str> = None;
        for name in NAMES {
            let spec = ApplicationSpec::tree(name, move |_| {
                Ok(SupervisorSpec::new(name).child(Agent::child_spec("state", || 0).0))
            });
            let spec = before.into_iter().fold(spec, ApplicationSpec::depends_on);
            applications.load(spec).await.unwrap();
            before = Some(name);
        }
        join_all((0..4).map(|who| one(&system, applications, Dice(seed * 4 + who)))).await;
        let tops = applications.which_applications();
        let report = system.shutdown().await;
        assert_eq!((report.gave_up, report.unkillable.len()), (false, 0));
        assert_eq!(system.ended().await, Ok(()));
        assert!(tops.iter().all(|app| !app.top.is_alive()));
    }
}
