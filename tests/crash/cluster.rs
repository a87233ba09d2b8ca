//! Two workers on one PostgreSQL server: one is killed, the server is restarted, the other one is cut off from it
//! (ACC-5.4).

#![expect(clippy::print_stdout, reason = "figures, for who asks for them")]

use std::{collections::BTreeMap, fs, time::Duration};

use perennial_testkit::{
    Deadline, FakeAnthropic, PerennialBinary, RunningBinary,
    postgres::{self, Cluster, Database, Options, Stop},
};
use tempfile::TempDir;

use crate::proxy::Proxy;

const KEY: &str = "sk-ant-canary-2b91d0";
/// Terminal states, as SQL has them.
const OVER: &str = "('succeeded', 'partially_succeeded', 'failed', 'timed_out', 'cancelled')";
/// How much later than the end of a lease others may be at its work (PERF-7).
const TAKEOVER_SLACK: i64 = 2_000_000;

/// How much there is to do, and how long a lease lasts.
#[derive(Clone, Copy)]
struct Size {
    runs: usize,
    steps: usize,
    lease: u64,
    within: Duration,
}

impl Size {
    /// As many jobs as `PERENNIAL_CLUSTER_JOBS` says, with the usual lease; else a size for each change.
    fn chosen() -> Self {
        let jobs = std::env::var("PERENNIAL_CLUSTER_JOBS").ok().and_then(|n| n.parse().ok());
        match jobs {
            Some(jobs) => Self::of(jobs),
            None => Self { runs: 40, steps: 5, lease: 4, within: Duration::from_secs(90) },
        }
    }

    fn of(jobs: usize) -> Self {
        let within = Duration::from_secs(120 + jobs as u64 / 10);
        Self { runs: (jobs / 20).max(2), steps: 20, lease: 10, within }
    }

    fn jobs(self) -> usize {
        self.runs * self.steps
    }
}

/// A server, two providers that count, and a folder.
struct World {
    cluster: Cluster,
    database: Database,
    folder: TempDir,
    /// The provider of each worker, so that it is known who asked.
    fakes: [FakeAnthropic; 2],
    size: Size,
}

impl World {
    fn new(size: Size) -> Option<Self> {
        let cluster = postgres::private(Options::new().tcp())?;
        let database = cluster.database("work").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let fakes = [FakeAnthropic::start(), FakeAnthropic::start()];
        // The first node leaves half of the first half to the second one.
        let places = (size.runs / 4).max(1);
        for (name, fake, places) in
            [("first", 0, places), ("second", 1, size.runs), ("third", 0, size.runs)]
        {
            let fake: &FakeAnthropic = &fakes[fake];
            fake.delay(Duration::from_millis(100));
            let config = format!(
                "[providers.anthropic]\nbase_url = \"{}\"\nmodel = \"fake-model\"\n\
                 api_key_env = \"CLUSTER_KEY\"\n[limits]\nruns = {places}\n",
                fake.base_url()
            );
            fs::write(folder.path().join(format!("{name}.toml")), config).unwrap();
        }
        let mut text = String::from("workflow:\n  name: chain\n  steps:\n");
        for step in 1..=size.steps {
            text.push_str(&format!(
                "  - {{name: s{step}, type: claude, prompt: [{{type: static, content: q{step}}}]}}\n"
            ));
        }
        fs::write(folder.path().join("chain.yaml"), text).unwrap();
        Some(Self { cluster, database, folder, fakes, size })
    }

    fn command(&self, url: &str, args: &[&str]) -> PerennialBinary {
        PerennialBinary::new(env!("CARGO_BIN_EXE_perennial"))
            .args(args)
            .env("CLUSTER_KEY", KEY)
            .env("PERENNIAL_STORE", url)
            .current_dir(self.folder.path())
    }

    /// Records `count` runs and leaves them to whoever works.
    fn submit(&self, count: usize) {
        let mut args = vec!["run", "--detach", "--config", "third.toml", "--quiet"];
        args.extend(std::iter::repeat_n("chain.yaml", count));
        let output = self.command(&self.url(), &args).run(self.size.within).unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(output.stdout.lines().count(), count, "{output:?}");
    }

    fn url(&self) -> String {
        self.database.tcp_url().unwrap()
    }

    fn worker(&self, name: &str, config: &str, url: &str) -> RunningBinary {
        let (config, lease) = (format!("{config}.toml"), self.size.lease.to_string());
        let args = ["worker", "--node", name, "--config", &config, "--lease", &lease];
        self.command(url, &args).spawn().unwrap()
    }

    /// One number from the database.
    fn number(&self, sql: &str) -> i64 {
        let text = self.database.sql(sql).unwrap();
        text.trim().parse().unwrap_or_else(|_| panic!("no number: {text:?} of {sql}"))
    }

