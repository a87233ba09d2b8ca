//! Real processes. That all of a group are gone is seen by a pipe that each of them holds open: it ends with the last.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use tokio::{io::AsyncReadExt, net::unix::pipe};

use super::*;
use crate::service::Keeper;

/// Where a host that is killed puts the pipe of its service.
const PIPE: &str = "PERENNIAL_TEST_SERVICE_PIPE";
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

struct Held {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Held {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("held");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        Self { path, _folder: folder }
    }

    fn reader(&self) -> pipe::Receiver {
        pipe::OpenOptions::new().open_receiver(&self.path).unwrap()
    }
}

/// Waits until nobody holds it any more.
async fn is_let_go(mut reader: pipe::Receiver) {
    let mut told = Vec::new();
    let ended = timeout(PATIENCE, reader.read_to_end(&mut told)).await;
    ended.expect("somebody of the group lives").unwrap();
}

/// A shell that runs `script`, in which `$0` is the pipe.
fn shell(script: &str, pipe: &Path) -> ChildProcess {
    ChildProcess::new("/bin/sh").arg("-c").arg(script).arg(pipe)
}

/// It and what it has started hold the pipe, say so in there, and both leave when they are asked to.
const POLITE: &str =
    "exec 9>\"$0\"; sleep 900 >/dev/null 2>&1 & echo x >&9; echo \"ready at here\"; wait";
/// They hear nothing.
const DEAF: &str =
    "trap '' TERM; exec 9>\"$0\"; sleep 900 >/dev/null 2>&1 & echo x >&9; echo 'ready'; wait";

async fn started(driver: &ChildProcess) -> (Instance, Keeper) {
    let key = ServiceKey::shared("child");
    let started = timeout(PATIENCE, driver.start(&key, Epoch::ZERO.next())).await;
    let instance = started.expect("it starts in time").unwrap();
    let keeper = instance.take_keeper().expect("a process is kept");
    (instance, keeper)
}

/// While its keeper runs, as it does below its actor.
async fn kept<T>(mut keeper: Keeper, work: impl Future<Output = T>) -> (T, Arc<str>) {
    let mut end = None;
    let mut work = Box::pin(work);
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            how = &mut keeper, if end.is_none() => end = Some(how),
        }
    };
    let end = match end {
        Some(end) => end,
        None => timeout(PATIENCE, keeper).await.expect("it has ended"),
    };
    (done, end)
}

/// Proves B47.
#[tokio::test]
async fn a_stop_leaves_nobody_of_the_group() {
    for mode in [StopMode::Graceful, StopMode::Kill] {
        let held = Held::new();
        let reader = held.reader();
        let driver = shell(POLITE, &held.path).ready_line("ready at ");
        let (instance, keeper) = started(&driver).await;
        assert_eq!(instance.endpoint(), Some("here"));
        assert!(instance.pid().is_some());
        for probe in [Probe::Readiness, Probe::Liveness] {
            assert_eq!(driver.probe(&instance, probe).await, ProbeResult::Pass);
        }
        let (stopped, end) = kept(keeper, driver.stop(&instance, mode)).await;
        assert_eq!(stopped, Ok(()));
        let signal = if mode == StopMode::Graceful { "signal: 15" } else { "signal: 9" };
        assert!(end.contains(signal) && end.ends_with("ready at here"), "{end}");
        is_let_go(reader).await;
        let gone = driver.probe(&instance, Probe::Readiness).await;
        assert_eq!(gone, ProbeResult::Gone(end));
        // A second stop finds nothing to do.
        assert_eq!(driver.stop(&instance, StopMode::Kill).await, Ok(()));
    }
}

#[tokio::test]
async fn who_does_not_listen_is_killed_after_the_grace() {
    let held = Held::new();
    let reader = held.reader();
    let driver = shell(DEAF, &held.path).ready_line("ready").stop_grace(Duration::from_millis(50));
    let (instance, keeper) = started(&driver).await;
    assert_eq!(instance.endpoint(), None);
    let (stopped, end) = kept(keeper, driver.stop(&instance, StopMode::Graceful)).await;
    assert_eq!(stopped, Ok(()));
    assert!(end.contains("signal: 9"), "{end}");
    is_let_go(reader).await;
}

#[tokio::test]
async fn what_it_has_started_ends_with_it_and_how_it_ended_is_told() {
    let held = Held::new();
    let reader = held.reader();
    let script = "exec 9>\"$0\"; sleep 900 >/dev/null 2>&1 & echo ready; read -r _; \
        echo 'no licence' >&2; exit 7";
    let driver = shell(script, &held.path).ready_line("ready");
    let (instance, keeper) = started(&driver).await;
    // It ends with its input.
    drop(instance.inside::<Running>().unwrap().stdin.lock().unwrap().take());
    let end = timeout(PATIENCE, keeper).await.unwrap();
    assert_eq!(&*end, "it ended with exit status: 7; its last line: no licence");
    is_let_go(reader).await;
    let gone = driver.probe(&instance, Probe::Liveness).await;
    assert_eq!(gone, ProbeResult::Gone(end));
}

