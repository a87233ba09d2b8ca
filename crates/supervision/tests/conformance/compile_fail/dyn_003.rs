//! A dynamic supervisor is one for one: there is no strategy to choose.
use perennial_core::Strategy;
use perennial_supervision::DynamicSupervisorSpec;

fn main() {
    let _ = DynamicSupervisorSpec::default().strategy(Strategy::OneForAll);
}
