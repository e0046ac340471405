use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use redbrick_core_conn::{Conn, Key, LONGEST_TIME_TO_LIVE, Prefix, Replay, Script, Ttl};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    CacheBuilder, Error, ValueCodec,
    entry::age::after,
    entry::clock::Clock,
    entry::read::Found,
    entry::{self, Stored},
    feed::Feed,
    get_or_load::breaker::Breaker,
    get_or_load::flight::Flights,
    get_or_load::remembered::Remembered,
    local::{Got, Near, tier::Tier},
    owed::{About, Owed},
    set::Set,
    settings::Settings,
    statistics::Counters,
    terms::Wanted,
};

/// For how long it is remembered that an entry was deleted here. It may have been stored anew elsewhere by then.
const GONE: Duration = Duration::from_secs(5);

static DELETE: Script = Script::new("cache.delete", include_str!("lua/delete.lua"));
static LIFE: Script = Script::new("cache.life", include_str!("lua/life.lua"));

/// A cache of values of one type in Redis.
///
/// Make it once, and clone it: clones are cheap and share everything, loads under way and what is owed among them. Two that were made
/// of one name share their entries in Redis alone. Values are encoded with the codec of the connection, or [one of your
/// own](CacheBuilder::build_with_codec). All reads ask the master, also on a connection that reads from replicas: those can have what
/// was invalidated.
pub struct Cache<V> {
    pub(crate) inner: Arc<Inner>,
    /// How values are written.
    pub(crate) codec: Arc<dyn ValueCodec<V>>,
    /// Values that this process keeps.
    pub(crate) tier: Option<Arc<dyn Tier<V>>>,
}

pub(crate) struct Inner {
    pub(crate) settings: Settings,
    pub(crate) conn: Conn,
    /// The same with less patience.
    pub(crate) quick: Conn,
    pub(crate) prefix: Prefix,
    pub(crate) leases: Prefix,
    pub(crate) tags: Prefix,
    pub(crate) counts: Prefix,
    /// How long one load is waited for before another begins beside it.
    pub(crate) patience: Duration,
    pub(crate) feed: Arc<Feed>,
    pub(crate) clock: Arc<Clock>,
    /// Entries, by their marks, that nobody here needs to ask the lease for: somebody loads them anew, or has just failed to.
    pub(crate) refreshes: Arc<Remembered<Bytes>>,
    /// Keys that were invalidated here, and will hardly be there.
    pub(crate) gone: Remembered<Key>,
    /// Whether it was said lately that a load has failed.
    pub(crate) told: Remembered<&'static str>,
    /// Invalidations that are still to be made.
    pub(crate) owed: Owed,
    pub(crate) breaker: Breaker,
    pub(crate) flights: Flights,
    pub(crate) counters: Counters,
}

impl<V: Serialize + DeserializeOwned> Cache<V> {
    /// Makes one with the defaults of its [builder](Self::builder); sends nothing. Two caches of one name on one server
    /// share their entries.
    #[must_use]
    pub fn new(conn: Conn, name: impl AsRef<[u8]>) -> Self {
        Self::builder(conn, name).build_serde()
    }
}

impl<V> Cache<V> {
    /// Begins one of which more is to be said.
    pub fn builder(conn: Conn, name: impl AsRef<[u8]>) -> CacheBuilder<V> {
        CacheBuilder::new(conn, name.as_ref())
    }

    /// The same cache for values of another type, which are written with the codec of the connection, also where this one's are [written
    /// otherwise](CacheBuilder::build_with_codec). Its values are not kept in this process. An entry that cannot be read as the other type is a miss; one that can is a value of it.
    #[must_use]
    pub fn of<W: Serialize + DeserializeOwned>(&self) -> Cache<W> {
        let codec = Arc::new(self.inner.conn.codec());
        Cache { inner: Arc::clone(&self.inner), codec, tier: None }
    }

    /// Returns the prefix of its keys, behind that of the connection.
    #[must_use]
    pub fn prefix(&self) -> &Prefix {
        &self.inner.prefix
    }

    /// Deletes the entry of `key`, and returns whether there was one. What is being loaded for it right now, anywhere, will
    /// not be stored.
    ///
    /// One round trip. Repeated after a broken connection, it can answer `false` although it deleted the entry itself.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`]; after an unknown outcome the entry may be gone.
    #[doc(alias("invalidate", "forget", "remove"))]
    #[tracing::instrument(level = "debug", name = "cache.delete", skip_all)]
    pub async fn delete(&self, key: impl AsRef<[u8]> + Send) -> Result<bool, Error> {
        let inner = &self.inner;
        let entry = inner.prefix.tagged(key);
        let call = inner.conn.script(&DELETE).key(&entry).arg(inner.end_of(&entry));
        let call = call.run::<bool>().replay(Replay::Idempotent).into_future();
        let deleted = inner.owing(About::Entry(&entry), call).await;
        inner.invalidated(&entry);
        Ok(deleted?)
    }

