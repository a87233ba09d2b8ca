//! A host whose build aborts on panics: nothing could be supervised, and no tree starts (trap 27).

use std::process::ExitCode;

use perennial_supervision::{ChildSpec, Clock, Options, Root, SupervisorSpec};

#[tokio::main]
async fn main() -> ExitCode {
    let child = ChildSpec::task("never", || async { Err("it was started") });
    let top = SupervisorSpec::new("top").child(child);
    match Root::start(top, Clock::start(), Options::default()).await {
        Err(refused) if refused.to_string().contains("panic = \"abort\"") => {
            println!("refused: {refused}");
            ExitCode::SUCCESS
        }
        other => {
            eprintln!("not refused for its panics: {other:?}");
            ExitCode::FAILURE
        }
    }
}
