//! Numbers of restarts and children are not negative, and there is no auto-shutdown to choose.
use perennial_supervision::{AutoShutdown, DynamicSupervisorSpec};
use std::time::Duration;

fn main() {
    let _ = DynamicSupervisorSpec::default().intensity(-1, Duration::from_secs(1));
    let _ = DynamicSupervisorSpec::new("dyn", -1);
    let _ = DynamicSupervisorSpec::default().auto_shutdown(AutoShutdown::AnySignificant);
}