    /// Deletes the entries of `keys`, and returns how many were there; otherwise as [`delete`](Self::delete). What is being loaded
    /// counts as an entry, where none is there yet.
    ///
    /// One round trip (`UNLINK`); on Cluster one for each slot, all at once.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`]; some entries may be gone.
    #[tracing::instrument(level = "debug", name = "cache.delete_many", skip_all)]
    pub async fn delete_many<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K> + Send,
    ) -> Result<u64, Error> {
        let inner = &self.inner;
        let entries: Vec<Key> = keys.into_iter().map(|id| inner.prefix.tagged(id)).collect();
        let call = Box::pin(inner.conn.delete_many(&entries));
        let deleted = inner.owing(About::Entries(&entries), call).await;
        for entry in &entries {
            inner.invalidated(entry);
        }
        Ok(deleted?)
    }

    /// Returns whether [`get`](Self::get) would find something, as far as tags are concerned. It reads the entry, and
    /// counts in no statistics.
    ///
    /// One round trip, two when the entry has tags.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`]; nothing is changed.
    #[doc(alias("contains"))]
    #[tracing::instrument(level = "debug", name = "cache.exists", skip_all)]
    pub async fn exists(&self, key: impl AsRef<[u8]> + Send) -> Result<bool, Error> {
        let entry = self.inner.prefix.tagged(key);
        let inner = &*self.inner;
        let doubt = inner.owed.doubt(&entry);
        let stored = inner.conn.get_bytes(&entry).await?;
        Ok(match stored.map(entry::decode) {
            Some(Stored::Entry(entry)) => {
                let found =
                    inner.judge(&inner.conn, entry, &doubt, Wanted::FRESH, HashMap::new()).await?;
                matches!(found, Found::Valid(_, age) if age.is_fresh())
            }
            _ => false,
        })
    }

    /// Returns how long the entry of `key` has to live, also when one of its tags was invalidated; zero once it is only kept to be
    /// [served stale](crate::CacheBuilder::stale_while_revalidate).
    ///
    /// One round trip.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`]; nothing is changed.
    #[tracing::instrument(level = "debug", name = "cache.ttl", skip_all)]
    pub async fn ttl(&self, key: impl AsRef<[u8]> + Send) -> Result<Ttl, Error> {
        let inner = &*self.inner;
        let call = inner.conn.script(&LIFE).key(inner.prefix.tagged(key));
        let call = call.run::<(i64, Option<Bytes>)>().replay(Replay::Idempotent);
        let (left, beginning) = call.await?;
        let Some(beginning) = beginning else { return Ok(Ttl::Missing) };
        let Ok(left) = u64::try_from(left) else { return Ok(Ttl::Persistent) };
        let fresh = match (inner.now().await, entry::fresh_until(&beginning)) {
            (Some(now), Some(until)) => until.saturating_sub(now),
            _ => u64::MAX,
        };
        Ok(Ttl::Expires(Duration::from_millis(left.min(fresh))))
    }
}

