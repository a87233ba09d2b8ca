//! `claude_options.retry_config`: what the options of a call say about repeating it (YS-7).

use perennial_core::{
    FailureClass,
    retry::{Classes, Growth, RetryPolicy},
};
use serde::{Deserialize, Serialize};

/// What is said of retries; the rest is that of the step, or of all calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RetryConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_retries: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) growth: Option<Growth>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) base_delay_ms: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) only: Option<Classes>,
}

impl RetryConfig {
    /// This, and where it is silent, `weaker`.
    pub(crate) fn over(self, weaker: Self) -> Self {
        Self {
            max_retries: self.max_retries.or(weaker.max_retries),
            growth: self.growth.or(weaker.growth),
            base_delay_ms: self.base_delay_ms.or(weaker.base_delay_ms),
            only: self.only.or(weaker.only),
        }
    }

    /// The policy of a step that has none of its own, where `usual` is that of its type.
    pub(crate) fn policy(self, usual: RetryPolicy) -> RetryPolicy {
        RetryPolicy {
            max_attempts: self.attempts().unwrap_or(usual.max_attempts),
            base_ms: self.base_delay_ms.map_or(usual.base_ms, u64::from),
            growth: self.growth.unwrap_or(usual.growth),
            only: self.only.or(usual.only),
            ..usual
        }
    }

    /// The policy `own` of the same step with what this adds: its classes, and more attempts (YS-57).
    pub(crate) fn beside(self, own: RetryPolicy) -> RetryPolicy {
        let only = self.only.map_or(own.only, |more| {
            let has = |class: FailureClass| {
                own.only.map_or(class.is_retryable(), |only| only.contains(class))
            };
            let all = FailureClass::ALL.into_iter();
            Some(all.filter(|class| has(*class) || more.contains(*class)).collect())
        });
        let max_attempts = self.attempts().unwrap_or(1).max(own.max_attempts);
        RetryPolicy { max_attempts, only, ..own }
    }

    fn attempts(self) -> Option<u32> {
        self.max_retries.map(|retries| retries.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(names: &[FailureClass]) -> Option<Classes> {
        Some(names.iter().copied().collect())
    }

    #[test]
    fn what_it_says_stands_over_what_is_usual() {
        let usual = RetryPolicy::PROVIDER;
        assert_eq!(RetryConfig::default().policy(usual), usual);
        let config = RetryConfig { max_retries: Some(0), ..RetryConfig::default() };
        assert_eq!(config.policy(usual), RetryPolicy { max_attempts: 1, ..usual });
        let below = RetryConfig {
            max_retries: Some(4),
            growth: Some(Growth::Linear),
            base_delay_ms: Some(10),
            only: classes(&[FailureClass::Timeout]),
        };
        let policy = config.over(below).policy(usual);
        assert_eq!(
            policy,
            RetryPolicy {
                max_attempts: 1,
                growth: Growth::Linear,
                base_ms: 10,
                only: classes(&[FailureClass::Timeout]),
                ..usual
            }
        );
    }

    #[test]
    fn beside_retries_of_the_step_it_adds_classes_and_attempts() {
        let own = RetryPolicy { max_attempts: 3, base_ms: 7, ..RetryPolicy::ONCE };
        let mut config = RetryConfig { base_delay_ms: Some(9), ..RetryConfig::default() };
        assert_eq!(config.beside(own), own, "pauses are the step's");
        config.max_retries = Some(1);
        assert_eq!(config.beside(own).max_attempts, 3);
        config.max_retries = Some(4);
        config.only = classes(&[FailureClass::Semantic]);
        let both = config.beside(own);
        assert_eq!(both.max_attempts, 5);
        let only = both.only.unwrap();
        assert!(only.contains(FailureClass::Timeout) && only.contains(FailureClass::Semantic));
        assert!(!only.contains(FailureClass::Permanent));
        let own = RetryPolicy { only: classes(&[FailureClass::Io]), ..own };
        let both = classes(&[FailureClass::Io, FailureClass::Semantic]);
        assert_eq!(config.beside(own).only, both);
    }
}
