//! Names of runs and jobs, and the key that outside systems see.

use std::fmt;

use crate::Digest;

/// The identity of a run: a ULID unless its starter chose another text.
///
/// ```
/// use perennial_core::run::RunId;
///
/// let run = RunId::parse("order-17")?;
/// assert_eq!(run.to_string(), "order-17");
/// assert!(RunId::parse("a/b").is_err()); // unsafe in paths
/// # Ok::<(), perennial_core::run::InvalidRunId>(())
/// ```
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct RunId(String);

/// A text that cannot name a run.
///
/// ```
/// use perennial_core::run::RunId;
///
/// let error = RunId::parse("").unwrap_err();
/// assert!(error.to_string().contains("1 to 64 letters"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` cannot name a run: 1 to 64 letters, digits, `-`, `_` or `.` are needed", told(.0))]
pub struct InvalidRunId(String);

/// Characters of a text that cannot name a run that are told.
const TOLD_MAX: usize = 200;

/// The beginning of a text that may be anything, on one line.
fn told(text: &str) -> String {
    let mut told = String::new();
    for (place, c) in text.chars().enumerate() {
        match c {
            _ if place == TOLD_MAX => {
                told.push('…');
                break;
            }
            c if c.is_control() => told.extend(c.escape_default()),
            c => told.push(c),
        }
    }
    told
}

impl RunId {
    /// Longest run id, in bytes.
    pub const BYTES_MAX: usize = 64;

    /// The run id `text`.
    ///
    /// ```
    /// use perennial_core::run::RunId;
    ///
    /// assert!(RunId::parse("nightly_2026-11-21.b").is_ok());
    /// assert!(RunId::parse("x".repeat(RunId::BYTES_MAX + 1)).is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// When it is empty, too long, or has a character that is unsafe in paths and headers.
    pub fn parse(text: impl Into<String>) -> Result<Self, InvalidRunId> {
        let text = text.into();
        let fits = (1..=Self::BYTES_MAX).contains(&text.len());
        let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if fits && text.bytes().all(safe) { Ok(Self(text)) } else { Err(InvalidRunId(text)) }
    }

    /// Its text.
    ///
    /// ```
    /// use perennial_core::run::RunId;
    ///
    /// assert_eq!(RunId::parse("order-17")?.as_str(), "order-17");
    /// # Ok::<(), perennial_core::run::InvalidRunId>(())
    /// ```
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a job in its stage: a step path such as `review/loop[3]/body`.
///
/// ```
/// use perennial_core::run::JobKey;
///
/// assert_eq!(JobKey::new("review/loop[3]/body").to_string(), "review/loop[3]/body");
/// ```
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct JobKey(String);

impl JobKey {
    /// Longest job key, in bytes.
    pub const BYTES_MAX: usize = 256;

    /// The key `path`; one that is too long is cut and ends in its digest, so that it stays unique.
    ///
    /// ```
    /// use perennial_core::run::JobKey;
    ///
    /// let long = JobKey::new("x".repeat(1_000));
    /// assert!(long.as_str().len() <= JobKey::BYTES_MAX);
    /// assert_ne!(long, JobKey::new("x".repeat(1_001)));
    /// ```
    pub fn new(path: impl Into<String>) -> Self {
        let path = path.into();
        if path.len() <= Self::BYTES_MAX {
            return Self(path);
        }
        let digest = Digest::of(path.as_bytes()).to_string();
        let mut end = Self::BYTES_MAX - digest.len() - 1;
        while !path.is_char_boundary(end) {
            end -= 1;
        }
        Self(format!("{}#{digest}", &path[..end]))
    }

    /// Whether it was cut: it then ends in the digest of the whole, which no key does that was not.
    pub fn is_cut(&self) -> bool {
        let end = self.0.rsplit_once('#').map_or("", |(_, end)| end);
        end.parse::<Digest>().is_ok()
    }

    /// Its text.
    ///
    /// ```
    /// use perennial_core::run::JobKey;
    ///
    /// assert_eq!(JobKey::new("say").as_str(), "say");
    /// ```
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the outside world sees of a job: `{workflow}/{run}/{stage}/{job}`, the same on every
/// attempt, node and retry. Safe in an HTTP header.
///
/// ```
/// use perennial_core::run::{IdempotencyKey, JobKey, RunId};
///
/// let key = IdempotencyKey::new("greet", &RunId::parse("r1")?, "steps", &JobKey::new("say hello"));
/// assert_eq!(key.as_str(), "greet/r1/steps/say%20hello");
/// # Ok::<(), perennial_core::run::InvalidRunId>(())
/// ```
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// The key of one job.
    ///
    /// ```
    /// use perennial_core::run::{IdempotencyKey, JobKey, RunId};
    ///
    /// let run = RunId::parse("r1")?;
    /// let of = |job: &str| IdempotencyKey::new("greet", &run, "steps", &JobKey::new(job));
    /// assert_eq!(of("say"), of("say")); // at every attempt
    /// assert_ne!(of("say"), of("send"));
    /// # Ok::<(), perennial_core::run::InvalidRunId>(())
    /// ```
    pub fn new(workflow: &str, run: &RunId, stage: &str, job: &JobKey) -> Self {
        let parts = [workflow, run.as_str(), stage, job.as_str()];
        Self(parts.map(encode).join("/"))
    }

