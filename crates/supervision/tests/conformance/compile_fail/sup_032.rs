//! A supervisor of a template has exactly one: there is no constructor without, nor with several.
use perennial_supervision::{ChildSpec, TemplateSupervisorSpec};

fn template(_: ()) -> ChildSpec {
    ChildSpec::task("x", || async { Ok::<(), String>(()) })
}

fn main() {
    let _none = TemplateSupervisorSpec::<()>::new("tpl");
    let _two = TemplateSupervisorSpec::<()>::new("tpl", template, template);
}
