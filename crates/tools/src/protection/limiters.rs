//! The limiters of a host, by their names.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use perennial_core::{
    nearest,
    protection::{
        InvalidConfig,
        limiter::{Decision, LimitError, LimiterConfig},
    },
};
use perennial_supervision::Clock;
use serde_json::{Value, json};

use super::Limiter;

/// Limiters that have a name, at most.
pub const LIMITERS_MAX: usize = 1_000;

/// The limiters of a host. Cheap to clone; clones are the same limiters.
///
/// They belong to whoever made them and to no actor: nothing that is restarted loses a setting or what was taken.
///
/// ```
/// use perennial_supervision::Clock;
/// use perennial_tools::protection::{Decision, Limit, LimiterConfig, Limiters, LimitersError};
/// use std::time::Duration;
///
/// let limiters = Limiters::new(Clock::start());
/// limiters.configure("mail", LimiterConfig::one(Limit::sliding_log(1, Duration::from_secs(60))))?;
/// assert!(matches!(limiters.check("mail", "me", &[1])?, Decision::Allowed { .. }));
/// assert!(matches!(limiters.check("mail", "me", &[1])?, Decision::Denied { .. }));
/// assert_eq!(limiters.stats().denials, 1);
/// let unknown = limiters.check("mial", "me", &[1]).unwrap_err();
/// assert_eq!(unknown.to_string(), "unknown limiter `mial`, did you mean `mail`?");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Limiters(Arc<Inner>);

struct Inner {
    clock: Clock,
    named: Mutex<BTreeMap<Arc<str>, Limiter>>,
}

/// Why a named limiter does not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitersError {
    /// Nobody configured it, or it was removed. It is not let through unlimited.
    #[error("unknown limiter `{name}`{}", near.as_ref().map(|near| format!(", did you mean `{near}`?")).unwrap_or_default())]
    LimiterNotFound {
        /// What was asked for.
        name: String,
        /// The name nearest to it, when one is near enough.
        near: Option<String>,
    },
    /// A setting cannot be used; nothing was changed.
    #[error(transparent)]
    InvalidConfig(#[from] InvalidConfig),
    /// It cannot be decided.
    #[error(transparent)]
    Undecided(#[from] LimitError),
    /// There are so many already.
    #[error("there are {limiters_max} limiters already: remove one, or use keys of one")]
    TooManyLimiters {
        /// How many there may be.
        limiters_max: usize,
    },
}

/// What all limiters were asked and decided, those that were removed left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct LimitersStats {
    /// How many there are.
    pub limiters: usize,
    /// Questions that were decided.
    pub checks: u64,
    /// Those of them that were denied.
    pub denials: u64,
    /// New keys that were refused, because there was no place for them.
    pub keys_refused: u64,
    /// Keys that are tracked.
    pub keys: usize,
}

impl Limiters {
    /// There is none yet.
    pub fn new(clock: Clock) -> Self {
        Self(Arc::new(Inner { clock, named: Mutex::default() }))
    }

    /// Makes a limiter, or changes the limits of one: for whoever asks next, and what was taken counts.
    ///
    /// # Errors
    ///
    /// When a setting cannot be used, or there are too many limiters; then nothing is changed.
    pub fn configure(&self, name: &str, config: LimiterConfig) -> Result<Limiter, LimitersError> {
        let mut named = self.named();
        if let Some(known) = named.get(name) {
            known.configure(config)?;
            return Ok(known.clone());
        }
        let limiter = Limiter::new(config, self.0.clock)?;
        if named.len() >= LIMITERS_MAX {
            return Err(LimitersError::TooManyLimiters { limiters_max: LIMITERS_MAX });
        }
        named.insert(name.into(), limiter.clone());
        Ok(limiter)
    }

    /// The limiter of this name, to wait at it or to reserve.
    ///
    /// # Errors
    ///
    /// When nobody configured it.
    pub fn get(&self, name: &str) -> Result<Limiter, LimitersError> {
        let named = self.named();
        let known = named.get(name).cloned();
        known.ok_or_else(|| LimitersError::LimiterNotFound {
            name: name.to_owned(),
            near: nearest(name, named.keys().map(|known| &**known)).map(str::to_owned),
        })
    }

    /// Takes `costs` of `key` now, or nothing.
    ///
    /// # Errors
    ///
    /// When nobody configured it, it can never be granted, or there is no place for another key.
    pub fn check(&self, name: &str, key: &str, costs: &[u64]) -> Result<Decision, LimitersError> {
        Ok(self.get(name)?.check(key, costs)?)
    }

