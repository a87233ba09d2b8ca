//! The template of a supervisor is replaced by one other; none is added or removed.
use perennial_supervision::{ChildSpec, TemplateSupervisor};

fn template(_: ()) -> ChildSpec {
    ChildSpec::task("x", || async { Ok::<(), String>(()) })
}

fn change(supervisor: TemplateSupervisor<()>) {
    supervisor.set_template([template, template]);
    supervisor.set_template();
}

fn main() {
    let _ = change;
}
