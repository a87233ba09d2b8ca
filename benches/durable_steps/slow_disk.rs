//! A disk whose flushes take time (`slow_disk.c`), where the machine's own takes none that counts: a guest whose disk keeps
//! what is written in its host's memory acknowledges a sync in microseconds, and no ratio to that says what users get.

use std::{
    env,
    os::unix::process::CommandExt,
    path::Path,
    process::{self, Command},
};

/// How much longer each sync shall take, in microseconds.
const MICROS: &str = "PERENNIAL_BENCH_SYNC_US";

/// What the figures are about. With [`MICROS`] in the environment, the process begins anew on such a disk.
pub(crate) fn describe() -> String {
    let Ok(micros) = env::var(MICROS) else {
        return format!(
            "the machine's own disk ({MICROS}=1000 for one whose flushes take that long)"
        );
    };
    assert!(micros.parse::<u32>().is_ok(), "{MICROS} is a number of microseconds: {micros}");
    if env::var_os("LD_PRELOAD").is_none() {
        begin_anew();
    }
    format!("a disk whose flushes take {micros} µs longer than the machine's own")
}

fn begin_anew() {
    let made = env::temp_dir().join(format!("slow_disk-{}.so", process::id()));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/durable_steps/slow_disk.c");
    let compiled = Command::new(env::var_os("CC").unwrap_or_else(|| "cc".into()))
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-o"])
        .args([&made, &source])
        .arg("-ldl")
        .status();
    assert!(compiled.unwrap().success(), "the disk was not made");
    let mut again = Command::new(env::current_exe().unwrap());
    let failed = again.args(env::args_os().skip(1)).env("LD_PRELOAD", made).exec();
    panic!("the bench did not begin anew: {failed}");
}
