//! What is traced on this thread.

use std::{
    fmt::{Debug, Write},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::DefaultGuard,
};

/// Events with their levels and fields, as `name=value` in one line.
#[derive(Clone, Default)]
pub(crate) struct Traces {
    events: Arc<Mutex<Vec<(Level, String)>>>,
    spans: Arc<AtomicU64>,
}

/// Hears everything and keeps nothing.
struct Ear;

impl Subscriber for Ear {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

impl Traces {
    /// Makes every place that traces know that somebody listens. Without it, a place that is reached
    /// for the first time while another test begins to collect may be told that nobody does, and
    /// keeps to that.
    pub(crate) fn listen() {
        drop(tracing::subscriber::set_global_default(Ear));
    }

    /// Collects what this thread traces while the guard lives.
    pub(crate) fn collect() -> (Self, DefaultGuard) {
        let traces = Self::default();
        let guard = tracing::subscriber::set_default(traces.clone());
        (traces, guard)
    }

    /// Those of this context, since the last call.
    pub(crate) fn take(&self, context: &str) -> Vec<(Level, String)> {
        self.with(&format!(" context={context:?}"))
    }

    /// Those with this text in their line, since the last call.
    pub(crate) fn with(&self, text: &str) -> Vec<(Level, String)> {
        let mut events = std::mem::take(&mut *self.events.lock().unwrap());
        events.retain(|(_, line)| line.contains(text));
        events
    }
}

impl Subscriber for Traces {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(self.spans.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.events.lock().unwrap().push((*event.metadata().level(), line.0));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}
