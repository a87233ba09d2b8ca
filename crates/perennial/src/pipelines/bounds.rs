//! What bounds a run from outside of its document. It is recorded with the run: a resume can narrow it, and nobody
//! can widen it.

use std::{collections::BTreeMap, time::Duration};

use perennial_pipeline::{Deployment, InvalidDeployment, Pipeline};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The bounds of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Nothing but limits that are enforced.
    enforced: Deployment,
    /// How long each round may take, where the host said so.
    within: Option<Duration>,
}

/// Why recorded bounds cannot be kept. To go on without them would lift them.
///
/// ```
/// let unreadable = serde_json::from_str::<u64>("many").unwrap_err();
/// let told = perennial::InvalidBounds::from(unreadable).to_string();
/// assert!(told.starts_with("the recorded limits of the run cannot be read"));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidBounds {
    /// They are no bounds.
    #[error("the recorded limits of the run cannot be read: {0}")]
    Malformed(#[from] serde_json::Error),
    /// They name a limit that this version does not have, or a value it cannot have.
    #[error("the recorded limits of the run cannot be kept: {0}")]
    Limit(#[from] InvalidDeployment),
}

#[derive(Default, Deserialize, Serialize)]
struct Recorded {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    enforced: BTreeMap<String, u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    within_ms: Option<u64>,
}

/// Where they stand in the settings of a run.
const KEY: &str = "bounds";

impl Bounds {
    /// What `deployment` enforces, and how long the host gives the run.
    pub(super) fn of_start(deployment: &Deployment, within: Option<Duration>) -> Self {
        Self { within, ..Self::default() }.narrowed(deployment)
    }

    /// Those of a run with these settings; older versions have recorded none.
    ///
    /// # Errors
    ///
    /// When they cannot be kept.
    pub(super) fn recorded(settings: &Value) -> Result<Self, InvalidBounds> {
        let Some(recorded) = settings.get(KEY) else { return Ok(Self::default()) };
        let recorded = Recorded::deserialize(recorded)?;
        let limits = recorded.enforced.iter().map(|(name, value)| (name.as_str(), *value));
        Ok(Self {
            enforced: Deployment::enforcing(limits)?,
            within: recorded.within_ms.map(Duration::from_millis),
        })
    }

    /// Writes them into the settings of a run.
    pub(super) fn record(&self, settings: &mut Value) {
        let enforced = self.enforced.enforced_limits().into_iter();
        let recorded = Recorded {
            enforced: enforced.map(|(name, value)| (name.to_owned(), value)).collect(),
            within_ms: self
                .within
                .map(|within| u64::try_from(within.as_millis()).unwrap_or(u64::MAX)),
        };
        if *self != Self::default() {
            settings[KEY] = json!(recorded);
        }
    }

    /// These, and what `deployment` enforces besides: of two values the smaller one holds.
    pub(super) fn narrowed(self, deployment: &Deployment) -> Self {
        let mut limits = self.enforced.enforced_limits();
        for (name, value) in deployment.enforced_limits() {
            let held = limits.entry(name).or_insert(value);
            *held = value.min(*held);
        }
        // They come from deployments, so each of them is a limit with a value that it can have.
        let enforced = Deployment::enforcing(limits).unwrap_or(self.enforced);
        Self { enforced, ..self }
    }

    /// `pipeline`, within them.
    pub(super) fn bind(&self, pipeline: Pipeline) -> Pipeline {
        pipeline.within_enforced(&self.enforced)
    }

    /// How long a round of `pipeline` may take.
    pub(super) fn within(&self, pipeline: &Pipeline) -> Option<Duration> {
        let asked = self.within.or(pipeline.within());
        match (asked, self.enforced.enforced_time()) {
            (Some(asked), Some(most)) => Some(asked.min(most)),
            (asked, most) => asked.or(most),
        }
    }
}
