//! A supervisor of a template never shuts down by itself: there is no mode to choose.
use perennial_supervision::{AutoShutdown, ChildSpec, TemplateSupervisorSpec};

fn template(_: ()) -> ChildSpec {
    ChildSpec::task("x", || async { Ok::<(), String>(()) })
}

fn main() {
    let spec = TemplateSupervisorSpec::new("tpl", template);
    let _ = spec.auto_shutdown(AutoShutdown::AnySignificant);
}
