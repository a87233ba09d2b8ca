//! Calls that may go to any of several endpoints: spread over those that are well.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use perennial_core::{
    Uptime,
    protection::{
        InvalidConfig,
        breaker::{BreakerConfig, Outcome},
    },
};
use perennial_supervision::Clock;

use super::{BreakerError, BreakerPermit, BreakerStatus, Breakers};

/// Endpoints that do the same. Cheap to clone; clones are the same.
///
/// Calls take turns. Each endpoint has a breaker: one that failed of late is left out, and comes back when a probe, which
/// is an ordinary call, went well after its time.
///
/// ```
/// use perennial_supervision::Clock;
/// use perennial_tools::protection::{BreakerConfig, Endpoints};
/// use std::time::Duration;
///
/// let config = BreakerConfig::consecutive(1).open_for(Duration::from_secs(10));
/// let hosts = ["a", "b"].map(|host| (host.to_owned(), format!("https://{host}.example")));
/// let endpoints = Endpoints::new("search", hosts, config, Clock::start())?;
/// let turn = endpoints.pick()?;
/// assert_eq!((turn.name(), turn.endpoint().as_str()), ("a", "https://a.example"));
/// turn.failure();
/// endpoints.pick()?.success(); // b
/// assert_eq!(endpoints.pick()?.name(), "b"); // a is left out
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Endpoints<T>(Arc<Inner<T>>);

struct Inner<T> {
    name: String,
    breakers: Breakers,
    endpoints: Vec<(String, T)>,
    /// Whose turn it is.
    next: Mutex<usize>,
}

/// None of the endpoints may be called now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no endpoint of `{name}` is available{}", retry_at.map(|at| format!(": ask again at {:?}", at.elapsed())).unwrap_or_default())]
pub struct Unavailable {
    /// What they are for.
    pub name: String,
    /// When the first of them may be probed; unknown while all that may be are being probed.
    pub retry_at: Option<Uptime>,
}

impl<T> Endpoints<T> {
    /// `endpoints` by their names. All are taken for well; when they are not, and for how long, says `config`.
    ///
    /// # Errors
    ///
    /// When there are none, two have one name, or a setting cannot be used.
    pub fn new(
        name: impl Into<String>,
        endpoints: impl IntoIterator<Item = (String, T)>,
        config: BreakerConfig,
        clock: Clock,
    ) -> Result<Self, InvalidConfig> {
        let endpoints: Vec<_> = endpoints.into_iter().collect();
        let mut names: Vec<&str> = endpoints.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        let twice = names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
        let wrong = |is: &str, must| {
            Err(InvalidConfig { of: "endpoints", field: "endpoints", is: is.to_owned(), must })
        };
        match twice {
            Some(name) => return wrong(name, "of different names"),
            None if endpoints.is_empty() => return wrong("none", "at least one"),
            None => (),
        }
        let breakers = Breakers::new(clock);
        for (name, _) in &endpoints {
            breakers.declare(name, config)?;
        }
        let (name, next) = (name.into(), Mutex::new(0));
        Ok(Self(Arc::new(Inner { name, breakers, endpoints, next })))
    }

    /// The next endpoint that may be called. Say what came of the call; dropped, it was abandoned and says nothing.
    ///
    /// # Errors
    ///
    /// When all failed of late.
    pub fn pick(&self) -> Result<Turn<T>, Unavailable> {
        let count = self.0.endpoints.len();
        let mut next = self.0.next.lock().unwrap_or_else(PoisonError::into_inner);
        let mut retry_at: Option<Uptime> = None;
        for place in (*next..count).chain(0..*next) {
            match self.0.breakers.permit(self.0.endpoints[place].0.as_str()) {
                Ok(permit) => {
                    *next = (place + 1) % count;
                    return Ok(Turn { place, permit, endpoints: self.clone() });
                }
                Err(BreakerError::Open { retry_at: at, .. }) => {
                    retry_at = Some(retry_at.map_or(at, |known| known.min(at)));
                }
                // Being probed: somebody will know soon.
                Err(_) => (),
            }
        }
        Err(Unavailable { name: self.0.name.clone(), retry_at })
    }

