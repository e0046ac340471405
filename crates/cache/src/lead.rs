//! Loading, in one process of the fleet.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use redbrick_core_conn::ErrorKind;
use tokio::time::{Instant, timeout};

use crate::{
    Cache, Error, Fetched, Loaded, OnError, OnWaitTimeout, Origin,
    builder::check,
    cache::{Inner, bytes},
    entry,
    fetch::Refreshing,
    flight::{Landing, Outcome},
    lease::{Lease, Leased, Tags},
    load::Ask,
    loader::{Loader, Loading},
    read::{Seen, Value},
    statistics::Counter,
    tags,
};

/// How often an entry comes that does not count, before whatever is there is overlooked.
const MOST_UNFIT: u32 = 2;

/// What a caller who leads for its process does.
enum Turn<V> {
    /// Redis has the value by now: it was read after this moment, and so it was written.
    Found(Value<V>, u64),
    /// It loads: under a lease with these versions of its tags, or without storing what it loads.
    Load(Option<(Lease, Tags)>),
    /// It has something to go on with, and a load of another process has just failed.
    Rest,
}

/// A load that has failed.
pub(crate) struct Failed {
    pub(crate) error: Error,
    /// Whether what was there may be served: nothing is known of its having been invalidated meanwhile.
    pub(crate) serves: bool,
}

/// What was loaded and is written.
struct Written<V> {
    value: V,
    encoded: Bytes,
    /// As the loader says, where it does.
    time_to_live: Option<Duration>,
    tags: Vec<Bytes>,
    /// How long that took.
    took: Duration,
}

