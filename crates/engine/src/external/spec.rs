//! How a service is declared, and everything that can be wrong with it.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
    time::Duration,
};

use perennial_core::{
    failure::Failure,
    service::{ServiceTerms, TermsFault},
};
use perennial_store::AfterWait;
use perennial_supervision::Clock;
use perennial_tools::{
    protection::{BreakerConfig, Judged, Limit, LimiterConfig, Outcome, Permits},
    service::ServiceDriver,
};

use super::{calls::IsFault, defaults::ServiceDefaults};

/// Bytes of a name.
const NAME_MAX: usize = 128;

/// Who shares an instance of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// All runs: there is one.
    #[default]
    Shared,
    /// The jobs of a run: there is one for each run, whose id is the key.
    PerRun,
    /// Whoever names the same key.
    Keyed,
}

/// What becomes of a job that declares a service which does not admit it: it waits, and then?
///
/// ```
/// use perennial::service::{OnUnavailable, Then};
/// use std::time::Duration;
///
/// let patient = OnUnavailable::defer(Duration::from_secs(3600)).then(Then::Fail);
/// assert_eq!(OnUnavailable::default(), OnUnavailable::defer(Duration::from_secs(30 * 60)));
/// # let _ = patient;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnUnavailable {
    pub(super) max_wait: Duration,
    pub(super) then: Then,
}

/// What becomes of a job that has waited for a service in vain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Then {
    /// A child of a group is skipped, which takes something from the success of its group; any other job fails.
    #[default]
    SkipChild,
    /// It fails.
    Fail,
}

impl Default for OnUnavailable {
    /// It waits for 30 min.
    fn default() -> Self {
        Self::defer(Duration::from_secs(30 * 60))
    }
}

impl OnUnavailable {
    /// It waits so long, over all its attempts in between, and uses none of them.
    pub fn defer(max_wait: Duration) -> Self {
        Self { max_wait, then: Then::default() }
    }

    /// What then becomes of it; without, a child is skipped and any other job fails.
    #[must_use]
    pub fn then(mut self, then: Then) -> Self {
        self.then = then;
        self
    }
}

impl From<Then> for AfterWait {
    fn from(then: Then) -> Self {
        match then {
            Then::SkipChild => Self::Skip,
            Then::Fail => Self::Fail,
        }
    }
}

/// A service as a host declares it.
///
/// ```
/// use perennial::service::{HttpEndpoint, Scope, ServiceSpec};
/// use std::time::Duration;
///
/// let analyzer = HttpEndpoint::new("http://127.0.0.1:2002")?.probed_at("/health")?;
/// let spec = ServiceSpec::new("analyzer", analyzer)
///     .scope(Scope::Shared)
///     .ready_within(Duration::from_secs(60))
///     .idle_stop(Duration::from_secs(120));
/// assert_eq!(spec.name(), "analyzer");
/// # Ok::<(), perennial::service::InvalidEndpoint>(())
/// ```
#[derive(Clone)]
pub struct ServiceSpec {
    name: String,
    driver: Arc<dyn ServiceDriver>,
    scope: Scope,
    /// What it changes of the terms of all services, in order.
    terms: Vec<Change>,
    instances_max: Option<usize>,
    on_unavailable: Option<OnUnavailable>,
    breaker: Option<BreakerConfig>,
    is_fault: IsFault,
    calls_max: Option<u64>,
    rate: Option<LimiterConfig>,
}

type Change = Arc<dyn Fn(&mut ServiceTerms) + Send + Sync>;

