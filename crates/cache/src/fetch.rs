//! Getting a value, or loading it: once in the fleet, and stored only if nothing was invalidated meanwhile.

use std::{future::Future, pin::Pin, time::Duration};

use bytes::Bytes;
use tokio::time::timeout;
use tracing::Instrument;

use crate::{
    Cache, Error, Fetched, GetOrLoad, OnError, Origin,
    builder::check,
    cache::{Inner, bytes},
    entry::Entry,
    flight::{Landing, Outcome, Seat},
    fresh::Age,
    lead::Failed,
    lease::{Lease, Tags},
    load::Ask,
    loader::Loader,
    read::{Seen, Value},
    statistics::Counter,
    tags,
};

/// Loads anew what was found and is served meanwhile, under a lease that was taken for it.
pub(crate) struct Refresh<'c, 'l, V> {
    run: Run<'c, 'l, V>,
    /// How long the load of an entry is waited for that is served only when it fails, before it is served all the same.
    soft_timeout: Option<Duration>,
}

/// Does so; where it is told how long it is waited for, no longer than that.
type Run<'c, 'l, V> = fn(&'c Cache<V>, Refreshing<'l, V>, Option<Duration>) -> Refreshed<'c, V>;

/// What came of it, or nothing where what was found is to be served.
type Refreshed<'c, V> =
    Pin<Box<dyn Future<Output = Option<Result<Fetched<V>, Failed>>> + Send + 'c>>;

/// A load that is to be made under a lease.
pub(crate) struct Refreshing<'l, V> {
    pub(crate) ask: Ask,
    pub(crate) lease: Lease,
    pub(crate) tags: Tags,
    pub(crate) previous: Option<V>,
    pub(crate) loader: Loader<'l, V>,
}

impl<'a, V: Send + 'static> Refresh<'a, 'a, V> {
    /// Whose caller waits for it.
    pub(crate) fn in_foreground() -> Self {
        let run = |cache: &'a Cache<V>, load, _| -> Refreshed<'a, V> {
            Box::pin(async move { Some(cache.refresh_under(load).await) })
        };
        Self { run, soft_timeout: None }
    }
}

impl<'c, V: Send + 'static> Refresh<'c, 'static, V> {
    /// In a task of its own.
    pub(crate) fn in_background(soft_timeout: Option<Duration>) -> Self {
        let run = |cache: &'c Cache<V>, load, patience: Option<Duration>| -> Refreshed<'c, V> {
            let cache = cache.clone();
            let refresh = async move { cache.refresh_under(load).await };
            let task = tokio::spawn(refresh.instrument(tracing::debug_span!("cache.refresh")));
            // Where nobody waits for it, the log says what came of it.
            Box::pin(async move { timeout(patience?, task).await.ok()?.ok() })
        };
        Self { run, soft_timeout }
    }
}

impl<'c, 'l, V: Send + 'static> GetOrLoad<'c, 'l, V> {
    /// Looks for the value, and loads it where there is none.
    pub(crate) async fn fetch(self, refresh: Refresh<'c, 'l, V>) -> Result<Fetched<V>, Error> {
        let Self { cache, ask, loader } = self;
        let inner = &*cache.inner;
        check(ask.time_to_live)?;
        tags::check(&ask.tags)?;
        let asked = inner.flights.moment();
        let key = bytes(&ask.entry);
        let mut is_first = true;
        loop {
            // What was invalidated here is hardly there, and asking for the lease looks once more.
            let is_gone = is_first && inner.gone.take(&key);
            let looked = if inner.on_error == OnError::Load && !inner.breaker.lets_ask() {
                Look::Away
            } else if ask.anew {
                // Whatever is there.
                Look::Miss(Seen::Beginning(Bytes::new()))
            } else if is_gone {
                Look::Miss(Seen::Nothing)
            } else {
                cache.look(&ask).await?
            };
            let (seen, old) = match looked {
                Look::Away => (None, None),
                Look::Miss(seen) => (Some(seen), None),
                Look::Found(found) => {
                    let is_spare = found.age == Age::Spare;
                    let is_served = refresh.soft_timeout.is_some() || !is_spare;
                    if is_first && is_served && found.age != Age::Over {
                        inner.counters.add(Counter::Hits);
                    }
                    match found.age {
                        Age::Fresh => {
                            return Ok(Fetched { value: found.value, origin: Origin::Cached });
                        }
                        Age::Spare if !is_served => {}
                        Age::Over => {}
                        Age::Due | Age::Stale | Age::Spare => {
                            let seen = Seen::Beginning(found.entry.mark());
                            if inner.refreshes.add(&key, inner.lease_life)
                                && let Some((lease, tags)) =
                                    inner.lease_to_refresh(&ask, &seen).await
                            {
                                let previous = cache.previous(&loader, Some(&found.entry));
                                let load = Refreshing { ask, lease, tags, previous, loader };
                                let patience = refresh.soft_timeout.filter(|_| is_spare);
                                if let Some(refreshed) = (refresh.run)(cache, load, patience).await
                                {
                                    return refreshed.or_else(|failed| match failed.serves {
                                        true => Ok(inner.serve(found)),
                                        false => Err(failed.error),
                                    });
                                }
                            }
                            return Ok(inner.serve(found));
                        }
                    }
                    (Some(Seen::Beginning(found.entry.mark())), Some(found))
                }
            };
            if std::mem::take(&mut is_first) && seen.is_some() && !ask.anew {
                inner.counters.add(Counter::Misses);
            }
            let previous = cache.previous(&loader, old.as_ref().map(|old| &old.entry));
            let spare = old.filter(|old| old.age == Age::Spare);
            let lead = match inner.flights.join(&key, inner.patience).await {
                Seat::Lead(lead) => lead,
                Seat::Landed(landing) => {
                    inner.counters.add(Counter::Coalesced);
                    let is_away = seen.is_none();
                    match (cache.take(landing, &ask.tags, asked, is_away), spare) {
                        (Ok(Some(fetched)), _) => return Ok(fetched),
                        (Ok(None), _) => continue,
                        (Err(failed), spare) => return inner.serve_or_fail(spare, failed),
                    }
                }
            };
            let (landing, result) = cache.lead(&ask, seen, spare.is_some(), previous, loader).await;
            match landing {
                Some(landing) => lead.land(landing),
                None => drop(lead),
            }
            return result.or_else(|failed| inner.serve_or_fail(spare, failed));
        }
    }
}

