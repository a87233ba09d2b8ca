//! `cache` of a step, and what the workflow says for steps that are silent (1.5, 1.7).

use super::{Check, Section, references::Standpoint};
use crate::{
    definition::{CACHE_TTL_MS, Cache},
    diagnostic::{Code, Finding},
};

/// What `defaults` say about kept results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CacheDefault {
    /// Whether calls to models are kept.
    on: bool,
    ttl_ms: u64,
}

impl Default for CacheDefault {
    fn default() -> Self {
        Self { on: false, ttl_ms: CACHE_TTL_MS }
    }
}

impl CacheDefault {
    /// What `section` says under these keys, and where it is silent, this.
    pub(super) fn below(self, section: &Section<'_>, on: &str, ttl: &str) -> Self {
        Self {
            on: section.flag(on).unwrap_or(self.on),
            ttl_ms: section.millis(ttl).unwrap_or(self.ttl_ms),
        }
    }
}

impl Check<'_> {
    /// How the result of the step is kept, if it is; `calls` says whether it may call a model.
    pub(super) fn cache(
        &mut self,
        section: &Section<'_>,
        calls: bool,
        default: CacheDefault,
        from: Standpoint<'_>,
    ) -> Option<Cache> {
        let ttl_ms = default.ttl_ms;
        let Some(entry) = section.get("cache") else {
            return (calls && default.on).then_some(Cache { key: None, ttl_ms });
        };
        if section.flag("cache") == Some(false) {
            return None;
        }
        if !calls {
            let text = "`cache` has no effect: only results of calls to models are kept";
            let note = Finding::note(Code(220), text).at(entry.key_extent);
            self.findings.push(note.pointer(section.pointer_of("cache")));
            return None;
        }
        let Some(map) = section.map("cache") else { return Some(Cache { key: None, ttl_ms }) };
        let key = self.template_of(&map, "key", from);
        Some(Cache { key, ttl_ms: map.millis("ttl").unwrap_or(ttl_ms) })
    }
}
