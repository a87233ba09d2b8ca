//! What holds for every service that does not say otherwise itself.

use perennial_core::service::ServiceTerms;
use perennial_tools::protection::BreakerConfig;

use super::{
    OnUnavailable,
    spec::{InvalidServices, ServiceFault},
};

/// What holds for every service whose [`ServiceSpec`](super::ServiceSpec) does not say otherwise.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{Runtime, Store};
/// use perennial::service::{ServiceDefaults, ServiceTerms};
/// use std::time::Duration;
///
/// let terms = ServiceTerms { idle_stop: Duration::from_secs(60), ..ServiceTerms::default() };
/// let defaults = ServiceDefaults { terms, ..ServiceDefaults::default() };
/// let runtime = Runtime::builder().store(Store::memory()).service_defaults(defaults).start().await?;
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceDefaults {
    /// Times and counts.
    pub terms: ServiceTerms,
    /// Most instances of a service that is not shared; 4.
    pub instances_max: usize,
    /// What becomes of jobs that it does not admit: they wait for 30 min, then a child is skipped and any other job
    /// fails.
    pub on_unavailable: OnUnavailable,
    /// When too many failed calls close an instance to further ones: after 5 in a row, for 30 s.
    pub breaker: BreakerConfig,
}

impl Default for ServiceDefaults {
    fn default() -> Self {
        Self {
            terms: ServiceTerms::default(),
            instances_max: 4,
            on_unavailable: OnUnavailable::default(),
            breaker: BreakerConfig::consecutive(5),
        }
    }
}

impl ServiceDefaults {
    /// # Errors
    ///
    /// Everything that cannot be meant, told of the service `*`.
    pub fn check(&self) -> Result<(), InvalidServices> {
        let service = || "*".to_owned();
        let of_terms = self.terms.faults().into_iter();
        let of_terms = of_terms.map(|fault| ServiceFault::Terms { service: service(), fault });
        let of_breaker = self.breaker.check().err().map(|fault| fault.to_string());
        let of_breaker = of_breaker.map(|fault| ServiceFault::Guard { service: service(), fault });
        let none =
            (self.instances_max == 0).then(|| ServiceFault::NoInstance { service: service() });
        let faults: Vec<_> = of_terms.chain(of_breaker).chain(none).collect();
        if faults.is_empty() { Ok(()) } else { Err(InvalidServices { faults }) }
    }
}
