//! SUP-005: an init answers what a supervisor is made of, ignore, or an error; nothing else.

use perennial_supervision::Supervisor;

fn main() {
    let (_spec, _handle) = Supervisor::child_spec_with_init("inner", || Ok("bad return"));
}
