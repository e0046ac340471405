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
    tags::{self, IN_A_PIPELINE},
    terms::Terms,
};

static SET: BatchScript = BatchScript::new("cache.set", include_str!("lua/set.lua"));

/// A call of a batch script has up to 1,024 keys and arguments: five, and three for each tag.
const MOST_TAGS_IN_A_RUN: usize = 300;

/// A [`Cache::set`] or [`Cache::set_many`] that has not been sent yet; awaiting it sends it.
#[must_use = "nothing is stored until it is awaited"]
pub struct Set<'a, V> {
    cache: &'a Cache<V>,
    what: Result<What, Error>,
    terms: Terms,
}

/// Keys of entries, and encoded values.
enum What {
    One(Key, Bytes),
    Many(Vec<(Key, Bytes)>),
}

impl<'a, V> Set<'a, V> {
    pub(crate) fn one(cache: &'a Cache<V>, id: &[u8], value: &V) -> Self {
        let what = cache.encoded(id, value).map(|(key, encoded)| What::One(key, encoded));
        Self { cache, what, terms: Terms::new(&cache.inner.settings) }
    }

    pub(crate) fn many<'v, K: AsRef<[u8]>>(
        cache: &'a Cache<V>,
        entries: impl IntoIterator<Item = (K, &'v V)>,
    ) -> Self
    where
        V: 'v,
    {
        let entries = entries.into_iter().map(|(id, value)| cache.encoded(id.as_ref(), value));
        let what = entries.collect::<Result<_, _>>().map(What::Many);
        Self { cache, what, terms: Terms::new(&cache.inner.settings) }
    }
}

impl<V> Set<'_, V> {
    /// Sets how long the entry, or each of them, lives, from 1 millisecond to 100 years.
    ///
    /// Default: that of the [cache](crate::CacheBuilder::time_to_live).
    pub fn time_to_live(mut self, time_to_live: Duration) -> Self {
        self.terms.time_to_live = time_to_live;
        self
    }

    /// Gives the entry, or each of them, tags, by which it can be [invalidated](Cache::invalidate_tag); at most 1,000.
    ///
    /// Default: none.
    pub fn tags<T: AsRef<[u8]>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.terms.tags = tags::named(tags);
        self
    }
}

impl<V> Cache<V> {
    fn encoded(&self, id: &[u8], value: &V) -> Result<(Key, Bytes), Error> {
        let encoded = self.codec.encode(value).map_err(Error::unencodable)?;
        Ok((self.inner.prefix.tagged(id), encoded))
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
        if tags.len() > MOST_TAGS_IN_A_RUN {
            return None;
        }
        let keys: Vec<Key> = tags.iter().map(|tag| self.tags.tagged(tag)).collect();
        if !self.conn.in_one_slot(std::iter::once(key).chain(&keys)) {
            return None;
        }
        let mut call = self.conn.batch_script(&SET).key(key);
        for key in &keys {
            call = call.key(key);
        }
        let header = entry::header(life.fresh_until, 0, packed.flags, tags.len());
        call = call.arg(header.as_slice()).arg(packed.value.clone());
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

    async fn set(self: &Arc<Self>, key: &Key, encoded: Bytes, terms: &Terms) -> Result<(), Error> {
        terms.check()?;
        let Terms { time_to_live, stale, tags } = terms;
        let packed = self.settings.compression.pack(encoded);
        let setting = async {
            let life = self.life(self.now().await, *time_to_live, *stale);
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
        terms: &Terms,
    ) -> Result<(), Error> {
        terms.check()?;
        let keys: Vec<Key> = entries.iter().map(|(key, _)| key.clone()).collect();
        let setting = Box::pin(self.set_all(entries, terms));
        let outcome = self.owing(About::Entries(&keys), setting).await;
        for key in &keys {
            self.stored(key);
        }
        Ok(outcome?)
    }

    async fn set_all(
        &self,
        entries: &[(Key, Bytes)],
        terms: &Terms,
    ) -> redbrick_core_conn::Result<()> {
        let (conn, Terms { time_to_live, stale, tags }) = (&self.conn, terms);
        let versions =
            self.tag_versions(conn, tags, self.kept_at_most(*time_to_live, *stale)).await?;
        let now = self.now().await;
        let mut outcome = Ok(());
        for some in entries.chunks(IN_A_PIPELINE) {
            let mut pipeline = conn.pipeline();
            let calls = some.iter().map(|(key, encoded)| {
                let (life, packed) = (
                    self.life(now, *time_to_live, *stale),
                    self.settings.compression.pack(encoded.clone()),
                );
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

impl<'a, V> IntoFuture for Set<'a, V> {
    type Output = Result<(), Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { cache, what, terms } = self;
        let inner = &cache.inner;
        let set = async move {
            match what? {
                What::One(key, encoded) => inner.set(&key, encoded, &terms).await,
                What::Many(entries) => Box::pin(inner.set_many(&entries, &terms)).await,
            }
        };
        Box::pin(set.instrument(tracing::debug_span!("cache.set")))
    }
}

impl<V> fmt::Debug for Set<'_, V> {
    /// Shows neither keys, values nor tags.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Set");
        out.field("time_to_live", &self.terms.time_to_live).finish_non_exhaustive()
    }
}
