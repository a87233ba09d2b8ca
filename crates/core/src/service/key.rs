//! Which instance of which service, which life of it, and who holds it.

use std::{fmt, sync::Arc};

/// One instance of a service: the shared one, or the one for a key.
///
/// ```
/// use perennial_core::service::ServiceKey;
///
/// assert_eq!(ServiceKey::shared("analyzer").to_string(), "analyzer");
/// let app = ServiceKey::keyed("app", "gpt:7");
/// assert_eq!((app.service(), app.instance()), ("app", Some("gpt:7")));
/// assert_eq!(app.to_string(), "app:gpt:7");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    service: Arc<str>,
    instance: Option<Arc<str>>,
}

impl ServiceKey {
    /// The one instance of a shared service.
    pub fn shared(service: impl Into<Arc<str>>) -> Self {
        Self { service: service.into(), instance: None }
    }

    /// The instance of `service` for `instance`: of a keyed service the key, of one per run the run.
    pub fn keyed(service: impl Into<Arc<str>>, instance: impl Into<Arc<str>>) -> Self {
        Self { service: service.into(), instance: Some(instance.into()) }
    }

    /// The name of the service.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// Which of its instances; none when it has one for all.
    pub fn instance(&self) -> Option<&str> {
        self.instance.as_deref()
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.instance {
            Some(instance) => write!(f, "{}:{instance}", self.service),
            None => f.write_str(&self.service),
        }
    }
}

/// The number of one life of an instance; it rises at every start, stop and restart and never falls.
///
/// ```
/// use perennial_core::service::Epoch;
///
/// assert!(Epoch::ZERO < Epoch::ZERO.next());
/// assert_eq!(Epoch::ZERO.next().get(), 1);
/// ```
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(u64);

impl Epoch {
    /// Before the first start.
    pub const ZERO: Self = Self(0);

    /// The one of this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The one after this.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// As a number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who holds an instance. A holder holds it once, however often it asks.
///
/// ```
/// use perennial_core::service::Holder;
///
/// assert_eq!(Holder::new("run/7/analyse").as_str(), "run/7/analyse");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder(Arc<str>);

impl Holder {
    /// A holder of this name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
