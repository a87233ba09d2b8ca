//! A registry has a mode and a name.
use perennial_supervision::{RegistrySpec, Unique};

fn main() {
    let _ = RegistrySpec::<u8, (), Unique>::unique();
}