    /// Takes a limiter away, with all its keys. Who has it already keeps it.
    ///
    /// # Errors
    ///
    /// When nobody configured it.
    pub fn remove(&self, name: &str) -> Result<(), LimitersError> {
        self.get(name)?;
        self.named().remove(name);
        Ok(())
    }

    /// Forgets keys of which nothing counts any more; how many.
    pub fn prune(&self) -> usize {
        self.all().iter().map(|(_, limiter)| limiter.prune()).sum()
    }

    /// What was asked and decided so far.
    pub fn stats(&self) -> LimitersStats {
        let mut all = LimitersStats::default();
        for (_, limiter) in self.all() {
            let stats = limiter.stats();
            all.limiters += 1;
            all.checks += stats.checks;
            all.denials += stats.denials;
            all.keys_refused += stats.keys_refused;
            all.keys += stats.keys;
        }
        all
    }

    /// The limits in force, by name.
    pub fn in_force(&self) -> BTreeMap<String, LimiterConfig> {
        let config = |(name, limiter): (Arc<str>, Limiter)| (name.to_string(), limiter.config());
        self.all().into_iter().map(config).collect()
    }

    /// What a component that has them shows of them in the tree: of each its bounds, and what it was asked.
    pub fn detail(&self) -> Value {
        let shown = |(name, limiter): (Arc<str>, Limiter)| {
            let config = limiter.config();
            let bounds: Vec<Value> = config
                .limits
                .iter()
                .map(|limit| limit.bound())
                .map(|bound| json!({"grants": bound.grants, "within": format!("{:?}", bound.within)}))
                .collect();
            let stats = limiter.stats();
            let value = json!({
                "bounds": bounds, "checks": stats.checks, "denials": stats.denials,
                "keys": stats.keys, "keys_refused": stats.keys_refused, "waiting": limiter.waiting(),
            });
            (name.to_string(), value)
        };
        Value::Object(self.all().into_iter().map(shown).collect())
    }

    fn all(&self) -> Vec<(Arc<str>, Limiter)> {
        let named = self.named();
        named.iter().map(|(name, limiter)| (Arc::clone(name), limiter.clone())).collect()
    }

