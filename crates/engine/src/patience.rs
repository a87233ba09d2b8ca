//! Patience with a store that is away for a moment: its writer may just be restarting.

use std::time::Duration;

use perennial_core::retry::{Backoff, Jitter};
use perennial_store::StoreError;

/// How long an operation is offered to the store before its failure is passed on.
pub(crate) const STORE_WITHIN: Duration = Duration::from_secs(30);

/// Between questions: each answer is waited for by one caller, so nothing is left to chance.
const BACKOFF: Backoff =
    Backoff::doubling(Duration::from_millis(5), Duration::from_millis(500)).jitter(Jitter::None);

/// How long one question of somebody who asks it again anyway may take.
pub(crate) const QUESTION_WITHIN: Duration = Duration::from_secs(10);

/// Asks the store once, for somebody who looks again anyway: it must not hang there.
///
/// # Errors
///
/// The store's; [`StoreError::Unavailable`] when it did not answer in time.
///
/// # Cancel safety
///
/// The outcome of a dropped operation is unknown.
pub(crate) async fn once<T>(
    operation: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(QUESTION_WITHIN, operation).await {
        Ok(answer) => answer,
        Err(_) => Err(no_answer(QUESTION_WITHIN)),
    }
}

fn no_answer(within: Duration) -> StoreError {
    StoreError::Unavailable(format!("no answer within {} ms", within.as_millis()))
}

/// Runs `operation` until it succeeds, fails for good, or `within` has passed.
///
/// Only for operations that may be repeated: reads, and writes under a precondition of their own.
///
/// # Errors
///
/// The last error; [`StoreError::Unavailable`] when the store did not answer in time.
///
/// # Cancel safety
///
/// The outcome of a dropped operation is unknown.
pub(crate) async fn patiently<T, F>(
    within: Duration,
    operation: impl FnMut() -> F,
) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    tries(within, operation, StoreError::is_transient).await
}

/// As [`patiently`], for what goes on by itself and has nobody who asked: what somebody has to put right, such as a
/// right that was taken away, is waited for as well. Who does ask is told of it at once.
///
/// # Errors
///
/// As of [`patiently`].
///
/// # Cancel safety
///
/// The outcome of a dropped operation is unknown.
pub(crate) async fn persistently<T, F>(
    within: Duration,
    operation: impl FnMut() -> F,
) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    tries(within, operation, may_pass).await
}

/// Whether it passes by itself, or by somebody who puts it right.
pub(crate) fn may_pass(error: &StoreError) -> bool {
    error.is_transient() || matches!(error, StoreError::Refused { .. })
}

async fn tries<T, F>(
    within: Duration,
    mut operation: impl FnMut() -> F,
    again: impl Fn(&StoreError) -> bool,
) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut last = None;
    let tries = async {
        let mut used = 0;
        loop {
            match operation().await {
                Err(error) if again(&error) => last = Some(error),
                result => return result,
            }
            used += 1;
            tokio::time::sleep(BACKOFF.pause(used, 0.0)).await;
        }
    };
    match tokio::time::timeout(within, tries).await {
        Ok(result) => result,
        Err(_) => Err(last.unwrap_or_else(|| no_answer(within))),
    }
}
