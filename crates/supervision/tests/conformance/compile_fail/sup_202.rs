//! SUP-202: the instances of a template are told apart by what their start answered, not by ids.

use perennial_supervision::TemplateSupervisor;

fn ask(supervisor: TemplateSupervisor<u32>) {
    let _refused = supervisor.which_child("a");
}

fn main() {}
