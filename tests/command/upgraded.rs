//! What a newer build had planned, and this one does not know (ACC-5.6).

use std::thread;

use perennial_core::{Digest, run::RunId};
use perennial_store::{NewRun, NewStage, SqliteOptions, SqliteStore, Store};
use perennial_testkit::{PerennialBinary, RunningBinary};

use crate::world::{SOON, World, json_lines};

const MOCK: [&str; 2] = ["--provider-mode", "mock"];
const TWO: &str = "{name: a, type: echo, value: 1}\n{name: b, type: echo, value: 2}";

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Records a run like `pattern`, whose second step is of a type that only a newer build has.
async fn plant(store: &dyn Store, pattern: &str, run: &str) {
    let pattern = store.run(&RunId::parse(pattern).unwrap()).await.unwrap();
    let bytes = store.blob(pattern.run.definition).await.unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (first, second) = text.split_once(r#""name":"a""#).unwrap();
    let kind = second.replacen(r#"{"echo":{"#, r#"{"hologram":{"#, 1);
    let newer = format!("{first}\"name\":\"a\"{kind}");
    let place = newer.rfind(r#""type_name":"echo""#).unwrap();
    let newer = format!("{}{}", &newer[..place], newer[place..].replacen("echo", "hologram", 1));
    let definition_bytes = newer.into_bytes();
    let new = NewRun {
        run: RunId::parse(run).unwrap(),
        workflow: pattern.run.workflow,
        definition: Digest::of(&definition_bytes),
        definition_bytes,
        input_digest: pattern.run.input_digest,
        settings: pattern.run.settings,
        owner: None,
        deadline: None,
        stages: pattern.stages.into_iter().map(|stage| NewStage::driven(stage.stage)).collect(),
        jobs: Vec::new(),
        timers: Vec::new(),
        priority: Default::default(),
    };
    store.create_run(new).await.unwrap();
}

fn planted_in_file(world: &World, pattern: &str, run: &str) {
    let path = world.path("perennial.db");
    let store = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
    let (writer, reader) = (store.writer(), store.reader());
    let (writes, reads) = (writer.stopper(), reader.stopper());
    thread::scope(|threads| {
        threads.spawn(|| writer.run().unwrap());
        threads.spawn(|| reader.run().unwrap());
        let _stops = OnDrop(|| {
            writes.stop();
            reads.stop();
        });
        block_on(plant(&store, pattern, run));
    });
}

#[cfg(feature = "postgres")]
fn planted_on_server(url: &str, pattern: &str, run: &str) {
    use perennial_store::{PostgresOptions, PostgresStore};

    let options = PostgresOptions { connections: 1, ..PostgresOptions::default() };
    let store = block_on(PostgresStore::open(url, options)).unwrap();
    let connection = store.connection();
    let stopper = connection.stopper();
    thread::scope(|threads| {
        threads.spawn(|| connection.run().unwrap());
        let _stops = OnDrop(|| stopper.stop());
        block_on(plant(&store, pattern, run));
    });
}

fn stopped(worker: RunningBinary) {
    let script = format!("kill -TERM {}", worker.pid());
    let told = PerennialBinary::new("/bin/sh").args(["-c", &script]).run(SOON).unwrap();
    assert!(told.status.success(), "{told:?}");
    assert_eq!(worker.wait(SOON).unwrap().status.code(), Some(143));
}

/// The run is blocked with what is not known and what helps, nothing of it is begun or lost, the others go on, and by a
/// corrected file it does.
fn an_unknown_type_blocks_its_run_alone(world: &World, store: &str, plant: impl FnOnce()) {
    let on = ["--store", store];
    let said = |code: i32, args: &[&str]| world.expect(code, &[args, &on[..]].concat());
    world.flow("flow.yaml", TWO);
    said(0, &[&["run", "flow.yaml", "--detach", "--run-id", "pattern"], &MOCK[..]].concat());
    plant();
    said(0, &[&["run", "flow.yaml", "--detach", "--run-id", "other"], &MOCK[..]].concat());
    let before = said(0, &["events", "newer", "--json"]).stdout;

    let mut worker = world.spawn(&["worker", "--node", "old", "--store", store]);
    let what = "step `b` of type `hologram`";
    let all = ["run pattern completed", "run other completed", what];
    let told = |it: &RunningBinary| all.iter().all(|part| it.stderr().contains(part));
    worker.wait_for("the others, and why this one waits", SOON, told).unwrap();
    assert_eq!(worker.stderr().matches(what).count(), 1, "once: {}", worker.stderr());
    let explained = said(0, &["explain", "newer"]);
    assert!(explained.stdout.contains(what), "{explained:?}");
    stopped(worker);

    assert_eq!(said(0, &["events", "newer", "--json"]).stdout, before, "nothing was begun");
    let explained = said(0, &["explain", "newer"]);
    assert!(
        explained.stdout.contains("it is blocked here: this build does not know"),
        "{explained:?}"
    );
    assert!(explained.stderr.contains("perennial resume newer --file FILE"), "{explained:?}");
    let explained = json_lines(&said(0, &["explain", "newer", "--json"]).stdout).remove(0);
    assert_eq!(explained["waits_for"][0]["why"], "blocked", "{explained}");
    let shown = json_lines(&said(0, &["show", "newer", "--json"]).stdout).remove(0);
    assert_eq!(
        (&shown["state"], shown["steps"].as_array().map(Vec::len)),
        (&"running".into(), Some(0))
    );
    let refused = said(1, &["resume", "newer"]);
    assert!(refused.stderr.contains(what), "{refused:?}");
    assert_eq!(said(0, &["events", "newer", "--json"]).stdout, before, "and nothing is lost");

    said(0, &["resume", "newer", "--file", "flow.yaml"]);
    let shown = json_lines(&said(0, &["show", "newer", "--json"]).stdout).remove(0);
    assert_eq!(shown["state"], "succeeded", "{shown}");
    said(0, &["journal", "verify"]);
}

#[test]
fn a_step_that_this_build_does_not_know_blocks_its_run_alone_in_a_file() {
    let world = World::new();
    let plant = || planted_in_file(&world, "pattern", "newer");
    an_unknown_type_blocks_its_run_alone(&world, "sqlite:perennial.db", plant);
}

#[cfg(feature = "postgres")]
#[test]
fn a_step_that_this_build_does_not_know_blocks_its_run_alone_on_a_server() {
    let Some(cluster) = perennial_testkit::postgres::cluster() else { return };
    let database = cluster.database("upgraded").unwrap();
    let url = database.url();
    let plant = || planted_on_server(&url, "pattern", "newer");
    an_unknown_type_blocks_its_run_alone(&World::new(), &url, plant);
}
