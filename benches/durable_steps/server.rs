//! Durable steps on a PostgreSQL server, next to single statements over the same kind of connection.
//!
//! The server is a private one, reached through a unix socket, with the durability that PostgreSQL has by default; its
//! settings are printed. A statement is one round trip and one commit, as `autocommit` has it: an update of one row,
//! and the rows of a step in the smallest form there is: an event, a result, the run's row and the lease's row, written by one
//! statement with common table expressions.

use perennial::Store;
use perennial_store::{PostgresOptions, PostgresStore};
use perennial_testkit::postgres::{self, Database, Options};
use tokio_postgres::NoTls;

use super::{decisions, now, per_second, print_ratio, steps_of_runs};

/// Runs at once, and the steps or statements of each.
const LOADS: [(usize, usize); 2] = [(1, 600), (16, 150)];
const ROUNDS: usize = 5;

const TABLES: &str = "CREATE TABLE bare_runs (id BIGINT PRIMARY KEY, revision BIGINT NOT NULL, data TEXT NOT NULL);
    CREATE TABLE bare_leases (id BIGINT PRIMARY KEY, attempt BIGINT NOT NULL, node TEXT NOT NULL);
    CREATE TABLE bare_events (run BIGINT, seq BIGINT, data TEXT NOT NULL, PRIMARY KEY (run, seq));
    CREATE TABLE bare_results (run BIGINT, step BIGINT, data TEXT NOT NULL, PRIMARY KEY (run, step));
    INSERT INTO bare_runs SELECT i, 0, repeat('x', 256) FROM generate_series(0, 63) i;
    INSERT INTO bare_leases SELECT i, 0, 'node' FROM generate_series(0, 63) i;";
const UPDATE: &str = "UPDATE bare_runs SET revision = $2, data = $3 WHERE id = $1";
const STEP: &str = "WITH event AS (INSERT INTO bare_events (run, seq, data) VALUES ($1, $2, $3)),
    result AS (INSERT INTO bare_results (run, step, data) VALUES ($1, $2, $3)),
    lease AS (UPDATE bare_leases SET attempt = $2 WHERE id = $1)
    UPDATE bare_runs SET revision = $2 WHERE id = $1";

/// Measures, unless there is no server to be had.
pub(crate) async fn measure() {
    let Some(cluster) = postgres::private(Options::new()) else { return };
    let settings = cluster.database("settings").unwrap();
    let shown = settings.sql(
        "SELECT name || ' = ' || setting FROM pg_settings WHERE name IN ('server_version', 'fsync',
         'synchronous_commit', 'full_page_writes', 'wal_sync_method', 'shared_buffers') ORDER BY name",
    );
    println!("PostgreSQL: {}", shown.unwrap().trim().replace('\n', ", "));
    for (runs, steps) in LOADS {
        let [mut update, mut single, mut alone, mut whole] = [const { Vec::new() }; 4];
        for round in 0..ROUNDS {
            let database = cluster.database("steps").unwrap();
            database.sql(TABLES).unwrap();
            update.push(statements(&database, UPDATE, runs, steps));
            single.push(statements(&database, STEP, runs, steps));
            alone.push(decisions_of(&database, runs, steps).await);
            let fresh = cluster.database("runs").unwrap();
            let store = Store::postgres(&fresh.url()).unwrap();
            whole.push(steps_of_runs(store, runs, steps).await);
            println!(
                "{runs} at once, round {round}: update {:>6.0}/s, statement of a step {:>6.0}/s, \
                 decisions {:>6.0}/s, steps {:>6.0}/s",
                update[round], single[round], alone[round], whole[round]
            );
        }
        let goal = if runs == 1 { "≥ 0.6" } else { "≥ 0.75" };
        print_ratio(&format!("{runs} runs / statement of a step"), &whole, &single, goal);
        print_ratio(&format!("{runs} runs / update"), &whole, &update, "none");
        print_ratio(
            &format!("{runs} runs of bare decisions / statement of a step"),
            &alone,
            &single,
            "none",
        );
    }
}

/// `sql`, again and again, on `clients` connections; each has a thread that does nothing else.
fn statements(database: &Database, sql: &str, clients: usize, each: usize) -> f64 {
    let ready = std::sync::Barrier::new(clients + 1);
    let took = std::thread::scope(|threads| {
        let asking: Vec<_> = (0..clients)
            .map(|client| {
                let (ready, url) = (&ready, database.url());
                threads.spawn(move || {
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().enable_all().build();
                    runtime.unwrap().block_on(ask(&url, sql, client, each, ready));
                })
            })
            .collect();
        ready.wait();
        let begun = now();
        for one in asking {
            one.join().unwrap();
        }
        begun.elapsed()
    });
    per_second(clients * each, took)
}

async fn ask(url: &str, sql: &str, client: usize, each: usize, ready: &std::sync::Barrier) {
    let (session, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    let asking = async {
        let statement = session.prepare(sql).await.unwrap();
        let (id, data) = (client as i64, "x".repeat(256));
        ready.wait();
        for step in 0..each as i64 {
            session.execute(&statement, &[&id, &step, &data]).await.unwrap();
        }
    };
    tokio::select! {
        () = asking => (),
        ended = connection => panic!("the connection ended: {ended:?}"),
    }
}

/// Decisions through the store, without anything above.
async fn decisions_of(database: &Database, runs: usize, steps: usize) -> f64 {
    let options = PostgresOptions::default();
    let store = PostgresStore::open(&database.url(), options).await.unwrap();
    let loops: Vec<_> = (0..store.connections()).map(|_| store.connection()).collect();
    let stoppers: Vec<_> = loops.iter().map(perennial_store::ConnectionLoop::stopper).collect();
    #[expect(clippy::disallowed_methods, reason = "the baseline has no supervisor")]
    let threads: Vec<_> =
        loops.into_iter().map(|one| std::thread::spawn(move || one.run().unwrap())).collect();
    let names: Vec<String> = (0..runs).map(|run| format!("bench-{run}")).collect();
    let begun = now();
    let deciding = names.iter().map(|name| decisions::decide(&store, name, steps));
    futures_util::future::join_all(deciding).await;
    let took = begun.elapsed();
    stoppers.iter().for_each(perennial_store::Stopper::stop);
    for thread in threads {
        thread.join().unwrap();
    }
    per_second(runs * steps, took)
}
