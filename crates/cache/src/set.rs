//! Storing values that a caller has.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use redbrick_core_conn::{BatchScript, Call, Key, Replay, Token};
use tracing::Instrument;

use crate::{
    Cache, Error,
    cache::{Inner, Life},
    entry,
    entry::compress::Packed,
    owed::About,
    settings::check,
    tags::{self, AT_ONCE},
};

static SET: BatchScript = BatchScript::new("cache.set", include_str!("lua/set.lua"));

/// With more tags an entry takes a round trip more.
const MOST_TAGS_AT_ONCE: usize = 300;

/// A [`Cache::set`] that has not been sent yet; awaiting it sends it.
#[must_use = "nothing is stored until it is awaited"]
pub struct Set<'a, V> {
    cache: &'a Cache<V>,
    key: Key,
    encoded: Result<Bytes, Error>,
    time_to_live: Duration,
    tags: Vec<Bytes>,
}

/// A [`Cache::set_many`] that has not been sent yet; awaiting it sends it.
#[must_use = "nothing is stored until it is awaited"]
pub struct SetMany<'a, V> {
    cache: &'a Cache<V>,
    /// The keys of entries, and encoded values.
    entries: Result<Vec<(Key, Bytes)>, Error>,
    time_to_live: Duration,
    tags: Vec<Bytes>,
}

impl<'a, V> Set<'a, V> {
    pub(crate) fn new(cache: &'a Cache<V>, id: &[u8], value: &V) -> Self {
        let inner = &*cache.inner;
        let encoded = cache.codec.encode(value).map_err(Error::unencodable);
        let (key, time_to_live) = (inner.prefix.tagged(id), inner.settings.time_to_live);
        Self { cache, key, encoded, time_to_live, tags: Vec::new() }
    }
}

impl<V> Set<'_, V> {
    /// Sets how long the entry lives, from 1 millisecond to 100 years.
    ///
    /// Default: that of the [cache](crate::CacheBuilder::time_to_live).
    pub fn time_to_live(mut self, time_to_live: Duration) -> Self {
        self.time_to_live = time_to_live;
        self
    }

    /// Gives the entry tags, by which it can be [invalidated](Cache::invalidate_tag); at most 1,000.
    ///
    /// Default: none.
    pub fn tags<T: AsRef<[u8]>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags = tags::named(tags);
        self
    }
}

impl<'a, V> SetMany<'a, V> {
    pub(crate) fn new<'v, K: AsRef<[u8]>>(
        cache: &'a Cache<V>,
        entries: impl IntoIterator<Item = (K, &'v V)>,
    ) -> Self
    where
        V: 'v,
    {
        let inner = &*cache.inner;
        let encoded = entries.into_iter().map(|(id, value)| {
            let encoded = cache.codec.encode(value).map_err(Error::unencodable)?;
            Ok((inner.prefix.tagged(id), encoded))
        });
        let (entries, time_to_live) = (encoded.collect(), inner.settings.time_to_live);
        Self { cache, entries, time_to_live, tags: Vec::new() }
    }
}

impl<V> SetMany<'_, V> {
    /// Sets how long the entries live, from 1 millisecond to 100 years.
    ///
    /// Default: that of the [cache](crate::CacheBuilder::time_to_live).
    pub fn time_to_live(mut self, time_to_live: Duration) -> Self {
        self.time_to_live = time_to_live;
        self
    }

    /// Gives each entry these tags, by which it can be [invalidated](Cache::invalidate_tag); at most 1,000.
    ///
    /// Default: none.
    pub fn tags<T: AsRef<[u8]>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags = tags::named(tags);
        self
    }
}

