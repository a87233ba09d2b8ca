//! SUP-029: there is no mode of auto-shutdown but the three.

use perennial_supervision::SupervisorSpec;

fn main() {
    let _spec = SupervisorSpec::new("top").auto_shutdown("some_significant");
}
