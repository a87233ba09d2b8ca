//! Handles that ask on somebody's behalf, and what is asked of the authority before anything is written (DUR-68).

use perennial_core::run::RunId;
use perennial_store::Retained;

use super::{RunError, Runs};
use crate::{Action, NotAuthorised, upkeep::Upkeep};

impl Runs {
    /// A handle that asks on behalf of `principal`: each request of it, and of the handles that it gives, is put to the
    /// [`Authority`](crate::Authority) of the runtime before anything is written, and is refused with
    /// [`RunError::NotAuthorised`] where that says no, or where there is none. What is done is recorded with the
    /// principal: in the event `requested` of the run, or as `by` of what is sent. Looking at runs is not asked for.
    ///
    /// The handle of a host itself may do everything. Of a handle that is somebody's already, both have to be allowed
    /// what is asked.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store, engine::{Action, Authority}};
    /// let authority = Authority::new(|asked| asked.action == Action::Pause);
    /// let runtime = Runtime::builder().store(Store::memory()).authority(authority).start().await?;
    /// # let text = "workflow: {name: w, steps: [{name: slow, type: echo, value: 1, delay_ms: 60000}]}";
    /// # let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// let run = runtime.runs().on_behalf_of("ada").get(run.id()).await?;
    /// run.pause().await?;
    /// let refused = run.cancel().await.unwrap_err().to_string();
    /// assert!(refused.starts_with("`ada` may not cancel run "));
    /// # runtime.runs().get(run.id()).await?.cancel().await?;
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn on_behalf_of(&self, principal: impl Into<String>) -> Self {
        Self { principals: self.principals.and(principal.into()), ..self.clone() }
    }

    /// Asks whether whoever this handle is of may do that, and does nothing: each request asks by itself.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Runtime, Store, engine::{Action, Authority}};
    /// let authority = Authority::new(|asked| asked.action == Action::Start);
    /// let runtime = Runtime::builder().store(Store::memory()).authority(authority).start().await?;
    /// let ada = runtime.runs().on_behalf_of("ada");
    /// assert!(ada.require(Action::Start, None).await.is_ok());
    /// assert!(ada.require(Action::Remove, None).await.is_err());
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`NotAuthorised`] when it may not.
    pub async fn require(&self, action: Action, run: Option<&RunId>) -> Result<(), NotAuthorised> {
        self.principals.require(&self.services, action, run).await
    }

    /// Removes a run that has ended, whatever its age.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// run.outcome().await?;
    /// runtime.runs().remove(run.id()).await?;
    /// assert!(runtime.runs().list(20).await?.is_empty());
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RunError::Store`] with [`StoreError::InvalidState`](perennial_store::StoreError) when it has not ended, with
    /// [`StoreError::NotFound`](perennial_store::StoreError) when there is none; else see [`RunError`].
    ///
    /// # Cancel safety
    ///
    /// Once begun, the next pass of `retention` ends it.
    pub async fn remove(&self, run: &RunId) -> Result<Retained, RunError> {
        self.require(Action::Remove, Some(run)).await?;
        Ok(Upkeep::new(self.services.store.clone()).purge(run).await?)
    }
}
