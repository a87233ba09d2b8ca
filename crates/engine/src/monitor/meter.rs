//! When to sample, and how much of the processor the process took since the last time.

use std::time::Duration;

use perennial_supervision::{Clock, Uptime};

use super::Message;
use crate::Services;

/// Kept by the timekeeper: one measurement serves all monitors.
#[derive(Debug)]
pub(crate) struct Meter {
    last: Uptime,
    /// Processor time of the process then.
    cpu: Option<Duration>,
}

impl Meter {
    pub(crate) fn start(services: &Services) -> Self {
        Self { last: services.clock.now(), cpu: Clock::cpu_time() }
    }

    /// How long until the next sample; none is due where nothing is monitored.
    pub(crate) fn next(&self, services: &Services) -> Duration {
        let monitoring = services.monitoring;
        if !monitoring.enabled || services.monitors.is_empty() {
            return Duration::MAX;
        }
        monitoring.every.saturating_sub(services.clock.now().since(self.last))
    }

    /// Tells all monitors to sample, if that is due.
    pub(crate) fn sample(&mut self, services: &Services) {
        let now = services.clock.now();
        let passed = now.since(self.last);
        if passed < services.monitoring.every {
            return;
        }
        let cpu = Clock::cpu_time();
        let percent = |(before, now): (Duration, Duration)| {
            let share = now.saturating_sub(before).as_secs_f64() / passed.as_secs_f64();
            share * 100.0
        };
        let cpu_percent = self.cpu.zip(cpu).map(percent).filter(|percent| percent.is_finite());
        (self.last, self.cpu) = (now, cpu);
        for monitor in services.monitors.iter() {
            // One that is away is told the next time.
            drop(monitor.value().cast(Message::Sample { cpu_percent }));
        }
    }
}
