//! What is refused, and in which words.

use std::fs;

use perennial_store::{PostgresOptions, Store, StoreError};
use perennial_testkit::postgres::{self, Options};

use super::*;

fn refusal(url: &str) -> StoreError {
    try_open(url, options()).unwrap_err()
}

/// ACC-5.6: a wrong address is an error that says what to do.
#[test]
fn a_wrong_address_says_what_is_wrong() {
    let Some(database) = database("address") else { return };
    let url = database.url();
    for (url, why) in [
        ("nonsense".to_owned(), "write postgres://"),
        (format!("{url}&sslmode=require"), "without TLS"),
    ] {
        let error = refusal(&url);
        assert!(matches!(error, StoreError::InvalidAddress { .. }), "{error:?}");
        assert!(error.to_string().contains(why), "{error}");
    }
    let missing = refusal(&url.replace(database.name(), "nobody_made_it"));
    assert!(matches!(missing, StoreError::Refused { .. }), "{missing:?}");
    assert!(missing.to_string().contains("create the database first"), "{missing}");
    let nobody = refusal("postgres://me:s3cret@127.0.0.1:1/db");
    assert!(nobody.is_transient() && nobody.to_string().contains("cannot be reached"), "{nobody}");
    assert!(!nobody.to_string().contains("s3cret"));
}

/// STO-43: the password is asked for by the server, and told by nobody.
#[test]
fn a_wrong_password_is_refused_and_not_repeated() {
    let Some(cluster) = postgres::private(Options::new().without_fsync().tcp()) else { return };
    let database = cluster.database("secret").unwrap();
    database.sql("CREATE ROLE guest LOGIN PASSWORD 'right'").unwrap();
    let rules = database.sql("SHOW hba_file").unwrap();
    let trusted = fs::read_to_string(rules.trim()).unwrap();
    let rule = "host all guest all scram-sha-256\n";
    fs::write(rules.trim(), format!("{rule}{trusted}")).unwrap();
    database.sql("SELECT pg_reload_conf()").unwrap();
    let url = |word: &str| database.tcp_url().unwrap().replace("postgres@", word);
    for url in [url("guest:wr0ng@"), url("guest@")] {
        let error = refusal(&url);
        assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
        assert!(error.to_string().contains("password"), "{error}");
        assert!(!error.to_string().contains("wr0ng"), "{error}");
    }
    let right = refusal(&url("guest:right@"));
    assert!(right.to_string().contains("lacks a right"), "it may not create the schema: {right}");
}

/// STO-50: another store than the expected one is refused.
#[test]
fn a_store_has_an_identity() {
    let (Some(one), Some(other)) = (super::database("one"), super::database("other")) else {
        return;
    };
    other.sql("UPDATE perennial.meta SET store_id = 'another'").unwrap();
    let id = open(&one.url(), options()).status().store_id;
    let expecting = PostgresOptions { expect_id: Some(id.clone()), ..options() };
    assert_eq!(open(&one.url(), expecting.clone()).status().store_id, id);
    let refused = try_open(&other.url(), expecting).unwrap_err();
    let found = "another".to_owned();
    assert_eq!(refused, StoreError::WrongIdentity { found, expected: id });
}

/// INV-ST-31: an older build refuses a newer schema, and one that is not its own.
#[test]
fn a_schema_that_is_not_known_is_refused() {
    let Some(database) = database("schema") else { return };
    database.sql("UPDATE perennial.meta SET schema_version = 99").unwrap();
    assert!(matches!(refusal(&database.url()), StoreError::NewerSchema { found: 99, .. }));
    database.sql("UPDATE perennial.meta SET schema_version = 1").unwrap();
    assert!(matches!(refusal(&database.url()), StoreError::Corrupt { .. }));
    database.sql("DROP TABLE perennial.meta").unwrap();
    assert!(matches!(refusal(&database.url()), StoreError::Corrupt { .. }));
}

/// STO-65: openers that come at the same time make one store, and who only looks makes none.
#[test]
fn openers_at_the_same_time_make_one_store() {
    let Some(cluster) = postgres::cluster() else { return };
    let database = cluster.database("fresh").unwrap();
    let looking = PostgresOptions { must_exist: true, ..options() };
    let none = try_open(&database.url(), looking.clone()).unwrap_err();
    assert!(none.to_string().contains("there is none"), "{none}");
    let ids: Vec<String> = thread::scope(|threads| {
        let open = || open(&database.url(), options()).status().store_id;
        let openers: Vec<_> = (0..8).map(|_| threads.spawn(open)).collect();
        openers.into_iter().map(|opener| opener.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(open(&database.url(), looking).status().store_id, ids[0]);
}

/// STO-43: what a role or a database has as its default does not weaken commits.
/// Proves INV-ST-5.
#[test]
fn every_connection_has_its_settings() {
    let Some(database) = database("durable") else { return };
    let name = database.name();
    for setting in ["synchronous_commit TO off", "lock_timeout TO 0", "statement_timeout TO 0"] {
        database.sql(&format!("ALTER DATABASE {name} SET {setting}")).unwrap();
    }
    // What the writing connection has is told by a trigger.
    let trigger = "CREATE TABLE public.seen (name TEXT, value TEXT);
        CREATE FUNCTION public.see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          INSERT INTO public.seen SELECT name, setting FROM pg_settings; RETURN NEW; END $$;
        CREATE TRIGGER see AFTER INSERT ON perennial.nodes EXECUTE FUNCTION public.see()";
    database.sql(trigger).unwrap();
    let store = open(&database.url(), options());
    served(&store, || block_on(store.register_node("n")).unwrap());
    for (name, value) in [
        ("synchronous_commit", "on"),
        ("statement_timeout", "30000"),
        ("lock_timeout", "5000"),
        ("idle_in_transaction_session_timeout", "5000"),
        ("transaction_isolation", "read committed"),
        ("application_name", "perennial"),
        ("search_path", "perennial"),
    ] {
        let seen = format!("SELECT DISTINCT value FROM public.seen WHERE name = '{name}'");
        assert_eq!(database.sql(&seen).unwrap().trim(), value, "{name}");
    }
}
