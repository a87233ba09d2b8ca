//! On a real server. The shared one is for what leaves it alone.

use std::{path::Path, process::Command};

use super::*;

const SOON: Duration = Duration::from_secs(60);
/// Set in the process that is to be killed.
const VICTIM: &str = "PERENNIAL_TESTKIT_VICTIM";

fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Deadline::after(SOON);
    while !condition() {
        assert!(!deadline.left().is_zero(), "{what} did not happen");
        deadline.pause();
    }
}

/// Whether a server with its data in `room` runs as `pid`. A zombie has no command line: who reaps
/// the orphan of a killed process, and when, is the machine's affair.
fn runs(pid: u32, room: &Path) -> bool {
    room::command_line(pid).contains(&*room.to_string_lossy())
}

#[test]
fn two_databases_know_nothing_of_each_other_and_go_with_their_handles() {
    let Some(cluster) = cluster() else { return };
    let (one, two) = (cluster.database("apart").unwrap(), cluster.database("apart").unwrap());
    assert_ne!(one.name(), two.name());
    one.sql("CREATE TABLE t (n int); INSERT INTO t VALUES (1), (2)").unwrap();
    assert_eq!(one.sql("SELECT n, n * 2 FROM t ORDER BY n").unwrap(), "1|2\n2|4\n");
    let error = two.sql("SELECT n FROM t").unwrap_err();
    let is_refusal = |error: &PostgresError| matches!(error, PostgresError::Failed { stderr, .. } if stderr.contains("does not exist"));
    assert!(is_refusal(&error), "{error}");
    let (psql, name) = (one.psql.clone(), one.name().to_owned());
    drop(one);
    let error = psql.run(&name, "SELECT 1").unwrap_err();
    assert!(is_refusal(&error), "{error}");
}

#[test]
fn the_shared_server_is_one_and_has_no_tcp() {
    let Some(first) = cluster() else { return };
    let second = cluster().unwrap();
    assert_eq!(first.pid().unwrap(), second.pid().unwrap());
    let database = first.database("settings").unwrap();
    assert_eq!(database.sql("SHOW listen_addresses").unwrap(), "\n");
    assert_eq!(database.sql("SHOW fsync").unwrap(), "off\n");
    assert_eq!(database.tcp_url(), None);
    let folder = first.psql.folder.display();
    let (url, name) = (database.url(), database.name());
    assert_eq!(url, format!("postgres://postgres@/{name}?host={folder}&port=5432"));
    // An address that PostgreSQL's own client understands.
    let mut command = room::plain_command(&first.psql.program);
    command.args(["-X", "-A", "-t", "-c", "SELECT current_database()"]).arg(url);
    let output = RunningBinary::of(command).unwrap().wait(SOON).unwrap();
    assert_eq!(output.stdout, format!("{name}\n"), "{}", output.stderr);
}

#[tokio::test]
async fn a_template_is_filled_once_and_anew_after_a_failure() {
    let Some(cluster) = cluster() else { return };
    let error = cluster.template("rows", async |_| Err("no rows")).await.unwrap_err();
    assert!(matches!(&error, PostgresError::Template { .. }), "{error}");
    let fills = AtomicU64::new(0);
    let fill = async |url: String| {
        fills.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
        let mut command = room::plain_command(&cluster.psql.program);
        command.args(["-X", "-c", "CREATE TABLE t AS SELECT 7 AS n"]).arg(url);
        RunningBinary::of(command)?.wait(SOON).map(drop)
    };
    let (one, two) = tokio::join!(cluster.template("rows", fill), cluster.template("rows", fill));
    let template = one.unwrap();
    assert_eq!((&template, fills.load(Ordering::Relaxed)), (&two.unwrap(), 1));
    let (one, two) =
        (cluster.copy(&template, "copy").unwrap(), cluster.copy(&template, "copy").unwrap());
    one.sql("DELETE FROM t").unwrap();
    assert_eq!(one.sql("SELECT n FROM t").unwrap(), "");
    assert_eq!(two.sql("SELECT n FROM t").unwrap(), "7\n");
}

