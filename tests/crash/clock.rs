//! The clock of a machine is set an hour ahead and an hour back, amid all that waits for its time: leases, deadlines of
//! attempts, a retry, and an outage (INV-31, THR-7, ACC-5.6). A shim in front of the C library moves it (`clock/shim.c`), for
//! one process.

use std::{fs, path::PathBuf, time::Duration};

use perennial_testkit::{FakeReply, PerennialBinary, RunningBinary, postgres};
use serde_json::Value;

use crate::{
    power::shim::compiled,
    world::{SOON, STEPS, World},
};

const HOUR: i64 = 3600;
/// The length of a lease, in seconds.
const LEASE: &str = "3";

/// Where the machines stand: a day and two hours apart, by the hour.
const ZONES: [&str; 2] = ["WEST+12", "EAST-14"];

/// Machines on one store, whose clocks can be set.
struct Machines {
    world: World,
    shim: PathBuf,
    store: String,
}

impl Machines {
    fn command(&self, args: &[&str]) -> PerennialBinary {
        self.world.command(args).env("PERENNIAL_STORE", &self.store)
    }

    /// What a command that nobody set a clock for says, line by line.
    fn told(&self, args: &[&str]) -> Vec<Value> {
        let output = self.command(args).run(SOON).unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Sets the clock of a machine this far from what it is. At once: nobody reads half of it.
    fn set(&self, machine: &str, seconds: i64) {
        let (written, place) = (self.world.path("written"), self.world.path(machine));
        fs::write(&written, seconds.to_string()).unwrap();
        fs::rename(written, place).unwrap();
    }

    /// Each in another zone than the one before it.
    fn worker(&self, machine: &str) -> RunningBinary {
        let zone = ZONES[usize::from(machine.as_bytes()[0]) % ZONES.len()];
        let args = ["worker", "--node", machine, "--lease", LEASE, "--config", "perennial.toml"];
        let worker = self.command(&args).env("LD_PRELOAD", &self.shim).env("TZ", zone);
        worker.env("PERENNIAL_CLOCK", self.world.path(machine)).spawn().unwrap()
    }

    /// Nowhere is another history told, nor is anything older than it is: all of this was hours ago at most.
    fn agree(&self, run: &str) {
        let told = |args: &[&str]| {
            ZONES.map(|zone| self.command(args).env("TZ", zone).run(SOON).unwrap().stdout)
        };
        let [west, east] = told(&["events", run, "--json"]);
        assert!(!west.is_empty() && west == east, "{west}\n{east}");
        let removed = told(&["gc", "--older-than", "6h", "--dry-run"]);
        assert_eq!(removed.each_ref().map(String::as_str), ["nothing would be removed\n"; 2]);
    }

    fn submit(&self, run: &str) {
        let args = ["run", "chain.yaml", "--detach", "--run-id", run, "--config", "perennial.toml"];
        let output = self.command(&args).run(SOON).unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// The attempts of each step of a run that completed, whose history is in order.
    fn attempts(&self, run: &str) -> Vec<usize> {
        let shown = self.told(&["show", run, "--json"]).remove(0);
        assert_eq!(shown["state"], "succeeded", "{shown:#}");
        let instant = |event: &Value| event["at"].as_str().unwrap().to_owned();
        let events: Vec<String> =
            self.told(&["events", run, "--json"]).iter().map(instant).collect();
        assert!(events.is_sorted(), "{events:#?}");
        let verified = self.command(&["journal", "verify"]).run(SOON).unwrap();
        assert_eq!(verified.status.code(), Some(0), "{verified:?}");
        let steps = shown["steps"].as_array().unwrap();
        assert_eq!(steps.len(), STEPS);
        steps.iter().map(|step| step["attempts"].as_array().map_or(0, Vec::len)).collect()
    }
}

fn ended(worker: &mut RunningBinary, run: &str) {
    let told = format!("run {run} completed");
    worker.wait_for("the end of the run", SOON, |it| it.stderr().contains(&told)).unwrap();
}

fn a_clock_is_set(store: &str, world: World) {
    let Some(shim) = compiled("clock") else { return };
    let fake = &world.fake;
    // One is to be tried again: it waits for its time.
    fake.script("question 4", [FakeReply::overloaded(), FakeReply::text("at last")]);
    let machines = Machines { shim, store: store.to_owned(), world };
    let fake = &machines.world.fake;
    machines.submit("one");
    machines.set("a", 0);
    let mut worker = machines.worker("a");
    for (step, hours) in (1..=STEPS).zip([1, -1, 0].into_iter().cycle()) {
        fake.wait_for_requests(step, SOON).unwrap();
        machines.set("a", hours * HOUR);
    }
    ended(&mut worker, "one");
    let attempts = machines.attempts("one");
    assert!(attempts.iter().sum::<usize>() <= STEPS + 1, "nothing was given up: {attempts:?}");
    let nodes = machines.told(&["nodes", "--json"]);
    assert_eq!(
        (&nodes[0]["alive"], &nodes[0]["incarnation"]),
        (&true.into(), &1.into()),
        "{nodes:?}"
    );

    worker.kill().unwrap();

    // It dies when its clock was just set, and the next one has another clock again.
    for (run, dies, next, clock) in [("two", "b", "c", HOUR), ("three", "d", "e", -HOUR)] {
        machines.submit(run);
        machines.set(dies, 0);
        let asked = fake.calls().len();
        fake.hold();
        let mut worker = machines.worker(dies);
        fake.wait_for_requests(asked + 1, SOON).unwrap();
        machines.set(dies, -clock);
        worker.kill().unwrap();
        fake.release();
        machines.set(next, clock);
        let mut worker = machines.worker(next);
        ended(&mut worker, run);
        let again = machines.attempts(run).into_iter().filter(|count| *count > 1).count();
        assert!((1..=2).contains(&again), "{again}");
        worker.kill().unwrap();
        machines.agree(run);
    }
}

/// Proves INV-31, D41.
/// On a file, which one process has: its clock goes on from where it was.
#[test]
fn the_clock_of_the_machine_is_set_while_it_works_on_a_file() {
    let world = World::new("one", Duration::from_millis(300));
    let store = format!("sqlite:{}", world.store().display());
    a_clock_is_set(&store, world);
}

/// Proves INV-31, D41.
/// On a server: that has the clock, and no machine's own is asked.
#[test]
fn the_clock_of_a_machine_is_set_while_it_works_on_a_server() {
    let Some(cluster) = postgres::cluster() else { return };
    let database = cluster.database("clock").unwrap();
    a_clock_is_set(&database.url(), World::new("one", Duration::from_millis(300)));
}
