//! Tables on the server: the steps of the common schema, in one transaction that one opener at a time has.

use perennial_core::Timestamp;
use tokio_postgres::{Error, Row, error::SqlState, types::ToSql};

use super::{
    address::Address,
    dialect, failure,
    link::{Failed, Link},
};
use crate::{
    StoreError,
    schema::{self, Meta, STEPS},
};

/// Where all tables are.
const SCHEMA: &str = "perennial";
/// The number of the lock that openers wait for: `Perennia` in ASCII.
const LOCK: i64 = 0x5065_7265_6e6e_6961;
/// Waiting for another opener, and making tables, may take longer than an operation.
const PATIENCE: &str = "SET LOCAL lock_timeout TO '60s'; SET LOCAL statement_timeout TO '0'";

/// What step `n` has here besides: room for changes in place, and early cleaning, in tables whose rows
/// change often (STO-47). Never edited once released, as the steps.
const ADDITIONS: &[(usize, &str)] = &[(0, ROOM), (3, ROOM_ANEW)];

/// Of the tables of step 0.
const ROOM: &str = "ALTER TABLE heads SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01,
       autovacuum_vacuum_threshold = 1000);
     ALTER TABLE jobs SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01,
       autovacuum_vacuum_threshold = 1000);
     ALTER TABLE attempts SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01,
       autovacuum_vacuum_threshold = 1000);
     ALTER TABLE checkpoints SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01,
       autovacuum_vacuum_threshold = 1000);
     ALTER TABLE timers SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01,
       autovacuum_vacuum_threshold = 1000);
     ALTER TABLE streams SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01,
       autovacuum_vacuum_threshold = 1000);";

/// Of the tables that step 3 builds anew: also, the numbers of jobs go on behind those that were copied.
const ROOM_ANEW: &str = "ALTER TABLE jobs SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01,
       autovacuum_vacuum_threshold = 1000);
     ALTER TABLE attempts SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01,
       autovacuum_vacuum_threshold = 1000);
     ALTER TABLE checkpoints SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01,
       autovacuum_vacuum_threshold = 1000);
     SELECT setval(pg_get_serial_sequence('perennial.jobs', 'id'), coalesce(max(id), 1), max(id) IS NOT NULL)
       FROM jobs;";

/// Creates what is missing, applies the steps that are missing, and returns the row of `meta`.
pub(super) async fn open(
    link: &Link,
    address: &Address,
    must_exist: bool,
) -> Result<Meta, StoreError> {
    let opening = Opening { link, address };
    opening.run("BEGIN").await?;
    opening.run(PATIENCE).await?;
    opening.ask("SELECT 1 FROM (SELECT pg_advisory_xact_lock($1)) AS locked", &[&LOCK]).await?;
    let meta = match opening.exists().await? {
        true => opening.update().await?,
        false if must_exist => {
            let why = format!("there is none at {}; `run` creates one", address.label());
            return Err(StoreError::Unavailable(why));
        }
        false => opening.create().await?,
    };
    opening.run("COMMIT").await?;
    Ok(meta)
}

struct Opening<'a> {
    link: &'a Link,
    address: &'a Address,
}

