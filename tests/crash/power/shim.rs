//! A process of this test under the shim: `shim.c`, which `cc` makes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use perennial_testkit::{BinaryOutput, PerennialBinary};
use tempfile::TempDir;

use super::{
    disk::Image,
    log::{self, Record},
    workload::{self, Order},
};
use crate::world::SOON;

/// How long a sync takes, so that others queue behind it and groups form, in microseconds.
const SYNC_MICROS: &str = "150";

/// The shim, or nothing where there is no C compiler, which is said. In CI that is a failure.
pub(crate) fn shim() -> Option<&'static Path> {
    static SHIM: OnceLock<Option<PathBuf>> = OnceLock::new();
    SHIM.get_or_init(|| compiled("power")).as_deref()
}

/// The library that `cc` makes of the shim in the folder `name`.
pub(crate) fn compiled(name: &str) -> Option<PathBuf> {
    let made = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let shim = made.join(format!("{name}-{}.so", std::process::id()));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/crash");
    let source = source.join(name).join("shim.c");
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let output = Command::new(&compiler)
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"])
        .args([&shim, &source])
        .arg("-lpthread")
        .output();
    match output {
        Ok(output) if output.status.success() => Some(shim),
        Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "no C compiler: {error}");
            println!("skipped: {} does not run: {error}", compiler.display());
            None
        }
    }
}

/// A call that shall fail, in the words of the shim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// A class of calls.
    pub(crate) class: &'static str,
    /// The first that fails, counted from 1.
    pub(crate) nth: u64,
    /// How many fail.
    pub(crate) count: u64,
    /// With which error; 0 cuts a write short, and the disk is full after it.
    pub(crate) error: i32,
}

/// What a process did.
pub(crate) struct Recording {
    pub(crate) output: BinaryOutput,
    pub(crate) log: Vec<Record>,
    /// The files as the process left them, for those whose power never fails.
    pub(crate) left: TempDir,
}

/// Lets a process work on `image`.
pub(crate) fn record(
    shim: &Path,
    image: &Image,
    order: &Order,
    fault: Option<&Fault>,
) -> Recording {
    let (left, beside) = (room(), room());
    write(image, left.path());
    let noted = beside.path().join("log");
    let mut process = PerennialBinary::new(std::env::current_exe().unwrap())
        .args(["--exact", workload::NAME, "--nocapture", "--test-threads=1"])
        .env("LD_PRELOAD", shim)
        .env("PERENNIAL_POWER_DIR", left.path())
        .env("PERENNIAL_POWER_LOG", &noted)
        .env("PERENNIAL_POWER_MARKS", beside.path().join("marks"))
        .env("PERENNIAL_POWER_SYNC", SYNC_MICROS)
        .env(workload::ORDER, order.to_string());
    if let Some(Fault { class, nth, count, error }) = fault {
        process = process.env("PERENNIAL_POWER_FAULT", format!("{class}:{nth}:{count}:{error}"));
    }
    let output = process.run(SOON).unwrap();
    Recording { output, log: log::read(&noted), left }
}

/// A directory without links in its path. What is in it needs no disk, where there is memory for it.
pub(crate) fn room() -> TempDir {
    let memory = tempfile::Builder::new().prefix("power").tempdir_in("/dev/shm");
    memory.or_else(|_| tempfile::tempdir_in(std::env::temp_dir().canonicalize()?)).unwrap()
}

/// Puts the files of `image` into `directory`.
pub(crate) fn write(image: &Image, directory: &Path) {
    for (name, bytes) in image {
        fs::write(directory.join(name), bytes).unwrap();
    }
}
