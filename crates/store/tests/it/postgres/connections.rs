//! Connections that end at every moment (THR-5, STO-45): nothing that was acknowledged is lost, nothing is
//! there twice, and what is not known is asked.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use perennial_store::NodeTerms;
use perennial_testkit::{
    deadline::Deadline,
    postgres::{self, Options, Stop},
};

use super::{
    proxy::{Cut, Proxy},
    raw::Raw,
    *,
};
use crate::fixture::*;

const WRITERS: u64 = 4;

/// Appends to a stream for each writer while `faults` happen, and compares what the store has with what
/// it acknowledged.
fn keeps_what_it_acknowledged(store: &PostgresStore, faults: impl FnOnce(&AtomicU64)) {
    let (done, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|threads| {
        for writer in 0..WRITERS {
            let (done, acknowledged) = (&done, &acknowledged);
            threads.spawn(move || block_on(write(store, writer, done, acknowledged)));
        }
        let _done = OnDrop(|| done.store(true, Ordering::Release));
        faults(&acknowledged);
    });
    let lost = store.status().server.unwrap().lost;
    let acknowledged = acknowledged.into_inner();
    assert!(lost > 0, "there were faults: acknowledged {acknowledged}, connections lost {lost}");
}

/// One writer, the only one of its stream: whatever it is told has to be true.
async fn write(store: &PostgresStore, writer: u64, done: &AtomicBool, acknowledged: &AtomicU64) {
    let stream = format!("s{writer}");
    let patiently = async || {
        loop {
            match store.create_stream(&stream, "session", vec![event("opened")]).await {
                Err(error) if error.is_transient() => (),
                outcome => return outcome.map(|_| ()),
            }
        }
    };
    patiently().await.unwrap();
    let mut expected = 1;
    while !done.load(Ordering::Acquire) {
        match store.append(&stream, expected, vec![event("said")], false).await {
            Ok(appended) => {
                expected += 1;
                assert_eq!(appended.events, expected);
                acknowledged.fetch_add(1, Ordering::Release);
            }
            // It is not written, and this writer writes it again.
            Err(StoreError::Unavailable(_) | StoreError::Busy) => (),
            // It may be written.
            Err(StoreError::Unknown(_)) => expected = events(store, &stream).await,
            Err(error) => panic!("{stream} at {expected}: {error}"),
        }
    }
    assert_eq!(events(store, &stream).await, expected);
}

