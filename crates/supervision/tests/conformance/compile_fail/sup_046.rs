//! SUP-046: no shutdown takes less than no time.

use perennial_core::Shutdown;
use perennial_supervision::ChildSpec;
use std::time::Duration;

fn child(spec: ChildSpec) -> ChildSpec {
    spec.shutdown(Shutdown::Timeout(Duration::from_millis(-1)))
}

fn main() {}
