use std::{num::NonZeroU32, time::Duration};

/// How many may pass in how long.
///
/// Making one checks nothing; what cannot be kept is an error of
/// [`RateLimiterBuilder::build`](crate::RateLimiterBuilder::build), or of the call that
/// [gives it](crate::Subject::quota).
///
/// ```
/// use std::num::NonZeroU32;
/// use redbrick_ratelimit::Quota;
///
/// const FIVE: NonZeroU32 = NonZeroU32::new(5).unwrap();
/// // One more every 12 s, and up to five at once.
/// const LOGIN: Quota = Quota::per_minute(FIVE);
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Quota {
    amount: NonZeroU32,
    period: Duration,
    burst: Option<NonZeroU32>,
}

impl Quota {
    /// `amount` a second.
    #[must_use]
    pub const fn per_second(amount: NonZeroU32) -> Self {
        Self::per(amount, Duration::from_secs(1))
    }

    /// `amount` a minute.
    #[must_use]
    pub const fn per_minute(amount: NonZeroU32) -> Self {
        Self::per(amount, Duration::from_secs(60))
    }

    /// `amount` an hour.
    #[must_use]
    pub const fn per_hour(amount: NonZeroU32) -> Self {
        Self::per(amount, Duration::from_secs(60 * 60))
    }

    /// `amount` in each `period`.
    #[must_use]
    pub const fn per(amount: NonZeroU32, period: Duration) -> Self {
        Self { amount, period, burst: None }
    }

    /// Sets how many may pass at once, after a time in which none did; for [`Algorithm::Gcra`](crate::Algorithm::Gcra)
    /// alone, the others refuse it.
    ///
    /// Default: the amount.
    #[must_use]
    pub const fn burst(mut self, burst: NonZeroU32) -> Self {
        self.burst = Some(burst);
        self
    }

    /// Returns how many may pass in each [`period`](Self::period).
    #[must_use]
    pub const fn amount(&self) -> NonZeroU32 {
        self.amount
    }

    /// Returns the time within which the [`amount`](Self::amount) may pass.
    #[must_use]
    pub const fn period(&self) -> Duration {
        self.period
    }

    pub(crate) const fn depth(&self) -> Option<NonZeroU32> {
        self.burst
    }
}
