//! How a store is opened, besides where it is.

use std::time::Duration;

use perennial_engine::{SettingError, SettingErrors};
#[cfg(feature = "postgres")]
use perennial_store::PostgresOptions;
use perennial_store::SqliteOptions;

/// Threads that read a file.
const READERS: usize = 2;

/// How a store is opened. What is not set is as the configuration says, else as it says here. What is for a file
/// changes nothing for a server, and the other way round; a store in memory has none of it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{Runtime, Store, StoreSettings};
/// # let folder = tempfile::tempdir()?;
/// let settings = StoreSettings { readers: Some(4), ..StoreSettings::default() };
/// let store = Store::sqlite(folder.path().join("letters.db")).settings(settings);
/// let runtime = Runtime::builder().store(store).start().await?;
/// assert!(runtime.tree().nodes.iter().any(|node| node.path == "/perennial/store/reader-4"));
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreSettings {
    /// The identity that the store must have, as `store_id` in the tree shows it: another one is refused
    /// ([`StoreError::WrongIdentity`](crate::StoreError)). None is made where there is none.
    pub expect_id: Option<String>,
    /// Requests that may wait for the store, one more is refused as `StoreError::Busy`; 4 096.
    pub queue_max: Option<usize>,
    /// Threads that read a file, beside the one that writes it; 2.
    pub readers: Option<usize>,
    /// Connections to a server, and one more hears of changes; 8.
    pub connections: Option<usize>,
    /// Decisions that wait at the same time and are committed in one transaction on a server, at most; 16.
    pub commits_together: Option<usize>,
    /// How long requests wait while a server cannot be reached; 30 s.
    pub patience: Option<Duration>,
}

impl StoreSettings {
    /// What is not set is taken from `others`.
    pub(in crate::runtime) fn or(self, others: &Self) -> Self {
        Self {
            expect_id: self.expect_id.or_else(|| others.expect_id.clone()),
            queue_max: self.queue_max.or(others.queue_max),
            readers: self.readers.or(others.readers),
            connections: self.connections.or(others.connections),
            commits_together: self.commits_together.or(others.commits_together),
            patience: self.patience.or(others.patience),
        }
    }

    /// # Errors
    ///
    /// All settings that cannot be meant.
    pub(in crate::runtime) fn check(&self) -> Result<(), SettingErrors> {
        let number = |setting, value: Option<usize>, most| {
            let value = u64::try_from(value?).unwrap_or(u64::MAX);
            SettingError::of_number(setting, value, 1, most)
        };
        let (least, most) = (Duration::from_secs(1), Duration::from_secs(24 * 60 * 60));
        let checked = [
            number("queue_max", self.queue_max, 1_000_000),
            number("readers", self.readers, 64),
            number("connections", self.connections, 1_000),
            number("commits_together", self.commits_together, 1_000),
            self.patience.and_then(|time| SettingError::of_time("patience", time, least, most)),
        ];
        let wrong: Vec<SettingError> = checked.into_iter().flatten().collect();
        if wrong.is_empty() { Ok(()) } else { Err(SettingErrors(wrong)) }
    }

    pub(in crate::runtime) fn readers(&self) -> usize {
        self.readers.unwrap_or(READERS)
    }

    pub(super) fn sqlite(&self) -> SqliteOptions {
        let usual = SqliteOptions::default();
        SqliteOptions { queue_max: self.queue_max.unwrap_or(usual.queue_max), ..usual }
    }

    #[cfg(feature = "postgres")]
    pub(super) fn postgres(&self) -> PostgresOptions {
        let usual = PostgresOptions::default();
        PostgresOptions {
            expect_id: self.expect_id.clone(),
            queue_max: self.queue_max.unwrap_or(usual.queue_max),
            connections: self.connections.unwrap_or(usual.connections),
            commits_together: self.commits_together.unwrap_or(usual.commits_together),
            patience: self.patience.unwrap_or(usual.patience),
            ..usual
        }
    }
}

#[cfg(all(test, feature = "postgres"))]
mod tests {
    use super::*;

    /// What the documentation says, and what is set reaches the store.
    #[test]
    fn what_is_not_set_is_as_the_store_has_it() {
        let usual = StoreSettings::default();
        assert_eq!(
            (usual.sqlite(), usual.postgres()),
            (SqliteOptions::default(), PostgresOptions::default())
        );
        let options = usual.postgres();
        let told =
            (options.queue_max, options.connections, options.commits_together, options.patience);
        assert_eq!(told, (4_096, 8, 16, Duration::from_secs(30)));
        let all = StoreSettings {
            expect_id: Some("7".to_owned()),
            queue_max: Some(7),
            readers: Some(7),
            connections: Some(7),
            commits_together: Some(7),
            patience: Some(Duration::from_secs(7)),
        };
        let options = all.postgres();
        let told =
            (options.queue_max, options.connections, options.commits_together, options.patience);
        assert_eq!(
            (told, options.expect_id),
            ((7, 7, 7, Duration::from_secs(7)), all.expect_id.clone())
        );
        assert_eq!((all.sqlite().queue_max, all.readers()), (7, 7));
        assert_eq!(usual.or(&all), all);
    }
}
