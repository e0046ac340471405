use std::{fmt, sync::Arc, time::Duration};

use redbrick_core_conn::{Conn, Prefix, ReadFrom};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Cache, Compression, Error, OnError, OnWaitTimeout, ValueCodec,
    cache::Inner,
    entry::clock::Clock,
    feed::Feed,
    get_or_load::breaker::Breaker,
    get_or_load::flight::Flights,
    get_or_load::remembered::Remembered,
    local::tier::{AnyTier, Tier},
    owed::Owed,
    settings::Settings,
    statistics::Counters,
};

/// The settings of a [`Cache`], each with a default.
#[must_use = "nothing is made until `build` is called"]
pub struct CacheBuilder<V> {
    conn: Conn,
    name: Vec<u8>,
    settings: Settings,
    tier: Option<Arc<dyn Tier<V>>>,
}

impl<V> CacheBuilder<V> {
    pub(crate) fn new(conn: Conn, name: &[u8]) -> Self {
        let settings = Settings::default();
        Self { conn, name: name.to_vec(), settings, tier: None }
    }

    /// Sets how long an entry and a counter live when their call says nothing else.
    ///
    /// Default: one hour ([`MEDIUM`](crate::MEDIUM)).
    pub fn time_to_live(mut self, time_to_live: Duration) -> Self {
        self.settings.time_to_live = time_to_live;
        self
    }

    /// Sets how long a loader may run, from 1 millisecond to 100 years.
    ///
    /// Default: 30 seconds ([`DEFAULT_LOAD_TIMEOUT`](crate::DEFAULT_LOAD_TIMEOUT)).
    pub fn load_timeout(mut self, load_timeout: Duration) -> Self {
        self.settings.load_timeout = load_timeout;
        self
    }

    /// Sets how long [`get_or_load`](Cache::get_or_load) waits for each answer of Redis; less than a millisecond counts as
    /// one. While no link to the server is up, it does not wait. It counts with [`OnError::Load`] alone; everything else waits for the connection's command timeout.
    ///
    /// Default: one second ([`DEFAULT_REDIS_TIMEOUT`](crate::DEFAULT_REDIS_TIMEOUT)).
    pub fn redis_timeout(mut self, redis_timeout: Duration) -> Self {
        self.settings.redis_timeout = redis_timeout;
        self
    }

    /// Sets what [`get_or_load`](Cache::get_or_load) does when Redis cannot answer.
    ///
    /// Default: it [asks the loader](OnError::Load).
    pub fn on_error(mut self, on_error: OnError) -> Self {
        self.settings.on_error = on_error;
        self
    }

