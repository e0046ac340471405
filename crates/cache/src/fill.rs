//! Running a loader, and storing what it returns.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::{Instant, timeout};
use tracing::Instrument;

use crate::{
    Cache, Error, Loaded, Origin,
    builder::check,
    cache::Inner,
    entry,
    lease::{Lease, Tags},
    load::Ask,
    loader::{Loader, Loading},
    statistics::Counter,
    tags,
};

/// What was loaded and is written.
pub(crate) struct Written<V> {
    pub(crate) value: V,
    pub(crate) encoded: Bytes,
    /// As the loader says, where it does.
    time_to_live: Option<Duration>,
    tags: Vec<Bytes>,
    /// How long that took.
    took: Duration,
}

/// An entry that is to be stored.
pub(crate) struct Fill {
    pub(crate) encoded: Bytes,
    pub(crate) took: Duration,
    pub(crate) time_to_live: Duration,
    /// Nothing where it cannot be told whether one of them was invalidated during the load.
    pub(crate) tags: redbrick_core_conn::Result<Option<Tags>>,
}

impl<V: Send + 'static> Cache<V> {
    /// Loads under a lease, and stores what was loaded, unless it was invalidated meanwhile.
    pub(crate) async fn load_under(
        &self,
        ask: &Ask,
        lease: Lease,
        mut tags: Tags,
        previous: Option<V>,
        loader: Loader<'_, V>,
    ) -> Result<(Written<V>, Origin), Error> {
        let inner = &*self.inner;
        let began = inner.flights.moment();
        let loading = async {
            let written = self.load(loader.begin(previous)).await?;
            let time_to_live = written.time_to_live.unwrap_or(ask.time_to_live);
            let more = inner.tags_of_load(&written.tags, &tags, time_to_live, began).await;
            Ok((written, time_to_live, more))
        };
        let (written, time_to_live, more) = match lease.during(loading).await {
            Ok(loaded) => loaded,
            Err(error) => {
                // Before the caller hears of it, so that whoever asks next can load, or knows that it is no use for now.
                lease.fail().await;
                return Err(error);
            }
        };
        let tags = more.map(|more| {
            tags.extend(more?);
            Some(tags)
        });
        let (encoded, took) = (written.encoded.clone(), written.took);
        let origin = self.fill(lease, Fill { encoded, took, time_to_live, tags }).await;
        Ok((written, origin))
    }

    /// Runs a loader, for as long as it may.
    pub(crate) async fn load(&self, loading: Loading<'_, V>) -> Result<Written<V>, Error> {
        let began = Instant::now();
        let Loaded { value, time_to_live, tags } = self.inner.in_time(loading).await?;
        time_to_live.map(check).transpose()?;
        tags::check(&tags)?;
        let encoded = self.codec.encode(&value).map_err(Error::unencodable)?;
        Ok(Written { value, encoded, time_to_live, tags, took: began.elapsed() })
    }

    /// Stores what was loaded, or has that done; says what has become of the load by that.
    pub(crate) async fn fill(&self, lease: Lease, fill: Fill) -> Origin {
        if !self.inner.fill_in_background {
            return self.inner.fill(lease, fill).await;
        }
        let inner = Arc::clone(&self.inner);
        let filling = async move {
            inner.fill(lease, fill).await;
        };
        drop(tokio::spawn(filling.instrument(tracing::debug_span!("cache.fill"))));
        Origin::Loaded
    }
}

impl Inner {
    /// Waits for a loader, for as long as it may take, and counts it.
    pub(crate) async fn in_time<T>(
        &self,
        loading: impl Future<Output = Result<T, redbrick_core_conn::BoxError>>,
    ) -> Result<T, Error> {
        let loaded = match timeout(self.load_timeout, loading).await {
            Ok(loaded) => loaded.map_err(Error::load),
            Err(_elapsed) => Err(Error::LoadTimeout(self.load_timeout)),
        };
        self.counters.add(if loaded.is_ok() { Counter::Loads } else { Counter::LoadFailures });
        loaded
    }

    async fn fill(&self, lease: Lease, fill: Fill) -> Origin {
        let Fill { encoded, took, time_to_live, tags } = fill;
        let stored = match tags {
            Ok(Some(tags)) => {
                let cost = u16::try_from(took.as_millis()).unwrap_or(u16::MAX);
                let life = self.life(self.now().await, time_to_live);
                let packed = self.compression.pack(encoded);
                let entry = entry::encode(life.fresh_until, cost, &tags, &packed);
                lease.store(entry, life.kept).await
            }
            Ok(None) => {
                self.counters.add(Counter::RefusedFills);
                lease.give_up().await;
                return Origin::Loaded;
            }
            Err(error) => Err(error),
        };
        match stored {
            Ok(is_stored) => {
                lease.used();
                if !is_stored {
                    self.counters.add(Counter::RefusedFills);
                }
                Origin::Loaded
            }
            // The value is there, and the cache is not what it was loaded for.
            Err(error) => {
                tracing::debug!(%error, "what was loaded could not be stored");
                self.counters.add(Counter::Bypassed);
                Origin::Bypassed
            }
        }
    }
}
