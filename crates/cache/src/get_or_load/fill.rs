//! Running a loader, and storing what it returns.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::{Instant, timeout};
use tracing::Instrument;

use crate::{
    Cache, Error, Loaded, Origin,
    cache::Inner,
    entry,
    get_or_load::Ask,
    get_or_load::lease::{Lease, Tags},
    get_or_load::loader::{Loader, Loading},
    settings::check,
    statistics::Counter,
    tags,
    terms::Terms,
};

/// What was loaded, as it is to be stored.
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
    encoded: Bytes,
    took: Duration,
    time_to_live: Duration,
    stale: Duration,
    /// Those of the call.
    tags: Tags,
    /// Those of the loader.
    more_tags: Vec<Bytes>,
    /// The moment when it began to be loaded.
    began: u64,
}

impl<V> Written<V> {
    /// The entry of it, where the call says this much and the loader nothing else.
    pub(crate) fn fill(&self, terms: &Terms, tags: Tags, began: u64) -> Fill {
        Fill {
            encoded: self.encoded.clone(),
            took: self.took,
            time_to_live: self.time_to_live.unwrap_or(terms.time_to_live),
            stale: terms.stale,
            tags,
            more_tags: self.tags.clone(),
            began,
        }
    }
}

impl<V: Send + 'static> Cache<V> {
    /// Loads under a lease, and stores what was loaded, unless it was invalidated meanwhile.
    pub(crate) async fn load_under(
        &self,
        ask: &Ask,
        lease: Lease,
        tags: Tags,
        previous: Option<V>,
        loader: Loader<'_, V>,
    ) -> Result<(Written<V>, Origin), Error> {
        let began = self.inner.flights.moment();
        let written = match lease.during(self.load(loader.begin(previous))).await {
            Ok(written) => written,
            Err(error) if error.is_absent() => {
                lease.give_up().await;
                return Err(error);
            }
            Err(error) => {
                // Before the caller hears of it, so that whoever asks next can load, or knows that it is no use for now.
                lease.fail().await;
                return Err(error);
            }
        };
        let fill = written.fill(&ask.terms, tags, began);
        let origin = self.fill(lease, fill).await;
        Ok((written, origin))
    }

    /// Runs a loader, for as long as it may.
    pub(crate) async fn load(&self, loading: Loading<'_, V>) -> Result<Written<V>, Error> {
        let began = Instant::now();
        let loaded = self.inner.in_time(loading).await?;
        self.write(loaded, began.elapsed())
    }

    /// Encodes what was loaded within a time, if what its loader says of it can be.
    pub(crate) fn write(&self, loaded: Loaded<V>, took: Duration) -> Result<Written<V>, Error> {
        let Loaded { value, time_to_live, tags } = loaded;
        time_to_live.map(check).transpose()?;
        tags::check(&tags)?;
        let encoded = self.codec.encode(&value).map_err(Error::unencodable)?;
        Ok(Written { value, encoded, time_to_live, tags, took })
    }

    /// Stores what was loaded, or has that done; says what has become of the load by that.
    pub(crate) async fn fill(&self, lease: Lease, fill: Fill) -> Origin {
        if !self.inner.settings.fill_in_background {
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
        let loaded = match timeout(self.settings.load_timeout, loading).await {
            Ok(loaded) => loaded.map_err(Error::load),
            Err(_elapsed) => Err(Error::LoadTimeout(self.settings.load_timeout)),
        };
        let has_failed = loaded.as_ref().is_err_and(|error| !error.is_absent());
        self.counters.add(if has_failed { Counter::LoadFailures } else { Counter::Loads });
        loaded
    }

    async fn fill(&self, mut lease: Lease, fill: Fill) -> Origin {
        let Fill { encoded, took, time_to_live, stale, mut tags, more_tags, began } = fill;
        let more = lease
            .during(self.tags_of_load(
                &more_tags,
                &tags,
                self.kept_at_most(time_to_live, stale),
                began,
            ))
            .await;
        let stored = match more {
            Ok(Some(more)) => {
                tags.extend(more);
                let cost = u16::try_from(took.as_millis()).unwrap_or(u16::MAX);
                let life = self.life(self.now().await, time_to_live, stale);
                let packed = self.settings.compression.pack(encoded);
                let entry = entry::encode(life.fresh_until, cost, &tags, &packed);
                lease.store(entry, life.kept).await
            }
            // Of one of them nobody here can tell whether it was invalidated meanwhile.
            Ok(None) => {
                self.counters.add(Counter::RefusedFills);
                lease.give_up().await;
                return Origin::Loaded;
            }
            Err(error) => Err(error),
        };
        lease.forget_kept();
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
                lease.leave_alone();
                Origin::Bypassed
            }
        }
    }
}
