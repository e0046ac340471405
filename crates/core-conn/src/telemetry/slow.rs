//! Operations that took long, in the log.

use std::time::Duration;

use tokio::time::Instant;

use super::outcome::error_type;
use crate::{Error, conn::Warnings};

/// How often, at most, a connection logs a slow operation.
const SLOW_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct Slow {
    threshold: Duration,
    said: Warnings,
}

impl Slow {
    /// With a threshold of zero nothing is slow.
    pub(super) fn new(threshold: Duration) -> Self {
        let threshold = if threshold.is_zero() { Duration::MAX } else { threshold };
        Self { threshold, said: Warnings::default() }
    }

    pub(super) fn is_slow(&self, took: Duration) -> bool {
        took >= self.threshold
    }

    /// Logs a slow operation, or counts it for the next one that is logged.
    #[cold]
    pub(super) fn report(
        &self,
        command: &'static str,
        took: Duration,
        now: Instant,
        failed: Option<&Error>,
    ) {
        if let Some(more) = self.said.due(now, SLOW_INTERVAL) {
            let outcome = failed.map_or("ok", error_type);
            tracing::warn!(command, ?took, outcome, more, "a slow operation");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_and_the_longest_time_turn_it_off() {
        let year = Duration::from_secs(365 * 24 * 60 * 60);
        for off in [Duration::ZERO, Duration::MAX] {
            assert!(!Slow::new(off).is_slow(year), "{off:?}");
        }
        assert!(Slow::new(Duration::from_nanos(1)).is_slow(Duration::from_nanos(1)));
        assert!(!Slow::new(Duration::from_nanos(1)).is_slow(Duration::ZERO));
    }
}