    fn named(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Limiter>> {
        // Nothing in it is half done when somebody panics elsewhere.
        self.0.named.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Limiters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Limiters").field(&self.in_force()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use perennial_core::protection::limiter::Limit;
    use perennial_supervision::{ChildSpec, Options, Restart, Root, SupervisorSpec};

    use super::*;

    fn log(limit: u64, secs: u64) -> LimiterConfig {
        LimiterConfig::one(Limit::sliding_log(limit, Duration::from_secs(secs)))
    }

    fn is_allowed(limiters: &Limiters, name: &str, key: &str) -> bool {
        matches!(limiters.check(name, key, &[1]).unwrap(), Decision::Allowed { .. })
    }

    /// Proves C6.1, C6.2, C6.3, C6.13.
    #[tokio::test(start_paused = true)]
    async fn two_a_minute_are_two_and_other_keys_and_limiters_have_their_own() {
        let clock = Clock::start();
        let limiters = Limiters::new(clock);
        for name in ["a", "b"] {
            limiters.configure(name, log(2, 60)).unwrap();
        }
        let taken = [(); 3].map(|()| is_allowed(&limiters, "a", "k"));
        assert_eq!(taken, [true, true, false]);
        let status = limiters.get("a").unwrap().status("k")[0];
        assert_eq!(status.remaining, 0);
        assert_eq!(status.reset_at.since(clock.now()), Duration::from_secs(60));
        assert!(is_allowed(&limiters, "a", "other") && is_allowed(&limiters, "b", "k"));
        let stats = limiters.stats();
        assert_eq!((stats.checks, stats.denials, stats.keys, stats.limiters), (5, 1, 3, 2));
    }

    /// Proves C6.9.
    #[tokio::test(start_paused = true)]
    async fn twenty_quick_calls_at_a_limit_of_ten_are_ten() {
        let limiters = Limiters::new(Clock::start());
        limiters.configure("a", log(10, 1)).unwrap();
        let granted = || (0..20).filter(|_| is_allowed(&limiters, "a", "k")).count();
        assert_eq!(granted(), 10);
        // The window, on a paused clock.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(granted(), 10);
    }

    /// Proves C6.5, C6.6, INV-RL-12.
    #[tokio::test(start_paused = true)]
    async fn what_was_removed_is_an_error_and_what_counts_for_nothing_is_pruned() {
        let limiters = Limiters::new(Clock::start());
        limiters.configure("a", log(1, 1)).unwrap();
        limiters.configure("b", log(1, 60)).unwrap();
        assert!(is_allowed(&limiters, "a", "k") && is_allowed(&limiters, "b", "k"));
        // A window of the first, on a paused clock.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((limiters.prune(), limiters.stats().keys), (1, 1));
        limiters.remove("b").unwrap();
        assert_eq!(limiters.stats().limiters, 1);
        let gone = LimitersError::LimiterNotFound { name: "b".to_owned(), near: None };
        assert_eq!(limiters.check("b", "k", &[1]).unwrap_err(), gone);
        assert_eq!(limiters.remove("b").unwrap_err(), gone);
        limiters.configure("b", log(1, 60)).unwrap();
        assert!(is_allowed(&limiters, "b", "k"), "its keys went with it");
        assert!(is_allowed(&limiters, "a", "k"), "the other one goes on");
    }

    /// Proves C6.4.
    #[test]
    fn a_setting_that_cannot_be_used_changes_nothing_and_a_cost_that_cannot_be_granted_is_an_error()
    {
        let limiters = Limiters::new(Clock::start());
        limiters.configure("a", log(2, 60)).unwrap();
        let wrong = limiters.configure("a", log(0, 60)).unwrap_err();
        assert!(matches!(
            wrong,
            LimitersError::InvalidConfig(InvalidConfig { field: "limit", .. })
        ));
        assert!(limiters.configure("c", log(2, 0)).is_err());
        assert_eq!(limiters.in_force(), [("a".to_owned(), log(2, 60))].into());
        let error = limiters.check("a", "k", &[3]).unwrap_err();
        let expected = LimitError::CostExceedsBurst { cost: 3, cost_max: 2, place: 0 };
        assert_eq!(error, LimitersError::Undecided(expected));
        for number in 1..LIMITERS_MAX {
            limiters.configure(&number.to_string(), log(1, 1)).unwrap();
        }
        let limiters_max = LIMITERS_MAX;
        let full = limiters.configure("more", log(1, 1)).unwrap_err();
        assert_eq!(full, LimitersError::TooManyLimiters { limiters_max });
    }

    /// Whatever way it comes: one limit counts all of it.
    ///
    /// Proves D47.
    #[tokio::test(start_paused = true)]
    async fn a_limit_counts_what_comes_by_every_way() {
        let clock = Clock::start();
        let limiters = Limiters::new(clock);
        let far = clock.now() + Duration::from_secs(9);
        let limiter = limiters.configure("a", log(5, 60)).unwrap();
        assert!(is_allowed(&limiters, "a", "k"));
        assert!(matches!(limiter.check("k", &[1]), Ok(Decision::Allowed { .. })));
        limiter.until_ready("k", &[1], far).await.unwrap();
        let mut reserved = limiter.reserve("k", &[1]).unwrap();
        reserved.sent();
        let guarded = super::super::Guarded::new(clock).limiter(limiter.clone(), "k");
        let judge = |_: &()| super::super::Judged::of(perennial_core::FailureClass::Permanent);
        guarded.call("o", &[1], far, judge, async |_| Ok(())).await.unwrap();
        assert_eq!(limiter.status("k")[0].remaining, 0);
        assert!(!is_allowed(&limiters, "a", "k"));
        assert!(limiter.until_ready("k", &[1], far).await.is_err());
        assert!(limiter.reserve_until_ready("k", &[1], far).await.is_err());
        assert!(guarded.call("o", &[1], far, judge, async |_| Ok(())).await.is_err());
    }

    /// Proves C6.7, D44.
    #[tokio::test(start_paused = true)]
    async fn limits_in_force_are_in_the_tree_and_survive_whoever_shows_them() {
        let clock = Clock::start();
        let limiters = Limiters::new(clock);
        limiters.configure("a", LimiterConfig { keys_max: 1, ..log(2, 60) }).unwrap();
        let shown = limiters.clone();
        let owner = ChildSpec::task("owner", std::future::pending::<Result<(), String>>)
            .restart(Restart::Permanent)
            .detail(move || shown.detail());
        let tree = SupervisorSpec::new("root").child(owner);
        let root = Root::start(tree, clock, Options::default()).await.unwrap();
        assert!(is_allowed(&limiters, "a", "k"));
        // What falls back is counted: a key without a place is refused, not let through.
        assert!(limiters.check("a", "other", &[1]).is_err());
        root.tree().kill("/root/owner").unwrap().exit().await;
        let detail = root.tree().nodes()[1].detail.clone();
        let expected = json!({"a": {
            "bounds": [{"grants": 2, "within": "60s"}], "checks": 1, "denials": 0,
            "keys": 1, "keys_refused": 1, "waiting": 0,
        }});
        assert_eq!(detail, expected);
        assert!(is_allowed(&limiters, "a", "k") && !is_allowed(&limiters, "a", "k"));
        root.shutdown().await;
    }
}
