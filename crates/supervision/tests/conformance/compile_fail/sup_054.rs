//! SUP-054: only the specification of a child is a child.

use perennial_supervision::SupervisorSpec;

struct NoChild;

fn main() {
    let _spec = SupervisorSpec::new("top").child(NoChild);
}
