use std::time::Duration;

use redbrick_core_conn::{Conn, Prefix};

use crate::{
    Algorithm, Error, OnError, Quota, RateLimiter, limiter::Inner, policy::Policy, rule::Rule,
};

/// How long a decision may take: 100 ms.
const DEFAULT_TIMEOUT: Duration = Duration::from_millis(100);
/// How many subjects are known while this process limits by itself: 10,000.
#[cfg(feature = "local")]
const DEFAULT_LOCAL_SUBJECTS: std::num::NonZeroUsize = std::num::NonZeroUsize::new(10_000).unwrap();

/// The settings of a [`RateLimiter`], each with a default.
#[derive(Debug)]
#[must_use = "nothing is made until `build` is called"]
pub struct RateLimiterBuilder {
    conn: Conn,
    prefix: Prefix,
    quota: Quota,
    algorithm: Algorithm,
    on_error: OnError,
    timeout: Duration,
    #[cfg(feature = "local")]
    local_subjects: std::num::NonZeroUsize,
}

impl RateLimiterBuilder {
    pub(crate) fn new(conn: Conn, name: &[u8], quota: Quota) -> Self {
        Self {
            conn,
            prefix: Prefix::new("ratelimit").join(name),
            quota,
            algorithm: Algorithm::default(),
            on_error: OnError::default(),
            timeout: DEFAULT_TIMEOUT,
            #[cfg(feature = "local")]
            local_subjects: DEFAULT_LOCAL_SUBJECTS,
        }
    }

    /// Sets how requests are counted. Limiters of one name and different algorithms do not count together.
    ///
    /// Default: [`Algorithm::Gcra`].
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Sets what decides while Redis is away.
    ///
    /// Default: [`OnError::Allow`].
    pub fn on_error(mut self, on_error: OnError) -> Self {
        self.on_error = on_error;
        self
    }

    /// Sets how long a decision may take before Redis counts as away; less than a millisecond counts as one.
    ///
    /// Default: 100 ms.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how many subjects [`OnError::Local`] knows apart, at about 100 bytes each. The others share one quota until
    /// there is room again.
    ///
    /// Default: 10,000.
    #[cfg(feature = "local")]
    pub fn local_subjects(mut self, subjects: std::num::NonZeroUsize) -> Self {
        self.local_subjects = subjects;
        self
    }

    /// Makes it; sends nothing.
    ///
    /// # Errors
    ///
    /// [`Error::QuotaTooFine`], [`Error::QuotaTooLong`] and [`Error::BurstWithoutGcra`], when the quota cannot be kept.
    pub fn build(self) -> Result<RateLimiter, Error> {
        let Self { conn, prefix, quota, algorithm, on_error, timeout, .. } = self;
        let rule = Rule::new(algorithm, quota)?;
        #[cfg(feature = "local")]
        let policy = Policy::new(on_error, crate::local::Local::new(self.local_subjects));
        #[cfg(not(feature = "local"))]
        let policy = Policy::new(on_error);
        let inner = Inner { conn, prefix, algorithm, quota, rule, timeout, policy };
        Ok(RateLimiter::from_inner(inner))
    }
}
