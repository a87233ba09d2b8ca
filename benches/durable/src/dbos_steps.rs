//! dbos: a workflow of steps, each recorded in PostgreSQL.

use std::time::Instant;

use dbos::{Config, DBOS, Error, step};
use perennial_testkit::postgres::Database;

use crate::{measure::rate, server};

/// So many steps a second, in `runs` workflows of `steps` steps each.
pub(crate) async fn run(database: Database, steps: usize, runs: usize) -> f64 {
    let dbos = DBOS::new(Config {
        app_version: Some("1".to_owned()),
        // One for each workflow, and some for what goes on beside them; ten as it is.
        max_connections: 20,
        ..Config::new("durable", server::url(&database))
    });
    let workflow = dbos.register_workflow("steps", |count: usize| async move {
        for number in 0..count {
            step("one", || async move { Ok::<_, Error>(number) }).await?;
        }
        Ok::<_, Error>(count)
    });
    let workflow = workflow.expect("it was registered");
    dbos.launch().await.expect("it was launched");
    let begun = Instant::now();
    let running: Vec<_> = (0..runs)
        .map(|_| {
            let workflow = workflow.clone();
            tokio::spawn(async move { workflow.run(steps).await.expect("it went well") })
        })
        .collect();
    for one in running {
        assert_eq!(one.await.expect("it did not panic"), steps);
    }
    let rate = rate(steps * runs, begun);
    dbos.shutdown().await;
    rate
}
