//! What a store of an older version has, for tests of what this one makes of it.

use perennial_core::run::{JobState, RunState};

use super::{STEPS, digest};

/// Run states that the first version knew.
const RUNS: [RunState; 9] = [
    RunState::Pending,
    RunState::Running,
    RunState::Paused,
    RunState::Cancelling,
    RunState::Succeeded,
    RunState::PartiallySucceeded,
    RunState::Failed,
    RunState::TimedOut,
    RunState::Cancelled,
];

/// Job states that the first version knew.
const JOBS: [JobState; 8] = [
    JobState::Blocked,
    JobState::Ready,
    JobState::Leased,
    JobState::Succeeded,
    JobState::Partial,
    JobState::Failed,
    JobState::Skipped,
    JobState::Cancelled,
];

/// A run in each of these states, with a job in each state that it may have then, as the first version wrote them.
pub(crate) fn runs() -> Vec<(RunState, Vec<JobState>)> {
    let of = |run: &RunState| {
        let fits = |job: &JobState| !run.is_terminal() || job.is_terminal();
        (*run, JOBS.into_iter().filter(fits).collect())
    };
    RUNS.iter().map(of).collect()
}

/// The name of the run in that state.
pub(crate) fn name(run: RunState) -> String {
    format!("r-{run}")
}

/// Statements that write [`runs`] into the tables of the first version. `bytes` is how a blob is written.
pub(crate) fn rows(bytes: &str) -> String {
    let zeros = "0".repeat(64);
    let mut sql = format!(
        "INSERT INTO nodes (node, incarnation, opening, started_at) VALUES ('n', 1, 1, 1);
         INSERT INTO blobs (digest, bytes, created_at) VALUES ('{zeros}', {bytes}, 1);"
    );
    let mut id = 0;
    for (state, jobs) in runs() {
        let (name, end) = (name(state), if state.is_terminal() { "5" } else { "NULL" });
        let closed = u8::from(state.is_terminal());
        let stage = if state.is_terminal() { "closed" } else { "open" };
        sql.push_str(&format!(
            "INSERT INTO streams (stream, kind, closed, owner_node, owner_incarnation, fencing, created_at,
               closed_at) VALUES ('{name}', 'run', {closed}, 'n', 1, 1, 1, {end});
             INSERT INTO heads (stream, revision, next_seq, hash) VALUES ('{name}', 4, 9, '');
             INSERT INTO runs (run, workflow, definition, input_digest, settings, state, failure, created_at,
               finished_at, deadline) VALUES
               ('{name}', 'w', '{zeros}', '{zeros}', '{{}}', '{state}', NULL, 1, {end}, NULL);
             INSERT INTO stages (run, stage, ordinal, state, outcome) VALUES ('{name}', 's', 0, '{stage}', NULL);"
        ));
        for job in jobs {
            id += 1;
            let leased = job == JobState::Leased;
            let lease = if leased { "'n', 1" } else { "NULL, NULL" };
            let skipped = if job == JobState::Skipped { "'upstream'" } else { "NULL" };
            sql.push_str(&format!(
                "INSERT INTO jobs (id, run, stage, parent, key, state, skipped, attempt, attempts_used, max_attempts,
                   crashes, run_after, lease_node, lease_incarnation, dead_letter) VALUES ({id}, '{name}', 's', '', '{job}', '{job}', {skipped}, 1, 0, 3, 0, 0,
                   {lease}, 0);
                 INSERT INTO inputs (job, data) VALUES ({id}, '{{}}');"
            ));
            if leased {
                sql.push_str(&format!(
                    "INSERT INTO attempts (job, attempt, node, incarnation, claimed_at, uncertain) VALUES ({id}, 1, 'n', 1, 3, 0);"
                ));
            }
            if job == JobState::Succeeded {
                sql.push_str(&format!("INSERT INTO results (job, data) VALUES ({id}, '{id}');"));
            }
        }
    }
    sql
}

/// Statements that say of which version the store is.
pub(crate) fn meta(version: usize) -> String {
    let digest = digest(&STEPS[..version]);
    format!(
        "INSERT INTO meta (only_row, store_id, schema_version, schema_digest, created_at, clock_anchor, openings)
         VALUES (1, 'id', {version}, '{digest}', 5, 5, 0);"
    )
}

/// Everything that [`rows`] wrote is there as this version reads it.
pub(crate) async fn check(store: &dyn crate::Store) {
    assert_eq!(store.runs(100).await.unwrap().len(), RUNS.len());
    for (state, jobs) in runs() {
        let run = perennial_core::run::RunId::parse(name(state)).unwrap();
        let view = store.run(&run).await.unwrap();
        assert_eq!((view.run.state, view.run.next_seq), (state, 9));
        let found: Vec<JobState> = view.jobs.iter().map(|job| job.state).collect();
        assert_eq!(found, jobs, "{run}");
        for job in &view.jobs {
            let result = (job.state == JobState::Succeeded).then(|| serde_json::json!(job.id));
            assert_eq!((job.key.as_str(), &job.result), (job.state.name(), &result), "{run}");
            assert_eq!(job.lease.is_some(), job.state == JobState::Leased, "{run}");
        }
    }
}
