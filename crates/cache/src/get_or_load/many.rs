//! Getting many values, those that are missing from one load.

use std::{
    collections::HashMap,
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

use redbrick_core_conn::BoxError;
use tracing::Instrument;

use crate::{Cache, Error, Loaded, get_or_load::together::Together, tags, terms::Terms};

/// A [`Cache::get_or_load_many`] that has not been sent yet; awaiting it gives the values.
#[must_use = "nothing is asked until it is awaited"]
pub struct GetOrLoadMany<'c, 'l, V, K> {
    cache: &'c Cache<V>,
    keys: Vec<K>,
    terms: Terms,
    loader: Loader<'l, K, V>,
}

pub(super) type Loader<'l, K, V> = Box<dyn Fn(Vec<K>) -> Loading<'l, K, V> + Send + Sync + 'l>;
pub(super) type Loading<'l, K, V> =
    Pin<Box<dyn Future<Output = Result<Vec<(K, Loaded<V>)>, BoxError>> + Send + 'l>>;

impl<V: Send + 'static> Cache<V> {
    /// Returns the values of `keys`, in their order, and has `loader` load together those that are missing, which it stores; each
    /// otherwise as [`get_or_load`](Self::get_or_load). `None` stands for a key for which the loader returns no value, of which
    /// nothing is stored.
    ///
    /// ```no_run
    /// # use std::collections::HashMap;
    /// # use redbrick_cache::{Cache, Error};
    /// # async fn from_database(ids: &[u64]) -> std::io::Result<HashMap<u64, String>> { Ok(HashMap::new()) }
    /// # async fn f(cache: Cache<String>) -> Result<(), Error> {
    /// let names = cache.get_or_load_many(["7", "8", "9"], async |missing| {
    ///     let ids: Vec<u64> = missing.iter().filter_map(|id| id.parse().ok()).collect();
    ///     let mut names = from_database(&ids).await?;
    ///     let named = missing.into_iter().filter_map(|id| Some((id, names.remove(&id.parse().ok()?)?)));
    ///     Ok::<_, std::io::Error>(named.collect())
    /// });
    /// let names: Vec<Option<String>> = names.tags(["users"]).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// What others load already, in this process or elsewhere, is waited for after that, and loaded key by key where they fail. What is
    /// [past its time](crate::CacheBuilder::stale_while_revalidate) and to be served is loaded anew with the rest, by one caller in
    /// the fleet.
    ///
    /// One round trip where all are there, two when they have tags. Otherwise two more and the loader: one to take the leases, one to
    /// store; on Cluster each of them one for each slot, all at once.
    ///
    /// # Errors
    ///
    /// Those of [`get_or_load`](Self::get_or_load), when one of the keys that are missing meets one; others may be stored.
    pub fn get_or_load_many<'l, K, L, F, E>(
        &self,
        keys: impl IntoIterator<Item = K>,
        loader: L,
    ) -> GetOrLoadMany<'_, 'l, V, K>
    where
        K: AsRef<[u8]> + Clone + Send + Sync,
        L: Fn(Vec<K>) -> F + Send + Sync + 'l,
        F: Future<Output = Result<Vec<(K, V)>, E>> + Send + 'l,
        E: Into<BoxError>,
    {
        let load = move |keys| -> Loading<'l, K, V> {
            let loading = loader(keys);
            Box::pin(async move {
                let loaded = loading.await.map_err(Into::into)?;
                Ok(loaded.into_iter().map(|(key, value)| (key, Loaded::new(value))).collect())
            })
        };
        GetOrLoadMany::new(self, keys, Box::new(load))
    }

    /// The same with a loader that says more of each value: how long it lives, and what its tags are. It is given no previous values.
    ///
    /// One more round trip where the loader names [tags](Loaded::tags) that its call does not; on Cluster one for each slot.
    ///
    /// # Errors
    ///
    /// Those of [`get_or_load_many`](Self::get_or_load_many), and those of [`get_or_load_with`](Self::get_or_load_with) for what the
    /// loader says.
    pub fn get_or_load_many_with<'l, K, L, F, E>(
        &self,
        keys: impl IntoIterator<Item = K>,
        loader: L,
    ) -> GetOrLoadMany<'_, 'l, V, K>
    where
        K: AsRef<[u8]> + Clone + Send + Sync,
        L: Fn(Vec<K>) -> F + Send + Sync + 'l,
        F: Future<Output = Result<Vec<(K, Loaded<V>)>, E>> + Send + 'l,
        E: Into<BoxError>,
    {
        let load = move |keys| -> Loading<'l, K, V> {
            let loading = loader(keys);
            Box::pin(async move { loading.await.map_err(Into::into) })
        };
        GetOrLoadMany::new(self, keys, Box::new(load))
    }
}

