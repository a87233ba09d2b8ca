//! What many short lives leave behind: nothing, if all is well.

use crate::{
    light::{come_and_go, short_lived},
    measure::{bytes, count_bytes, settle},
};

/// Bytes for each child that are taken for none: less than anything that could be kept of it.
const NOTHING: f64 = 1.0;

/// Starts and ends `count` children below one supervisor, `wave` at a time, and prints what is
/// resident when a tenth, a half and all of them are gone. What the first tenth took is taken for
/// what the supervisor, the executor and the allocator keep.
pub(crate) async fn line(line: &str, count: usize, wave: usize) {
    let (root, workers) = short_lived().await;
    let mut resident = Vec::new();
    count_bytes(true);
    let mut allocated = 0;
    for tenths in [1, 4, 5] {
        come_and_go(&workers, count / 10 * tenths, wave).await;
        settle().await;
        if resident.is_empty() {
            allocated = bytes();
        }
        resident.push(resident_now());
    }
    let later = (count / 10 * 9) as f64;
    let allocated = (bytes() - allocated) as f64 / later;
    count_bytes(false);
    let kept = (resident[2] - resident[0]) / later;
    let verdict = if kept.max(allocated) <= NOTHING { "met" } else { "missed" };
    let shown: Vec<String> = resident.iter().map(|it| format!("{:.1}", it / 1e6)).collect();
    println!(
        "{line:<22} {:<17} resident {} MB at 10, 50, 100 %  left {kept:.2} B, allocated \
         {allocated:.2} B  goal <= {NOTHING:.2} B  {verdict}",
        "perennial",
        shown.join(", "),
    );
    root.shutdown().await;
}

fn resident_now() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    number.and_then(|number| number.parse::<f64>().ok()).expect("a number of kB") * 1024.0
}