    /// The server's clock, in microseconds.
    fn now(&self) -> i64 {
        self.number("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
    }

    /// Waits until the number that `sql` gives is `wanted`.
    #[expect(clippy::disallowed_methods, reason = "other processes are waited for, no task")]
    fn wait_for(&self, what: &str, sql: &str, wanted: i64) {
        let deadline = Deadline::after(self.size.within);
        loop {
            let found = self.number(sql);
            if found == wanted {
                return;
            }
            assert!(!deadline.left().is_zero(), "{what}: {found} of {wanted}");
            std::thread::sleep(Duration::from_millis(50)); // real time: other processes
        }
    }

    /// The last incarnation of a node, and until when its lease was extended.
    fn life(&self, node: &str) -> (i64, i64) {
        let of = |what: &str| {
            self.number(&format!(
                "SELECT {what} FROM perennial.nodes WHERE node = '{node}'
                 ORDER BY incarnation DESC LIMIT 1"
            ))
        };
        (of("incarnation"), of("lease_until"))
    }

    /// When others began what a dead incarnation had held: first and last, and how many. All of it has been taken,
    /// and could be from the end of its lease on, at most a sweep later (INV-13).
    fn taken_over(&self, node: &str, incarnation: i64) -> (i64, i64, i64) {
        let held = format!(
            "SELECT count(*) FROM perennial.jobs WHERE state = 'leased' AND lease_node = '{node}'
             AND lease_incarnation = {incarnation}"
        );
        self.wait_for("given back", &held, 0);
        let lost = format!(
            "perennial.attempts a WHERE a.node = '{node}' AND a.incarnation = {incarnation}
             AND a.ended_as = 'expired'"
        );
        let next = "perennial.attempts b ON b.job = a.job AND b.attempt = a.attempt + 1";
        let unclaimed = format!(
            "SELECT count(*) FROM {} AND NOT EXISTS (SELECT 1 FROM
             perennial.attempts b WHERE b.job = a.job AND b.attempt = a.attempt + 1)",
            lost
        );
        self.wait_for("claimed again", &unclaimed, 0);
        let given_back = self.number(&format!(
            "SELECT coalesce(max(a.ended_at - n.lease_until), 0) FROM perennial.nodes n JOIN {} \
             AND n.node = a.node AND n.incarnation = a.incarnation",
            lost.replacen(" a WHERE", " a ON", 1)
        ));
        assert!(given_back <= TAKEOVER_SLACK, "given back {given_back} µs after the lease");
        let of = |what: &str| {
            let lost = lost.replacen(" a WHERE", &format!(" a JOIN {next} WHERE"), 1);
            self.number(&format!("SELECT {what} FROM {lost}"))
        };
        (of("coalesce(min(b.claimed_at), 0)"), of("coalesce(max(b.claimed_at), 0)"), of("count(*)"))
    }
}

/// Every job of two nodes ends once, whatever happens to one of them: killed, it is survived by the other one within
/// its lease; cut off, it stops itself before anybody else begins its work; and a restart of the server loses nothing.
/// Proves INV-13, INV-ST-10, INV-ST-13, INV-ST-1, FC1.
#[test]
fn a_node_that_dies_or_is_cut_off_is_survived() {
    let size = Size::chosen();
    let Some(mut world) = World::new(size) else { return };
    let lease = i64::try_from(size.lease).unwrap() * 1_000_000;
    let begun = world.now();
    world.submit(size.runs / 2);
    let proxy = Proxy::before(&world.url());
    let mut a = world.worker("a", "first", &world.url());
    let mut b = world.worker("b", "second", &proxy.url(&world.url()));

    // Both work, then one is killed amid its calls.
    let share = (size.jobs() / 16).max(2);
    let asked = |count| move |fakes: &[FakeAnthropic; 2]| fakes[1].calls().len() >= count;
    b.wait_for("a call", size.within, |_| asked(1)(&world.fakes)).unwrap();
    a.kill_after_calls(share, &world.fakes[0], size.within).unwrap();
    let killed = world.now();
    let (incarnation, until) = world.life("a");
    let (first, last, count) = world.taken_over("a", incarnation);
    assert!(count > 0, "nothing was under way on the node that was killed");
    assert!(first >= until, "begun {} µs before the lease was over", until - first);
    assert!(first - killed <= lease + TAKEOVER_SLACK, "{} µs after the kill", first - killed);
    println!(
        "killed: {count} attempts begun again {}..{} ms after it",
        (first - killed) / 1000,
        (last - killed) / 1000
    );

    // The survivor has all of the second half, and the server is restarted below it.
    world.submit(size.runs - size.runs / 2);
    let asked = world.fakes[1].calls().len();
    world.fakes[1].wait_for_requests(asked + 1, size.within).unwrap();
    world.cluster.restart(Stop::Fast).unwrap();
    let asked = world.fakes[1].calls().len();
    world.fakes[1].wait_for_requests(asked + 1, size.within).unwrap();

    // Another node comes, and the survivor is cut off amid its calls: it stops them by itself.
    world.fakes[1].hold();
    world.fakes[1].wait_for_requests(asked + 2, size.within).unwrap();
    let a = world.worker("a", "third", &world.url());
    world.wait_for("node a again", "SELECT count(*) FROM perennial.nodes WHERE node = 'a'", 2);
    proxy.cut();
    let cut_at = world.now();
    let stops = Duration::from_secs(size.lease) * 8 / 10;
    world.fakes[1].wait_for_quiet(stops + Duration::from_secs(1)).unwrap();
    let stopped_at = world.now();
    let asked = world.fakes[1].calls().len();
    world.fakes[1].release();
    let (incarnation, until) = world.life("b");
    let (first, last, count) = world.taken_over("b", incarnation);
    assert!(count > 0, "nothing was under way on the node that was cut off");
    assert!(first >= until && first >= stopped_at, "begun {} µs too early", until - first);
    assert!(first - cut_at <= lease + TAKEOVER_SLACK, "{} µs after the cut", first - cut_at);
    println!(
        "cut off: stopped by itself after {} ms; {count} attempts begun again {}..{} ms after it",
        (stopped_at - cut_at) / 1000,
        (first - cut_at) / 1000,
        (last - cut_at) / 1000
    );
    assert_eq!(world.fakes[1].calls().len(), asked, "the node that was cut off went on");

    // It comes back as a new incarnation; everything ends.
    proxy.heal();
    let lives = format!(
        "SELECT count(*) FROM perennial.nodes WHERE node = 'b' AND incarnation > {incarnation}
         AND ended_at IS NULL"
    );
    world.wait_for("node b again", &lives, 1);
    let ended = format!("SELECT count(*) FROM perennial.runs WHERE state IN {OVER}");
    world.wait_for("ended runs", &ended, i64::try_from(size.runs).unwrap());
    println!(
        "{} jobs of {} runs in {:.1} s",
        size.jobs(),
        size.runs,
        (world.now() - begun) as f64 / 1e6
    );
    check(&world);
    for node in [a, b] {
        let pid = node.pid().to_string();
        let told = PerennialBinary::new("kill").args(["-TERM", &pid]).run(size.within).unwrap();
        assert!(told.status.success(), "{told:?}");
        let output = node.wait(size.within).unwrap();
        assert_eq!(output.status.code(), Some(143), "{output:?}");
        assert!(!output.stderr.contains(KEY));
    }
}