    /// How each endpoint stands, by name.
    pub fn status(&self) -> Vec<(String, BreakerStatus)> {
        self.0.breakers.list().into_iter().map(|(id, status)| (id.to_string(), status)).collect()
    }
}

impl<T> Clone for Endpoints<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Endpoints<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoints").field("name", &self.0.name).finish_non_exhaustive()
    }
}

/// The right to call one endpoint once.
#[must_use = "a turn that is dropped is an abandoned call"]
#[derive(Debug)]
pub struct Turn<T> {
    place: usize,
    permit: BreakerPermit,
    endpoints: Endpoints<T>,
}

impl<T> Turn<T> {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.endpoints.0.endpoints[self.place].0
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &T {
        &self.endpoints.0.endpoints[self.place].1
    }

    /// The call went well.
    pub fn success(self) {
        self.permit.success();
    }

    /// The call failed, or ran out of time.
    pub fn failure(self) {
        self.permit.failure();
    }

    /// What came of the call.
    pub fn settle(self, outcome: Outcome) {
        self.permit.settle(outcome);
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::*;

    fn endpoints(clock: Clock) -> Endpoints<u32> {
        let hosts = ["a", "b", "c"].map(|name| (name.to_owned(), 7));
        let config = BreakerConfig::consecutive(1).open_for(Duration::from_secs(10)).jitter(0);
        Endpoints::new("search", hosts, config, clock).unwrap()
    }

    /// How often each was picked; all calls go well.
    fn spread(endpoints: &Endpoints<u32>, calls: usize) -> BTreeMap<String, usize> {
        let mut picked = BTreeMap::new();
        for _ in 0..calls {
            let turn = endpoints.pick().unwrap();
            *picked.entry(turn.name().to_owned()).or_default() += 1;
            turn.success();
        }
        picked
    }

    fn counts<const N: usize>(counts: [(&str, usize); N]) -> BTreeMap<String, usize> {
        counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
    }

    /// Proves B37.
    #[tokio::test(start_paused = true)]
    async fn calls_are_spread_and_one_that_failed_is_left_out_until_a_probe_goes_well() {
        let clock = Clock::start();
        let endpoints = endpoints(clock);
        assert_eq!(spread(&endpoints, 300), counts([("a", 100), ("b", 100), ("c", 100)]));
        endpoints.pick().unwrap().failure(); // a
        assert_eq!(spread(&endpoints, 300), counts([("b", 150), ("c", 150)]));
        // Its time, on a paused clock.
        tokio::time::sleep(Duration::from_secs(10)).await;
        let turns: Vec<_> = (0..3).map(|_| endpoints.pick().unwrap()).collect();
        let names: Vec<&str> = turns.iter().map(Turn::name).collect();
        assert_eq!(names, ["a", "b", "c"]);
        // One probe at a time; the others go on.
        let more: Vec<_> = (0..4).map(|_| endpoints.pick().unwrap()).collect();
        assert!(more.iter().all(|turn| turn.name() != "a"));
        for turn in turns.into_iter().chain(more) {
            turn.success();
        }
        assert_eq!(spread(&endpoints, 300), counts([("a", 100), ("b", 100), ("c", 100)]));
        for _ in 0..3 {
            endpoints.pick().unwrap().failure();
        }
        let retry_at = Some(clock.now() + Duration::from_secs(10));
        let none = endpoints.pick().unwrap_err();
        assert_eq!(none, Unavailable { name: "search".to_owned(), retry_at });
        assert!(none.to_string().starts_with("no endpoint of `search` is available: "));
        assert_eq!(endpoints.status().len(), 3);
    }

    #[test]
    fn endpoints_have_names_of_their_own_and_there_is_one() {
        let new = |names: &[&str]| {
            let hosts = names.iter().map(|name| ((*name).to_owned(), ()));
            Endpoints::new("x", hosts, BreakerConfig::default(), Clock::start())
        };
        assert_eq!(new(&[]).unwrap_err().must, "at least one");
        assert_eq!(new(&["a", "b", "a"]).unwrap_err().is, "a");
        assert_eq!(new(&["a"]).unwrap().pick().unwrap().name(), "a");
    }
}