impl Inner {
    /// The call that stores an entry in any case. A load under way finds its lease gone.
    fn set_entry(&self, key: &Key, entry: Bytes, kept: Duration) -> Call<'_, ()> {
        // Never done once more: it would undo what others did meanwhile.
        let set = self.conn.set_bytes(key, entry).time_to_live(kept).replay(Replay::IfUnsent);
        set.into()
    }

    /// The call that does so with the versions that its tags have; none where it cannot reach all of these, or they are very many.
    fn set_with_tags(
        &self,
        key: &Key,
        packed: &Packed,
        life: &Life,
        tags: &[Bytes],
    ) -> Option<Call<'_, bool>> {
        let keys: Vec<Key> = tags.iter().map(|tag| self.tags.tagged(tag)).collect();
        let is_reached = self.conn.in_one_slot(std::iter::once(key).chain(&keys));
        if !is_reached || tags.len() > MOST_TAGS_AT_ONCE {
            return None;
        }
        let mut call = self.conn.batch_script(&SET).key(key);
        for key in &keys {
            call = call.key(key);
        }
        let header = entry::header(life.fresh_until, 0, packed.flags, tags.len());
        call = call.arg(header).arg(packed.value.clone());
        call = call.arg(life.kept).arg(tags::life(life.kept));
        for tag in tags {
            let new = Token::<8>::random();
            call = call.arg(entry::name(tag)).arg(new.as_bytes().as_slice());
        }
        // As it is with one without tags.
        Some(call.run())
    }

    /// An entry was stored: nobody joins its load any more, and it is there.
    fn stored(&self, key: &Key) {
        self.flights.detach(key);
        self.gone.take(key);
    }

    async fn set(
        self: &Arc<Self>,
        key: &Key,
        encoded: Bytes,
        time_to_live: Duration,
        tags: &[Bytes],
    ) -> Result<(), Error> {
        check(time_to_live)?;
        tags::check(tags)?;
        let packed = self.settings.compression.pack(encoded);
        let setting = async {
            let life = self.life(self.now().await, time_to_live);
            if tags.is_empty() {
                let entry = entry::encode(life.fresh_until, 0, &[], &packed);
                self.set_entry(key, entry, life.kept).await
            } else {
                Box::pin(self.set_tagged(key, &packed, &life, tags)).await
            }
        };
        // What is there is not what it is to be, whatever comes.
        let outcome = self.owing(About::Entry(key), setting).await;
        self.stored(key);
        Ok(outcome?)
    }

    async fn set_tagged(
        &self,
        key: &Key,
        packed: &Packed,
        life: &Life,
        tags: &[Bytes],
    ) -> redbrick_core_conn::Result<()> {
        // Where tags are followed, their versions are worth being known.
        if !self.settings.follow_tags
            && let Some(set) = self.set_with_tags(key, packed, life, tags)
        {
            return set.await.map(drop);
        }
        let versions = self.tag_versions(&self.conn, tags, life.kept).await?;
        let entry = entry::encode(life.fresh_until, 0, &versions, packed);
        self.set_entry(key, entry, life.kept).await
    }

    async fn set_many(
        self: &Arc<Self>,
        entries: &[(Key, Bytes)],
        time_to_live: Duration,
        tags: &[Bytes],
    ) -> Result<(), Error> {
        check(time_to_live)?;
        tags::check(tags)?;
        let keys: Vec<Key> = entries.iter().map(|(key, _)| key.clone()).collect();
        let setting = Box::pin(self.set_all(entries, time_to_live, tags));
        let outcome = self.owing(About::Entries(&keys), setting).await;
        for key in &keys {
            self.stored(key);
        }
        Ok(outcome?)
    }

    async fn set_all(
        &self,
        entries: &[(Key, Bytes)],
        time_to_live: Duration,
        tags: &[Bytes],
    ) -> redbrick_core_conn::Result<()> {
        let conn = &self.conn;
        let versions = self.tag_versions(conn, tags, self.kept_at_most(time_to_live)).await?;
        let now = self.now().await;
        let mut outcome = Ok(());
        for some in entries.chunks(AT_ONCE) {
            let mut pipeline = conn.pipeline();
            let calls = some.iter().map(|(key, encoded)| {
                let (life, packed) =
                    (self.life(now, time_to_live), self.settings.compression.pack(encoded.clone()));
                let entry = entry::encode(life.fresh_until, 0, &versions, &packed);
                self.set_entry(key, entry, life.kept)
            });
            let tickets: Vec<_> = calls.map(|call| pipeline.add(call)).collect();
            let mut results = Box::pin(pipeline.send()).await;
            let taken = tickets.into_iter().map(|ticket| results.take(ticket));
            outcome = outcome.and(taken.collect());
        }
        outcome
    }
}

impl<'a, V> IntoFuture for SetMany<'a, V> {
    type Output = Result<(), Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { cache, entries, time_to_live, tags } = self;
        let span = tracing::debug_span!("cache.set");
        let inner = &cache.inner;
        Box::pin(
            async move { inner.set_many(&entries?, time_to_live, &tags).await }.instrument(span),
        )
    }
}

impl<'a, V> IntoFuture for Set<'a, V> {
    type Output = Result<(), Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { cache, key, encoded, time_to_live, tags } = self;
        let span = tracing::debug_span!("cache.set");
        let inner = &cache.inner;
        let set = async move { inner.set(&key, encoded?, time_to_live, &tags).await };
        Box::pin(set.instrument(span))
    }
}

impl<V> fmt::Debug for Set<'_, V> {
    /// Shows neither the key nor the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Set").field("time_to_live", &self.time_to_live).finish_non_exhaustive()
    }
}

impl<V> fmt::Debug for SetMany<'_, V> {
    /// Shows neither keys nor values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetMany").field("time_to_live", &self.time_to_live).finish_non_exhaustive()
    }
}
