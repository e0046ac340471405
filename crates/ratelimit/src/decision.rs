use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{Error, rule::Counted};

/// Whether a request may pass, and what its subject may expect.
///
/// It is as of the moment in which it was made: other requests of the same subject change it.
#[derive(Clone, Debug)]
#[must_use = "whoever does not look lets everything pass"]
pub struct Decision {
    limit: u32,
    counted: Counted,
    source: Source,
}

/// Who decided.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Source {
    /// The server.
    Redis,
    /// [`OnError`](crate::OnError), because the server could not be asked, for this reason. Whether the server counted the request all
    /// the same, [`Error::is_outcome_unknown`] says.
    Policy(Arc<Error>),
}

impl Decision {
    pub(crate) fn new(limit: u32, counted: Counted, source: Source) -> Self {
        Self { limit, counted, source }
    }

    /// Returns whether the request may pass. If it may, it has been consumed, but for a
    /// [`check`](crate::RateLimiter::check), which consumes nothing.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.counted.wait.is_zero()
    }

    /// Returns how many may pass at once: the burst with [`Algorithm::Gcra`](crate::Algorithm::Gcra), otherwise the
    /// quota's amount.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Returns how many more may pass now, after this one.
    #[must_use]
    pub fn remaining(&self) -> u32 {
        self.limit.saturating_sub(u32::try_from(self.counted.used).unwrap_or(u32::MAX))
    }

    /// Returns in how long nothing of this subject counts any more, when nothing else passes: the whole limit is there
    /// again. Part of it is there earlier with GCRA and the sliding log.
    #[must_use]
    pub fn reset_after(&self) -> Duration {
        self.counted.reset
    }

    /// Returns the moment of [`reset_after`](Self::reset_after) by the server's clock, or by this process's where the
    /// [source](Self::source) is the policy.
    #[must_use]
    pub fn reset_at(&self) -> SystemTime {
        self.counted.now + self.counted.reset
    }

    /// Returns in how long the same request would pass, when nothing else of its subject does; `None` when it passes.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        (!self.is_allowed()).then_some(self.counted.wait)
    }

    /// Returns [`retry_after`](Self::retry_after) in whole seconds, rounded up, as the header `Retry-After` wants it.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u64> {
        let wait = self.retry_after()?;
        Some(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
    }

    /// Returns who decided.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(wait: Duration) -> Decision {
        let counted =
            Counted { wait, used: 9, reset: Duration::from_secs(3), now: SystemTime::UNIX_EPOCH };
        Decision::new(5, counted, Source::Redis)
    }

    #[test]
    fn seconds_to_wait_are_rounded_up() {
        for (wait, seconds) in [(1, 1), (999_999, 1), (1_000_000, 1), (1_000_001, 2)] {
            let decision = denied(Duration::from_micros(wait));
            assert_eq!(decision.retry_after_seconds(), Some(seconds), "{wait}");
        }
        assert_eq!(denied(Duration::ZERO).retry_after_seconds(), None);
    }

    #[test]
    fn more_counted_than_the_limit_leave_nothing() {
        assert_eq!(denied(Duration::from_secs(1)).remaining(), 0);
    }
}
