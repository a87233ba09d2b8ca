//! `[prices]` of a configuration.

use std::collections::BTreeMap;

use perennial_core::llm::{InvalidPrice, Price};
use perennial_tools::provider::priced::PriceTable;
use serde::Deserialize;

/// `[prices]`, by model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Prices(BTreeMap<String, Row>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "PriceSection")]
struct Row(Price);

/// `[prices."model"]`, in dollars for a million tokens.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PriceSection {
    input: f64,
    output: f64,
    cache_read: Option<f64>,
    cache_write: Option<f64>,
}

impl TryFrom<PriceSection> for Row {
    type Error = InvalidPrice;

    fn try_from(section: PriceSection) -> Result<Self, InvalidPrice> {
        let PriceSection { input, output, cache_read, cache_write } = section;
        Price::usd_per_million(input, output, cache_read, cache_write).map(Self)
    }
}

impl Prices {
    pub(super) fn table(&self) -> PriceTable {
        PriceTable::new(self.0.iter().map(|(model, row)| (model.clone(), row.0)))
    }
}

#[cfg(test)]
mod tests {
    use perennial_core::llm::Usage;

    use super::*;

    fn prices(text: &str) -> Result<Prices, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn prices_are_dollars_for_a_million_tokens() {
        let table = prices("[m]\ninput = 1\noutput = 1.5\ncache_read = 0.1\n").unwrap().table();
        let usage = Usage {
            input: 1_000.into(),
            output: 100.into(),
            cache_read: 500.into(),
            ..Usage::default()
        };
        assert_eq!(table.cost(None, "m", &usage), Some(500_000 + 150_000 + 50_000));
        let written = Usage { cache_write: 200.into(), ..usage };
        assert_eq!(table.cost(None, "m", &written), None, "of these it is not said");
        let text = "[m]\ninput = 1\noutput = 1.5\ncache_read = 0.1\ncache_write = 2\n";
        let cost = prices(text).unwrap().table().cost(None, "m", &written);
        assert_eq!(cost, Some(300_000 + 150_000 + 50_000 + 400_000));
    }

    #[test]
    fn what_is_no_price_is_refused_with_its_place() {
        for (text, said) in [
            ("[m]\ninput = -1\noutput = 1\n", "-1 is no price"),
            ("[m]\ninput = 1\n", "output"),
            ("[m]\ninput = 1\noutput = 1\nreasoning = 2\n", "reasoning"),
        ] {
            let error = prices(text).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("line"), "{error}");
        }
    }
}
