//! SUP-025: there is no strategy but the three.

use perennial_supervision::SupervisorSpec;

fn main() {
    let _spec = SupervisorSpec::new("top").strategy("one_for_two");
}
