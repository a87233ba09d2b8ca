//! A partition supervisor has a name and a specification of its children, and neither a strategy nor
//! an automatic shutdown to choose.
use perennial_supervision::{
    Agent, AutoShutdown, PartitionSupervisor, PartitionSupervisorSpec, Strategy,
};

fn main() {
    let _ = PartitionSupervisorSpec::new();
    let spec = PartitionSupervisorSpec::new("parts");
    let _ = PartitionSupervisor::<Agent<()>>::child_spec(spec);
    let spec = PartitionSupervisorSpec::new("parts");
    let _ = PartitionSupervisor::child_spec(spec, || Agent::child_spec("a", || ()));
    let _ = PartitionSupervisorSpec::new("parts").strategy(Strategy::OneForAll);
    let _ = PartitionSupervisorSpec::new("parts").auto_shutdown(AutoShutdown::AnySignificant);
}
