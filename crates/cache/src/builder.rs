use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

use redbrick_core_conn::{
    Codec, Conn, DEFAULT_COMMAND_TIMEOUT, LONGEST_TIME_TO_LIVE, Prefix, ReadFrom,
};

use crate::{Cache, Error, MEDIUM, cache::Inner, flight::Flights, statistics::Counters};

/// How long a loader may take, unless told otherwise: 30 seconds.
pub const DEFAULT_LOAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long [`get_or_load`](Cache::get_or_load) waits for an answer of Redis before it does without: one second.
pub const DEFAULT_REDIS_TIMEOUT: Duration = Duration::from_secs(1);

/// What [`get_or_load`](Cache::get_or_load) does when Redis cannot answer.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum OnError {
    /// Asks the loader, and stores nothing.
    #[default]
    Load,
    /// Fails with [`Error::Conn`], so that the source is spared.
    Fail,
}

/// The settings of a [`Cache`], each with a default.
#[must_use = "nothing is made until `build` is called"]
pub struct CacheBuilder<V> {
    conn: Conn,
    name: Vec<u8>,
    time_to_live: Duration,
    load_timeout: Duration,
    redis_timeout: Duration,
    on_error: OnError,
    values: PhantomData<fn() -> V>,
}

impl<V> CacheBuilder<V> {
    pub(crate) fn new(conn: Conn, name: &[u8]) -> Self {
        Self {
            conn,
            name: name.to_vec(),
            time_to_live: MEDIUM,
            load_timeout: DEFAULT_LOAD_TIMEOUT,
            redis_timeout: DEFAULT_REDIS_TIMEOUT,
            on_error: OnError::Load,
            values: PhantomData,
        }
    }

    /// Sets how long an entry and a counter live when their call says nothing else.
    ///
    /// Default: one hour ([`MEDIUM`]).
    pub fn time_to_live(mut self, time_to_live: Duration) -> Self {
        self.time_to_live = time_to_live;
        self
    }

    /// Sets how long a loader may run, and with it how long what it loads may still be stored.
    ///
    /// Default: 30 seconds.
    pub fn load_timeout(mut self, load_timeout: Duration) -> Self {
        self.load_timeout = load_timeout;
        self
    }

    /// Sets how long [`get_or_load`](Cache::get_or_load) waits for each answer of Redis; less than a millisecond counts as
    /// one. While no link to the server is up, it does not wait. It counts with [`OnError::Load`] alone; everything else waits for the connection's command timeout.
    ///
    /// Default: one second.
    pub fn redis_timeout(mut self, redis_timeout: Duration) -> Self {
        self.redis_timeout = redis_timeout;
        self
    }

    /// Sets what [`get_or_load`](Cache::get_or_load) does when Redis cannot answer.
    ///
    /// Default: it [asks the loader](OnError::Load).
    pub fn on_error(mut self, on_error: OnError) -> Self {
        self.on_error = on_error;
        self
    }

    /// Makes it; sends nothing.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidDuration`] when the time to live or the load timeout is below 1 millisecond or above 100 years.
    pub fn build(self) -> Result<Cache<V>, Error> {
        check(self.time_to_live)?;
        check(self.load_timeout)?;
        Ok(self.build_checked())
    }

    pub(crate) fn build_checked(self) -> Cache<V> {
        let codec = self.conn.codec();
        // A replica can still have what was invalidated.
        let conn = self.conn.with_codec(Codec::Plain).with_read_from(ReadFrom::Master);
        let quick = match self.on_error {
            OnError::Load => conn.with_command_timeout(self.redis_timeout).with_fail_fast(),
            OnError::Fail => conn.clone(),
        };
        let step = match self.on_error {
            OnError::Load => self.redis_timeout,
            OnError::Fail => DEFAULT_COMMAND_TIMEOUT,
        };
        // A load asks Redis up to six times.
        let patience = self.load_timeout.saturating_mul(2).saturating_add(step.saturating_mul(6));
        let counters = Counters::new(&self.name);
        let prefix = Prefix::new("cache").join(self.name);
        Cache::from_inner(Arc::new(Inner {
            conn,
            quick,
            codec,
            leases: prefix.join("lease"),
            tags: prefix.join("tag"),
            counts: prefix.join("count"),
            prefix,
            time_to_live: self.time_to_live,
            load_timeout: self.load_timeout,
            patience,
            on_error: self.on_error,
            flights: Flights::default(),
            counters,
        }))
    }
}

/// Refuses a duration that Redis would refuse.
pub(crate) fn check(duration: Duration) -> Result<Duration, Error> {
    let fits = duration >= Duration::from_millis(1) && duration <= LONGEST_TIME_TO_LIVE;
    if fits { Ok(duration) } else { Err(Error::InvalidDuration) }
}

impl<V> fmt::Debug for CacheBuilder<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheBuilder")
            .field("time_to_live", &self.time_to_live)
            .field("load_timeout", &self.load_timeout)
            .field("redis_timeout", &self.redis_timeout)
            .field("on_error", &self.on_error)
            .finish_non_exhaustive()
    }
}
