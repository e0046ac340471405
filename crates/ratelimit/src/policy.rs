use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use redbrick_core_conn::{Key, WARNING_INTERVAL};

use crate::{
    Decision, Error, Source,
    local::Local,
    rule::{Ask, Counted, Rule},
};

/// What decides while Redis is away: it cannot be reached, does not answer in time, or is in no state to serve.
///
/// A decision made so says why by [`Decision::source`], and a warning says so in the log, at most once in 30 s.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum OnError {
    /// Every request passes, as if it were the first of its subject.
    #[default]
    Allow,
    /// None passes; it is said to be worth another try in a second.
    Deny,
    /// The call fails with the error.
    Fail,
    /// This process limits by itself: by [`Algorithm::Gcra`](crate::Algorithm::Gcra) with the same quota, so several processes
    /// let as many times more pass. It knows nothing of what was counted before.
    Local,
}

/// In how long a request that was denied blindly is said to be worth another try.
const DENIED_FOR: Duration = Duration::from_secs(1);

/// What [`OnError`] needs to decide.
#[derive(Debug)]
pub(crate) struct Policy {
    on_error: OnError,
    warnings: Mutex<Warnings>,
    local: Local,
}

/// When the last warning was said, and how many were not since.
#[derive(Debug, Default)]
struct Warnings {
    last: Option<Instant>,
    unsaid: u64,
}

impl Policy {
    pub(crate) fn new(on_error: OnError, local: Local) -> Self {
        Self { on_error, warnings: Mutex::default(), local }
    }

    /// Decides without Redis, which failed with `err`.
    ///
    /// # Errors
    ///
    /// `err`, when that is the policy.
    pub(crate) fn decide(
        &self,
        rule: &Rule,
        stem: &Key,
        ask: Ask,
        err: Error,
    ) -> Result<Decision, Error> {
        let blindly = |wait, used| {
            Ok(Counted { wait, used: u64::from(used), reset: wait, now: SystemTime::now() })
        };
        let counted = match self.on_error {
            OnError::Allow if ask.consumes => blindly(Duration::ZERO, ask.cost.get()),
            OnError::Allow => blindly(Duration::ZERO, 0),
            OnError::Deny => blindly(DENIED_FOR, rule.limit().get()),
            OnError::Fail => Err(err.clone()),
            OnError::Local => Ok(self.local.decide(rule, &rule.key(stem), ask)),
        }?;
        self.warn(&err, Instant::now());
        Ok(Decision::new(rule.limit().get(), counted, Source::Policy(Arc::new(err))))
    }

    fn warn(&self, err: &Error, now: Instant) {
        let Some(suppressed) = self.is_due(now) else { return };
        let policy = self.on_error;
        let source = std::error::Error::source(err).unwrap_or(err);
        tracing::warn!(error = %source, ?policy, suppressed, "Redis is away, and the policy decides");
    }

    /// Counts a warning; returns how many were not said since the last one when it is time to say one.
    fn is_due(&self, now: Instant) -> Option<u64> {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        if warnings.last.is_some_and(|last| now.duration_since(last) < WARNING_INTERVAL) {
            warnings.unsaid += 1;
            return None;
        }
        warnings.last = Some(now);
        Some(std::mem::take(&mut warnings.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_warning_per_interval_is_said_and_the_others_are_counted() {
        let policy = Policy::new(OnError::Allow, Local::new(std::num::NonZeroUsize::MIN));
        let start = Instant::now();
        assert_eq!(policy.is_due(start), Some(0));
        assert_eq!(policy.is_due(start + WARNING_INTERVAL / 2), None);
        assert_eq!(policy.is_due(start + WARNING_INTERVAL), Some(1));
        assert_eq!(policy.is_due(start + WARNING_INTERVAL), None);
    }
}
