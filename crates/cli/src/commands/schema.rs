//! The format of workflow files, for editors and other tools (YF-50).

use crate::{exit, output};

pub(super) fn schema() -> anyhow::Result<i32> {
    let text = serde_json::to_string_pretty(&perennial::records::schema())?;
    output::text(&text)?;
    output::text("\n")?;
    Ok(exit::COMPLETED)
}
