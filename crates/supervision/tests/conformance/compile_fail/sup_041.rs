//! SUP-041: a child has an id and a start.

use perennial_supervision::ChildSpec;

async fn work() -> Result<(), String> {
    Ok(())
}

fn main() {
    let _without_start = ChildSpec::task("a");
    let _without_id = ChildSpec::task(work);
}
