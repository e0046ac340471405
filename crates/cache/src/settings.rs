//! The settings of a cache, and what follows from them.

use std::time::Duration;

use redbrick_core_conn::{DEFAULT_TRACKING_BOUND, LONGEST_TIME_TO_LIVE};

use crate::{Compression, Error, MEDIUM};

/// How long a loader may take, unless told otherwise: 30 seconds.
pub const DEFAULT_LOAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long [`get_or_load`](crate::Cache::get_or_load) waits for an answer of Redis before it does without: one second.
pub const DEFAULT_REDIS_TIMEOUT: Duration = Duration::from_secs(1);

/// For how long a process that loads is believed to be alive after its last sign: three seconds.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(3);

/// For how long a value that is kept in the process can be given that another process has changed, when the network falls silent: one
/// second.
#[cfg(feature = "local")]
pub const DEFAULT_LOCAL_BOUND: Duration = DEFAULT_TRACKING_BOUND;

/// What [`get_or_load`](crate::Cache::get_or_load) does when Redis cannot answer.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum OnError {
    /// Asks the loader, and stores nothing.
    #[default]
    Load,
    /// Fails with [`Error::Conn`], so that the source is spared.
    Fail,
}

/// What [`get_or_load`](crate::Cache::get_or_load) does when another process does not end its load in time.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum OnWaitTimeout {
    /// Asks the loader, and stores nothing.
    #[default]
    Load,
    /// Fails with [`Error::WaitTimeout`], so that the source is spared.
    Fail,
}

/// What [`CacheBuilder`](crate::CacheBuilder) says of each.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) time_to_live: Duration,
    pub(crate) load_timeout: Duration,
    pub(crate) redis_timeout: Duration,
    pub(crate) on_error: OnError,
    pub(crate) lease: Duration,
    pub(crate) wait_timeout: Option<Duration>,
    pub(crate) on_wait_timeout: OnWaitTimeout,
    pub(crate) stale_while_revalidate: Duration,
    pub(crate) stale_if_error: Duration,
    pub(crate) early_refresh: bool,
    pub(crate) jitter: Duration,
    pub(crate) compression: Compression,
    pub(crate) follow_tags: bool,
    pub(crate) fill_in_background: bool,
    pub(crate) feed_bound: Duration,
    pub(crate) max_staleness: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            time_to_live: MEDIUM,
            load_timeout: DEFAULT_LOAD_TIMEOUT,
            redis_timeout: DEFAULT_REDIS_TIMEOUT,
            on_error: OnError::Load,
            lease: DEFAULT_LEASE,
            wait_timeout: None,
            on_wait_timeout: OnWaitTimeout::Load,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            early_refresh: false,
            jitter: Duration::ZERO,
            compression: Compression::None,
            follow_tags: false,
            fill_in_background: false,
            feed_bound: DEFAULT_TRACKING_BOUND,
            max_staleness: Duration::ZERO,
        }
    }
}

impl Settings {
    pub(crate) fn check(&self) -> Result<(), Error> {
        for least in [self.time_to_live, self.load_timeout, self.lease] {
            check(least)?;
        }
        let windows = [self.stale_while_revalidate, self.stale_if_error, self.jitter];
        let windows = windows.into_iter().chain([self.feed_bound, self.max_staleness]);
        match windows.into_iter().all(|window| window <= LONGEST_TIME_TO_LIVE) {
            true => Ok(()),
            false => Err(Error::InvalidDuration),
        }
    }

    /// How long loads of other processes are waited for.
    pub(crate) fn wait_timeout(&self) -> Duration {
        // At the end nobody waits longer than for the longest time there is.
        let longest = self.load_timeout.saturating_add(self.lease.saturating_mul(2));
        self.wait_timeout.unwrap_or(longest).min(LONGEST_TIME_TO_LIVE)
    }

    /// How long one load is waited for in its process, however slow its loader and Redis are, where each answer of Redis takes so long.
    pub(crate) fn patience(&self, answer: Duration) -> Duration {
        // Of what is asked of Redis, so much comes one after the other.
        let answers = answer.saturating_mul(8);
        let loads = self.load_timeout.saturating_mul(2);
        loads.saturating_add(answers).saturating_add(self.wait_timeout())
    }
}

/// Refuses a duration that Redis would refuse.
pub(crate) fn check(duration: Duration) -> Result<Duration, Error> {
    let fits = duration >= Duration::from_millis(1) && duration <= LONGEST_TIME_TO_LIVE;
    if fits { Ok(duration) } else { Err(Error::InvalidDuration) }
}