    /// The key of the external call `name` of this job.
    ///
    /// ```
    /// use perennial_core::run::{IdempotencyKey, JobKey, RunId};
    ///
    /// let job = IdempotencyKey::new("greet", &RunId::parse("r1")?, "steps", &JobKey::new("say"));
    /// assert_eq!(job.call("1").as_str(), "greet/r1/steps/say.call(1)");
    /// # Ok::<(), perennial_core::run::InvalidRunId>(())
    /// ```
    pub fn call(&self, name: &str) -> Self {
        Self(format!("{}.call({})", self.0, encode(name)))
    }

    /// The key of the same job once it is made anew although it had succeeded, for the nth time.
    ///
    /// ```
    /// use perennial_core::run::{IdempotencyKey, JobKey, RunId};
    ///
    /// let key = IdempotencyKey::new("greet", &RunId::parse("r1")?, "steps", &JobKey::new("say"));
    /// assert_eq!(key.again(2).as_str(), "greet/r1/steps/say#2");
    /// # Ok::<(), perennial_core::run::InvalidRunId>(())
    /// ```
    #[must_use]
    pub fn again(&self, times: u32) -> Self {
        Self(format!("{}#{times}", self.0))
    }

    /// Its text.
    ///
    /// ```
    /// use perennial_core::run::{IdempotencyKey, JobKey, RunId};
    ///
    /// let key = IdempotencyKey::new("greet", &RunId::parse("r1")?, "steps", &JobKey::new("say"));
    /// assert!(key.as_str().is_ascii()); // fit for a header of HTTP
    /// # Ok::<(), perennial_core::run::InvalidRunId>(())
    /// ```
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Percent-encodes what is not plain, so that parts cannot run into each other.
fn encode(part: &str) -> String {
    let mut out = String::with_capacity(part.len());
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.[]".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_name_a_run_is_told_by_its_beginning_on_one_line() {
        let told = |text: &str| {
            let error = RunId::parse(text).unwrap_err().to_string();
            error.split("` cannot").next().unwrap().to_owned()
        };
        assert_eq!(told("a\nb\u{1b}"), r"`a\nb\u{1b}");
        assert_eq!(told(&"ä".repeat(TOLD_MAX)), format!("`{}", "ä".repeat(TOLD_MAX)));
        assert_eq!(told(&"ä".repeat(100_000)), format!("`{}…", "ä".repeat(TOLD_MAX)));
    }

    #[test]
    fn keys_of_different_jobs_differ_and_are_header_safe() {
        let run = RunId::parse("01M").unwrap();
        let key =
            |workflow, job: &str| IdempotencyKey::new(workflow, &run, "steps", &JobKey::new(job));
        assert_eq!(key("w", "a").as_str(), "w/01M/steps/a");
        assert_ne!(key("w/01M", "a"), key("w", "01M/a"));
        assert_eq!(key("ü \n", "a").as_str(), "%C3%BC%20%0A/01M/steps/a");
        assert_eq!(key("w", "a").call("1/ff").as_str(), "w/01M/steps/a.call(1%2Fff)");
    }

    #[test]
    fn long_job_keys_are_cut_and_stay_apart() {
        let (a, b) = ("é".repeat(200) + "a", "é".repeat(200) + "b");
        let (a, b) = (JobKey::new(a), JobKey::new(b));
        assert!(a.as_str().len() <= JobKey::BYTES_MAX && a.is_cut());
        assert!(!JobKey::new("é".repeat(128)).is_cut() && !JobKey::new("a#12").is_cut());
        assert_ne!(a, b);
    }

    #[test]
    fn unsafe_run_ids_are_refused() {
        for text in ["", "a/b", "a b", "é", &"x".repeat(65)] {
            assert!(RunId::parse(text).is_err(), "{text}");
        }
        assert!(RunId::parse("01M7WD7TG0-a_b.c").is_ok());
    }
}
