//! Where a key may have several values, none is the one to change.
use perennial_supervision::{Duplicate, Registry};

fn update(rooms: &Registry<u8, u32, Duplicate>) {
    let _ = rooms.update_value(&1, |value| value + 1);
}

fn main() {}