/// The rows and the ledgers of the providers say the same.
fn check(world: &World) {
    let size = world.size;
    let jobs = i64::try_from(size.jobs()).unwrap();
    let zero = |what: &str, sql: &str| assert_eq!(world.number(sql), 0, "{what}");
    assert_eq!(world.number("SELECT count(*) FROM perennial.jobs WHERE state = 'succeeded'"), jobs);
    zero(
        "jobs that did not succeed once",
        "SELECT count(*) FROM perennial.jobs j WHERE (SELECT count(*) FROM perennial.attempts a
         WHERE a.job = j.id AND a.ended_as = 'succeeded') <> 1",
    );
    zero(
        "ends that are told more than once",
        "SELECT count(*) FROM (SELECT stream, job FROM perennial.events
         WHERE kind = 'job_succeeded' GROUP BY stream, job HAVING count(*) > 1) twice",
    );
    zero(
        "attempts that were recorded after their node's lease",
        "SELECT count(*) FROM perennial.attempts a JOIN perennial.nodes n
         ON n.node = a.node AND n.incarnation = a.incarnation
         WHERE a.ended_as = 'succeeded' AND (a.ended_at > n.lease_until OR a.ended_at > n.ended_at)",
    );
    zero(
        "events out of order",
        "SELECT count(*) FROM perennial.heads h WHERE h.next_seq - 1 <>
         (SELECT count(*) FROM perennial.events e WHERE e.stream = h.stream)",
    );
    // Each call belongs to an attempt, and each job was paid for.
    let rows = world.database.sql(
        "SELECT c.idempotency_key, j.attempt FROM perennial.checkpoints c
         JOIN perennial.jobs j ON j.id = c.job WHERE c.recorded_at IS NOT NULL",
    );
    let recorded: BTreeMap<String, usize> = rows
        .unwrap()
        .lines()
        .filter_map(|row| row.rsplit_once('|'))
        .map(|(key, attempts)| (key.to_owned(), attempts.parse().unwrap()))
        .collect();
    assert_eq!(recorded.len(), size.jobs());
    let mut requests: BTreeMap<String, usize> = BTreeMap::new();
    for record in world.fakes.iter().flat_map(FakeAnthropic::keys) {
        assert!(record.same, "{record:?}");
        *requests.entry(record.key).or_default() += record.requests;
    }
    assert!(requests.keys().eq(recorded.keys()), "keys of rows and of providers differ");
    for (key, count) in &requests {
        assert!(*count <= recorded[key], "{key}: {count} calls in {} attempts", recorded[key]);
    }
    let again = requests.values().filter(|count| **count > 1).count();
    println!("{again} of {} calls were made again", requests.len());
}
