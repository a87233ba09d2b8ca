//! Calls to one provider: how many are under way, how many bytes they carry, and the pause it asked for, in one.

use std::time::Duration;

use perennial_core::{Uptime, protection::InvalidConfig};
use perennial_supervision::Clock;

use super::{Pause, Permit, PermitError, Permits, PermitsStatus, pause::EndsTooLate};

/// The settings of a [`Dispatch`]. [`Default`] has the values named at the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DispatchConfig {
    /// Calls under way; 400.
    pub calls_max: u64,
    /// Calls under way that began while it is throttled; 10.
    pub throttled_calls_max: u64,
    /// Bytes under way; 5 MB.
    pub bytes_max: u64,
    /// For how many each byte counts while it is throttled; 20.
    pub throttled_bytes_factor: u64,
    /// How long after the end of a pause it is throttled; 10 s.
    pub throttled_for: Duration,
}

impl Default for DispatchConfig {
    fn default() -> Self {
        Self {
            calls_max: 400,
            throttled_calls_max: 10,
            bytes_max: 5_000_000,
            throttled_bytes_factor: 20,
            throttled_for: Duration::from_secs(10),
        }
    }
}

/// Lets calls to one provider go. Cheap to clone; clones are the same.
///
/// While nobody asked to wait, it counts calls and bytes. When somebody was told to wait, all do, by a [`Pause`] that others
/// may share; for a time after its end fewer calls go at once, and each byte counts for many. The order is fixed: the
/// pause is waited for first, while nothing is held; then places are taken, always in the same order (INV-SEM-4).
///
/// ```
/// use perennial_supervision::Clock;
/// use perennial_tools::protection::{Dispatch, DispatchConfig, Pause};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let clock = Clock::start();
/// let dispatch = Dispatch::new("model", DispatchConfig::default(), Pause::new(clock), clock)?;
/// let far = clock.now() + Duration::from_secs(60);
/// let going = dispatch.acquire(1_000, "agent 7", far).await?;
/// assert_eq!(dispatch.snapshot().bytes.out, 1_000);
/// dispatch.back_off(clock.now() + Duration::from_secs(5)); // the provider said so
/// assert!(dispatch.snapshot().paused_until.is_some());
/// drop(going);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Dispatch {
    config: DispatchConfig,
    clock: Clock,
    pause: Pause,
    throttled: Permits,
    calls: Permits,
    bytes: Permits,
}

/// The right to one call, until it is dropped.
#[must_use = "what is dropped is given back"]
#[derive(Debug)]
pub struct Going {
    _throttled: Option<Permit>,
    _call: Permit,
    bytes: Permit,
}

impl Going {
    /// For how many bytes it counts.
    pub fn weight(&self) -> u64 {
        self.bytes.weight()
    }
}

/// How a [`Dispatch`] stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DispatchStatus {
    /// The end of the pause that all share, when there is one now.
    pub paused_until: Option<Uptime>,
    /// Whether calls that begin now are throttled.
    pub is_throttled: bool,
    /// Calls under way, and whose.
    pub calls: PermitsStatus,
    /// Those of them that began throttled.
    pub throttled: PermitsStatus,
    /// Bytes under way, as they count.
    pub bytes: PermitsStatus,
}