impl<V: Send + 'static> Cache<V> {
    /// Loads, unless there is an entry by now. Returns what others are given, if anything, and what the caller is. Who
    /// `has_spare` has something to go on with when it cannot be loaded.
    pub(crate) async fn lead(
        &self,
        ask: &Ask,
        seen: Option<Seen>,
        has_spare: bool,
        previous: Option<V>,
        loader: Loader<'_, V>,
    ) -> (Option<Landing>, Result<Fetched<V>, Failed>) {
        let inner = &*self.inner;
        let failed = |began, error: Error, serves| {
            let outcome = Outcome::Failed(error.clone(), serves);
            (Some(Landing { began, outcome }), Err(Failed { error, serves }))
        };
        let turn = match seen {
            None => Ok(Turn::Load(None)),
            Some(seen) => self.turn(ask, seen, has_spare).await,
        };
        let began = inner.flights.moment();
        let lease = match turn {
            Ok(Turn::Load(lease)) => lease,
            Ok(Turn::Found(found, began)) => {
                let tags = found.entry.tags.iter().map(|(name, _)| name.clone()).collect();
                let encoded = found.entry.into_encoded();
                let outcome = Outcome::Value(encoded, Origin::Cached, Some(tags));
                let fetched = Fetched { value: found.value, origin: Origin::Cached };
                return (Some(Landing { began, outcome }), Ok(fetched));
            }
            Ok(Turn::Rest) => {
                // Who has nothing to go on with is not to be told that, and loads.
                let error = Error::load("a load of another process has just failed");
                return (None, Err(Failed { error, serves: true }));
            }
            Err(error) => return failed(began, error, true),
        };
        let loaded = match lease {
            Some((lease, tags)) => self.load_under(ask, lease, tags, previous, loader).await,
            None => {
                let written = self.load(loader.begin(previous)).await;
                if written.is_ok() {
                    inner.counters.add(Counter::Bypassed);
                }
                let loaded = written.map(|written| (written, Origin::Bypassed));
                loaded.map_err(|error| Failed { error, serves: true })
            }
        };
        match loaded {
            Ok((Written { value, encoded, .. }, origin)) => {
                let outcome = Outcome::Value(encoded, origin, None);
                (Some(Landing { began, outcome }), Ok(Fetched { value, origin }))
            }
            Err(Failed { error, serves }) => failed(began, error, serves),
        }
    }

    /// Loads anew what is still served.
    pub(crate) async fn refresh_under(
        &self,
        refreshing: Refreshing<'_, V>,
    ) -> Result<Fetched<V>, Failed> {
        let Refreshing { ask, lease, tags, previous, loader } = refreshing;
        let inner = &*self.inner;
        let key = bytes(&ask.entry);
        let loaded = self.load_under(&ask, lease, tags, previous, loader).await;
        inner.refreshes.take(&key);
        if !matches!(loaded, Ok((_, Origin::Loaded))) {
            inner.refreshes.add(&key, inner.lease_life);
        }
        match loaded {
            Ok((written, origin)) => Ok(Fetched { value: written.value, origin }),
            Err(failed) => {
                tracing::debug!(error = %failed.error, "what is there could not be loaded anew");
                Err(failed)
            }
        }
    }

    /// Loads under a lease, and stores what was loaded, unless it was invalidated meanwhile.
    async fn load_under(
        &self,
        ask: &Ask,
        lease: Lease,
        mut tags: Tags,
        previous: Option<V>,
        loader: Loader<'_, V>,
    ) -> Result<(Written<V>, Origin), Failed> {
        let inner = &*self.inner;
        let began = inner.flights.moment();
        let loading = async {
            let written = self.load(loader.begin(previous)).await?;
            let life = written.time_to_live.unwrap_or(ask.time_to_live);
            let more = inner.tags_of_load(&written.tags, &tags, life, began).await;
            Ok((written, life, more))
        };
        let (written, life, more) = match lease.during(loading).await {
            Ok(loaded) => loaded,
            Err(error) => {
                // Before the caller hears of it, so that whoever asks next can load, or knows that it is no use for now.
                return Err(Failed { error, serves: lease.fail().await });
            }
        };
        let stored = match more {
            Ok(Some(more)) => {
                tags.extend(more);
                let cost = u16::try_from(written.took.as_millis()).unwrap_or(u16::MAX);
                let fresh = inner.fresh(life);
                let packed = inner.compression.pack(written.encoded.clone());
                let entry = entry::encode(inner.fresh_until(fresh).await, cost, &tags, &packed);
                lease.store(entry, inner.kept(fresh)).await
            }
            // A tag of which nobody here can tell whether it was invalidated meanwhile.
            Ok(None) => {
                inner.counters.add(Counter::RefusedFills);
                lease.give_up().await;
                return Ok((written, Origin::Loaded));
            }
            Err(error) => Err(error),
        };
        let origin = match stored {
            Ok(is_stored) => {
                lease.used();
                if !is_stored {
                    inner.counters.add(Counter::RefusedFills);
                }
                Origin::Loaded
            }
            // The value is there, and the cache is not what it was loaded for.
            Err(_) => {
                inner.counters.add(Counter::Bypassed);
                Origin::Bypassed
            }
        };
        Ok((written, origin))
    }

    /// Finds out whether this process loads for the fleet. While another one does, it waits for that.
    async fn turn(&self, ask: &Ask, mut seen: Seen, has_spare: bool) -> Result<Turn<V>, Error> {
        let inner = &*self.inner;
        let (mut unfit, mut watch) = (0, None);
        let deadline = Instant::now() + inner.wait_timeout;
        loop {
            let began = inner.flights.moment();
            let doubt = inner.owed.doubt(&ask.entry);
            let leased = inner.lease(ask, &seen, has_spare).await;
            let stored = match leased {
                Ok(Leased::Entry(stored)) => stored,
                Ok(Leased::Taken(lease, tags)) => return Ok(Turn::Load(Some((lease, tags)))),
                Ok(Leased::Nobody) => return Ok(Turn::Load(None)),
                Ok(Leased::Failed) => return Ok(Turn::Rest),
                Ok(Leased::Elsewhere(left, there)) => {
                    if seen.is_anything() {
                        // What the other one stores is not to be overlooked.
                        seen = there;
                    }
                    let patience = deadline.saturating_duration_since(Instant::now());
                    if patience.is_zero() {
                        return match inner.on_wait_timeout {
                            OnWaitTimeout::Load => Ok(Turn::Load(None)),
                            OnWaitTimeout::Fail => Err(Error::WaitTimeout(inner.wait_timeout)),
                        };
                    }
                    match &mut watch {
                        None => {
                            watch = Some(inner.watch(&ask.lease).await);
                            inner.counters.add(Counter::Waits);
                        }
                        Some(watch) => watch.ended(left.min(patience)).await,
                    }
                    continue;
                }
                Err(error) => return inner.does_without(error).map(|()| Turn::Load(None)),
            };
            let found = match inner
                .judge(&inner.quick, Some(stored), &doubt, &ask.tags, HashMap::new())
                .await
            {
                Ok(found) => found,
                Err(error) => return inner.does_without(error).map(|()| Turn::Load(None)),
            };
            match self.value(found) {
                Ok(found) if found.age.is_fresh() => return Ok(Turn::Found(found, began)),
                Ok(found) => seen = Seen::Beginning(found.entry.mark()),
                Err(stale) => seen = stale,
            }
            unfit += 1;
            if unfit == MOST_UNFIT {
                // Whatever is stored there again and again, it is of no use.
                seen = Seen::Beginning(Bytes::new());
            }
        }
    }

    async fn load(&self, loading: Loading<'_, V>) -> Result<Written<V>, Error> {
        let inner = &*self.inner;
        let began = Instant::now();
        let loaded = match timeout(inner.load_timeout, loading).await {
            Ok(loaded) => loaded.map_err(Error::load),
            Err(_elapsed) => Err(Error::LoadTimeout(inner.load_timeout)),
        };
        inner.counters.add(if loaded.is_ok() { Counter::Loads } else { Counter::LoadFailures });
        let Loaded { value, time_to_live, tags } = loaded?;
        time_to_live.map(check).transpose()?;
        tags::check(&tags)?;
        let encoded = self.codec.encode(&value).map_err(Error::unencodable)?;
        Ok(Written { value, encoded, time_to_live, tags, took: began.elapsed() })
    }
}

impl Inner {
    /// Takes the lease to load anew what is there, if nobody else has it or has just failed.
    pub(crate) async fn lease_to_refresh(&self, ask: &Ask, seen: &Seen) -> Option<(Lease, Tags)> {
        match self.lease(ask, seen, true).await {
            Ok(Leased::Taken(lease, tags)) => Some((lease, tags)),
            Ok(Leased::Entry(_)) => {
                // Somebody was faster.
                self.refreshes.take(&bytes(&ask.entry));
                None
            }
            Ok(Leased::Elsewhere(..) | Leased::Failed | Leased::Nobody) => None,
            Err(error) => {
                tracing::debug!(%error, "what is there is served on, since Redis could not be asked for its lease");
                None
            }
        }
    }

    /// Whether a failure to ask Redis is one that the loader makes up for.
    pub(crate) fn does_without(&self, error: redbrick_core_conn::Error) -> Result<(), Error> {
        let is_away = error.is_retryable()
            || matches!(error.kind(), ErrorKind::Auth | ErrorKind::Protocol | ErrorKind::Tls);
        if error.is_timeout() {
            self.breaker.timed_out();
        }
        match self.on_error {
            OnError::Load if is_away => {
                tracing::debug!(error = %error, "the cache goes to its loader without Redis");
                Ok(())
            }
            _ => Err(error.into()),
        }
    }
}
