use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

use redbrick_core_conn::{Codec, Conn, LONGEST_TIME_TO_LIVE, Prefix, ReadFrom};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Cache, Compression, Error, MEDIUM, ValueCodec, breaker::Breaker, cache::Inner, clock::Clock,
    flight::Flights, owed::Owed, remembered::Remembered, statistics::Counters,
};

/// How long a loader may take, unless told otherwise: 30 seconds.
pub const DEFAULT_LOAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long [`get_or_load`](Cache::get_or_load) waits for an answer of Redis before it does without: one second.
pub const DEFAULT_REDIS_TIMEOUT: Duration = Duration::from_secs(1);

/// For how long a process that loads is believed to be alive after its last sign: three seconds.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(3);

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

/// What [`get_or_load`](Cache::get_or_load) does when another process does not end its load in time.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum OnWaitTimeout {
    /// Asks the loader, and stores nothing.
    #[default]
    Load,
    /// Fails with [`Error::WaitTimeout`], so that the source is spared.
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
    lease: Duration,
    wait_timeout: Option<Duration>,
    stale_while_revalidate: Duration,
    stale_if_error: Duration,
    early_refresh: bool,
    jitter: Duration,
    on_wait_timeout: OnWaitTimeout,
    compression: Compression,
    follow_tags: bool,
    fill_in_background: bool,
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
            lease: DEFAULT_LEASE,
            wait_timeout: None,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            early_refresh: false,
            jitter: Duration::ZERO,
            on_wait_timeout: OnWaitTimeout::Load,
            compression: Compression::None,
            follow_tags: false,
            fill_in_background: false,
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

    /// Sets how long a loader may run.
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

    /// Sets for how long a process that loads is believed to be alive after its last sign. Others wait for it, and load when
    /// it gave none for so long: because it died, or because nobody polled its call. While a loader runs, it gives one every
    /// third of that.
    ///
    /// Default: three seconds.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets how long loads of other processes are waited for, one after the other where they fail; with zero nobody waits.
    ///
    /// Default: the [load timeout](Self::load_timeout) and two [leases](Self::lease), so that it does not end together with a load.
    pub fn wait_timeout(mut self, wait_timeout: Duration) -> Self {
        self.wait_timeout = Some(wait_timeout);
        self
    }

    /// Sets what [`get_or_load`](Cache::get_or_load) does when another process does not end its load in time.
    ///
    /// Default: it [asks the loader](OnWaitTimeout::Load).
    pub fn on_wait_timeout(mut self, on_wait_timeout: OnWaitTimeout) -> Self {
        self.on_wait_timeout = on_wait_timeout;
        self
    }

    /// Sets for how long an entry is served after its time to live, while one caller in the fleet loads it anew: nobody else waits
    /// for that, and nobody at all with [`refresh_in_background`](crate::GetOrLoad::refresh_in_background). What was
    /// invalidated is never served.
    ///
    /// It counts for [`get_or_load`](Cache::get_or_load); other reads find fresh entries only. How old an entry is, is told by the
    /// server's clock, for which it is asked once a minute.
    ///
    /// Default: not at all.
    pub fn stale_while_revalidate(mut self, stale: Duration) -> Self {
        self.stale_while_revalidate = stale;
        self
    }

    /// Sets for how long an entry is served after its time to live when its loader fails or takes too long. Then it is left alone
    /// for as long as the [`lease`](Self::lease): others are served what is there at once. Otherwise as
    /// [`stale_while_revalidate`](Self::stale_while_revalidate).
    ///
    /// Default: not at all.
    pub fn stale_if_error(mut self, stale: Duration) -> Self {
        self.stale_if_error = stale;
        self
    }

    /// Has entries loaded anew a little before the end of their time to live, by one caller in the fleet: the more probably, the
    /// nearer the end is and the longer the last load took (`XFetch`).
    ///
    /// Default: no.
    pub fn early_refresh(mut self, early: bool) -> Self {
        self.early_refresh = early;
        self
    }

    /// Adds a random part to the time to live of each entry, up to so long, so that those that are stored together do not end
    /// together.
    ///
    /// Default: none.
    pub fn jitter(mut self, jitter: Duration) -> Self {
        self.jitter = jitter;
        self
    }

    /// Has values of a kibibyte and more compressed, where that makes them smaller; within the call that stores them, so large
    /// ones hold up their thread for a moment. Reading needs no setting, but the feature of the algorithm, `zstd` or `lz4`.
    ///
    /// Default: no.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Has the servers say which tags change, so that their versions need not be asked for again and again: a read of an entry with
    /// tags is one round trip then, and so is storing one. Up to 8,192 tags and more are known at a time.
    ///
    /// The price: another process's [`invalidate_tag`](Cache::invalidate_tag) is known here when the server's word of it has
    /// arrived, which takes about as long as a reply; while the network is silent up to a second. So a read that begins within that
    /// time can be given what was invalidated elsewhere. What this process invalidates it knows at once. Where servers do not
    /// say what changes (see [`Conn::track`]), versions are asked for as always.
    ///
    /// Default: no.
    pub fn follow_tags(mut self, follow: bool) -> Self {
        self.follow_tags = follow;
        self
    }

    /// Has what was loaded stored in a task of its own, so that the caller has its value one round trip earlier. Who asks meanwhile
    /// waits for that as for the load. Where Redis cannot store it, the origin is [`Loaded`](crate::Origin::Loaded) all the same.
    ///
    /// Default: it is stored before the call returns.
    pub fn fill_in_background(mut self, in_background: bool) -> Self {
        self.fill_in_background = in_background;
        self
    }

    /// Makes it, for values that are written with the codec of the connection; sends nothing.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidDuration`] when the time to live, the load timeout or the lease is below 1 millisecond, or one of
    /// the durations above 100 years.
    pub fn build(self) -> Result<Cache<V>, Error>
    where
        V: Serialize + DeserializeOwned,
    {
        self.check()?;
        Ok(self.build_serde())
    }

    /// Makes it, for values that are written with a codec of your own. All who use the cache need the same one.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build).
    pub fn build_with(self, codec: impl ValueCodec<V> + 'static) -> Result<Cache<V>, Error> {
        self.check()?;
        Ok(self.build_checked(Arc::new(codec)))
    }

    fn check(&self) -> Result<(), Error> {
        check(self.time_to_live)?;
        check(self.load_timeout)?;
        check(self.lease)?;
        for most in [self.stale_while_revalidate, self.stale_if_error, self.jitter] {
            if most > LONGEST_TIME_TO_LIVE {
                return Err(Error::InvalidDuration);
            }
        }
        Ok(())
    }

    pub(crate) fn build_serde(self) -> Cache<V>
    where
        V: Serialize + DeserializeOwned,
    {
        let codec = self.conn.codec();
        self.build_checked(Arc::new(codec))
    }

    fn build_checked(self, values: Arc<dyn ValueCodec<V>>) -> Cache<V> {
        let codec = self.conn.codec();
        // A replica can still have what was invalidated.
        let conn = self.conn.with_codec(Codec::Plain).with_read_from(ReadFrom::Master);
        let quick = match self.on_error {
            OnError::Load => conn.with_command_timeout(self.redis_timeout).with_fail_fast(),
            OnError::Fail => conn.clone(),
        };
        let step = match self.on_error {
            OnError::Load => self.redis_timeout,
            OnError::Fail => conn.command_timeout(),
        };
        // At the end nobody waits longer than for the longest time there is.
        let longest = self.load_timeout.saturating_add(self.lease.saturating_mul(2));
        let wait_timeout = self.wait_timeout.unwrap_or(longest).min(LONGEST_TIME_TO_LIVE);
        // Of what is asked of Redis, so much comes one after the other.
        let patience = self.load_timeout.saturating_mul(2).saturating_add(step.saturating_mul(8));
        let patience = patience.saturating_add(wait_timeout);
        let counters = Counters::new(&self.name);
        let prefix = Prefix::new("cache").join(self.name);
        let inner = Inner {
            conn,
            quick,
            codec,
            compression: self.compression,
            leases: prefix.join("lease"),
            tags: prefix.join("tag"),
            counts: prefix.join("count"),
            prefix,
            time_to_live: self.time_to_live,
            load_timeout: self.load_timeout,
            patience,
            on_error: self.on_error,
            lease_life: self.lease,
            wait_timeout,
            on_wait_timeout: self.on_wait_timeout,
            stale_while_revalidate: self.stale_while_revalidate,
            stale_if_error: self.stale_if_error,
            early_refresh: self.early_refresh,
            jitter: self.jitter,
            follow_tags: self.follow_tags,
            known: Arc::default(),
            clock: Arc::new(Clock::default()),
            refreshes: Arc::default(),
            gone: Remembered::default(),
            told: Remembered::default(),
            fill_in_background: self.fill_in_background,
            owed: Owed::default(),
            breaker: Breaker::default(),
            flights: Flights::default(),
            counters,
        };
        Cache { inner: Arc::new(inner), codec: values }
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
            .field("lease", &self.lease)
            .field("wait_timeout", &self.wait_timeout)
            .field("on_wait_timeout", &self.on_wait_timeout)
            .field("stale_while_revalidate", &self.stale_while_revalidate)
            .field("stale_if_error", &self.stale_if_error)
            .field("early_refresh", &self.early_refresh)
            .field("compression", &self.compression)
            .field("jitter", &self.jitter)
            .field("follow_tags", &self.follow_tags)
            .field("fill_in_background", &self.fill_in_background)
            .finish_non_exhaustive()
    }
}