impl<'c, 'l, V, K> GetOrLoadMany<'c, 'l, V, K> {
    fn new(
        cache: &'c Cache<V>,
        keys: impl IntoIterator<Item = K>,
        loader: Loader<'l, K, V>,
    ) -> Self {
        let terms = Terms::new(&cache.inner.settings);
        Self { cache, keys: keys.into_iter().collect(), terms, loader }
    }
}

impl<V, K> GetOrLoadMany<'_, '_, V, K> {
    /// Sets how long loaded entries live, from 1 millisecond to 100 years.
    ///
    /// Default: that of the [cache](crate::CacheBuilder::time_to_live).
    pub fn time_to_live(mut self, time_to_live: Duration) -> Self {
        self.terms.time_to_live = time_to_live;
        self
    }

    /// Gives each loaded entry these tags; otherwise as [those of `get_or_load`](crate::GetOrLoad::tags).
    ///
    /// Default: none.
    pub fn tags<T: AsRef<[u8]>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.terms.tags = tags::named(tags);
        self
    }
}

impl<V, K> GetOrLoadMany<'_, '_, V, K>
where
    V: Send + 'static,
    K: AsRef<[u8]> + Clone + Send + Sync,
{
    async fn fetch(self) -> Result<Vec<Option<V>>, Error> {
        let Self { cache, keys, terms, loader } = self;
        terms.check()?;
        let (each, at) = each_once(&keys);
        let mut together = Together::new(cache, &each, terms, &loader);
        together.look().await?;
        together.load().await?;
        together.wait().await?;
        let mut values = together.values();
        let mut left = vec![0_usize; values.len()];
        at.iter().for_each(|at| left[*at] += 1);
        let values = at.into_iter().map(|at| {
            left[at] -= 1;
            match left[at] {
                0 => values[at].take(),
                // It is asked for once more.
                _ => values[at].as_ref().and_then(|value| cache.copy(value)),
            }
        });
        Ok(values.collect())
    }
}

/// Each key once, and where among them each that was named is.
fn each_once<K: AsRef<[u8]> + Clone>(keys: &[K]) -> (Vec<K>, Vec<usize>) {
    let (mut places, mut each) = (HashMap::new(), Vec::new());
    let at = keys.iter().map(|key| {
        *places.entry(key.as_ref().to_vec()).or_insert_with(|| {
            each.push(key.clone());
            each.len() - 1
        })
    });
    let at = at.collect();
    (each, at)
}

impl<V> Cache<V> {
    fn copy(&self, value: &V) -> Option<V> {
        let encoded = self.codec.encode(value).ok()?;
        self.codec.decode(&encoded).ok()
    }
}

impl<'c, 'l: 'c, V, K> IntoFuture for GetOrLoadMany<'c, 'l, V, K>
where
    V: Send + 'static,
    K: AsRef<[u8]> + Clone + Send + Sync + 'c,
{
    type Output = Result<Vec<Option<V>>, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'c>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.fetch().instrument(tracing::debug_span!("cache.get_or_load_many")))
    }
}

impl<V, K> fmt::Debug for GetOrLoadMany<'_, '_, V, K> {
    /// Shows neither keys nor tags.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("GetOrLoadMany");
        out.field("keys", &self.keys.len()).field("time_to_live", &self.terms.time_to_live);
        out.finish_non_exhaustive()
    }
}
