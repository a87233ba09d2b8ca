//! What became of a transaction whose end was not heard: found out where that can be, and never guessed.

use perennial_testkit::postgres;
use serde_json::Value;
use tokio::runtime::Builder;

use super::*;
use crate::{NewEvent, PostgresOptions, PostgresStore, ops, transaction::Tx};

/// Begins a transaction that writes to a new stream; by what it is found again.
fn begun(session: &Session<'_>, stream: &str) -> Mark {
    session.begin(Access::Write);
    let tx = Tx::on_server(session, session.shared.meta.openings);
    let said = NewEvent { kind: "said".to_owned(), job: None, attempt: None, data: Value::Null };
    ops::stream::create(&tx, stream, "session", &[said]).unwrap();
    let mark = session.traced().unwrap();
    assert!(mark.trace.is_some());
    mark
}

/// Proves INV-ST-3.
#[test]
fn the_fate_of_a_transaction_is_what_the_server_can_prove() {
    let Some(cluster) = postgres::cluster() else { return };
    let database = cluster.database("fate").unwrap();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let url = database.url();
    let store = runtime.block_on(PostgresStore::open(&url, PostgresOptions::default())).unwrap();
    let [ours, other] = [(); 2].map(|()| Session::open(&store.shared, &runtime).unwrap());

    let committed = begun(&ours, "committed");
    ours.commit().unwrap();
    let rolled_back = begun(&ours, "rolled back");
    ours.roll_back();
    let under_way = begun(&ours, "under way");

    let fate = |mark: &Mark| other.fate(mark).unwrap();
    assert_eq!(fate(&committed), Fate::Committed);
    assert_eq!(fate(&rolled_back), Fate::RolledBack);
    assert_eq!(fate(&under_way), Fate::UnderWay);

    // After a crash the number may be another's: what it left behind is what counts.
    let (stream, seq, hash) = committed.trace.clone().unwrap();
    for trace in [
        (stream.clone(), seq, format!("{hash}x")),
        (stream.clone(), seq + 1, hash.clone()),
        ("nobody's".to_owned(), seq, hash.clone()),
    ] {
        let mark = Mark { trace: Some(trace), ..committed.clone() };
        assert_eq!(fate(&mark), Fate::RolledBack, "{mark:?}");
    }
    // Without that, only that it was not committed is proven.
    let traceless = |mark: &Mark| Mark { trace: None, ..mark.clone() };
    assert_eq!(fate(&traceless(&committed)), Fate::Unknown);
    assert_eq!(fate(&traceless(&rolled_back)), Fate::RolledBack);
    // On another line of history the number says nothing at all.
    for mark in [&committed, &rolled_back, &under_way] {
        let mark = Mark { line: "0000000F".to_owned(), ..mark.clone() };
        assert_eq!(fate(&mark), Fate::Unknown, "{mark:?}");
    }

    // Only the process that has the transaction is ended, and only while it has it.
    let process = other.link.greeting.process;
    other.cut_off(&committed).unwrap();
    other.cut_off(&Mark { process, ..under_way.clone() }).unwrap();
    assert_eq!(fate(&under_way), Fate::UnderWay);
    other.cut_off(&under_way).unwrap();
    let end = (0..100_000).map(|_| fate(&under_way)).find(|fate| *fate != Fate::UnderWay);
    assert_eq!(end, Some(Fate::RolledBack));
}
