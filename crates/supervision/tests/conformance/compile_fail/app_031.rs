//! The start callback of an application returns a supervisor, or why there is none.
use perennial_supervision::{Agent, ApplicationSpec};

fn main() {
    let _ = ApplicationSpec::tree("web", |_| Ok(Agent::child_spec("worker", || ()).0));
    let _ = ApplicationSpec::tree("web", |_| Ok(()));
}
