//! Who answers a call: the provider of the run, or the replies that its child has for it (2.16).

use std::sync::Arc;

use perennial_core::{FailureClass, failure::Failure};
use perennial_tools::{MockProvider, MockRules, provider::Provider};
use serde_json::json;

use super::{PipelineRun, scope::Scope};
use crate::definition::ProviderKind;

impl PipelineRun {
    /// The provider of a call of `kind` by the step `step` of this scope.
    ///
    /// # Errors
    ///
    /// When there is none, or replies are made up and the run's providers are real (PL707).
    pub(super) fn provider_of(
        &self,
        kind: ProviderKind,
        step: &str,
        scope: &Scope<'_>,
    ) -> Result<Arc<dyn Provider>, Failure> {
        let provider = self.providers.provider(kind)?;
        let Some(replies) = scope.mocks() else { return Ok(provider) };
        let refused = |text: String| Failure::new(FailureClass::Permanent, "PL707", text);
        if !provider.is_mock() {
            return Err(refused(
                "the replies of a child are mocked, and those of its run are not".into(),
            ));
        }
        // What it does not name, the run's own mocks answer.
        let Some(reply) = replies.get(step) else { return Ok(provider) };
        let rules = MockRules::from_value(&json!({ "replies": { "": reply } }))
            .map_err(|error| refused(error.to_string()))?;
        Ok(match kind {
            ProviderKind::Claude => Arc::new(MockProvider::claude(rules)),
            ProviderKind::Gemini => Arc::new(MockProvider::gemini(rules)),
        })
    }
}
