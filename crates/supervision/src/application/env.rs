//! Configuration values of an application (APP-013).

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use serde_json::Value;

/// Values by their keys.
pub(crate) type Values = BTreeMap<String, Value>;

/// The configuration values of one application, as they are at the moment. Cheap to clone; a clone sees
/// what is [configured](super::Applications::configure) later.
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let system = System::start(SystemSpec::new("system"), Clock::start(), Options::default()).await?;
/// # let applications = system.applications();
/// # let store = |_: &Env| Ok(SupervisorSpec::new("store").child(Agent::child_spec("table", || 0).0));
/// # applications.load(ApplicationSpec::tree("store", store).env("size", 10)).await?;
/// use perennial_supervision::Env;
///
/// let env: Env = applications.env("store")?;
/// assert_eq!(env.get("size"), Some(10.into())); // the default of the application
/// applications.configure("store", [("size", 20.into())]).await?;
/// assert_eq!(env.get("size"), Some(20.into()));
/// # system.shutdown().await; Ok(()) }
/// ```
#[derive(Clone)]
pub struct Env(Arc<Inner>);

struct Inner {
    defaults: Values,
    set: RwLock<Values>,
    /// Held by whoever configures: one change is told before the next is made.
    changing: tokio::sync::Mutex<()>,
}

/// What has changed of an [`Env`].
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let system = System::start(SystemSpec::new("system"), Clock::start(), Options::default()).await?;
/// # let applications = system.applications();
/// # let store = |_: &Env| Ok(SupervisorSpec::new("store").child(Agent::child_spec("table", || 0).0));
/// # applications.load(ApplicationSpec::tree("store", store).env("size", 10)).await?;
/// use perennial_supervision::EnvChange;
///
/// let values = [("size", 20.into()), ("path", "/data".into())];
/// let change: EnvChange = applications.configure("store", values).await?;
/// assert_eq!(change.changed["size"], 20);
/// assert_eq!(change.new["path"], "/data");
/// assert!(change.removed.is_empty());
/// # system.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvChange {
    /// Keys with another value than before.
    pub changed: BTreeMap<String, Value>,
    /// Keys that had no value before.
    pub new: BTreeMap<String, Value>,
    /// Keys that have no value any more.
    pub removed: Vec<String>,
}

impl EnvChange {
    /// What is different in `after`.
    fn between(before: &Values, after: Values) -> Self {
        let removed = before.keys().filter(|key| !after.contains_key(*key)).cloned().collect();
        let mut change = Self { removed, ..Self::default() };
        for (key, value) in after {
            match before.get(&key) {
                Some(old) if *old == value => (),
                Some(_) => drop(change.changed.insert(key, value)),
                None => drop(change.new.insert(key, value)),
            }
        }
        change
    }

    /// Whether nothing has changed.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let system = System::start(SystemSpec::new("system"), Clock::start(), Options::default()).await?;
    /// # let applications = system.applications();
    /// # let store = |_: &Env| Ok(SupervisorSpec::new("store").child(Agent::child_spec("table", || 0).0));
    /// # applications.load(ApplicationSpec::tree("store", store).env("size", 10)).await?;
    /// let change = applications.configure("store", [("size", 10.into())]).await?;
    /// assert!(change.is_empty()); // as the default says
    /// # system.shutdown().await; Ok(()) }
    /// ```
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.new.is_empty() && self.removed.is_empty()
    }
}

impl Env {
    pub(crate) fn new(defaults: Values, set: Values) -> Self {
        let (set, changing) = (RwLock::new(set), tokio::sync::Mutex::default());
        Self(Arc::new(Inner { defaults, set, changing }))
    }

    /// The value of `key`: the one that is configured, or else the application's default.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let system = System::start(SystemSpec::new("system"), Clock::start(), Options::default()).await?;
    /// # let applications = system.applications();
    /// # let store = |_: &Env| Ok(SupervisorSpec::new("store").child(Agent::child_spec("table", || 0).0));
    /// # applications.load(ApplicationSpec::tree("store", store).env("size", 10)).await?;
    /// let env = applications.env("store")?;
    /// assert_eq!(env.get("size").and_then(|size| size.as_u64()), Some(10));
    /// assert_eq!(env.get("colour"), None);
    /// # system.shutdown().await; Ok(()) }
    /// ```
    pub fn get(&self, key: &str) -> Option<Value> {
        let set = self.0.set.read().unwrap_or_else(PoisonError::into_inner);
        set.get(key).or_else(|| self.0.defaults.get(key)).cloned()
    }

    /// All values.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let system = System::start(SystemSpec::new("system"), Clock::start(), Options::default()).await?;
    /// # let applications = system.applications();
    /// # let store = |_: &Env| Ok(SupervisorSpec::new("store").child(Agent::child_spec("table", || 0).0));
    /// # applications.load(ApplicationSpec::tree("store", store).env("size", 10)).await?;
    /// let all = applications.env("store")?.all();
    /// assert_eq!(all.into_iter().collect::<Vec<_>>(), [("size".to_owned(), 10.into())]);
    /// # system.shutdown().await; Ok(()) }
    /// ```
    pub fn all(&self) -> BTreeMap<String, Value> {
        let mut all = self.0.defaults.clone();
        all.extend(self.configured());
        all
    }

    /// What is configured.
    pub(crate) fn configured(&self) -> Values {
        self.0.set.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for those who configure.
    pub(crate) async fn changing(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.changing.lock().await
    }

    /// Puts `set` in force over the defaults, in place of all that was configured.
    pub(crate) fn configure(&self, set: Values) -> EnvChange {
        let before = self.all();
        *self.0.set.write().unwrap_or_else(PoisonError::into_inner) = set;
        EnvChange::between(&before, self.all())
    }
}

/// Keys only: a value may be a secret.
impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Env").field(&self.all().keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(of: &[(&str, i32)]) -> Values {
        of.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect()
    }

    #[test]
    fn a_change_is_told_in_what_it_changes() {
        let env = Env::new(values(&[("a", 1), ("b", 2)]), values(&[("b", 3), ("c", 4)]));
        let change = env.configure(values(&[("a", 5), ("d", 6)]));
        let expected = EnvChange {
            changed: values(&[("a", 5), ("b", 2)]),
            new: values(&[("d", 6)]),
            removed: vec!["c".to_owned()],
        };
        assert_eq!(change, expected, "b falls back to its default");
        assert!(env.configure(values(&[("a", 5), ("d", 6)])).is_empty());
        assert_eq!(env.all(), values(&[("a", 5), ("b", 2), ("d", 6)]));
        assert_eq!(env.get("z"), None);
    }

    #[test]
    fn what_is_shown_of_it_has_no_values() {
        let env = Env::new(values(&[("token", 4711)]), Values::new());
        assert_eq!(format!("{env:?}"), r#"Env(["token"])"#);
    }
}
