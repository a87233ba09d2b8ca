//! SUP misc: what a whole tree looks like after parts of it were gone.

use perennial_core::{ExitReason, Strategy};
use perennial_supervision::{Name, RequestError, Root, Supervisor, SupervisorSpec};

use crate::{
    harness::proves,
    probe::{Log, Message, Probe, SOON, ids, root, until},
};

proves!(names_are_reachable_again_whatever_level_was_lost, ["SUP-239"]);
async fn names_are_reachable_again_whatever_level_was_lost() {
    let (worker_name, supervisor_name) = (Name::from("worker"), Name::from("supervisor"));
    for path in ["/top/outer", "/top/outer/inner", "/top/outer/inner/worker"] {
        for kill in [true, false] {
            let (worker, probe) = Probe::new("worker", &Log::default());
            let worker = worker.name(worker_name.clone());
            let (inner, inner_handle) =
                Supervisor::child_spec(SupervisorSpec::new("inner").child(worker));
            let inner = inner.name(supervisor_name.clone());
            let (outer, outer_handle) =
                Supervisor::child_spec(SupervisorSpec::new("outer").child(inner));
            let root = root(SupervisorSpec::new("top").child(outer)).await;
            let names = root.names();
            let before = (names.whereis(&worker_name), names.whereis(&supervisor_name));
            assert!(before.0.is_some() && before.1.is_some());

            let mut monitor = before.0.as_ref().unwrap().monitor();
            if kill {
                root.tree().kill(path).unwrap().exit().await;
            } else {
                match path {
                    "/top/outer" => outer_handle.stop(SOON).await.unwrap(),
                    "/top/outer/inner" => inner_handle.stop(SOON).await.unwrap(),
                    _ => drop(probe.end(|| Message::StopSelf).await),
                }
            }
            monitor.down().await;
            let new = |name| names.whereis(name).is_some_and(|it| Some(it) != before.0);
            until(|| new(&worker_name) && names.whereis(&supervisor_name).is_some()).await;
            let worker = names.address::<Message>(&worker_name).unwrap();
            assert_eq!(worker.call(Message::Ping, SOON).await, Ok(1), "{path} {kill}");
            let supervisor: Supervisor = names.handle(&supervisor_name).unwrap();
            let refused = supervisor.terminate_child("nobody").await.unwrap_err();
            assert_eq!(refused, RequestError::NotFound("nobody".into()));
            assert_eq!(ids(&supervisor), ["worker"]);
            let replaced = names.whereis(&supervisor_name) != before.1;
            assert_eq!(replaced, path != "/top/outer/inner/worker", "{path}");
        }
    }
}

/// `top` over `x` and `y`; `x` over the leaf supervisor `x1`, which tolerates nothing, and `c`.
struct Forest {
    root: Root,
    /// Below `x1`.
    a: Probe,
    b: Probe,
    /// Below `x`.
    c: Probe,
    /// Below `y`; `e` was terminated by hand.
    d: Probe,
    e: Probe,
}

async fn forest(strategy: Strategy) -> Forest {
    let log = Log::default();
    let probe = |name| Probe::new(name, &log);
    let ((a_spec, a), (b_spec, b), (c_spec, c)) = (probe("a"), probe("b"), probe("c"));
    let ((d_spec, d), (e_spec, e)) = (probe("d"), probe("e"));
    let leaf = SupervisorSpec::new("x1").intensity(0, SOON).child(a_spec).child(b_spec);
    let (leaf, _) = Supervisor::child_spec(leaf);
    let (x, _) = Supervisor::child_spec(
        SupervisorSpec::new("x").intensity(1, SOON).child(leaf).child(c_spec),
    );
    let (y, y_handle) =
        Supervisor::child_spec(SupervisorSpec::new("y").child(d_spec).child(e_spec));
    let (z, _) = Supervisor::child_spec(SupervisorSpec::new("z"));
    let root = root(SupervisorSpec::new("top").strategy(strategy).child(x).child(y).child(z)).await;
    y_handle.terminate_child("e").await.unwrap();
    root.supervisor().terminate_child("z").await.unwrap();
    Forest { root, a, b, c, d, e }
}

proves!(giving_up_below_restarts_what_the_strategies_above_demand, ["SUP-240"]);
async fn giving_up_below_restarts_what_the_strategies_above_demand() {
    for strategy in [Strategy::OneForOne, Strategy::RestForOne, Strategy::OneForAll] {
        let Forest { root, a, b, c, d, e } = forest(strategy).await;
        let process = |id: &str| root.supervisor().which_child(id).unwrap().process;
        let before = ["x", "y", "z"].map(process);
        assert_eq!(before[2], None);
        for probe in [&a, &b, &c, &d] {
            assert_eq!(probe.ping().await, Ok(1));
        }
        // The leaf gives up, and its parent replaces it alone.
        a.end(|| Message::Panic).await;
        assert_eq!((a.answers().await, b.answers().await), (1, 1));
        assert_eq!((c.ping().await, d.ping().await), (Ok(2), Ok(2)), "{strategy:?}");
        assert_eq!(["x", "y", "z"].map(process), before);
        // Once more, and the parent gives up as well.
        a.end(|| Message::Panic).await;
        assert_eq!((a.answers().await, b.answers().await, c.answers().await), (1, 1, 1));
        let now = ["x", "y", "z"].map(process);
        assert_ne!(now[0], before[0]);
        if strategy == Strategy::OneForOne {
            assert_eq!((&now[1], &now[2]), (&before[1], &None));
            assert_eq!(d.ping().await, Ok(3));
            assert!(e.ping().await.is_err(), "it stays stopped");
        } else {
            assert_eq!((d.answers().await, e.answers().await), (1, 1), "{strategy:?}");
            let now = ["x", "y", "z"].map(process);
            assert_ne!(now[1], before[1]);
            assert!(now[2].is_some(), "what was stopped by hand is started");
        }
        assert_eq!(root.tree().nodes()[0].incarnation, 1);
        assert_eq!(root.shutdown().await.reason, ExitReason::Shutdown);
    }
}
