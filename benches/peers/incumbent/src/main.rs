//! ractor-supervisor next to the same bare ractor, for information, and our light children,
//! which have no ractor below them, next to ractor-supervisor, with goals; each measured in the same
//! rounds.
//!
//! It is a package of its own because it turns features of ractor on that our supervision is not
//! built with; cargo unifies them in whatever is built together. Our lines here do not run on ractor.

#[path = "../../src/bare.rs"]
#[expect(dead_code, reason = "not every line has an incumbent")]
mod bare;
#[path = "../../src/light.rs"]
#[expect(dead_code, reason = "most of its lines have another baseline")]
mod light;
#[path = "../../src/measure.rs"]
#[expect(dead_code, reason = "some of it is for lines of the other binary")]
mod measure;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bare::{Msg, Worker};
use measure::{
    Counting, Goal, Line, Meter, Pick, Wanted, bytes, bytes_since, count_bytes, on_a_worker, settle,
};
use ractor::{Actor, ActorRef};
use ractor_supervisor::{
    ChildSpec, DynamicSupervisor, DynamicSupervisorMsg, DynamicSupervisorOptions, Restart, SpawnFn,
    Supervisor, SupervisorArguments, SupervisorOptions, SupervisorStrategy,
};
use tokio::sync::watch;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const NAME: &str = "ractor-supervisor";

fn main() {
    let wanted = Wanted::from_args();
    on_a_worker(async move {
        small(&wanted).await;
        large(&wanted).await;
        lights(&wanted).await;
    });
}

async fn small(wanted: &Wanted) {
    if wanted.wants("restart_static") {
        let count = wanted.size(10_000);
        Line::new("restart_static", "ns", Goal::None)
            .subject(NAME, move || restart_static(count))
            .subject("ractor", move || bare::restart(count, Msg::Crash))
            .run()
            .await;
    }
    if wanted.wants("restart_dynamic") {
        // It sleeps 10 ms before every restart.
        let count = wanted.size(100);
        Line::new("restart_dynamic", "ns", Goal::None)
            .subject(NAME, move || restart_dynamic(count))
            .subject("ractor", move || bare::restart(count, Msg::Crash))
            .run()
            .await;
    }
    if wanted.wants("start_terminate") {
        let count = wanted.size(20_000);
        Line::new("start_terminate", "/s", Goal::None)
            .subject(NAME, move || start_terminate(count))
            .subject("ractor", move || bare::start_terminate(count))
            .run()
            .await;
    }
}

async fn large(wanted: &Wanted) {
    let (few, many) = (wanted.size(20_000), wanted.size(100_000));
    for (name, count) in [("shutdown_20k", few), ("shutdown_100k", many)] {
        if wanted.wants(name) {
            Line::new(name, "ns", Goal::None)
                .subject(NAME, move || shutdown(count))
                .subject("ractor", move || bare::shutdown(count))
                .run()
                .await;
        }
    }
    if wanted.wants("memory") {
        Line::new("memory", "B", Goal::None)
            .subject(NAME, move || memory(many))
            .subject("ractor", move || bare::memory(many))
            .run()
            .await;
    }
    if wanted.wants("snapshot_100k") {
        let supervisor = dynamic().await;
        let actors = fill(&supervisor, many).await;
        let bare = Arc::new(bare::Crowd::start(many).await);
        let asked = supervisor.clone();
        // Nothing crashes meanwhile on its side: its restarts would sleep for as long as they last.
        Line::new("snapshot_100k", "us", Goal::None)
            .subject(NAME, move || inspect(asked.clone()))
            .subject("ractor", move || bare.clone().list(Pick::Median))
            .run()
            .await;
        drop(actors);
        supervisor.stop_and_wait(None, None).await.expect("it stops");
    }
}

/// What ours are to reach of its figures.
async fn lights(wanted: &Wanted) {
    if wanted.wants("light_restart") {
        // As above: it sleeps.
        let count = wanted.size(100);
        Line::new("light_restart", "ns", Goal::AtMost(0.001))
            .subject("perennial", move || light::restart(count, light::Msg::Crash))
            .subject(NAME, move || restart_dynamic(count))
            .run()
            .await;
    }
    if wanted.wants("light_start_terminate") {
        let count = wanted.size(20_000);
        Line::new("light_start_terminate", "/s", Goal::AtLeast(2.5))
            .subject("perennial", move || light::start_terminate(count))
            .subject(NAME, move || start_terminate(count))
            .run()
            .await;
    }
    let many = wanted.size(100_000);
    if wanted.wants("light_bulk_start") {
        Line::new("light_bulk_start", "ns", Goal::AtMost(0.1))
            .subject("perennial", move || light::bulk_start(many))
            .subject(NAME, move || bulk_start(many))
            .run()
            .await;
    }
    if wanted.wants("light_shutdown_100k") {
        Line::new("light_shutdown_100k", "ns", Goal::AtMost(1.5))
            .subject("perennial", move || light::shutdown(many))
            .subject(NAME, move || shutdown(many))
            .run()
            .await;
    }
    if wanted.wants("light_memory") {
        Line::new("light_memory", "B", Goal::AtMostBoth(0.1, 800.0))
            .subject("perennial", move || light::memory(many))
            .subject(NAME, move || memory(many))
            .run()
            .await;
    }
}

/// Names are global: none may come back before its last bearer is gone.
fn name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed).to_string()
}

