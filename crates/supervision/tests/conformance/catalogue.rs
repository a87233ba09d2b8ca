//! The behaviours there are, and those that are declared not to hold.

use serde::Deserialize;

/// Every row, in the order of the file.
pub(crate) struct Catalogue {
    pub(crate) rows: Vec<Row>,
}

/// One behaviour; what the sentence says is for readers of the file.
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) priority: String,
    pub(crate) portability: String,
}

impl Catalogue {
    /// Reads tab-separated columns `id`, `priority`, `portability` and more, below a line of titles.
    pub(crate) fn parse(text: &str) -> Self {
        let rows = text.lines().skip(1).map(|line| {
            let mut columns = line.split('\t').map(str::to_owned);
            let mut next = || columns.next().unwrap_or_else(|| panic!("too few columns: {line}"));
            Row { id: next(), priority: next(), portability: next() }
        });
        Self { rows: rows.collect() }
    }

    pub(crate) fn find(&self, id: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.id == id)
    }
}

impl Row {
    /// `SUP` of `SUP-001`.
    pub(crate) fn section(&self) -> &str {
        self.id.split('-').next().unwrap_or_default()
    }

    /// Rows with an N code mean nothing here and are not counted.
    pub(crate) fn is_portable(&self) -> bool {
        !self.portability.starts_with('N')
    }
}

/// A behaviour that is deliberately not kept.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Deviation {
    pub(crate) id: String,
    /// Why it is not kept.
    pub(crate) reason: String,
    /// What happens instead.
    pub(crate) instead: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Deviations {
    #[serde(default)]
    deviation: Vec<Deviation>,
}

impl Deviation {
    pub(crate) fn parse(text: &str) -> Vec<Self> {
        toml::from_str::<Deviations>(text).unwrap().deviation
    }
}
