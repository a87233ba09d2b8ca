//! What is said of a deployment outside of documents.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{EnvironmentMode, Limit, limits::Said};
use crate::check::duration_text;

/// What a command line, a host or a configuration file says of the environment and the limits of runs.
/// Options are stronger than the document, the configuration is weaker (YF-48).
///
/// ```
/// use perennial_pipeline::{Deployment, EnvironmentMode};
///
/// let deployment = Deployment::default()
///     .environment(EnvironmentMode::Production)
///     .limit("max_execution_time_s", "5m")?;
/// assert_ne!(deployment, Deployment::default());
/// # Ok::<(), perennial_pipeline::InvalidDeployment>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deployment {
    mode: Option<EnvironmentMode>,
    limits: BTreeMap<Limit, u64>,
    file_mode: Option<EnvironmentMode>,
    file_limits: BTreeMap<Limit, u64>,
    enforced: BTreeSet<Limit>,
}

/// A limit that cannot be set so.
///
/// ```
/// use perennial_pipeline::{Deployment, InvalidDeployment};
///
/// let refused = Deployment::default().limit("max_steps", "3");
/// assert!(matches!(refused, Err(InvalidDeployment::Limit { .. })));
/// let refused = Deployment::default().limit("max_total_steps", "0");
/// assert!(matches!(refused, Err(InvalidDeployment::Value { name: "max_total_steps", .. })));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidDeployment {
    /// There is no such limit.
    #[error("unknown limit `{name}`; there are: {}", names().join(", "))]
    Limit {
        /// What was given.
        name: String,
    },
    /// It cannot have this value.
    #[error("the limit `{name}` must be between 1 and {most}, got: {value}")]
    Value {
        /// The limit.
        name: &'static str,
        /// The largest value it can have.
        most: u64,
        /// What was given.
        value: String,
    },
    /// A configuration enforces a limit to which it gives no value.
    #[error("the limit `{name}` is enforced, and has no value beside it")]
    Enforced {
        /// The limit.
        name: &'static str,
    },
}

fn names() -> Vec<&'static str> {
    Limit::SETTABLE.iter().map(|limit| limit.name()).collect()
}

impl Deployment {
    /// Sets the mode, over what the document says.
    ///
    /// ```
    /// use perennial_pipeline::{Deployment, EnvironmentMode};
    ///
    /// let production = Deployment::default().environment(EnvironmentMode::Production);
    /// assert_ne!(production, Deployment::default().environment(EnvironmentMode::Test));
    /// ```
    #[must_use]
    pub fn environment(mut self, mode: EnvironmentMode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Sets the limit `name`, over what the document says: a whole number; for times a number of seconds
    /// or a duration such as `5m`.
    ///
    /// ```
    /// use perennial_pipeline::Deployment;
    ///
    /// let same = Deployment::default().limit("max_execution_time_s", "300")?;
    /// assert_eq!(Deployment::default().limit("max_execution_time_s", "5m")?, same);
    /// # Ok::<(), perennial_pipeline::InvalidDeployment>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When there is no such limit, or it cannot have this value.
    pub fn limit(mut self, name: &str, value: &str) -> Result<Self, InvalidDeployment> {
        let (limit, value) = parsed(name, value)?;
        self.limits.insert(limit, value);
        Ok(self)
    }

    /// Sets the mode of a configuration file: it holds where nobody else names one.
    ///
    /// ```
    /// use perennial_pipeline::{Deployment, EnvironmentMode};
    ///
    /// let configured = Deployment::default().configured_environment(EnvironmentMode::Production);
    /// // What is said here is stronger than what a configuration says.
    /// assert_ne!(configured, Deployment::default().environment(EnvironmentMode::Production));
    /// ```
    #[must_use]
    pub fn configured_environment(mut self, mode: EnvironmentMode) -> Self {
        self.file_mode = Some(mode);
        self
    }

    /// Sets the limit `name` of a configuration file: it holds where nobody else names it.
    ///
    /// ```
    /// use perennial_pipeline::Deployment;
    ///
    /// assert!(Deployment::default().configured_limit("max_total_steps", 500).is_ok());
    /// assert!(Deployment::default().configured_limit("max_total_steps", 0).is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// When there is no such limit, or it cannot have this value.
    pub fn configured_limit(mut self, name: &str, value: u64) -> Result<Self, InvalidDeployment> {
        let (limit, value) = parsed(name, &value.to_string())?;
        self.file_limits.insert(limit, value);
        Ok(self)
    }

    /// Says that nobody can pass the configured limit `name`: what others say can only narrow it.
    ///
    /// ```
    /// use perennial_pipeline::Deployment;
    ///
    /// let limited = Deployment::default().configured_limit("max_total_steps", 500)?;
    /// assert!(limited.enforced("max_total_steps").is_ok());
    /// assert!(Deployment::default().enforced("max_total_steps").is_err()); // it has no value
    /// # Ok::<(), perennial_pipeline::InvalidDeployment>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When there is no such limit, or it has no configured value.
    pub fn enforced(mut self, name: &str) -> Result<Self, InvalidDeployment> {
        let limit = known(name)?;
        if !self.file_limits.contains_key(&limit) {
            return Err(InvalidDeployment::Enforced { name: limit.name() });
        }
        self.enforced.insert(limit);
        Ok(self)
    }

    /// This over `weaker`: what a host sets here, over what its runtime is configured with. What either
    /// enforces is enforced, with the smaller value.
    ///
    /// ```
    /// use perennial_pipeline::Deployment;
    ///
    /// let configured = Deployment::default().limit("max_total_steps", "500")?;
    /// let here = Deployment::default().limit("max_total_steps", "20")?;
    /// assert_eq!(here.clone().over(&configured), here);
    /// assert_eq!(Deployment::default().over(&configured), configured);
    /// # Ok::<(), perennial_pipeline::InvalidDeployment>(())
    /// ```
    #[must_use]
    pub fn over(mut self, weaker: &Self) -> Self {
        self.mode = self.mode.or(weaker.mode);
        self.file_mode = self.file_mode.or(weaker.file_mode);
        for (limit, value) in &weaker.limits {
            self.limits.entry(*limit).or_insert(*value);
        }
        for (limit, value) in &weaker.file_limits {
            let own = self.file_limits.entry(*limit).or_insert(*value);
            if weaker.enforced.contains(limit) {
                *own = (*own).min(*value);
            }
        }
        self.enforced.extend(&weaker.enforced);
        self
    }

    /// The mode that is stronger than the document.
    pub(crate) fn chosen_mode(&self) -> Option<EnvironmentMode> {
        self.mode
    }

    /// The mode, with what the others say.
    pub(crate) fn mode(
        &self,
        document: Option<EnvironmentMode>,
        variable: Option<EnvironmentMode>,
    ) -> Option<EnvironmentMode> {
        Said { option: self.mode, document, variable, file: self.file_mode }.strongest()
    }

    /// What all sources say of `limit`, and whether its configured value is enforced.
    pub(crate) fn said(
        &self,
        limit: Limit,
        document: Option<u64>,
        variable: Option<u64>,
    ) -> (Said<u64>, bool) {
        let option = self.limits.get(&limit).copied();
        let file = self.file_limits.get(&limit).copied();
        (Said { option, document, variable, file }, self.enforced.contains(&limit))
    }

    /// What nobody can pass.
    pub(crate) fn all_enforced(&self) -> impl Iterator<Item = (Limit, u64)> {
        let enforced = |(limit, _): &(&Limit, &u64)| self.enforced.contains(limit);
        self.file_limits.iter().filter(enforced).map(|(limit, value)| (*limit, *value))
    }

    /// What nobody can pass, by the names of the limits.
    pub fn enforced_limits(&self) -> BTreeMap<&'static str, u64> {
        self.all_enforced().map(|(limit, value)| (limit.name(), value)).collect()
    }