type Up = watch::Receiver<Option<ActorRef<Msg>>>;

fn worker(id: String) -> (ChildSpec, Up) {
    let (tell, up) = watch::channel(None);
    let (tell, number) = (Arc::new(tell), Arc::new(AtomicU64::new(0)));
    let spawn = SpawnFn::new(move |supervisor, id| {
        let (tell, number) = (tell.clone(), number.fetch_add(1, Ordering::Relaxed));
        async move {
            let (actor, _) = Actor::spawn_linked(Some(id), Worker, number, supervisor).await?;
            tell.send_replace(Some(actor.clone()));
            Ok(actor.get_cell())
        }
    });
    let restart = Restart::Permanent;
    (ChildSpec { id, restart, spawn_fn: spawn, backoff_fn: None, reset_after: None }, up)
}

async fn declared(children: Vec<ChildSpec>) -> ActorRef<ractor_supervisor::SupervisorMsg> {
    let options = SupervisorOptions {
        strategy: SupervisorStrategy::OneForOne,
        max_restarts: usize::MAX,
        max_window: Duration::from_secs(1),
        reset_after: None,
    };
    let arguments = SupervisorArguments { child_specs: children, options };
    Supervisor::spawn(name(), arguments).await.expect("it starts").0
}

async fn dynamic() -> ActorRef<DynamicSupervisorMsg> {
    let options = DynamicSupervisorOptions {
        max_children: None,
        max_restarts: usize::MAX,
        max_window: Duration::from_secs(1),
        reset_after: None,
    };
    DynamicSupervisor::spawn(name(), options).await.expect("it starts").0
}

async fn fill(supervisor: &ActorRef<DynamicSupervisorMsg>, count: usize) -> Vec<ActorRef<Msg>> {
    let mut actors = Vec::with_capacity(count);
    for _ in 0..count {
        let (spec, up) = worker(name());
        DynamicSupervisor::spawn_child(supervisor.clone(), spec).await.expect("it starts");
        actors.push(up.borrow().clone().expect("it runs"));
    }
    actors
}

async fn restart_static(count: usize) -> f64 {
    let (spec, mut up) = worker(name());
    let supervisor = declared(vec![spec]).await;
    up.changed().await.expect("it starts");
    let measured = bare::crashes(up, count, Msg::Crash).await;
    supervisor.stop_and_wait(None, None).await.expect("it stops");
    measured
}

async fn restart_dynamic(count: usize) -> f64 {
    let supervisor = dynamic().await;
    let (spec, up) = worker(name());
    DynamicSupervisor::spawn_child(supervisor.clone(), spec).await.expect("it starts");
    let measured = bare::crashes(up, count, Msg::Crash).await;
    supervisor.stop_and_wait(None, None).await.expect("it stops");
    measured
}

/// Its termination is a kill.
async fn start_terminate(count: usize) -> f64 {
    let supervisor = dynamic().await;
    let meter = Meter::start();
    for _ in 0..count {
        let (spec, up) = worker(name());
        let id = spec.id.clone();
        DynamicSupervisor::spawn_child(supervisor.clone(), spec).await.expect("it starts");
        let actor = up.borrow().clone().expect("it runs");
        DynamicSupervisor::terminate_child(supervisor.clone(), id).await.expect("it stops");
        actor.wait(None).await.expect("it stops");
    }
    let measured = meter.rate(count);
    supervisor.stop_and_wait(None, None).await.expect("it stops");
    measured
}

/// Its shutdown is a kill of all at once.
async fn shutdown(count: usize) -> f64 {
    let (specs, ups): (Vec<_>, Vec<_>) = (0..count).map(|_| worker(name())).unzip();
    let supervisor = declared(specs).await;
    let mut actors = Vec::with_capacity(count);
    for mut up in ups {
        let actor = up.wait_for(Option::is_some).await.expect("it starts").clone();
        actors.push(actor.expect("it runs"));
    }
    let meter = Meter::start();
    supervisor.stop_and_wait(None, None).await.expect("it stops");
    for actor in actors {
        actor.wait(None).await.expect("it stops");
    }
    meter.per(count)
}

async fn bulk_start(count: usize) -> f64 {
    let supervisor = dynamic().await;
    let meter = Meter::start();
    let actors = fill(&supervisor, count).await;
    let measured = meter.per(count);
    end(supervisor, actors).await;
    measured
}

async fn end(supervisor: ActorRef<DynamicSupervisorMsg>, actors: Vec<ActorRef<Msg>>) {
    supervisor.stop_and_wait(None, None).await.expect("it stops");
    for actor in actors {
        actor.wait(None).await.expect("it stops");
    }
}

async fn memory(count: usize) -> f64 {
    let supervisor = dynamic().await;
    settle().await;
    count_bytes(true);
    let before = bytes();
    let actors = fill(&supervisor, count).await;
    let measured = bytes_since(before, count);
    count_bytes(false);
    end(supervisor, actors).await;
    measured
}

async fn inspect(supervisor: ActorRef<DynamicSupervisorMsg>) -> f64 {
    let mut took = Vec::new();
    for _ in 0..7 {
        let begun = std::time::Instant::now();
        let state = supervisor.call(DynamicSupervisorMsg::InspectState, Some(bare::WITHIN)).await;
        took.push(begun.elapsed().as_nanos() as f64 / 1e3);
        drop(state);
    }
    took.sort_by(f64::total_cmp);
    took[took.len() / 2]
}
