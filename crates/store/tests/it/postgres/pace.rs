//! A measurement, for those who ask for it: what a step costs beside one bare statement on the same server.

use std::time::Instant;

use perennial_core::run::{AttemptEnd, JobState};
use perennial_store::{Committed, Decision};
use perennial_testkit::postgres::{self, Options};

use super::{raw::Raw, *};
use crate::fixture::*;

/// Each caller reports a job and claims the next one in the same decision, `steps` times.
async fn steps(store: &PostgresStore, caller: usize, steps: u64) {
    let node = store.register_node(&format!("n{caller}")).await.unwrap().node;
    let Started { run, mut lease, mut revision, .. } =
        start_on(store, &format!("r{caller}"), &node).await;
    for step in 0..steps {
        let report = Some(report(&lease, AttemptEnd::Succeeded, JobState::Succeeded));
        let new_jobs = vec![new_job(&format!("j{step}"), Some(&node))];
        let decision = Decision { report, new_jobs, ..decision(&run, revision) };
        let Committed::Now { revision: now, mut leases, .. } =
            store.commit(decision).await.unwrap()
        else {
            panic!("recorded before")
        };
        (revision, lease) = (now, leases.remove(0));
    }
}

#[test]
#[ignore = "measures; run alone with --nocapture, on a quiet machine"]
#[expect(clippy::disallowed_methods, reason = "it measures")]
fn steps_against_a_bare_statement() {
    let cluster = postgres::private(Options::new()).unwrap();
    let database = cluster.database("pace").unwrap();
    let store = open(&database.url(), PostgresOptions { connections: 16, ..options() });
    served(&store, || {
        for callers in [1, 16] {
            let bare = Raw::open(&database.url());
            bare.run(
                "DROP TABLE IF EXISTS bare; CREATE TABLE bare (id INT PRIMARY KEY, n INT, data TEXT);
                 INSERT INTO bare SELECT i, 0, repeat('x', 256) FROM generate_series(0, 100) i",
            );
            let begun = Instant::now();
            thread::scope(|threads| {
                for caller in 0..callers {
                    let url = database.url();
                    threads.spawn(move || {
                        let raw = Raw::open(&url);
                        for _ in 0..300 {
                            raw.run(&format!("UPDATE bare SET n = n + 1 WHERE id = {caller}"));
                        }
                    });
                }
            });
            let plain = 300.0 * callers as f64 / begun.elapsed().as_secs_f64();
            let begun = Instant::now();
            thread::scope(|threads| {
                for caller in 0..callers {
                    let store = &store;
                    threads.spawn(move || block_on(steps(store, caller + 100 * callers, 300)));
                }
            });
            let pace = 300.0 * callers as f64 / begun.elapsed().as_secs_f64();
            println!(
                "{callers} callers: bare {plain:.0}/s, steps {pace:.0}/s, {:.2}",
                pace / plain
            );
        }
    });
}
