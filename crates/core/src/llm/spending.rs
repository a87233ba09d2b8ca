//! What calls used and cost, one by one and together.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Tokens, Usage, dollars};

/// What one call used and cost, as its reply tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Who answered.
    pub provider: String,
    /// The model as reported.
    pub model: String,
    /// Its tokens.
    pub usage: Usage,
    /// Its price in nano-dollars, when known (PRV-13).
    pub cost_nano_usd: Option<u64>,
    /// Whether a mock made it up.
    #[serde(default)]
    pub mock: bool,
}

impl Spent {
    /// Reads it from a journaled reply; nothing when that is not the reply of a model.
    pub fn of_reply(reply: &Value) -> Option<Self> {
        Self::deserialize(reply).ok()
    }

    /// The price in dollars, when known.
    pub fn cost_usd(&self) -> Option<f64> {
        self.cost_nano_usd.map(dollars)
    }
}

/// What several calls used and cost together. A sum is known when all its parts are; of no calls, all
/// sums are known to be 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spending {
    /// Calls.
    pub calls: u64,
    /// Of those, with a recorded reply.
    pub recorded: u64,
    /// Of those, without a known price; those without a reply are among them.
    pub unpriced: u64,
    /// Calls that read a part of their prompt from a cache of the provider.
    pub cache_hits: Tokens,
    input: Tokens,
    cached: Tokens,
    output: Tokens,
    priced_nano_usd: u64,
}

impl Default for Spending {
    fn default() -> Self {
        let none = Tokens(Some(0));
        Self {
            calls: 0,
            recorded: 0,
            unpriced: 0,
            cache_hits: none,
            input: none,
            cached: none,
            output: none,
            priced_nano_usd: 0,
        }
    }
}

impl Spending {
    /// Adds a call and what its reply tells; nothing is known of one without a reply.
    pub fn add(&mut self, spent: Option<&Spent>) {
        self.calls += 1;
        self.recorded += u64::from(spent.is_some());
        let usage = spent.map(|spent| spent.usage).unwrap_or_default();
        self.input = sum(self.input, usage.input);
        self.output = sum(self.output, usage.output);
        self.cached = sum(self.cached, usage.cache_read);
        let hit = Tokens(usage.cache_read.0.map(|tokens| u64::from(tokens > 0)));
        self.cache_hits = sum(self.cache_hits, hit);
        match spent.and_then(|spent| spent.cost_nano_usd) {
            Some(nano) => self.priced_nano_usd = self.priced_nano_usd.saturating_add(nano),
            None => self.unpriced += 1,
        }
    }

    /// What all of them cost in dollars, when the price of each is known.
    pub fn cost_usd(&self) -> Option<f64> {
        (self.unpriced == 0).then(|| self.known_cost_usd())
    }

    /// What those cost whose price is known: the least that all of them cost.
    pub fn known_cost_usd(&self) -> f64 {
        dollars(self.priced_nano_usd)
    }

    /// Tokens read and written, when all calls tell both.
    pub fn total_tokens(&self) -> Tokens {
        Tokens(self.input.0.zip(self.output.0).map(|(input, output)| input.saturating_add(output)))
    }

    /// The tokens as the language shows those of a record (YV-1): numbers or null.
    pub fn usage_json(&self) -> Value {
        json!({
            "input_tokens": self.input,
            "output_tokens": self.output,
            "cached_tokens": self.cached,
            "total_tokens": self.total_tokens(),
        })
    }
}

fn sum(so_far: Tokens, more: Tokens) -> Tokens {
    Tokens(so_far.0.zip(more.0).map(|(so_far, more)| so_far.saturating_add(more)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::{Completion, FinishReason};

    fn spent(usage: Usage, cost_nano_usd: Option<u64>) -> Spent {
        let (provider, model) = ("p".to_owned(), "m".to_owned());
        Spent { provider, model, usage, cost_nano_usd, mock: false }
    }

    fn usage(input: u64, output: u64, cache_read: u64) -> Usage {
        Usage {
            input: input.into(),
            output: output.into(),
            cache_read: cache_read.into(),
            ..Usage::default()
        }
    }

    #[test]
    fn it_is_read_from_the_reply_of_a_model_and_from_no_other() {
        let completion = Completion {
            text: "secret".to_owned(),
            model: "m".to_owned(),
            provider: "p".to_owned(),
            finish: FinishReason::Stop,
            usage: usage(3, 4, 0),
            cost_nano_usd: Some(7),
            request_id: None,
            mock: false,
        };
        let reply = serde_json::to_value(completion).unwrap();
        let read = Spent::of_reply(&reply).unwrap();
        assert_eq!(read, spent(usage(3, 4, 0), Some(7)));
        assert_eq!(Spent::of_reply(&serde_json::to_value(&read).unwrap()), Some(read));
        for other in [json!(null), json!("text"), json!({"seen": 1}), json!({"usage": {}})] {
            assert_eq!(Spent::of_reply(&other), None, "{other}");
        }
    }

    #[test]
    fn a_sum_is_known_when_all_its_parts_are() {
        let mut sum = Spending::default();
        assert_eq!((sum.cost_usd(), sum.total_tokens()), (Some(0.0), Tokens(Some(0))));
        assert_eq!(sum.cache_hits, Tokens(Some(0)));
        sum.add(Some(&spent(usage(10, 5, 0), Some(1_000_000))));
        sum.add(Some(&spent(usage(20, 7, 8), Some(500_000))));
        assert_eq!((sum.calls, sum.recorded, sum.unpriced), (2, 2, 0));
        assert_eq!((sum.cost_usd(), sum.total_tokens()), (Some(0.0015), Tokens(Some(42))));
        assert_eq!(sum.cache_hits, Tokens(Some(1)));
        let told = json!({
            "input_tokens": 30, "output_tokens": 12, "cached_tokens": 8, "total_tokens": 42,
        });
        assert_eq!(sum.usage_json(), told);

        let silent = Usage { output: 1.into(), ..Usage::default() };
        for (unknown, usage) in [
            (
                None,
                json!({"input_tokens": null, "output_tokens": null, "cached_tokens": null,
                "total_tokens": null}),
            ),
            (
                Some(spent(silent, None)),
                json!({"input_tokens": null, "output_tokens": 13,
                "cached_tokens": null, "total_tokens": null}),
            ),
        ] {
            let mut with = sum;
            with.add(unknown.as_ref());
            assert_eq!((with.calls, with.unpriced), (3, 1));
            assert_eq!(with.recorded, 2 + u64::from(unknown.is_some()));
            assert_eq!((with.cost_usd(), with.known_cost_usd()), (None, 0.0015));
            assert_eq!((with.cache_hits, with.usage_json()), (Tokens(None), usage));
        }
    }
}