impl<V: Send + 'static> Cache<V> {
    /// Returns the value of `key`; `None` when there is none, when one of its tags was invalidated, and when what is stored
    /// cannot be read as a `V`, which [`statistics`](Self::statistics) count.
    ///
    /// One round trip (`GET`), two when the entry has tags; none for what is [kept in this process](CacheBuilder::local), one where it must
    /// be asked whether that is still there.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`]; nothing is changed.
    pub async fn get(&self, key: impl AsRef<[u8]> + Send) -> Result<Option<V>, Error> {
        match self.near(key.as_ref(), Wanted::FRESH) {
            // A span costs more than this.
            Near::Value(value) => Ok(self.counted(Got::Here(value))),
            near => self.get_there(key.as_ref(), near).await,
        }
    }

    #[tracing::instrument(level = "debug", name = "cache.get", skip_all)]
    async fn get_there(&self, id: &[u8], near: Near<V>) -> Result<Option<V>, Error> {
        let entry = self.inner.prefix.tagged(id);
        Ok(self.counted(self.find(&self.inner.conn, id, &entry, Wanted::FRESH, near).await?))
    }

    /// Returns the values of `keys`, in their order; each as [`get`](Self::get) would.
    ///
    /// One round trip (`MGET`), two when entries have tags; on Cluster each time one for each slot, all at once. None for what is kept in
    /// this process, one for each 256 of which it must be asked whether they are still there.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`]; nothing is changed.
    #[tracing::instrument(level = "debug", name = "cache.get_many", skip_all)]
    pub async fn get_many<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K> + Send,
    ) -> Result<Vec<Option<V>>, Error> {
        let inner = &*self.inner;
        if self.tier.is_none() {
            // Keys are made while they are sent.
            let entries = keys.into_iter().map(|id| inner.prefix.tagged(id));
            let reading = inner.reading(&inner.conn, entries);
            let read = |found| self.counted(Got::There(self.value(found)));
            return Ok(inner.read_many(reading, Wanted::FRESH, read).await?);
        }
        let asked = keys.into_iter().map(|id| {
            let (near, id) = (self.near(id.as_ref(), Wanted::FRESH), id.as_ref());
            (Bytes::copy_from_slice(id), inner.prefix.tagged(id), near)
        });
        let asked = asked.collect();
        let got = self.find_many(&inner.conn, asked, Wanted::FRESH).await?;
        Ok(got.into_iter().map(|got| self.counted(got)).collect())
    }

    /// Stores `value` at `key`: await it as it is, or say more first. What is being loaded for the key right now, anywhere,
    /// will not replace it.
    ///
    /// One round trip; with more than 300 tags, and on Cluster with tags that do not lie in the slot of the entry, one more for each 256
    /// tags. Entries with as many tags that tasks store at the same time leave together.
    ///
    /// # Errors
    ///
    /// When it is awaited: [`Error::Conn`]; after an unknown outcome it may be stored. [`Error::Unencodable`],
    /// [`Error::InvalidDuration`] and [`Error::TooManyTags`] before anything is sent.
    #[doc(alias("insert", "put"))]
    pub fn set(&self, key: impl AsRef<[u8]>, value: &V) -> Set<'_, V> {
        Set::one(self, key.as_ref(), value)
    }

    /// Stores several values with one life and the same tags; each as [`set`](Self::set) does, one independent of the other.
    ///
    /// One round trip for each 256 of them, one more with tags. Nothing is sent again after a broken connection.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set); some may be stored.
    pub fn set_many<'v, K: AsRef<[u8]>>(
        &self,
        entries: impl IntoIterator<Item = (K, &'v V)>,
    ) -> Set<'_, V>
    where
        V: 'v,
    {
        Set::many(self, entries)
    }
}

impl Inner {
    /// An entry was deleted: nobody joins its load any more, and it will hardly be there.
    fn invalidated(&self, key: &Key) {
        self.flights.detach(key);
        self.gone.add(key, GONE);
    }

    /// The life of an entry that is stored now, and served for so long past its time while it is loaded anew.
    pub(crate) fn life(&self, now: Option<u64>, time_to_live: Duration, stale: Duration) -> Life {
        let fresh = self.fresh(time_to_live);
        // Where nobody knows when it is over, it is not to be there any more.
        let kept = if now.is_some() { self.kept(fresh, stale) } else { fresh };
        Life { fresh_until: after(now, fresh), kept }
    }

    /// For how long an entry is fresh that is to be so for `time_to_live`.
    fn fresh(&self, time_to_live: Duration) -> Duration {
        let most = u64::try_from(self.settings.jitter.as_millis()).unwrap_or(u64::MAX);
        let more = fastrand::u64(..=most);
        time_to_live.saturating_add(Duration::from_millis(more)).min(LONGEST_TIME_TO_LIVE)
    }

    /// For how long an entry is kept that is fresh for so long.
    fn kept(&self, fresh: Duration, stale: Duration) -> Duration {
        fresh.saturating_add(stale.max(self.settings.stale_if_error)).min(LONGEST_TIME_TO_LIVE)
    }

    /// For how long an entry is kept at most.
    pub(crate) fn kept_at_most(&self, time_to_live: Duration, stale: Duration) -> Duration {
        self.kept(time_to_live.saturating_add(self.settings.jitter), stale)
    }

    /// How long the part of an entry's key is that tells it from others of this cache.
    pub(crate) fn end_of(&self, entry: &Key) -> usize {
        entry.as_ref().len() - self.prefix.to_string().len() - 1
    }

    /// The keys of an entry and its lease.
    pub(crate) fn keys(&self, id: &[u8]) -> (Key, Key) {
        (self.prefix.tagged(id), self.leases.tagged(id))
    }
}

/// For how long an entry is there, and how long of that it is fresh.
pub(crate) struct Life {
    pub(crate) fresh_until: u64,
    pub(crate) kept: Duration,
}

impl<V> Clone for Cache<V> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            codec: Arc::clone(&self.codec),
            tier: self.tier.clone(),
        }
    }
}

impl<V> fmt::Debug for Cache<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("prefix", &self.inner.prefix)
            .field("settings", &self.inner.settings)
            .finish_non_exhaustive()
    }
}
