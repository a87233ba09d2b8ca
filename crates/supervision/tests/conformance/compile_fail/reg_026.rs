//! A key that several may have is no name.
use perennial_supervision::{Agent, Duplicate, Registry};

fn names(rooms: &Registry<u8, (), Duplicate>) {
    let (spec, _) = Agent::child_spec("a", || ());
    let _ = spec.via(rooms, 1, ());
    let _ = rooms.via::<u32>(1);
}

fn main() {}