impl ServiceSpec {
    /// The service `name`, driven by `driver`: shared. What is not set is as the host has it for all of its services
    /// ([`ServiceDefaults`]); the values named here are those without a configuration.
    pub fn new(name: impl Into<String>, driver: impl ServiceDriver) -> Self {
        Self {
            name: name.into(),
            driver: Arc::new(driver),
            scope: Scope::Shared,
            terms: Vec::new(),
            instances_max: None,
            on_unavailable: None,
            breaker: None,
            is_fault: Declared::is_fault,
            calls_max: None,
            rate: None,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sets who shares an instance.
    #[must_use]
    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// Sets all times and counts at once: none of them is as the host has it for all of its services any more (`[service]` of
    /// the configuration), nor as it was set before this. To change some, there is a function for each of these.
    #[must_use]
    pub fn terms(self, terms: ServiceTerms) -> Self {
        self.with(move |all| *all = terms)
    }

    fn with(mut self, change: impl Fn(&mut ServiceTerms) + Send + Sync + 'static) -> Self {
        self.terms.push(Arc::new(change));
        self
    }

    /// Sets how long a start may take until it is ready; 3 min.
    #[must_use]
    pub fn ready_within(self, within: Duration) -> Self {
        self.with(move |terms| terms.ready_within = within)
    }

    /// Sets the time between probes while it starts; 2 s.
    ///
    /// ```
    /// use perennial::service::{HttpEndpoint, ServiceSpec};
    /// use std::time::Duration;
    ///
    /// // It takes some starts until it stays, and is there soon.
    /// let flaky = ServiceSpec::new("flaky", HttpEndpoint::new("http://127.0.0.1:2003")?)
    ///     .start_probe_every(Duration::from_millis(200))
    ///     .start_backoff(Duration::from_millis(300))
    ///     .restarts_max(100);
    /// assert_eq!(flaky.name(), "flaky");
    /// # Ok::<(), perennial::service::InvalidEndpoint>(())
    /// ```
    #[must_use]
    pub fn start_probe_every(self, every: Duration) -> Self {
        self.with(move |terms| terms.start_probe_every = every)
    }

    /// Sets the pause before the first restart, doubled for each further one that is near; 2 s.
    #[must_use]
    pub fn start_backoff(self, pause: Duration) -> Self {
        self.with(move |terms| terms.start_backoff = pause)
    }

    /// Sets how many restarts within 5 min are tolerated; 5. With one more it has failed for good.
    #[must_use]
    pub fn restarts_max(self, max: u32) -> Self {
        self.with(move |terms| terms.restarts_max = max)
    }

    /// Sets the time between probes; 10 s.
    #[must_use]
    pub fn probe_every(self, every: Duration) -> Self {
        self.with(move |terms| terms.probe_every = every)
    }

    /// Sets how old a verdict may be that admits somebody; 30 s.
    #[must_use]
    pub fn health_ttl(self, ttl: Duration) -> Self {
        self.with(move |terms| terms.health_ttl = ttl)
    }

    /// Sets how long it runs on after its last hold was given back; 10 min.
    #[must_use]
    pub fn idle_stop(self, after: Duration) -> Self {
        self.with(move |terms| terms.idle_stop = after)
    }

    /// Sets how long it is left alone after it was ready for the first time; 0.
    #[must_use]
    pub fn settle_delay(self, delay: Duration) -> Self {
        self.with(move |terms| terms.settle_delay = delay)
    }

    /// It runs from the start of the runtime on, held or not. Only a shared service can.
    #[must_use]
    pub fn always_on(self) -> Self {
        self.with(|terms| terms.always_on = true)
    }

    /// It admits while it is degraded, too.
    #[must_use]
    pub fn admit_degraded(self) -> Self {
        self.with(|terms| terms.admit_degraded = true)
    }

    /// Sets how many instances there may be of a service that is not shared; 4.
    #[must_use]
    pub fn instances_max(mut self, max: usize) -> Self {
        self.instances_max = Some(max);
        self
    }

    /// Sets how long a job waits that declares it, and what becomes of the job then; 30 min, then a child is skipped and
    /// any other job fails. A service that has failed for good is not waited for.
    #[must_use]
    pub fn on_unavailable(mut self, on_unavailable: OnUnavailable) -> Self {
        self.on_unavailable = Some(on_unavailable);
        self
    }
}

impl ServiceSpec {
    /// Sets when too many failed calls close an instance to further ones; after 5 in a row, for 30 s. Only calls count that
    /// are made with [`AttemptCx::permit`](crate::AttemptCx::permit), never a probe.
    #[must_use]
    pub fn breaker(mut self, breaker: BreakerConfig) -> Self {
        self.breaker = Some(breaker);
        self
    }

    /// Sets which failed calls speak against the service; those of a class that may get better by itself, but for a quota
    /// that is used up.
    #[must_use]
    pub fn count_only(mut self, is_fault: fn(&Failure) -> bool) -> Self {
        self.is_fault = is_fault;
        self
    }

    /// Sets how many calls to an instance may be under way at a time, in this process; any number.
    #[must_use]
    pub fn calls_max(mut self, most: u64) -> Self {
        self.calls_max = Some(most);
        self
    }

    /// Sets how many calls may be made to an instance in how much time, by this process; any number.
    #[must_use]
    pub fn rate(mut self, limit: Limit) -> Self {
        self.rate = Some(LimiterConfig::one(limit));
        self
    }
}

impl fmt::Debug for ServiceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceSpec")
            .field("name", &self.name)
            .field("driver", &self.driver)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

/// What is wrong with one service.
///
/// ```
/// use perennial::service::ServiceFault;
///
/// let twice = ServiceFault::Repeated { service: "app".to_owned(), times: 2 };
/// assert!(twice.to_string().starts_with("the service `app` is declared 2 times"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceFault {
    /// It has no name, or one that is too long.
    #[error("`{service}` is no name of a service: it has 1 to 128 bytes")]
    Name {
        /// What it is called.
        service: String,
    },
    /// Several have one name.
    #[error(
        "the service `{service}` is declared {times} times: which of them is meant would be chance"
    )]
    Repeated {
        /// The name.
        service: String,
        /// How many have it.
        times: usize,
    },
    /// One of its times or counts cannot be meant.
    #[error("the service `{service}`: {fault}")]
    Terms {
        /// The service.
        service: String,
        /// What is wrong.
        fault: TermsFault,
    },
    /// Its driver cannot do what it is configured for.
    #[error("the driver of the service `{service}`: {fault}")]
    Driver {
        /// The service.
        service: String,
        /// What is wrong.
        fault: String,
    },
    /// What guards its calls cannot be meant.
    #[error("what guards the calls to the service `{service}`: {fault}")]
    Guard {
        /// The service.
        service: String,
        /// What is wrong.
        fault: String,
    },
    /// Nobody can say which instances are to be always on.
    #[error(
        "the service `{service}` is always on and has an instance for each key: make it shared, or let it be held"
    )]
    AlwaysOn {
        /// The service.
        service: String,
    },
    /// It could never be held.
    #[error("the service `{service}` may have no instance: let `instances_max` be 1 or more")]
    NoInstance {
        /// The service.
        service: String,
    },
}