    /// Sets for how long a process that loads is believed to be alive after its last sign. Others wait for it, and load when
    /// it gave none for so long: because it died, or because nobody polled its call. While a loader runs, it gives one every
    /// third of that. From 1 millisecond to 100 years.
    ///
    /// Default: three seconds ([`DEFAULT_LEASE`](crate::DEFAULT_LEASE)).
    pub fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease;
        self
    }

    /// Sets how long loads of other processes are waited for, one after the other where they fail; with zero nobody waits.
    ///
    /// Default: the [load timeout](Self::load_timeout) and two [leases](Self::lease), so that it does not end together with a load.
    pub fn wait_timeout(mut self, wait_timeout: Duration) -> Self {
        self.settings.wait_timeout = Some(wait_timeout);
        self
    }

    /// Sets what [`get_or_load`](Cache::get_or_load) does when another process does not end its load in time.
    ///
    /// Default: it [asks the loader](OnWaitTimeout::Load).
    pub fn on_wait_timeout(mut self, on_wait_timeout: OnWaitTimeout) -> Self {
        self.settings.on_wait_timeout = on_wait_timeout;
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
        self.settings.stale_while_revalidate = stale;
        self
    }

    /// Sets for how long an entry is served after its time to live when its loader fails or takes too long. Then it is left alone
    /// for as long as the [`lease`](Self::lease): others are served what is there at once. Otherwise as
    /// [`stale_while_revalidate`](Self::stale_while_revalidate).
    ///
    /// Default: not at all.
    pub fn stale_if_error(mut self, stale: Duration) -> Self {
        self.settings.stale_if_error = stale;
        self
    }

    /// Has entries loaded anew a little before the end of their time to live, by one caller in the fleet: the more probably, the
    /// nearer the end is and the longer the last load took (`XFetch`).
    ///
    /// Default: no.
    pub fn early_refresh(mut self, early: bool) -> Self {
        self.settings.early_refresh = early;
        self
    }

    /// Adds a random part to the time to live of each entry, up to so long, so that those that are stored together do not end
    /// together.
    ///
    /// Default: none.
    pub fn jitter(mut self, jitter: Duration) -> Self {
        self.settings.jitter = jitter;
        self
    }

    /// Has values of a kibibyte and more compressed, where that makes them smaller; within the call that stores them, so large
    /// ones hold up their thread for a moment. Reading needs no setting, but the feature of the algorithm, `zstd` or `lz4`.
    ///
    /// Default: no.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.settings.compression = compression;
        self
    }

    /// Has the servers say which tags change, so that their versions need not be asked for again and again: a read of an entry with
    /// tags is one round trip then, and so is storing one. Up to 8,192 tags and more are known at a time.
    ///
    /// The price: another process's [`invalidate_tag`](Cache::invalidate_tag) is known here when the server's word of it has
    /// arrived, which takes about as long as a reply; while the network is silent up to a second, or the `bound` of values in the process. So a read that begins within that
    /// time can be given what was invalidated elsewhere. What this process invalidates it knows at once. Where servers do not
    /// say what changes (see [`Conn::track`]), versions are asked for as always.
    ///
    /// Default: no.
    pub fn follow_tags(mut self, follow: bool) -> Self {
        self.settings.follow_tags = follow;
        self
    }

    /// Has what was loaded stored in a task of its own, so that the caller has its value one round trip earlier. Who asks meanwhile
    /// waits for that as for the load. Where Redis cannot store it, the origin is [`Loaded`](crate::Origin::Loaded) all the same.
    ///
    /// Default: it is stored before the call returns.
    pub fn fill_in_background(mut self, in_background: bool) -> Self {
        self.settings.fill_in_background = in_background;
        self
    }

    /// Keeps values that were read in this process as well, as they were decoded: until somebody changes them, for no longer than in
    /// Redis, and as many as its [limits](crate::Local) allow. A read of one is no round trip; it is a clone of it, so let what is
    /// large be an [`Arc`]: `Cache<Arc<Product>>`.
    ///
    /// ```no_run
    /// # use std::sync::Arc;
    /// # use redbrick_cache::{Cache, Error, Local};
    /// # use redbrick_core_conn::Conn;
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Deserialize, Serialize)]
    /// # struct Product;
    /// # fn f(conn: Conn) -> Result<Cache<Arc<Product>>, Error> {
    /// Cache::builder(conn, "products").local(Local::new().max_entries(50_000)).build()
    /// # }
    /// ```
    ///
    /// The servers say what changes (see [`Conn::track`], also for the rights that it takes), through one link to each master, which all
    /// caches of the connection share. The price: what another process changes is known here when the server's word of it has arrived, which
    /// takes about as long as a reply; while the network is silent up to the [`bound`](crate::Local::bound). What this process changes it
    /// knows at once. After a link was lost, and where
    /// nobody says what changes, each value is given only after the server has said that it is still there, which is a short reply; then
    /// [`revalidated`](crate::Statistics::revalidated) rises with each read.
    ///
    /// Default: no values are kept in the process.
    #[cfg(feature = "local")]
    pub fn local(mut self, local: crate::Local<V>) -> Self
    where
        V: Clone + Send + Sync + 'static,
    {
        self.settings.feed_bound = local.bound;
        self.settings.max_staleness = local.max_staleness;
        self.tier = Some(local.build());
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
        self.settings.check()?;
        Ok(self.build_serde())
    }

    /// Makes it, for values that are written with a codec of your own. All who use the cache need the same one.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build).
    pub fn build_with_codec(self, codec: impl ValueCodec<V> + 'static) -> Result<Cache<V>, Error> {
        self.settings.check()?;
        Ok(self.build_unchecked(Arc::new(codec)))
    }

    pub(crate) fn build_serde(self) -> Cache<V>
    where
        V: Serialize + DeserializeOwned,
    {
        let codec = self.conn.codec();
        self.build_unchecked(Arc::new(codec))
    }

    fn build_unchecked(self, values: Arc<dyn ValueCodec<V>>) -> Cache<V> {
        let settings = self.settings;
        // A replica can still have what was invalidated.
        let conn = self.conn.with_read_from(ReadFrom::Master);
        let quick = match settings.on_error {
            OnError::Load => conn.with_command_timeout(settings.redis_timeout).with_fail_fast(),
            OnError::Fail => conn.clone(),
        };
        let counters = Counters::new(&self.name);
        let prefix = Prefix::new("cache").join(self.name);
        let tier = self.tier.clone().map(|tier| -> Arc<dyn AnyTier> { tier });
        let tags = prefix.join("tag");
        let feed = Feed::new(prefix.clone(), tags.clone(), &settings, tier);
        let inner = Inner {
            patience: settings.patience(quick.command_timeout()),
            settings,
            conn,
            quick,
            leases: prefix.join("lease"),
            tags,
            counts: prefix.join("count"),
            prefix,
            feed: Arc::new(feed),
            clock: Arc::new(Clock::default()),
            refreshes: Arc::default(),
            gone: Remembered::default(),
            told: Remembered::default(),
            owed: Owed::default(),
            breaker: Breaker::default(),
            flights: Flights::default(),
            counters,
        };
        Cache { inner: Arc::new(inner), codec: values, tier: self.tier }
    }
}

impl<V> fmt::Debug for CacheBuilder<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheBuilder").field("settings", &self.settings).finish_non_exhaustive()
    }
}
