//! An instance of a template is terminated by what its start returned, never by an id.
use perennial_supervision::TemplateSupervisor;

async fn terminate(supervisor: TemplateSupervisor<()>) {
    let _ = supervisor.terminate_child("x").await;
}

fn main() {
    let _ = terminate;
}