/// What a look for a value has come to.
enum Look<V> {
    Found(Value<V>),
    Miss(Seen),
    /// Redis cannot say.
    Away,
}

impl<V: Send + 'static> Cache<V> {
    async fn look(&self, ask: &Ask) -> Result<Look<V>, Error> {
        let inner = &*self.inner;
        match inner.read(&inner.quick, &ask.entry, &ask.tags).await {
            Ok(found) => {
                inner.breaker.answered();
                Ok(self.value(found).map_or_else(Look::Miss, Look::Found))
            }
            Err(error) => inner.does_without(error).map(|()| Look::Away),
        }
    }

    /// What was there before, where the loader makes use of it.
    fn previous(&self, loader: &Loader<'_, V>, entry: Option<&Entry>) -> Option<V> {
        let entry = entry.filter(|_| loader.revalidates)?;
        self.codec.decode(entry.encoded()).ok()
    }

    /// What a caller that `asked` then may take of the load of another. A value only when its load began after that, or
    /// when nobody here can tell anything newer because Redis is away.
    fn take(
        &self,
        landing: Landing,
        named: &[Bytes],
        asked: u64,
        is_away: bool,
    ) -> Result<Option<Fetched<V>>, Failed> {
        let began = landing.began;
        let is_new = |origin| {
            let is_best =
                is_away && origin == Origin::Bypassed && self.inner.flights.no_tag_since(began);
            began > asked || is_best
        };
        match landing.outcome {
            Outcome::Failed(error, serves) => Err(Failed { error, serves }),
            // An entry that lacks a tag which this caller names would stay when that is invalidated.
            Outcome::Value(_, _, Some(tags)) if !named.iter().all(|tag| tags.contains(tag)) => {
                Ok(None)
            }
            Outcome::Value(encoded, origin, _) if is_new(origin) => {
                match self.codec.decode(&encoded) {
                    Ok(value) => Ok(Some(Fetched { value, origin })),
                    // A type that does not read what it writes: everybody loads for themselves.
                    Err(_) => {
                        self.inner.counters.add(Counter::Unreadable);
                        Ok(None)
                    }
                }
            }
            Outcome::Value(..) => Ok(None),
        }
    }
}

impl Inner {
    /// Gives a value that is to be loaded anew, or could not be.
    pub(crate) fn serve<V>(&self, found: Value<V>) -> Fetched<V> {
        let origin = if found.age.is_fresh() { Origin::Cached } else { Origin::Stale };
        if origin == Origin::Stale {
            self.counters.add(Counter::ServedStale);
        }
        Fetched { value: found.value, origin }
    }

    /// Gives what is there when it could not be loaded anew and may be served; otherwise the error.
    fn serve_or_fail<V>(
        &self,
        spare: Option<Value<V>>,
        failed: Failed,
    ) -> Result<Fetched<V>, Error> {
        match spare {
            Some(spare) if failed.serves && failed.error.is_retryable() => Ok(self.serve(spare)),
            _ => Err(failed.error),
        }
    }
}