/// How many events there are, whose chain is whole.
async fn events(store: &PostgresStore, stream: &str) -> u64 {
    loop {
        match store.events(stream, 1, 1_000_000).await {
            Ok(events) => return events.len() as u64,
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    }
}

/// Waits until `more` further appends were acknowledged.
fn progress(acknowledged: &AtomicU64, more: u64) {
    let until = acknowledged.load(Ordering::Acquire) + more;
    let deadline = Deadline::after(Duration::from_secs(60));
    while acknowledged.load(Ordering::Acquire) < until {
        assert!(!deadline.left().is_zero(), "nothing goes on");
        thread::yield_now();
    }
}

/// STO-45: `pg_terminate_backend` in the middle of load loses and duplicates nothing.
#[test]
fn connections_that_are_terminated_lose_nothing() {
    let Some(database) = database("terminated") else { return };
    let store = open(&database.url(), options());
    served(&store, || {
        let killer = Raw::open(&database.url());
        keeps_what_it_acknowledged(&store, |acknowledged| {
            for _ in 0..60 {
                killer.run(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid =
                     (SELECT pid FROM pg_stat_activity WHERE datname = current_database()
                      AND application_name = 'perennial' ORDER BY random() LIMIT 1)",
                );
                progress(acknowledged, 3);
            }
        });
    });
}

/// STO-45, THR-5: so does a server that is stopped at once, in the middle of load, and started again.
#[test]
fn a_server_that_crashes_loses_nothing() {
    let Some(mut cluster) = postgres::private(Options::new()) else { return };
    let database = cluster.database("crash").unwrap();
    let url = database.url();
    std::mem::forget(database);
    let store = open(&url, options());
    served(&store, || {
        keeps_what_it_acknowledged(&store, |acknowledged| {
            for how in [Stop::Immediate, Stop::Fast, Stop::Immediate] {
                progress(acknowledged, 50);
                cluster.restart(how).unwrap();
            }
            progress(acknowledged, 50);
        });
    });
}

/// What `act` comes to on a store behind a wire that is cut once at `cut`, in the middle of it. `with` is done to the
/// database before.
fn cut_once<T>(
    name: &str,
    cut: Cut,
    with: &str,
    act: impl AsyncFnOnce(&PostgresStore) -> T,
) -> Option<T> {
    behind_a_wire(name, cut, with, |store, _, arm| {
        block_on(store.create_stream("s", "session", Vec::new())).unwrap();
        arm();
        block_on(act(store))
    })
}

/// What `case` comes to with a store behind a wire that is cut once, after the last of what it is given was called; it
/// also gets the address that leads past the wire.
pub(super) fn behind_a_wire<T>(
    name: &str,
    cut: Cut,
    with: &str,
    case: impl FnOnce(&PostgresStore, &str, &dyn Fn()) -> T,
) -> Option<T> {
    let cluster = postgres::private(Options::new().without_fsync().tcp())?;
    let database = cluster.database(name).unwrap();
    let direct = database.tcp_url().unwrap();
    let server = direct.split(['@', '/']).nth(3).unwrap();
    let proxy = Proxy::start(server, cut);
    let url = direct.replace(server, &format!("127.0.0.1:{}", proxy.port()));
    let store = open(&url, PostgresOptions { connections: 1, ..options() });
    Raw::open(&database.url()).run(with);
    let outcome = served(&store, || case(&store, &database.url(), &|| proxy.arm()));
    assert_eq!(proxy.cuts(), 1);
    Some(outcome)
}

/// How many events an append said that there are, and those that there are.
async fn said(store: &PostgresStore) -> (Result<u64, StoreError>, Vec<String>) {
    let appended = store.append("s", 0, vec![event("said")], false).await;
    (appended.map(|appended| appended.events), history(store, "s").await)
}

/// STO-9: a commit whose answer was lost is asked for, and acknowledged because it is there.
/// Proves INV-ST-3.
#[test]
fn a_commit_whose_answer_is_lost_is_acknowledged_after_asking() {
    let Some(outcome) = cut_once("answered", Cut::Answered("COMMIT\0"), "", said) else { return };
    assert_eq!(outcome, (Ok(1), vec!["said".to_owned()]));
}

/// INV-ST-3: an operation whose connection is lost before its commit is begun again, and is there once.
#[test]
fn an_operation_that_is_cut_off_is_begun_again() {
    let Some(outcome) = cut_once("asked", Cut::Asked("said"), "", said) else { return };
    assert_eq!(outcome, (Ok(1), vec!["said".to_owned()]));
}

/// The first commit that writes an event takes long.
const SLOW_COMMIT: &str = "CREATE SEQUENCE commits;
    CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN IF nextval('perennial.commits') = 1 THEN PERFORM pg_sleep(10); END IF; RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER dawdles AFTER INSERT ON events DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION dawdle()";

/// A commit that the server is still at when its connection is lost could come later, after another one: it is ended
/// first, and begun again only then.
/// Proves INV-ST-3.
#[test]
fn a_commit_that_is_under_way_is_ended_before_it_is_begun_again() {
    let Some(outcome) = cut_once("under", Cut::Heard("said"), SLOW_COMMIT, said) else { return };
    assert_eq!(outcome, (Ok(1), vec!["said".to_owned()]));
}

/// What leaves nothing by which it could be found again is told as unknown, and neither done again nor taken for done.
/// Proves INV-ST-3.
#[test]
fn a_commit_that_cannot_be_found_again_is_unknown() {
    let outcome = cut_once("traceless", Cut::Answered("COMMIT\0"), "", async |store| {
        (store.register_node("n").await, store.nodes(ALL).await.unwrap())
    });
    let Some((registered, nodes)) = outcome else { return };
    assert!(matches!(registered, Err(StoreError::Unknown(_))), "{registered:?}");
    assert_eq!(nodes.len(), 1, "{nodes:?}");
}

/// STO-44: a process hears that another one has written, and not that it has itself.
#[test]
fn another_process_is_told_of_changes() {
    let Some(database) = database("told") else { return };
    let (here, there) = (open(&database.url(), options()), open(&database.url(), options()));
    served(&here, || {
        served(&there, || {
            block_on(async {
                let (mut heard, mut own) = (here.changes().unwrap(), there.changes().unwrap());
                // Each looks once when it begins to listen.
                heard.changed().await.unwrap();
                own.changed().await.unwrap();
                there.create_stream("s", "session", Vec::new()).await.unwrap();
                let told = tokio::time::timeout(Duration::from_secs(30), heard.changed());
                told.await.expect("it is told").unwrap();
                assert!(!own.has_changed().unwrap());
                assert!(here.status().server.unwrap().listening);
            });
        });
    });
}

/// Proves INV-33.
#[test]
fn a_server_has_as_many_connections_as_is_set() {
    for connections in [1, 3] {
        let Some(database) = database("connections") else { return };
        let store = open(&database.url(), PostgresOptions { connections, ..options() });
        served(&store, || {
            let deadline = Deadline::after(Duration::from_secs(60));
            let connected = || store.status().server.unwrap().connected;
            block_on(store.register_node("n")).unwrap();
            while (connected() as usize) < connections {
                assert!(!deadline.left().is_zero(), "{} of {connections}", connected());
                thread::yield_now();
            }
            assert_eq!(connected() as usize, connections);
        });
    }
}

/// STO-45: while there is no server requests wait; when that lasts, they are answered.
#[test]
fn without_a_server_requests_are_answered_after_a_while() {
    let Some(mut cluster) = postgres::private(Options::new().without_fsync()) else { return };
    let database = cluster.database("gone").unwrap();
    let url = database.url();
    std::mem::forget(database);
    let impatient = PostgresOptions { patience: Duration::from_millis(200), ..options() };
    let store = open(&url, impatient);
    served(&store, || {
        block_on(store.register_node("n")).unwrap();
        cluster.stop(Stop::Fast).unwrap();
        let refused = block_on(store.register_node("n")).unwrap_err();
        assert!(refused.is_transient(), "{refused}");
        let refused = block_on(store.register_node("n")).unwrap_err();
        assert!(refused.to_string().contains("cannot be reached"), "{refused}");
        let deadline = Deadline::after(Duration::from_secs(60));
        while store.status().server.unwrap().connected > 0 {
            assert!(!deadline.left().is_zero(), "connections that only wait notice it, too");
            thread::yield_now();
        }
        cluster.resume().unwrap();
        let again = loop {
            match block_on(store.register_node("n")) {
                Err(error) if error.is_transient() => (),
                outcome => break outcome,
            }
        };
        assert!(again.is_ok(), "{again:?}");
    });
}

/// STO-45: after a start of the server everybody may renew first: for the time of a lease nobody takes what others
/// had whose lease ended while there was no server.
#[test]
fn a_server_that_was_started_again_gives_nodes_a_lease_to_come_back() {
    const LEASE: Duration = Duration::from_secs(3);
    let Some(mut cluster) = postgres::private(Options::new().without_fsync()) else { return };
    let database = cluster.database("again").unwrap();
    let url = database.url();
    std::mem::forget(database);
    let store = open(&url, options());
    let patiently = |operation: &dyn Fn() -> Result<bool, StoreError>| {
        let deadline = Deadline::after(Duration::from_secs(60));
        loop {
            match operation() {
                Ok(true) => return,
                Err(error) => assert!(error.is_transient(), "{error}"),
                Ok(false) => (),
            }
            assert!(!deadline.left().is_zero(), "nothing goes on");
        }
    };
    served(&store, || {
        let terms = NodeTerms { ttl: LEASE, exclusive: false };
        let gone = block_on(store.register_node_on("gone", terms)).unwrap().node;
        let other = block_on(store.register_node_on("other", terms)).unwrap().node;
        let run = block_on(start_on(&store, "r", &gone)).run;
        // Its lease is over before the server is there again.
        block_on(store.renew(&gone, Duration::ZERO)).unwrap();
        cluster.restart(Stop::Fast).unwrap();
        let back = std::cell::Cell::new(None);
        patiently(&|| {
            block_on(store.renew(&other, LEASE * 20))?;
            back.set(Some(block_on(store.rescue(None, ALL))?));
            Ok(true)
        });
        assert_eq!(back.take().unwrap(), [], "it may come back");
        let taken = block_on(store.own_run(&run, &other));
        assert!(matches!(taken, Err(StoreError::Conflict { .. })), "{taken:?}");
        let again = block_on(store.register_node_on("gone", terms)).unwrap();
        assert_eq!(again.ended, [gone.incarnation], "and has what was its own");
        block_on(store.own_run(&run, &again.node)).unwrap();
    });
    drop(cluster);
}