/// Everything that is wrong with the services of a host.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use perennial::{Runtime, RuntimeError, Store, service::{ChildProcess, Scope, ServiceSpec}};
///
/// let app = ServiceSpec::new("app", ChildProcess::new("app")).scope(Scope::Keyed).always_on();
/// let refused = Runtime::builder().store(Store::memory()).service(app).start().await;
/// let Err(RuntimeError::Services(invalid)) = refused else { panic!("it cannot be meant") };
/// assert_eq!(invalid.faults.len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
#[non_exhaustive]
pub struct InvalidServices {
    /// At least one, in the order of the names.
    pub faults: Vec<ServiceFault>,
}

/// A service that can be meant.
#[derive(Debug)]
pub(super) struct Declared {
    pub(super) name: Arc<str>,
    pub(super) driver: Arc<dyn ServiceDriver>,
    pub(super) scope: Scope,
    pub(super) terms: ServiceTerms,
    /// 1 for a shared one.
    pub(super) instances_max: usize,
    pub(super) on_unavailable: OnUnavailable,
    pub(super) breaker: BreakerConfig,
    pub(super) is_fault: IsFault,
    pub(super) calls_max: Option<u64>,
    pub(super) rate: Option<LimiterConfig>,
}

impl Declared {
    /// What speaks against a service, unless it says otherwise.
    pub(super) fn is_fault(failure: &Failure) -> bool {
        Judged::of(failure.class).outcome == Outcome::Failure
    }
}

pub(super) fn declare(
    specs: Vec<ServiceSpec>,
    defaults: &ServiceDefaults,
) -> Result<HashMap<String, Arc<Declared>>, InvalidServices> {
    let mut by_name: BTreeMap<String, Vec<ServiceSpec>> = BTreeMap::new();
    for spec in specs {
        by_name.entry(spec.name.clone()).or_default().push(spec);
    }
    let (mut declared, mut faults) = (HashMap::new(), Vec::new());
    for (name, specs) in by_name {
        if specs.len() > 1 {
            faults.push(ServiceFault::Repeated { service: name.clone(), times: specs.len() });
        }
        for spec in specs {
            let mut terms = defaults.terms;
            spec.terms.iter().for_each(|change| change(&mut terms));
            let its = Declared {
                name: name.as_str().into(),
                driver: spec.driver,
                scope: spec.scope,
                terms,
                instances_max: spec.instances_max.unwrap_or(defaults.instances_max),
                on_unavailable: spec.on_unavailable.unwrap_or(defaults.on_unavailable),
                breaker: spec.breaker.unwrap_or(defaults.breaker),
                is_fault: spec.is_fault,
                calls_max: spec.calls_max,
                rate: spec.rate,
            };
            faults.extend(faults_of(&its));
            let shared = its.scope == Scope::Shared;
            let its = Declared { instances_max: if shared { 1 } else { its.instances_max }, ..its };
            declared.insert(name.clone(), Arc::new(its));
        }
    }
    if faults.is_empty() { Ok(declared) } else { Err(InvalidServices { faults }) }
}

fn faults_of(spec: &Declared) -> Vec<ServiceFault> {
    let service = || spec.name.to_string();
    let mut faults = Vec::new();
    if spec.name.is_empty() || spec.name.len() > NAME_MAX {
        faults.push(ServiceFault::Name { service: service() });
    }
    let of_terms = spec.terms.faults().into_iter();
    faults.extend(of_terms.map(|fault| ServiceFault::Terms { service: service(), fault }));
    let of_driver = spec.driver.faults().into_iter();
    faults.extend(of_driver.map(|fault| ServiceFault::Driver { service: service(), fault }));
    if spec.terms.always_on && spec.scope != Scope::Shared {
        faults.push(ServiceFault::AlwaysOn { service: service() });
    }
    let rate = spec.rate.as_ref().map_or(Ok(()), LimiterConfig::check);
    let no_calls = Permits::counting("calls_max", spec.calls_max.unwrap_or(1), Clock::start());
    let guards = [spec.breaker.check().err(), rate.err(), no_calls.err()];
    let guards = guards.into_iter().flatten().map(|fault| fault.to_string());
    faults.extend(guards.map(|fault| ServiceFault::Guard { service: service(), fault }));
    if spec.instances_max == 0 {
        faults.push(ServiceFault::NoInstance { service: service() });
    }
    faults
}
