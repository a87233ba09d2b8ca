//! What tokens of a model cost (PRV-13).

use super::{Tokens, Usage};

/// The most that a million tokens can cost, in dollars; what is beyond is a slip.
const USD_MAX: f64 = 1_000_000.0;

/// The prices of one model, each in nano-dollars for a million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    input: u64,
    output: u64,
    cache_read: Option<u64>,
    cache_write: Option<u64>,
}

/// A number that cannot be a price.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("{0} is no price: dollars for a million tokens are 0 to 1000000")]
pub struct InvalidPrice(pub f64);

impl Price {
    /// Prices in dollars for a million tokens. Without a price of their own, tokens of a cache cannot be
    /// priced.
    ///
    /// # Errors
    ///
    /// The first number that is negative, not finite, or beyond a million.
    pub fn usd_per_million(
        input: f64,
        output: f64,
        cache_read: Option<f64>,
        cache_write: Option<f64>,
    ) -> Result<Self, InvalidPrice> {
        Ok(Self {
            input: nano(input)?,
            output: nano(output)?,
            cache_read: cache_read.map(nano).transpose()?,
            cache_write: cache_write.map(nano).transpose()?,
        })
    }

    /// What `usage` costs in nano-dollars, rounded up; unknown when tokens that cost something are (YM-24).
    /// Tokens of a cache are part of the input (PRV-11); a provider that tells none of them had none.
    pub fn of(&self, usage: &Usage) -> Option<u64> {
        let (input, output) = (usage.input.0?, usage.output.0?);
        let cached = |tokens: Tokens| tokens.0.unwrap_or(0);
        let (read, written) = (cached(usage.cache_read), cached(usage.cache_write));
        let fresh = input.checked_sub(read)?.checked_sub(written)?;
        let parts = [
            (fresh, Some(self.input)),
            (output, Some(self.output)),
            (read, self.cache_read),
            (written, self.cache_write),
        ];
        let mut sum: u128 = 0;
        for (tokens, price) in parts.into_iter().filter(|(tokens, _)| *tokens > 0) {
            sum += u128::from(tokens) * u128::from(price?);
        }
        u64::try_from(sum.div_ceil(1_000_000)).ok()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and 10^15, as checked"
)]
fn nano(usd: f64) -> Result<u64, InvalidPrice> {
    let is_price = usd.is_finite() && (0.0..=USD_MAX).contains(&usd);
    if is_price { Ok((usd * 1e9).round() as u64) } else { Err(InvalidPrice(usd)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(input: u64, output: u64, read: Option<u64>, written: Option<u64>) -> Usage {
        Usage {
            input: input.into(),
            output: output.into(),
            cache_read: Tokens(read),
            cache_write: Tokens(written),
            ..Usage::default()
        }
    }

    #[test]
    fn tokens_cost_what_the_table_says_and_nothing_is_made_up() {
        let plain = Price::usd_per_million(3.0, 15.0, None, None).unwrap();
        let cached = Price::usd_per_million(3.0, 15.0, Some(0.3), Some(3.75)).unwrap();
        for (price, usage, nano) in [
            (plain, usage(0, 0, None, None), Some(0)),
            (plain, usage(1_000, 100, None, None), Some(3_000_000 + 1_500_000)),
            (plain, usage(1_000, 100, Some(0), Some(0)), Some(4_500_000)),
            // No price for tokens of a cache, but there are some.
            (plain, usage(1_000, 100, Some(1), None), None),
            (plain, usage(1_000, 100, None, Some(1)), None),
            (cached, usage(1_000, 0, Some(400), Some(100)), Some(1_500_000 + 120_000 + 375_000)),
            // More from the cache than there was.
            (cached, usage(10, 0, Some(11), None), None),
            (cached, usage(10, 0, Some(6), Some(5)), None),
            (plain, Usage { input: 1.into(), ..Usage::default() }, None),
            (plain, Usage { output: 1.into(), ..Usage::default() }, None),
            (plain, usage(u64::MAX, u64::MAX, None, None), None),
        ] {
            assert_eq!(price.of(&usage), nano, "{price:?} {usage:?}");
        }
        let tiny = Price::usd_per_million(0.000_1, 0.0, None, None).unwrap();
        assert_eq!(tiny.of(&usage(1, 0, None, None)), Some(1), "rounded up");
    }

    #[test]
    fn what_is_no_price_is_refused() {
        for usd in [-0.1, f64::NAN, f64::INFINITY, 1_000_000.1] {
            for at in 0..4 {
                let given = |place: usize| if place == at { usd } else { 1.0 };
                let (read, written) = (Some(given(2)), Some(given(3)));
                let price = Price::usd_per_million(given(0), given(1), read, written);
                assert!(price.is_err(), "{usd} at {at}");
            }
        }
        assert!(Price::usd_per_million(0.0, 1_000_000.0, None, None).is_ok());
    }
}
