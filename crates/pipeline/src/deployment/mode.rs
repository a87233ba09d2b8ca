use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The mode of an environment: which column of the table of limits holds (1.11).
///
/// ```
/// use perennial_pipeline::EnvironmentMode;
///
/// assert_eq!("production".parse(), Ok(EnvironmentMode::Production));
/// assert_eq!(EnvironmentMode::default().name(), "development");
/// ```
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum EnvironmentMode {
    /// Where workflows are written: wide limits.
    #[default]
    Development,
    /// Where they count: narrow limits, exports, no mocks.
    Production,
    /// Where they are tried: small limits, short deadlines.
    Test,
}

/// A text that names no mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no environment; there are: development, production, test")]
pub struct UnknownMode(pub(super) String);

impl EnvironmentMode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Development, Self::Production, Self::Test];

    /// Its name, as in documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Production => "production",
            Self::Test => "test",
        }
    }
}

impl FromStr for EnvironmentMode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        let found = Self::ALL.into_iter().find(|mode| mode.name() == text);
        found.ok_or_else(|| UnknownMode(text.to_owned()))
    }
}

impl fmt::Display for EnvironmentMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