    /// A deployment that says nothing but that nobody passes these limits.
    ///
    /// # Errors
    ///
    /// When there is no such limit, or it cannot have this value.
    pub fn enforcing<'n>(
        limits: impl IntoIterator<Item = (&'n str, u64)>,
    ) -> Result<Self, InvalidDeployment> {
        limits.into_iter().try_fold(Self::default(), |deployment, (name, value)| {
            deployment.configured_limit(name, value)?.enforced(name)
        })
    }

    /// The longest that a run may take, when that is enforced.
    ///
    /// ```
    /// use perennial_pipeline::Deployment;
    /// use std::time::Duration;
    ///
    /// let limited = Deployment::default().configured_limit("max_execution_time_s", 300)?;
    /// assert_eq!(limited.enforced("max_execution_time_s")?.enforced_time(), Some(Duration::from_secs(300)));
    /// # Ok::<(), perennial_pipeline::InvalidDeployment>(())
    /// ```
    pub fn enforced_time(&self) -> Option<Duration> {
        let time = |(limit, _): &(Limit, u64)| *limit == Limit::MaxExecutionSeconds;
        self.all_enforced().find(time).map(|(_, seconds)| Duration::from_secs(seconds))
    }
}

fn known(name: &str) -> Result<Limit, InvalidDeployment> {
    Limit::settable(name).ok_or_else(|| InvalidDeployment::Limit { name: name.to_owned() })
}

fn parsed(name: &str, text: &str) -> Result<(Limit, u64), InvalidDeployment> {
    let limit = known(name)?;
    let value = value_of(limit, text);
    value.map(|value| (limit, value)).ok_or_else(|| InvalidDeployment::Value {
        name: limit.name(),
        most: limit.most(),
        value: text.to_owned(),
    })
}

/// The value that `text` gives to `limit`, when it can.
pub(crate) fn value_of(limit: Limit, text: &str) -> Option<u64> {
    let whole = text.trim().parse::<u64>().ok();
    let value = whole.or_else(|| {
        let millis = (limit == Limit::MaxExecutionSeconds).then(|| duration_text(text))??;
        let seconds = (millis / 1_000.0).ceil();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a number outside of the bounds is refused below, whatever it is cut to"
        )]
        (seconds >= 1.0).then_some(seconds as u64)
    })?;
    (1..=limit.most()).contains(&value).then_some(value)
}
