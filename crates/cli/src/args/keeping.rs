//! The verbs that care for the store.

use std::{path::PathBuf, time::Duration};

use clap::Subcommand;

use super::{OutputArgs, StoreArgs};

#[derive(Debug, clap::Args)]
pub(crate) struct JournalArgs {
    #[command(subcommand)]
    pub(crate) command: JournalCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JournalCommand {
    /// Compares every run with its events; changes nothing, and works beside a running process
    Verify(VerifyArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    /// Only this run: its id, or a beginning of it, of 4 characters or more, that no other run has
    pub(crate) run: Option<String>,
    /// Configuration whose [store] url names the store
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct GcArgs {
    /// Removes what ended longer ago than this, however it ended: 30d, 12h, 45m; without it, what [retention] of the
    /// configuration says
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) older_than: Option<Duration>,
    /// Only says what would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Configuration (TOML), of which [retention] counts here
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PurgeArgs {
    /// The run, by its whole id
    pub(crate) run: String,
    /// Configuration whose [store] url names the store
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// A time such as `30d`.
fn time(text: &str) -> Result<Duration, String> {
    let refused = || {
        format!(
            "`{text}` is no time: use days, hours, minutes or seconds, as in 30d, 12h, 45m, 90s"
        )
    };
    let (number, unit) =
        text.split_at(text.len() - text.chars().next_back().map_or(0, char::len_utf8));
    let unit: u64 = match unit {
        "d" => 24 * 60 * 60,
        "h" => 60 * 60,
        "m" => 60,
        "s" => 1,
        _ => return Err(refused()),
    };
    let number: u64 = number.parse().map_err(|_| refused())?;
    number.checked_mul(unit).map(Duration::from_secs).ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        for (text, seconds) in [("30d", 2_592_000), ("12h", 43_200), ("45m", 2_700), ("0s", 0)] {
            assert_eq!(time(text), Ok(Duration::from_secs(seconds)));
        }
        for text in [
            "",
            "d",
            "30",
            "-1d",
            "1.5d",
            "1w",
            "3ä",
            "99999999999999999999d",
            "999999999999999999d",
        ] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
