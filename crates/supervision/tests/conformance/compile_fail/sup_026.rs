//! SUP-026: an intensity is a number that is not negative.

use perennial_supervision::SupervisorSpec;
use std::time::Duration;

fn main() {
    let _spec = SupervisorSpec::new("top").intensity(-1, Duration::from_secs(5));
}
