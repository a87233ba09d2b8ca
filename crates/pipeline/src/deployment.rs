//! The environment a run is deployed in: its mode, its limits, and who says so (1.6, 1.11).
//!
//! All of it is decided when a document is checked, and is part of the resolved definition: a resume
//! has the mode and the limits that its run was started with.

mod limits;
mod mode;
mod outside;
#[cfg(test)]
mod tests;

pub(crate) use limits::{Limit, Settled, Switch, settle};
pub use mode::{EnvironmentMode, UnknownMode};
pub(crate) use outside::value_of;
pub use outside::{Deployment, InvalidDeployment};

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::definition::Ordered;

/// What a definition knows of its deployment. Nothing of it is there when nobody says anything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Deployed {
    /// The mode, when somebody names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mode: Option<EnvironmentMode>,
    /// The section `environment` with that of the mode over it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) section: Option<Ordered>,
    /// Limits that somebody names; for the others the table says what is usual.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) limits: BTreeMap<Limit, u64>,
    /// Whether the document says that it is sandboxed, or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sandbox: Option<bool>,
}

impl Deployed {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The limit that somebody named.
    pub(crate) fn named(&self, limit: Limit) -> Option<u64> {
        self.limits.get(&limit).copied()
    }

    /// The limit that holds; none when nothing is bounded.
    pub(crate) fn limit(&self, limit: Limit) -> Option<u64> {
        self.named(limit).or_else(|| self.usual(limit))
    }

    /// What holds when nobody names `limit`.
    pub(crate) fn usual(&self, limit: Limit) -> Option<u64> {
        match limit {
            // The limit of a sandbox.
            Limit::MaxFileOperations => self.is_sandboxed().then_some(limits::SANDBOXED_OPERATIONS),
            Limit::MaxNestingDepth
            | Limit::MaxTotalSteps
            | Limit::MaxStepExecutions
            | Limit::MemoryLimitMb
            | Limit::NestedTimeoutSeconds
            | Limit::MaxExecutionSeconds
            | Limit::GeminiCallMs => Some(limit.usual(self.mode)),
        }
    }

    /// What holds of `switch` when the document is silent.
    pub(crate) fn switch(&self, switch: Switch) -> bool {
        switch.usual(self.mode)
    }

    pub(crate) fn is_sandboxed(&self) -> bool {
        self.sandbox.unwrap_or_else(|| self.switch(Switch::SandboxMode))
    }

    /// What `environment.…` reads.
    pub(crate) fn facts(&self) -> Value {
        let mut facts = Map::new();
        facts.insert("mode".to_owned(), self.mode.unwrap_or_default().name().into());
        facts.insert("debug_level".to_owned(), "basic".into());
        if let Some(section) = &self.section
            && let Some(section) = section.0.as_object()
        {
            for (key, value) in section.iter().filter(|(key, _)| *key != "mode") {
                facts.insert(key.clone(), value.clone());
            }
        }
        Value::Object(facts)
    }

    /// The section `environment` as it holds in `mode`: that of the mode over the keys beside it.
    pub(crate) fn in_mode(section: &Map<String, Value>, mode: Option<EnvironmentMode>) -> Value {
        let mut merged = section.clone();
        for each in EnvironmentMode::ALL {
            let own = merged.shift_remove(each.name());
            if let Some(Value::Object(own)) = own.filter(|_| mode.unwrap_or_default() == each) {
                lay_over(&mut merged, own);
            }
        }
        Value::Object(merged)
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.section.as_ref()?.0.get(key)?.as_bool()
    }

    /// Whether mocks may answer: not in production, unless it says so.
    pub(crate) fn allows_mocks(&self) -> bool {
        let usual = self.mode != Some(EnvironmentMode::Production);
        self.flag("allow_mock_providers").unwrap_or(usual)
    }

    /// Whether nobody but mocks may answer.
    pub(crate) fn forces_mocks(&self) -> bool {
        self.flag("force_mock_providers").unwrap_or(false)
    }

    /// Brings what it names down to what `deployment` enforces.
    pub(crate) fn enforce(&mut self, deployment: &Deployment) {
        for (limit, most) in deployment.all_enforced() {
            if limit != Limit::MaxExecutionSeconds {
                let held = self.limits.entry(limit).or_insert(most);
                *held = (*held).min(most);
            }
        }
    }

    /// The limits that hold, by name, for those who show them.
    pub(crate) fn shown_limits(&self, within_ms: Option<u64>) -> Value {
        let each = |limit: &Limit| Some((limit.name().to_owned(), self.limit(*limit)?.into()));
        let mut limits: Map<String, Value> = Limit::ALL.iter().filter_map(each).collect();
        if let Some(within_ms) = within_ms {
            // As exact as the document says it.
            let seconds = Duration::from_millis(within_ms).as_secs_f64();
            let whole = within_ms.is_multiple_of(1_000);
            let shown = if whole { (within_ms / 1_000).into() } else { seconds.into() };
            limits.insert(Limit::MaxExecutionSeconds.name().to_owned(), shown);
        }
        Value::Object(limits)
    }
}

/// Maps are merged key by key, everything else replaces.
fn lay_over(base: &mut Map<String, Value>, over: Map<String, Value>) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Object(base)), Value::Object(over)) => lay_over(base, over),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}