#[tokio::test]
async fn a_start_that_is_given_up_and_a_keeper_that_is_ended_leave_nobody() {
    let held = Held::new();
    let mut reader = held.reader();
    let driver = shell(DEAF, &held.path).ready_line("something else");
    let key = ServiceKey::shared("child");
    {
        let mut start = driver.start(&key, Epoch::ZERO.next());
        tokio::select! {
            _ = &mut start => panic!("it says nothing of the kind"),
            there = timeout(PATIENCE, reader.read_u8()) => assert_eq!(there.unwrap().unwrap(), b'x'),
        }
    }
    is_let_go(reader).await;

    let reader = held.reader();
    let driver = shell(DEAF, &held.path).ready_line("ready");
    let (instance, keeper) = started(&driver).await;
    drop(keeper);
    let gone = driver.probe(&instance, Probe::Liveness).await;
    assert!(matches!(gone, ProbeResult::Gone(_)), "{gone:?}");
    is_let_go(reader).await;

    // Nor what it has started, whoever still knows the instance.
    let reader = held.reader();
    let script = "exec 9>\"$0\"; sleep 900 >/dev/null 2>&1 & exec 9>&-; echo ready; read -r _";
    let (instance, keeper) = started(&shell(script, &held.path).ready_line("ready")).await;
    drop(keeper);
    is_let_go(reader).await;
    drop(instance);
}

#[tokio::test]
async fn a_start_fails_with_a_reason_and_for_good_where_there_is_no_program() {
    let key = ServiceKey::shared("child");
    let start =
        async |driver: ChildProcess| driver.start(&key, Epoch::ZERO.next()).await.unwrap_err();
    let StartError::Permanent(why) = start(ChildProcess::new("/no/where")).await else {
        panic!("no restart helps");
    };
    assert!(why.starts_with("/no/where did not start"), "{why}");
    let script = "echo 'the port is taken' >&2; exit 3";
    let refused = start(shell(script, Path::new("x")).ready_line("ready")).await;
    let why = "before it was ready, it ended with exit status: 3; its last line: the port is taken";
    assert_eq!(refused, StartError::Retryable(why.into()));
}

/// What a process was told in confidence stands in no reason, which logs, the tree and the store show.
#[tokio::test]
async fn secrets_in_its_last_line_are_not_shown() {
    let key = ServiceKey::shared("child");
    let (of_env, of_arg) = ("swordfish-of-env", crate::ApiKey::new("swordfish-of-arg"));
    let long = "x".repeat(192);
    let script = format!("echo \"$TOKEN swordfish-of-arg {long}$TOKEN\" >&2; exit 3");
    let driver = shell(&script, Path::new("x")).ready_line("ready").env("TOKEN", of_env);
    let refused = driver.hiding(&of_arg).start(&key, Epoch::ZERO.next()).await.unwrap_err();
    let why = refused.to_string();
    assert!(why.contains("its last line: [redacted] [redacted] xx"), "{why}");
    assert!(!why.contains("sword"), "{why}");
}

#[tokio::test]
async fn it_reads_all_of_what_is_printed_and_keeps_little() {
    // A full pipe would stop it: a line of 1 MB, and as much in short ones.
    let script = "head -c 1000000 /dev/zero | tr '\\0' x; echo; yes | head -n 500000; echo ready";
    let driver = shell(script, Path::new("x")).ready_line("ready");
    let (_instance, keeper) = started(&driver).await;
    let end = timeout(PATIENCE, keeper).await.unwrap();
    assert_eq!(&*end, "it ended with exit status: 0; its last line: ready");
}

#[tokio::test]
async fn it_is_ready_while_it_takes_connections() {
    // Its port is nobody else's, and takes no connections yet.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    let driver = shell("cat", Path::new("x")).port(port);
    let (instance, keeper) = started(&driver).await;
    assert_eq!(instance.endpoint(), Some(&*format!("127.0.0.1:{port}")));
    let refused = driver.probe(&instance, Probe::Readiness).await;
    assert!(matches!(refused, ProbeResult::Fail(_)), "{refused:?}");
    assert_eq!(driver.probe(&instance, Probe::Liveness).await, ProbeResult::Pass);
    let _listener = socket.listen(1).unwrap();
    assert_eq!(driver.probe(&instance, Probe::Readiness).await, ProbeResult::Pass);
    // `cat` ends with its input.
    let (stopped, end) = kept(keeper, driver.stop(&instance, StopMode::Graceful)).await;
    assert_eq!(stopped, Ok(()));
    assert!(!end.contains("signal: 9"), "{end}");
}

#[test]
fn all_faults_are_told_at_once() {
    let driver = ChildProcess::new("sh").ready_line("").port(0).env("KEY", "secret");
    assert_eq!(driver.faults().len(), 3);
    assert_eq!(format!("{driver:?}"), r#"ChildProcess { program: "sh", .. }"#);
}

/// Runs only as the process that the test below kills.
#[tokio::test]
async fn a_host_that_is_killed() {
    let Some(pipe) = std::env::var_os(PIPE) else { return };
    let driver = shell(DEAF, Path::new(&pipe)).ready_line("ready");
    let (_instance, keeper) = started(&driver).await;
    println!("\nits service is ready");
    keeper.await;
}

#[tokio::test]
async fn a_group_ends_with_the_process_that_started_it_even_by_kill_9() {
    let held = Held::new();
    let reader = held.reader();
    let mut host = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "service::process::tests::a_host_that_is_killed"])
        .env(PIPE, &held.path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(host.stdout.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap() == "its service is ready"), "the host has no service");
    host.kill().unwrap();
    host.wait().unwrap();
    is_let_go(reader).await;
}