/// Why a call may not go.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DispatchError {
    /// The provider asked to wait for longer.
    #[error(transparent)]
    Paused(#[from] EndsTooLate),
    /// There was no place.
    #[error(transparent)]
    Permit(#[from] PermitError),
}

impl Dispatch {
    /// Nothing is under way. `pause` may be shared with whoever else calls that provider.
    ///
    /// # Errors
    ///
    /// When a setting cannot be used; the error names it.
    pub fn new(
        name: &str,
        config: DispatchConfig,
        pause: Pause,
        clock: Clock,
    ) -> Result<Self, InvalidConfig> {
        for (field, is) in [
            ("calls_max", config.calls_max),
            ("throttled_calls_max", config.throttled_calls_max),
            ("bytes_max", config.bytes_max),
            ("throttled_bytes_factor", config.throttled_bytes_factor),
        ] {
            if is == 0 {
                let (is, must) = ("0".to_owned(), "at least 1");
                return Err(InvalidConfig { of: "dispatch", field, is, must });
            }
        }
        let throttled = config.throttled_calls_max;
        Ok(Self {
            config,
            clock,
            pause,
            throttled: Permits::counting(format!("throttled calls of {name}"), throttled, clock)?,
            calls: Permits::counting(format!("calls of {name}"), config.calls_max, clock)?,
            bytes: Permits::weighted(format!("bytes of {name}"), config.bytes_max, clock)?,
        })
    }

    /// Lets a call of `bytes` by `owner` go, as soon as it may. Who waits is woken; nobody asks again and again.
    ///
    /// While it is throttled, a call counts for no more bytes than there are in all.
    ///
    /// # Errors
    ///
    /// When the call has more bytes than there are in all, the pause ends after `deadline`, or there is no place by then.
    ///
    /// # Cancel safety
    ///
    /// Who is dropped while it waits has taken nothing.
    pub async fn acquire(
        &self,
        bytes: u64,
        owner: &str,
        deadline: Uptime,
    ) -> Result<Going, DispatchError> {
        loop {
            self.pause.wait(deadline).await?;
            let is_throttled = self.is_throttled();
            let _throttled = if is_throttled {
                Some(self.throttled.acquire(1, owner, deadline).await?)
            } else {
                None
            };
            let _call = self.calls.acquire(1, owner, deadline).await?;
            let bytes_max = self.config.bytes_max;
            let weight = if is_throttled && bytes <= bytes_max {
                bytes.saturating_mul(self.config.throttled_bytes_factor).min(bytes_max)
            } else {
                bytes
            };
            let bytes = self.bytes.acquire(weight, owner, deadline).await?;
            // Somebody may have been told to wait meanwhile; then all is given back.
            if self.pause.until().is_none() && (is_throttled || !self.is_throttled()) {
                return Ok(Going { _throttled, _call, bytes });
            }
        }
    }

    /// The provider asked to wait until then. Never shortens what was said before; whether it is later than that.
    pub fn back_off(&self, until: Uptime) -> bool {
        self.pause.extend(until)
    }

    /// How it stands.
    pub fn snapshot(&self) -> DispatchStatus {
        DispatchStatus {
            paused_until: self.pause.until(),
            is_throttled: self.is_throttled(),
            calls: self.calls.status(),
            throttled: self.throttled.status(),
            bytes: self.bytes.status(),
        }
    }

    fn is_throttled(&self) -> bool {
        let now = self.clock.now();
        let throttled_for = self.config.throttled_for;
        self.pause.latest().is_some_and(|end| now.since(end) < throttled_for)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, future::join_all};

    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn dispatch(config: DispatchConfig) -> (Clock, Dispatch, Pause) {
        let clock = Clock::start();
        let pause = Pause::new(clock);
        (clock, Dispatch::new("model", config, pause.clone(), clock).unwrap(), pause)
    }

    /// Proves C10.7.
    #[tokio::test(start_paused = true)]
    async fn after_a_pause_fewer_calls_go_and_each_byte_counts_for_twenty() {
        let config = DispatchConfig { throttled_calls_max: 2, ..DispatchConfig::default() };
        let (clock, dispatch, pause) = dispatch(config);
        let far = clock.now() + secs(1_000);
        let plain = join_all((0..400).map(|_| dispatch.acquire(100, "o", far))).await;
        assert!(plain.iter().all(|going| going.as_ref().unwrap().weight() == 100));
        let status = dispatch.snapshot();
        assert_eq!((status.calls.out, status.throttled.out, status.bytes.out), (400, 0, 40_000));
        assert!(dispatch.acquire(1, "o", far).now_or_never().is_none(), "400 are under way");
        drop(plain);
        // Somebody else was told.
        assert!(pause.extend(clock.now() + secs(5)));
        assert_eq!(dispatch.snapshot().paused_until, pause.until());
        let one = dispatch.acquire(1_000, "o", far).await.unwrap();
        assert_eq!((clock.now(), one.weight()), (Uptime::new(secs(5)), 20_000));
        let two = dispatch.acquire(300_000, "o", far).await.unwrap();
        assert_eq!(two.weight(), 5_000_000, "no more than there are");
        let mut three = Box::pin(dispatch.acquire(1, "o", far));
        assert!(three.as_mut().now_or_never().is_none());
        let status = dispatch.snapshot();
        assert!(status.is_throttled);
        assert_eq!((status.calls.out, status.throttled.out, status.throttled.waiting), (2, 2, 1));
        drop((one, two));
        assert_eq!(three.now_or_never().unwrap().unwrap().weight(), 20);
        // Ten seconds after its end it is as before, on a paused clock.
        tokio::time::sleep(secs(10)).await;
        assert_eq!(dispatch.acquire(7, "o", far).await.unwrap().weight(), 7);
        assert!(!dispatch.snapshot().is_throttled);
    }

    /// Proves INV-SEM-4, C10.8.
    #[tokio::test(start_paused = true)]
    async fn nobody_holds_a_place_while_it_waits_for_the_pause() {
        let config = DispatchConfig { calls_max: 1, ..DispatchConfig::default() };
        let (clock, dispatch, _pause) = dispatch(config);
        let far = clock.now() + secs(1_000);
        let held = dispatch.acquire(1, "a", far).await.unwrap();
        let mut waits = Box::pin(dispatch.acquire(1, "b", far));
        assert!(waits.as_mut().now_or_never().is_none());
        // It gets a place when all were told to wait, and gives it back.
        dispatch.back_off(clock.now() + secs(5));
        drop(held);
        assert!(waits.as_mut().now_or_never().is_none());
        let status = dispatch.snapshot();
        assert_eq!((status.calls.out, status.calls.waiting, status.bytes.out), (0, 0, 0));
        assert_eq!(waits.await.unwrap().weight(), 20);
        assert_eq!(clock.now(), Uptime::new(secs(5)));
        dispatch.back_off(clock.now() + secs(5));
        let late = dispatch.acquire(1, "c", clock.now() + secs(4)).await.unwrap_err();
        assert!(matches!(late, DispatchError::Paused(EndsTooLate { .. })));
        let (_, fresh, _) = self::dispatch(config);
        let heavy = fresh.acquire(5_000_001, "d", far).await.unwrap_err();
        assert!(matches!(heavy, DispatchError::Permit(PermitError::WeightExceedsTotal { .. })));
    }

    #[test]
    fn settings_that_cannot_be_used_are_named() {
        let clock = Clock::start();
        let config = DispatchConfig { bytes_max: 0, ..DispatchConfig::default() };
        let wrong = Dispatch::new("model", config, Pause::new(clock), clock).unwrap_err();
        assert_eq!(wrong.field, "bytes_max");
    }
}
