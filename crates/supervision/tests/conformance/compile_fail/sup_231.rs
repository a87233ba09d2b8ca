//! A supervisor takes no messages, so none can be unexpected.
use perennial_supervision::Supervisor;

fn send(supervisor: Supervisor) {
    let _ = supervisor.cast("hello");
}

fn main() {
    let _ = send;
}
