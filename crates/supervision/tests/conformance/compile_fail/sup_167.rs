//! Instances of a template are neither restarted nor deleted by hand.
use perennial_supervision::{ChildRef, TemplateSupervisor};

async fn bring_back(supervisor: TemplateSupervisor<()>, child: ChildRef) {
    let _ = supervisor.restart_child(&child).await;
    let _ = supervisor.delete_child(&child).await;
}

fn main() {
    let _ = bring_back;
}