#[test]
fn rows_outlive_every_way_to_stop_a_server() {
    // Killed are processes and not the machine; with it, each recovery would first sync every file.
    let options = Options::new().without_fsync().tcp().setting("work_mem", "5MB");
    let Some(mut cluster) = private(options) else { return };
    let database = cluster.database("kept").unwrap();
    assert_eq!(database.sql("SHOW work_mem").unwrap(), "5MB\n");
    database.sql("CREATE TABLE t (n int)").unwrap();
    let (url, tcp_url) = (database.url(), database.tcp_url().unwrap());
    let mut expected = String::new();
    for (number, way) in ["fast", "immediate", "kill"].into_iter().enumerate() {
        database.sql(&format!("INSERT INTO t VALUES ({number})")).unwrap();
        expected += &format!("{number}\n");
        let pid = cluster.pid().unwrap();
        match way {
            "fast" => cluster.restart(Stop::Fast).unwrap(),
            "immediate" => cluster.restart(Stop::Immediate).unwrap(),
            _ => {
                cluster.kill().unwrap();
                assert!(database.sql("SELECT 1").is_err());
                assert!(matches!(cluster.pid(), Err(PostgresError::Stopped)));
                assert!(matches!(cluster.stop(Stop::Fast), Err(PostgresError::Stopped)));
                cluster.resume().unwrap();
            }
        }
        assert_ne!(cluster.pid().unwrap(), pid, "{way}");
        assert_eq!(database.sql("SELECT n FROM t ORDER BY n").unwrap(), expected, "{way}");
    }
    assert!(matches!(cluster.resume(), Err(PostgresError::Running)));
    assert_eq!((database.url(), database.tcp_url().unwrap()), (url, tcp_url.clone()));
    let mut command = room::plain_command(&cluster.psql.program);
    command.args(["-X", "-A", "-t", "-c", "SELECT count(*) FROM t"]).arg(tcp_url);
    assert_eq!(RunningBinary::of(command).unwrap().wait(SOON).unwrap().stdout, "3\n");

    let (pid, folder) = (cluster.pid().unwrap(), cluster.psql.folder.clone());
    assert!(runs(pid, &folder));
    drop(cluster);
    assert!(!runs(pid, &folder) && !folder.exists());
}

#[test]
fn a_server_is_as_durable_as_usual_unless_asked() {
    let Some(cluster) = private(Options::new().max_connections(20)) else { return };
    let database = cluster.database("settings").unwrap();
    for (setting, expected) in [
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("synchronous_commit", "on"),
        ("max_connections", "20"),
    ] {
        let found = database.sql(&format!("SHOW {setting}")).unwrap();
        assert_eq!(found, format!("{expected}\n"), "{setting}");
    }
}

#[test]
fn a_server_that_does_not_start_says_why() {
    let error = match Cluster::start(Options::new().setting("work_mem", "much")) {
        Err(PostgresError::Absent { .. }) => return assert!(cluster().is_none()),
        other => other.unwrap_err(),
    };
    let text = error.to_string();
    assert!(matches!(error, PostgresError::NotStarted { .. }), "{text}");
    assert!(text.contains(r#"invalid value for parameter "work_mem": "much""#), "{text}");
}

/// The process of the next test: it has a server, and never ends by itself.
#[test]
fn victim() {
    let Some(file) = std::env::var_os(VICTIM) else { return };
    let cluster = private(Options::new().without_fsync()).unwrap();
    let text = format!("{}\n{}\n", cluster.pid().unwrap(), cluster.psql.folder.display());
    std::fs::write(file, text).unwrap();
    until("the blow of the next test", || false);
}

#[test]
fn a_server_dies_with_the_process_that_is_killed() {
    if cluster().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("victim");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "postgres::tests::victim", "--nocapture"]).env(VICTIM, &file);
    let mut victim = RunningBinary::of(command).unwrap();
    let told =
        |_: &RunningBinary| std::fs::read_to_string(&file).is_ok_and(|it| it.ends_with('\n'));
    victim.wait_for("a server", SOON, told).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    let mut lines = text.lines();
    let pid = lines.next().unwrap().parse().unwrap();
    let room = Path::new(lines.next().unwrap());
    assert!(runs(pid, room) && room.is_dir());
    let mut log = std::fs::File::open(room.join("log")).unwrap();
    victim.kill().unwrap();
    until("the server's end", || !runs(pid, room));
    until("the end of its folder", || !room.exists());
    // It was told to; a server whose folder is gone would end, too, after a while.
    let text = std::io::read_to_string(&mut log).unwrap();
    assert!(text.contains("received immediate shutdown request"), "{text}");
}
