use std::{fmt, sync::Arc};

use super::Address;

/// What went wrong at an address, and whose it is: made with [`Address::failed`].
///
/// ```
/// use perennial_supervision::{CallError, Failed};
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// let failed: Failed<CallError> = counter.failed(CallError::Timeout);
/// assert_eq!(failed.to.as_deref(), Some("/app/counter"));
/// assert_eq!(failed.to_string(), "/app/counter: no reply within the deadline");
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed<E> {
    /// The path of the child; none for one that has never run.
    pub to: Option<Arc<str>>,
    /// What.
    pub error: E,
}

impl<M> Address<M> {
    /// `error` with the path of whom it is about, for logs and for those who do not know whom was asked.
    ///
    /// ```
    /// # use perennial_supervision::{Address, CallError, Failed, Reply};
    /// async fn count(counter: &Address<Reply<u64>>) -> Result<u64, Failed<CallError>> {
    ///     counter.ask(|reply| reply).await.map_err(|error| counter.failed(error))
    /// }
    /// // `/app/counter: no reply within the deadline`
    /// ```
    pub fn failed<E>(&self, error: E) -> Failed<E> {
        Failed { to: self.to.path(), error }
    }
}

impl<E: fmt::Display> fmt::Display for Failed<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.to {
            Some(path) => write!(f, "{path}: {}", self.error),
            None => write!(f, "a child that has never run: {}", self.error),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for Failed<E> {
    // What the text tells already is no source; what is behind it is.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}
