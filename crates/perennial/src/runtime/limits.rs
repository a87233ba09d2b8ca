use serde::Deserialize;

/// More of anything is a mistake: each takes kilobytes of memory, and a bound that is never met bounds
/// nothing.
const MOST: usize = 1_000_000;

/// How much a runtime does at a time. What is beyond a limit waits; nothing is lost.
///
/// ```
/// use perennial::Limits;
///
/// let limits = Limits { runs: 20, ..Limits::default() };
/// assert_eq!(limits.tasks, 1_000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Runs that are active at a time; 1 000. Further ones are recorded and wait: the tree says so, and
    /// they start by their [priority](crate::engine::Priority), and of the same in the order of their creation.
    pub runs: usize,
    /// Attempts of steps that are under way at a time on this node; 64. What is due beyond is recorded and waits, by
    /// the [priority](crate::engine::Priority) of its run and its own, and of the same in the order in which runs ask
    /// for room: the tree says so.
    pub attempts: usize,
    /// Tasks that run at a time; 1 000: attempts, and what the host starts. An attempt beyond is given
    /// back and tried again.
    pub tasks: usize,
    /// Runs that have a monitor; 1 000. Further ones run without. An observer, which exports of checkpoints need,
    /// counts as one more.
    pub monitors: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { runs: 1_000, attempts: 64, tasks: 1_000, monitors: 1_000 }
    }
}

/// A limit that cannot be meant.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{LimitError, Limits, Runtime, RuntimeError, Store};
/// let limits = Limits { tasks: 2_000_000, ..Limits::default() };
/// let refused = Runtime::builder().store(Store::memory()).limits(limits).start().await;
/// let Err(RuntimeError::Limit(error)) = refused else { panic!("so many cannot be meant") };
/// assert_eq!(error, LimitError::Absurd { name: "tasks", value: 2_000_000 });
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// Nothing would ever run.
    #[error("the limit `{name}` is 0: nothing would ever start")]
    Zero {
        /// Which.
        name: &'static str,
    },
    /// More than any process can bear.
    #[error("the limit `{name}` is {value}, and at most {MOST} can be meant")]
    Absurd {
        /// Which.
        name: &'static str,
        /// What it was set to.
        value: usize,
    },
}

impl LimitError {
    /// Which.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Zero { name } | Self::Absurd { name, .. } => name,
        }
    }
}

impl Limits {
    /// # Errors
    ///
    /// The first limit that cannot be meant.
    pub(super) fn checked(self) -> Result<Self, LimitError> {
        let Self { runs, attempts, tasks, monitors } = self;
        let named =
            [("runs", runs), ("attempts", attempts), ("tasks", tasks), ("monitors", monitors)];
        for (name, value) in named {
            match value {
                0 => return Err(LimitError::Zero { name }),
                1..=MOST => (),
                _ => return Err(LimitError::Absurd { name, value }),
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_cannot_be_meant_is_told_by_name() {
        let usual = Limits::default();
        assert_eq!(usual.checked(), Ok(usual));
        let one = Limits { runs: 1, attempts: 1, tasks: 1, monitors: 1 };
        assert_eq!(one.checked(), Ok(one));
        for (limits, refused) in [
            (Limits { runs: 0, ..usual }, LimitError::Zero { name: "runs" }),
            (Limits { attempts: 0, ..usual }, LimitError::Zero { name: "attempts" }),
            (Limits { tasks: 0, ..usual }, LimitError::Zero { name: "tasks" }),
            (Limits { monitors: 0, ..usual }, LimitError::Zero { name: "monitors" }),
            (
                Limits { runs: MOST + 1, ..usual },
                LimitError::Absurd { name: "runs", value: MOST + 1 },
            ),
            (
                Limits { tasks: usize::MAX, ..usual },
                LimitError::Absurd { name: "tasks", value: usize::MAX },
            ),
        ] {
            assert_eq!(limits.checked(), Err(refused));
        }
    }
}
