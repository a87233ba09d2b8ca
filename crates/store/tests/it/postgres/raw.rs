//! Connections beside the store.

use std::time::Duration;

use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, Row, error::SqlState};

/// A connection of its own, which the test asks and which nobody checks.
pub(super) struct Raw {
    client: Client,
    /// The connection lives in it.
    runtime: Option<Runtime>,
}

impl Raw {
    pub(super) fn open(url: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = { runtime }.worker_threads(1).enable_all().build().unwrap();
        let (client, connection) = runtime.block_on(tokio_postgres::connect(url, NoTls)).unwrap();
        #[expect(
            clippy::disallowed_methods,
            reason = "ends with the runtime, which the test holds"
        )]
        drop(runtime.spawn(connection));
        let raw = Self { client, runtime: Some(runtime) };
        raw.run("SET search_path TO perennial; SET idle_in_transaction_session_timeout TO 0");
        raw
    }

    pub(super) fn try_run(&self, sql: &str) -> Result<(), SqlState> {
        let ran = self.runtime.as_ref().unwrap().block_on(self.client.batch_execute(sql));
        ran.map_err(|error| error.code().cloned().unwrap_or(SqlState::CONNECTION_EXCEPTION))
    }

    pub(super) fn run(&self, sql: &str) {
        self.try_run(sql).unwrap();
    }

    pub(super) fn rows(&self, sql: &str) -> Vec<Row> {
        self.runtime.as_ref().unwrap().block_on(self.client.query(sql, &[])).unwrap()
    }

    pub(super) fn numbers(&self, sql: &str) -> Vec<i64> {
        self.rows(sql).iter().map(|row| row.get(0)).collect()
    }

    /// Asks until the first number of `sql` is at least `least`.
    pub(super) fn until(&self, sql: &str, least: i64) {
        for _ in 0..100_000 {
            if self.numbers(sql).first().is_some_and(|number| *number >= least) {
                return;
            }
        }
        panic!("not within 100 000 questions: {sql}");
    }

    /// Until `least` sessions of the store wait for a lock.
    pub(super) fn until_waiting(&self, least: i64) {
        self.until(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
             AND application_name = 'perennial' AND wait_event_type = 'Lock'",
            least,
        );
    }

    /// Goes without a word, as a client that is killed: its socket is closed by the system.
    pub(super) fn die(mut self) {
        self.runtime.take().unwrap().shutdown_timeout(Duration::from_secs(10));
    }
}
