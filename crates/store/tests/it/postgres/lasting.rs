//! What does not pass by itself, and how many trips an operation makes.

use perennial_core::run::{AttemptEnd, JobState};

use super::*;
use crate::fixture::*;

/// A right that was taken away and a table that is gone are told at once, each with what to do, and not tried again;
/// when they are back, the store goes on.
#[test]
fn what_does_not_pass_by_itself_says_what_to_do() {
    let Some(database) = database("lasting") else { return };
    let guest = format!("guest_of_{}", database.name());
    database
        .sql(&format!(
            "CREATE ROLE {guest} LOGIN; GRANT USAGE ON SCHEMA perennial TO {guest};
             GRANT ALL ON ALL TABLES IN SCHEMA perennial TO {guest};
             GRANT ALL ON ALL SEQUENCES IN SCHEMA perennial TO {guest}"
        ))
        .unwrap();
    let store = open(&database.url().replace("postgres@", &format!("{guest}@")), options());
    served(&store, || {
        block_on(store.create_stream("s", "session", vec![event("opened")])).unwrap();
        let append = |events| {
            block_on(store.append("s", events, vec![event("said")], false)).map(|to| to.events)
        };
        let mut events = append(1).unwrap();
        for (harm, mend, code, help) in [
            (
                format!("REVOKE INSERT ON perennial.events FROM {guest}"),
                format!("GRANT INSERT ON perennial.events TO {guest}"),
                "42501",
                "lacks a right; GRANT it",
            ),
            (
                format!("REVOKE SELECT ON perennial.streams FROM {guest}"),
                format!("GRANT SELECT ON perennial.streams TO {guest}"),
                "42501",
                "lacks a right; GRANT it",
            ),
            (
                "ALTER TABLE perennial.events RENAME TO gone".to_owned(),
                "ALTER TABLE perennial.gone RENAME TO events".to_owned(),
                "42P01",
                "restore it from a backup",
            ),
            (
                "ALTER TABLE perennial.events RENAME COLUMN hash TO gone".to_owned(),
                "ALTER TABLE perennial.events RENAME COLUMN gone TO hash".to_owned(),
                "42703",
                "restore it from a backup",
            ),
        ] {
            database.sql(&harm).unwrap();
            let retries = store.status().server.unwrap().retries;
            let refused = append(events).unwrap_err();
            assert!(matches!(refused, StoreError::Refused { .. }), "{harm}: {refused:?}");
            assert!(!refused.is_transient());
            let text = refused.to_string();
            assert!(text.contains(code) && text.contains(help), "{harm}: {text}");
            assert!(text.contains(database.name()), "{harm}: {text}");
            assert_eq!(store.status().server.unwrap().retries, retries, "{harm}");
            database.sql(&mend).unwrap();
            events = append(events).unwrap();
        }
    });
    drop(store);
    database.sql(&format!("DROP OWNED BY {guest}; DROP ROLE {guest}")).unwrap();
}

/// A step, which reports a job and claims the next one, is two trips: all that it reads, and all that it changes, with
/// the commit. What is asked otherwise than ahead is one more.
#[test]
fn a_step_is_two_trips() {
    let Some(database) = database("trips") else { return };
    let store = open(&database.url(), PostgresOptions { connections: 1, ..options() });
    served(&store, || {
        block_on(async {
            let trips = || store.status().server.unwrap().trips;
            let mut started = start(&store, "r").await;
            let mut made = Vec::new();
            for step in 1..=6 {
                let before = trips();
                let mut step_ends = reporting(&started, AttemptEnd::Succeeded, JobState::Succeeded);
                step_ends.new_jobs = vec![new_job(&format!("s{step}"), Some(&started.node))];
                let (revision, mut leases, _) = committed(store.commit(step_ends).await.unwrap());
                (started.revision, started.lease) = (revision, leases.remove(0));
                made.push(trips() - before);
            }
            // The first ones prepare their statements.
            assert_eq!(made[3..], [2, 2, 2], "{made:?}");
        });
    });
}
