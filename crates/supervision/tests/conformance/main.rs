//! Which rows of the catalogue of supervision hold, proven by tests that name them.
//!
//! `catalogue.tsv` lists every behaviour by id. A test says with [`harness::proves`] which of them it
//! asserts completely; `deviations.toml` declares those that are deliberately not kept. A full run
//! writes `conformance.json` beside the build and prints a summary; an id of `proven.txt` that is no
//! longer proven fails it. `UPDATE_PROVEN=1` rewrites that file after a full run.

#![expect(clippy::unwrap_used, reason = "fixtures of a test")]
#![expect(clippy::print_stdout, reason = "the runner of tests prints its report")]

mod app_ends;
mod app_start;
mod app_stop;
mod app_world;
mod catalogue;
mod checks;
mod dyn_children;
mod dyn_options;
mod dyn_restarts;
mod dyn_starts;
mod dyn_stop;
mod fixture;
mod gs_agent;
mod gs_call;
mod gs_callbacks;
mod gs_calls;
mod gs_ends;
#[path = "../probe/server.rs"]
#[allow(dead_code, reason = "the other test target uses the rest")]
mod gs_server;
mod gs_start;
mod gs_starts;
mod gs_stop;
mod harness;
mod made;
mod obs;
mod obs_walk;
mod par;
#[path = "../probe/mod.rs"]
#[allow(dead_code, reason = "the other test target uses the rest")]
mod probe;
mod reg_basics;
mod reg_more;
mod reg_world;
mod report;
mod scale;
mod str_ends;
mod str_more;
mod str_results;
mod str_world;
mod sup_api;
mod sup_auto_shutdown;
mod sup_defaults;
mod sup_escalation;
mod sup_ignore;
mod sup_intensity;
mod sup_links;
mod sup_listing;
mod sup_names;
mod sup_reconfigure;
mod sup_recovery;
mod sup_release;
mod sup_reports;
mod sup_requests;
mod sup_restart;
mod sup_retry;
mod sup_shutdown;
mod sup_spec;
mod sup_start;
mod sup_start_more;
mod sup_stop;
mod sup_strategy;
mod sup_template;
mod sup_template_stop;
mod sup_types;
mod traces;
mod tsk_await;
mod tsk_many;
mod tsk_world;
mod tsu;

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex},
};

use libtest_mimic::{Arguments, Trial};

use self::{
    catalogue::{Catalogue, Deviation},
    harness::Proof,
    report::{Claim, Report},
};

/// Set to rewrite `proven.txt` from the results of a full run.
const UPDATE: &str = "UPDATE_PROVEN";

fn main() -> ExitCode {
    let args = Arguments::from_args();
    let catalogue = Catalogue::parse(include_str!("catalogue.tsv"));
    let deviations = Deviation::parse(include_str!("deviations.toml"));
    let kept: Vec<&str> = include_str!("proven.txt").lines().collect();
    let claims: Vec<Claim> = harness::proofs().into_iter().map(Proof::claim).collect();

    let objections = report::objections(&catalogue, &deviations, &claims);
    if !objections.is_empty() {
        println!("the suite contradicts itself:\n  {}", objections.join("\n  "));
        return ExitCode::FAILURE;
    }

    traces::Traces::listen();
    harness::note_panics(args.nocapture);
    let passed: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let conclusion = libtest_mimic::run(&args, trials(&passed));
    if args.list {
        return ExitCode::SUCCESS;
    }
    if args.filter.is_some() || !args.skip.is_empty() || args.ignored || args.bench {
        println!("conformance.json is not written: the run was filtered");
        return conclusion.exit_code();
    }

    let report = Report::new(&catalogue, &deviations, &claims, &passed.lock().unwrap());
    print!("{}", report.table());
    let written = publish(&report, &kept);
    match &written {
        Ok(path) => println!("\nwritten: {}", path.display()),
        Err(error) => println!("\nconformance.json cannot be written: {error}"),
    }
    let lost = report.lost(&kept);
    if !lost.is_empty() && std::env::var_os(UPDATE).is_none() {
        println!("no longer proven, though proven.txt says so: {}", lost.join(", "));
        return ExitCode::FAILURE;
    }
    if written.is_err() { ExitCode::FAILURE } else { conclusion.exit_code() }
}

/// Every registered proof, and the checks of the suite itself.
fn trials(passed: &Arc<Mutex<BTreeSet<String>>>) -> Vec<Trial> {
    let proofs = harness::proofs().into_iter().map(|proof| {
        let passed = passed.clone();
        Trial::test(proof.name(), move || {
            proof.run()?;
            passed.lock().unwrap().insert(proof.name());
            Ok(())
        })
    });
    let checks = checks::ALL.iter().map(|(name, check)| {
        Trial::test(format!("checks::{name}"), move || {
            check();
            Ok(())
        })
    });
    proofs.chain(checks).collect()
}

/// Writes the report into the target directory, and `proven.txt` when asked to.
fn publish(report: &Report<'_>, kept: &[&str]) -> io::Result<PathBuf> {
    let proven = report.proven();
    if std::env::var_os(UPDATE).is_some() {
        let lines: String = proven.iter().map(|id| format!("{id}\n")).collect();
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
        fs::write(here.join("proven.txt"), lines)?;
    } else {
        let new: Vec<&str> = proven.into_iter().filter(|id| !kept.contains(id)).collect();
        if !new.is_empty() {
            println!("\nproven and not in proven.txt ({UPDATE}=1 adds them): {}", new.join(", "));
        }
    }
    // Cargo gives integration tests a directory of their own inside the target directory.
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("conformance.json");
    fs::write(&path, report.json())?;
    Ok(path)
}
