//! What calls cost by a table, where the provider does not say it itself (PRV-13).

use std::{collections::BTreeMap, fmt, sync::Arc};

use futures_util::StreamExt;
use perennial_core::llm::{ChatRequest, Price, Usage};

use super::{CallCx, Opening, Provider, ProviderEvent};

/// Prices by model, as it is reported or as it is asked for; the former wins. A model that is not in it
/// has no known price.
///
/// ```
/// use perennial_tools::{llm::{Price, Usage}, provider::priced::PriceTable};
///
/// let table = PriceTable::new([("m".to_owned(), Price::usd_per_million(3.0, 15.0, None, None)?)]);
/// assert_eq!(table.cost(None, "unknown", &Usage::default()), None);
/// # Ok::<(), perennial_tools::llm::InvalidPrice>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriceTable(BTreeMap<String, Price>);

impl PriceTable {
    /// A table of these.
    pub fn new(prices: impl IntoIterator<Item = (String, Price)>) -> Self {
        Self(prices.into_iter().collect())
    }

    /// What `usage` costs in nano-dollars, where that is known.
    pub fn cost(&self, reported: Option<&str>, asked: &str, usage: &Usage) -> Option<u64> {
        let price = reported.and_then(|model| self.0.get(model)).or_else(|| self.0.get(asked))?;
        price.of(usage)
    }

    /// The same provider, whose calls cost what the table says where it does not say it itself.
    pub fn on(&self, provider: Arc<dyn Provider>) -> Arc<dyn Provider> {
        if self.0.is_empty() {
            return provider;
        }
        Arc::new(Priced { provider, prices: Arc::new(self.clone()) })
    }
}

struct Priced {
    provider: Arc<dyn Provider>,
    prices: Arc<PriceTable>,
}

impl fmt::Debug for Priced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.provider.fmt(f)
    }
}

impl Provider for Priced {
    fn name(&self) -> &str {
        self.provider.name()
    }

    fn is_mock(&self) -> bool {
        self.provider.is_mock()
    }

    fn chat<'a>(&'a self, request: &'a ChatRequest, cx: &'a CallCx) -> Opening<'a> {
        Box::pin(async move {
            let events = self.provider.chat(request, cx).await?;
            let (prices, asked) = (self.prices.clone(), request.model.clone());
            let (mut reported, mut used) = (None, Usage::default());
            let events = events.map(move |mut event| {
                match &mut event {
                    ProviderEvent::Started { model, .. } => reported = Some(model.clone()),
                    ProviderEvent::Usage(usage) => used = *usage,
                    ProviderEvent::Finished { cost_nano_usd, .. } => {
                        if cost_nano_usd.is_none() {
                            *cost_nano_usd = prices.cost(reported.as_deref(), &asked, &used);
                        }
                    }
                    ProviderEvent::TextDelta { .. }
                    | ProviderEvent::Heartbeat
                    | ProviderEvent::Failed(_) => (),
                }
                event
            });
            Ok(Box::pin(events) as _)
        })
    }
}

#[cfg(test)]
mod tests {
    use perennial_core::{
        llm::FinishReason,
        run::{IdempotencyKey, JobKey, RunId},
    };

    use super::*;
    use crate::provider::complete;

    /// Answers as `m-1`, and says itself what that costs, or not.
    #[derive(Debug)]
    struct Answering {
        usage: Usage,
        cost_nano_usd: Option<u64>,
    }

    impl Provider for Answering {
        fn name(&self) -> &'static str {
            "answering"
        }

        fn chat<'a>(&'a self, _: &'a ChatRequest, _: &'a CallCx) -> Opening<'a> {
            let (reason, cost_nano_usd) = (FinishReason::Stop, self.cost_nano_usd);
            let events = [
                ProviderEvent::Started { request_id: None, model: "m-1".to_owned() },
                ProviderEvent::Usage(Usage { input: 999.into(), ..Usage::default() }),
                ProviderEvent::TextDelta { index: 0, text: "hello".to_owned() },
                ProviderEvent::Usage(self.usage),
                ProviderEvent::Finished { reason, cost_nano_usd },
            ];
            Box::pin(async move { Ok(Box::pin(futures_util::stream::iter(events)) as _) })
        }
    }

    fn table(rows: &[(&str, f64)]) -> PriceTable {
        let price = |usd: f64| Price::usd_per_million(usd, 10.0, None, None).unwrap();
        PriceTable::new(rows.iter().map(|(model, usd)| ((*model).to_owned(), price(*usd))))
    }

    async fn cost(table: &PriceTable, usage: Usage, own: Option<u64>) -> Option<u64> {
        let provider = table.on(Arc::new(Answering { usage, cost_nano_usd: own }));
        assert_eq!((provider.name(), provider.is_mock()), ("answering", false));
        let (run, job) = (RunId::parse("r").unwrap(), JobKey::new("a"));
        let cx = CallCx::new(IdempotencyKey::new("w", &run, "steps", &job), "a");
        let completion = complete(&*provider, &ChatRequest::ask("m", "hi", 9), &cx).await.unwrap();
        assert_eq!(completion.text, "hello");
        completion.cost_nano_usd
    }

    #[tokio::test]
    async fn a_call_costs_what_its_provider_says_else_what_the_table_says_else_nobody_knows() {
        let usage = Usage { input: 1_000.into(), output: 100.into(), ..Usage::default() };
        let both = table(&[("m", 1.0), ("m-1", 3.0)]);
        assert_eq!(cost(&both, usage, None).await, Some(4_000_000), "the reported model");
        assert_eq!(cost(&both, usage, Some(7)).await, Some(7));
        assert_eq!(cost(&table(&[("m", 1.0)]), usage, None).await, Some(2_000_000));
        assert_eq!(cost(&table(&[("m-2", 1.0)]), usage, None).await, None);
        assert_eq!(cost(&PriceTable::default(), usage, None).await, None);
        let silent = Usage { input: 1_000.into(), ..Usage::default() };
        assert_eq!(cost(&both, silent, None).await, None, "tokens that nobody tells");
    }
}
