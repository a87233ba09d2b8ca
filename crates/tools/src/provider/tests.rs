use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex},
};

use perennial_core::run::{JobKey, RunId};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

use super::*;
use crate::{MockProvider, MockRules};

type Fields = BTreeMap<&'static str, String>;

/// Keeps the fields of every span, by its number.
#[derive(Clone, Default)]
struct Ear(Arc<Mutex<Vec<Fields>>>);

struct Into<'a>(&'a mut Fields);

impl Visit for Into<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl Subscriber for Ear {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut fields = Fields::from([("span", attributes.metadata().name().to_owned())]);
        attributes.record(&mut Into(&mut fields));
        let mut spans = self.0.lock().unwrap();
        spans.push(fields);
        Id::from_u64(spans.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let place = usize::try_from(span.into_u64()).unwrap() - 1;
        values.record(&mut Into(&mut self.0.lock().unwrap()[place]));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The span of a call of `prompt` to the mock.
async fn span_of(ear: &Ear, prompt: &str) -> Fields {
    let provider = MockProvider::claude(MockRules::default());
    let (run, job) = (RunId::parse("r").unwrap(), JobKey::new("a"));
    let cx = CallCx::new(IdempotencyKey::new("w", &run, "steps", &job), "traced/step");
    let request = ChatRequest::ask("m", prompt, 9);
    // A place that traces first while a listener begins to listen may be lost once.
    for _ in 0..100 {
        drop(complete(&provider, &request, &cx).await);
        let spans = ear.0.lock().unwrap().split_off(0);
        if let Some(span) = spans.into_iter().find(|span| span["span"] == "llm_call") {
            return span;
        }
    }
    panic!("no call was traced");
}

/// YM-13, YM-14.
#[tokio::test]
async fn a_call_is_a_span_that_tells_what_it_used_and_nothing_of_what_was_said() {
    let ear = Ear::default();
    let _listening = tracing::subscriber::set_default(ear.clone());
    let span = span_of(&ear, "simple test").await;
    let known = [
        ("cost_nano_usd", "1000000"),
        ("model", "\"m\""),
        ("provider", "\"claude\""),
        ("span", "llm_call"),
        ("step_path", "traced/step"),
    ];
    // Its tokens are not known: absent, not 0.
    assert_eq!(span, Fields::from(known.map(|(name, value)| (name, value.to_owned()))));
    let span = span_of(&ear, "error test").await;
    assert_eq!(span.get("error").map(String::as_str), Some("\"permanent\""), "{span:?}");
    assert!(!span.contains_key("cost_nano_usd"), "{span:?}");
}
