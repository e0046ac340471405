use std::{num::NonZeroUsize, time::Duration};

use redbrick_core_conn::{Conn, Prefix};

use crate::{
    Algorithm, Error, OnError, Quota, RateLimiter, limiter::Inner, local::Local, policy::Policy,
    rule::Rule,
};

/// How long a decision waits for Redis, unless told otherwise: 100 ms.
pub const DEFAULT_REDIS_TIMEOUT: Duration = Duration::from_millis(100);
/// How many subjects [`OnError::Local`] knows apart, unless told otherwise: 10,000.
pub const DEFAULT_LOCAL_SUBJECTS: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// The settings of a [`RateLimiter`], each with a default.
#[derive(Debug)]
#[must_use = "nothing is made until `build` is called"]
pub struct RateLimiterBuilder {
    conn: Conn,
    name: String,
    prefix: Prefix,
    quota: Quota,
    algorithm: Algorithm,
    on_error: OnError,
    redis_timeout: Duration,
    local_subjects: NonZeroUsize,
}

impl RateLimiterBuilder {
    pub(crate) fn new(conn: Conn, name: &[u8], quota: Quota) -> Self {
        Self {
            conn,
            name: String::from_utf8_lossy(name).into_owned(),
            prefix: Prefix::new("ratelimit").join(name),
            quota,
            algorithm: Algorithm::default(),
            on_error: OnError::default(),
            redis_timeout: DEFAULT_REDIS_TIMEOUT,
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
    pub fn redis_timeout(mut self, redis_timeout: Duration) -> Self {
        self.redis_timeout = redis_timeout;
        self
    }

    /// Sets how many subjects [`OnError::Local`] knows apart, each of which takes some memory here. The others share one quota until
    /// there is room again.
    ///
    /// Default: 10,000.
    pub fn local_subjects(mut self, subjects: NonZeroUsize) -> Self {
        self.local_subjects = subjects;
        self
    }

    /// Makes it; sends nothing.
    ///
    /// # Errors
    ///
    /// [`Error::QuotaTooFine`], [`Error::QuotaTooLong`] and [`Error::BurstWithoutGcra`], when the quota cannot be kept.
    pub fn build(self) -> Result<RateLimiter, Error> {
        let Self { conn, name, prefix, quota, algorithm, on_error, redis_timeout, local_subjects } =
            self;
        let rule = Rule::new(algorithm, quota)?;
        let policy = Policy::new(on_error, Local::new(local_subjects));
        let inner = Inner { conn, name, prefix, algorithm, quota, rule, redis_timeout, policy };
        Ok(RateLimiter::from_inner(inner))
    }
}
