//! Filling a cache before it is asked.

use std::{
    fmt,
    future::{Future, IntoFuture},
    num::NonZeroUsize,
    pin::Pin,
    time::Duration,
};

use redbrick_core_conn::BoxError;
use tracing::Instrument;

use crate::{Cache, Error, Origin, at_once::bounded_each, tags, terms::Terms};

/// What came of [`Cache::warm`], in keys.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Warmed {
    /// Loaded, and stored unless invalidated meanwhile.
    pub loaded: u64,
    /// There already.
    pub present: u64,
    /// Not loaded, or not stored because Redis could not be asked. The log says why loads failed.
    pub failed: u64,
}

/// A warm-up that is to be made; awaiting it makes it.
#[must_use = "nothing is loaded until it is awaited"]
pub struct Warm<'a, V, Keys, L> {
    cache: &'a Cache<V>,
    keys: Keys,
    concurrency: NonZeroUsize,
    loader: L,
    terms: Terms,
}

impl<V> Cache<V> {
    /// Loads what is missing of `keys`, `concurrency` at a time, before traffic comes; each as
    /// [`get_or_load`](Self::get_or_load) does, within this call. A key that fails leaves the others alone.
    ///
    /// One round trip for each key that is there, three for each other.
    ///
    /// ```no_run
    /// # use redbrick_cache::{Cache, Error};
    /// # async fn f(cache: Cache<String>) -> std::io::Result<()> {
    /// let concurrency = 8.try_into().expect("it is not zero");
    /// let warming = cache.warm(["a", "b"], concurrency, async |key| Ok::<_, std::io::Error>(key.to_uppercase()));
    /// let warmed = warming.tags(["letters"]).await;
    /// println!("{} of {} failed", warmed.failed, warmed.loaded + warmed.present + warmed.failed);
    /// # Ok(()) }
    /// ```
    pub fn warm<K, Keys, L, Loading, E>(
        &self,
        keys: Keys,
        concurrency: NonZeroUsize,
        loader: L,
    ) -> Warm<'_, V, Keys, L>
    where
        Keys: IntoIterator<Item = K>,
        L: Fn(K) -> Loading,
        Loading: Future<Output = Result<V, E>>,
    {
        let terms = Terms::new(&self.inner.settings);
        Warm { cache: self, keys, concurrency, loader, terms }
    }
}

impl<V, Keys, L> Warm<'_, V, Keys, L> {
    /// Sets how long loaded entries live, from 1 millisecond to 100 years.
    ///
    /// Default: that of the [cache](crate::CacheBuilder::time_to_live).
    pub fn time_to_live(mut self, time_to_live: Duration) -> Self {
        self.terms.time_to_live = time_to_live;
        self
    }

    /// Gives loaded entries tags; they have to be those that [`get_or_load`](Cache::get_or_load) names.
    ///
    /// Default: none.
    pub fn tags<T: AsRef<[u8]>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.terms.tags = tags::named(tags);
        self
    }
}

impl<'a, V, K, Keys, L, Loading, E> IntoFuture for Warm<'a, V, Keys, L>
where
    V: Send + 'static,
    K: AsRef<[u8]> + Clone + Send + 'a,
    Keys: IntoIterator<Item = K> + Send + 'a,
    Keys::IntoIter: Send,
    L: Fn(K) -> Loading + Send + Sync + 'a,
    Loading: Future<Output = Result<V, E>> + Send + 'a,
    E: Into<BoxError> + 'a,
{
    type Output = Warmed;
    type IntoFuture = Pin<Box<dyn Future<Output = Warmed> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        let warm = async move {
            let Self { cache, keys, concurrency, loader, terms } = self;
            let (loader, terms) = (&loader, &terms);
            let loads = keys.into_iter().map(|key| async move {
                let id = key.clone();
                let mut load = cache.get_or_load(id, move || loader(key));
                load.ask.terms = terms.clone();
                load.with_origin().await.map(|it| it.origin)
            });
            let mut warmed = Warmed::default();
            let count = |origin: Result<Origin, Error>| match origin {
                Ok(Origin::Cached | Origin::Local | Origin::Stale) => warmed.present += 1,
                Ok(Origin::Loaded) => warmed.loaded += 1,
                Ok(Origin::Bypassed) => warmed.failed += 1,
                Err(error) => {
                    cache.inner.tell_failure(&error);
                    warmed.failed += 1;
                }
            };
            bounded_each(concurrency, loads, count).await;
            warmed
        };
        Box::pin(warm.instrument(tracing::debug_span!("cache.warm")))
    }
}

impl<V, Keys, L> fmt::Debug for Warm<'_, V, Keys, L> {
    /// Shows neither keys nor tags.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Warm");
        out.field("concurrency", &self.concurrency).field("time_to_live", &self.terms.time_to_live);
        out.finish_non_exhaustive()
    }
}