impl Opening<'_> {
    async fn exists(&self) -> Result<bool, StoreError> {
        let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'perennial'";
        let row = self.ask(tables, &[]).await?;
        let tables: i64 = row.try_get(0).map_err(|error| self.failed(&error))?;
        Ok(tables > 0)
    }

    async fn create(&self) -> Result<Meta, StoreError> {
        let known = "SELECT count(*) FROM pg_namespace WHERE nspname = 'perennial'";
        let row = self.ask(known, &[]).await?;
        if row.try_get::<_, i64>(0).map_err(|error| self.failed(&error))? == 0 {
            self.run(&format!("CREATE SCHEMA {SCHEMA}")).await?;
        }
        self.apply(0).await?;
        let now = "CAST(floor(extract(epoch FROM clock_timestamp()) * 1000000) AS BIGINT)";
        self.run(&format!(
            "INSERT INTO meta (only_row, store_id, schema_version, schema_digest, created_at, clock_anchor,
             openings) VALUES (1, replace(CAST(gen_random_uuid() AS TEXT), '-', ''), {}, '{}', {now}, 0, 1)",
            schema::version(),
            schema::digest(STEPS),
        ))
        .await?;
        self.read().await
    }

    async fn update(&self) -> Result<Meta, StoreError> {
        let meta = self.read().await?;
        schema::check(&meta, self.address.label().as_ref())?;
        if meta.version == schema::version() {
            return Ok(meta);
        }
        self.apply(meta.version as usize).await?;
        self.run(&format!(
            "UPDATE meta SET schema_version = {}, schema_digest = '{}'",
            schema::version(),
            schema::digest(STEPS),
        ))
        .await?;
        self.read().await
    }

    async fn apply(&self, known: usize) -> Result<(), StoreError> {
        for (number, step) in STEPS.iter().enumerate().skip(known) {
            self.run(&dialect::step(step)).await?;
            for (_, addition) in ADDITIONS.iter().filter(|(of, _)| *of == number) {
                self.run(addition).await?;
            }
        }
        Ok(())
    }

    async fn read(&self) -> Result<Meta, StoreError> {
        let meta =
            "SELECT store_id, schema_version, schema_digest, clock_anchor, openings FROM meta";
        let unreadable = |why: String| {
            let what = format!("its meta row cannot be read: {why}");
            schema::damaged(self.address.label().as_ref(), what)
        };
        let row = match self.link.drive(self.link.client.query_opt(meta, &[])).await {
            Ok(row) => row.ok_or_else(|| unreadable("it is gone".to_owned()))?,
            Err(Failed::Told(error))
                if [Some(&SqlState::UNDEFINED_TABLE), Some(&SqlState::UNDEFINED_COLUMN)]
                    .contains(&error.code()) =>
            {
                return Err(unreadable(failure::describe(&error)));
            }
            Err(failed) => return Err(self.told(&failed)),
        };
        let read = || -> Result<Meta, Error> {
            let version: i64 = row.try_get(1)?;
            Ok(Meta {
                store_id: row.try_get(0)?,
                version: u32::try_from(version).unwrap_or(u32::MAX),
                digest: row.try_get(2)?,
                clock_anchor: Timestamp::from_micros(row.try_get(3)?),
                openings: row.try_get(4)?,
            })
        };
        read().map_err(|error| unreadable(failure::describe(&error)))
    }

    async fn run(&self, sql: &str) -> Result<(), StoreError> {
        let ran = self.link.drive(self.link.client.batch_execute(sql)).await;
        ran.map_err(|failed| self.told(&failed))
    }

    async fn ask(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Row, StoreError> {
        let asked = self.link.drive(self.link.client.query_one(sql, params)).await;
        asked.map_err(|failed| self.told(&failed))
    }

    fn told(&self, failed: &Failed) -> StoreError {
        match failed {
            Failed::Told(error) => self.failed(error),
            Failed::Silent => {
                StoreError::Unavailable(format!("{} is silent", self.address.label()))
            }
        }
    }

    fn failed(&self, error: &Error) -> StoreError {
        failure::refusal(error, self.address.label())
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use perennial_testkit::postgres;

    use super::*;
    use crate::{PostgresOptions, PostgresStore, schema::older};

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    /// Proves INV-35.
    /// Rows, numbers and references are kept by every step, and opening it again changes nothing more.
    #[test]
    fn a_database_of_any_older_version_is_brought_up_to_date() {
        let Some(cluster) = postgres::cluster() else { return };
        for version in 1..STEPS.len() {
            let database = cluster.database("older").unwrap();
            let mut sql = format!("CREATE SCHEMA {SCHEMA}; SET search_path TO {SCHEMA};");
            for (number, step) in STEPS[..version].iter().enumerate() {
                sql.push_str(&dialect::step(step));
                let additions = ADDITIONS.iter().filter(|(of, _)| *of == number);
                sql.extend(additions.map(|(_, addition)| *addition));
                if number == 0 {
                    sql.push_str(&older::rows("'\\x00'"));
                }
            }
            sql.push_str(&older::meta(version));
            database.sql(&sql).unwrap();
            for _ in 0..2 {
                let options = PostgresOptions { connections: 1, ..PostgresOptions::default() };
                let store = block_on(PostgresStore::open(&database.url(), options)).unwrap();
                let connection = store.connection();
                let stopper = connection.stopper();
                thread::scope(|threads| {
                    threads.spawn(|| connection.run().unwrap());
                    block_on(older::check(&store));
                    stopper.stop();
                });
            }
            let found = format!("SELECT schema_version FROM {SCHEMA}.meta");
            assert_eq!(database.sql(&found).unwrap(), format!("{}\n", schema::version()));
        }
    }
}
