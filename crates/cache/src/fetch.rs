//! Getting a value, or loading it: once in the fleet, and stored only if nothing was invalidated meanwhile.

use std::{future::Future, pin::Pin, time::Duration};

use bytes::Bytes;
use tokio::{task::JoinHandle, time::timeout};
use tracing::Instrument;

use crate::{
    Cache, Error, Fetched, GetOrLoad, OnError, Origin,
    builder::check,
    cache::{Inner, bytes},
    entry::Entry,
    flight::{Landing, Outcome, Patience, Seat},
    fresh::Age,
    lead::Turn,
    lease::{Lease, Tags},
    load::Ask,
    loader::Loader,
    read::{Seen, Value},
    remembered::Note,
    statistics::Counter,
    tags,
};

/// How what was found is loaded anew that is served meanwhile, under a lease that was taken for it.
pub(crate) struct Refresh<'c, 'l, V> {
    run: Run<'c, 'l, V>,
    /// How long the load of an entry is waited for that is served only when it fails, before it is served all the same.
    soft_timeout: Option<Duration>,
}

type Run<'c, 'l, V> = fn(&'c Cache<V>, Refreshing<'l, V>) -> Running<'c, V>;

/// A load that is to be made under a lease.
pub(crate) struct Refreshing<'l, V> {
    pub(crate) ask: Ask,
    pub(crate) lease: Lease,
    pub(crate) tags: Tags,
    pub(crate) note: Note,
    pub(crate) previous: Option<V>,
    pub(crate) loader: Loader<'l, V>,
}

/// A load that is being made.
enum Running<'c, V> {
    /// By whoever polls it.
    Here(Pin<Box<dyn Future<Output = Result<Fetched<V>, Error>> + Send + 'c>>),
    InBackground(JoinHandle<Result<Fetched<V>, Error>>),
}

impl<'a, V: Send + 'static> Refresh<'a, 'a, V> {
    /// Within the call.
    pub(crate) fn here() -> Self {
        let run = |cache: &'a Cache<V>, load| Running::Here(Box::pin(cache.refresh_under(load)));
        Self { run, soft_timeout: None }
    }
}

impl<'c, V: Send + 'static> Refresh<'c, 'static, V> {
    /// In a task of its own.
    pub(crate) fn in_background(soft_timeout: Option<Duration>) -> Self {
        let run = |cache: &'c Cache<V>, load| {
            let cache = cache.clone();
            let refresh = async move { cache.refresh_under(load).await };
            let refresh = refresh.instrument(tracing::debug_span!("cache.refresh"));
            Running::InBackground(tokio::spawn(refresh))
        };
        Self { run, soft_timeout }
    }
}

impl<V> Refresh<'_, '_, V> {
    /// Whether an entry of this age is served while it is loaded anew.
    fn serves(&self, age: Age) -> bool {
        match age {
            Age::Due | Age::Stale => true,
            Age::Spare => self.soft_timeout.is_some(),
            Age::Fresh | Age::Over => false,
        }
    }
}

impl<'c, 'l, V: Send + 'static> GetOrLoad<'c, 'l, V> {
    /// Looks for the value, and loads it where there is none.
    pub(crate) async fn fetch(self, refresh: Refresh<'c, 'l, V>) -> Result<Fetched<V>, Error> {
        let Self { cache, ask, loader } = self;
        let inner = &*cache.inner;
        check(ask.time_to_live)?;
        tags::check(&ask.tags)?;
        let (asked, mut patience) = (inner.flights.moment(), Patience::new(inner.patience));
        let key = bytes(&ask.entry);
        // What was invalidated here is hardly there, and asking for the lease looks once more.
        let mut is_gone = !ask.anew && inner.gone.take(&key);
        let mut is_counted = ask.anew;
        loop {
            let was_gone = std::mem::take(&mut is_gone);
            let looked = if !inner.may_ask() {
                Look::Away
            } else if ask.anew {
                // Whatever is there.
                Look::Miss(Seen::Beginning(Bytes::new()))
            } else if was_gone {
                Look::Miss(Seen::Nothing)
            } else {
                cache.look(&ask).await?
            };
            let mut count = |counter| {
                if !std::mem::replace(&mut is_counted, true) {
                    inner.counters.add(counter);
                }
            };
            let (seen, old) = match looked {
                Look::Away => (None, None),
                Look::Miss(seen) => (Some(seen), None),
                Look::Found(found) if found.age == Age::Fresh => {
                    count(Counter::Hits);
                    return Ok(Fetched { value: found.value, origin: Origin::Cached });
                }
                Look::Found(found) if refresh.serves(found.age) => {
                    count(Counter::Hits);
                    return cache.serve_and_refresh(ask, found, loader, refresh).await;
                }
                Look::Found(found) => (Some(Seen::Beginning(found.entry.mark())), Some(found)),
            };
            if seen.is_some() && !was_gone {
                count(Counter::Misses);
            }
            let previous = cache.previous(&loader, old.as_ref().map(|old| &old.entry));
            let spare = old.filter(|old| old.age != Age::Over);
            let lead = match inner.flights.join(&key, &mut patience).await {
                Seat::Lead(lead) => lead,
                Seat::Landed(landing) => {
                    count(Counter::Misses);
                    inner.counters.add(Counter::Coalesced);
                    let is_away = seen.is_none();
                    match cache.take(landing, &ask.tags, asked, is_away) {
                        Ok(Some(fetched)) => return Ok(fetched),
                        Ok(None) => continue,
                        Err(error) => return cache.serve_instead(&ask, spare, error).await,
                    }
                }
            };
            let turn = match seen {
                None => Ok(Turn::Load(None)),
                Some(seen) => cache.turn(&ask, seen, spare.is_some()).await,
            };
            match turn {
                Ok(Turn::Found(found, began)) => {
                    count(Counter::Hits);
                    let Some((landing, fetched)) = landed(found, began) else { continue };
                    lead.land(landing);
                    return Ok(fetched);
                }
                Ok(Turn::Look) => {}
                // Who has nothing to go on with is not to be told of that, and loads.
                Ok(Turn::Rest) => {
                    drop(lead);
                    let error = Error::load("a load of another process has just failed");
                    if let Ok(served) = cache.serve_instead(&ask, spare, error).await {
                        return Ok(served);
                    }
                }
                Ok(Turn::Load(lease)) => {
                    count(Counter::Misses);
                    let (landing, result) = cache.lead(&ask, lease, previous, loader).await;
                    lead.land(landing);
                    return match result {
                        Ok(fetched) => Ok(fetched),
                        Err(error) => cache.serve_instead(&ask, spare, error).await,
                    };
                }
                Err(error) => {
                    count(Counter::Misses);
                    let outcome = Outcome::Failed(error.clone());
                    lead.land(Landing { began: inner.flights.moment(), outcome });
                    return cache.serve_instead(&ask, spare, error).await;
                }
            }
        }
    }
}

/// What others are given, and the caller, of what another process has loaded; nothing where it cannot be read any more.
fn landed<V>(found: Value<V>, began: u64) -> Option<(Landing, Fetched<V>)> {
    let tags = found.entry.tags.iter().map(|(name, _)| name.clone()).collect();
    let encoded = found.entry.into_encoded()?;
    let outcome = Outcome::Value(encoded, Origin::Cached, Some(tags));
    let fetched = Fetched { value: found.value, origin: Origin::Cached };
    Some((Landing { began, outcome }, fetched))
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
        self.decode(entry.filter(|_| loader.revalidates)?)
    }

    /// Has what was found loaded anew, unless somebody else does so or has just failed to, and gives that or what was found.
    async fn serve_and_refresh<'c, 'l>(
        &'c self,
        ask: Ask,
        found: Value<V>,
        loader: Loader<'l, V>,
        refresh: Refresh<'c, 'l, V>,
    ) -> Result<Fetched<V>, Error> {
        let inner = &*self.inner;
        let (mark, is_spare) = (found.entry.mark(), found.age == Age::Spare);
        let Some(note) = inner.refreshes.note(mark.clone(), inner.lease_life) else {
            return Ok(inner.serve(found));
        };
        let leased = inner.lease_to_refresh(&ask, &Seen::Beginning(mark), note).await;
        let Some((lease, tags, note)) = leased else { return Ok(inner.serve(found)) };
        let previous = self.previous(&loader, Some(&found.entry));
        let load = Refreshing { ask: ask.clone(), lease, tags, note, previous, loader };
        let mut task = match (refresh.run)(self, load) {
            Running::Here(load) => {
                return match load.await {
                    Ok(fetched) => Ok(fetched),
                    Err(error) => self.serve_instead(&ask, Some(found), error).await,
                };
            }
            Running::InBackground(task) => task,
        };
        let Some(soft_timeout) = refresh.soft_timeout.filter(|_| is_spare) else {
            return Ok(inner.serve(found));
        };
        let loaded = match timeout(soft_timeout, &mut task).await {
            Ok(loaded) => loaded,
            Err(_elapsed) => {
                let late = Error::LoadTimeout(soft_timeout);
                if let Ok(served) = self.serve_instead(&ask, Some(found), late).await {
                    return Ok(served);
                }
                // It was invalidated, and there is nothing to serve.
                return task.await.unwrap_or_else(|panic| Err(Error::load(panic)));
            }
        };
        match loaded.unwrap_or_else(|panic| Err(Error::load(panic))) {
            Ok(fetched) => Ok(fetched),
            Err(error) => self.serve_instead(&ask, Some(found), error).await,
        }
    }

    /// Gives what is there in place of what could not be loaded, if its age allows that and it was not invalidated meanwhile;
    /// otherwise the error. `old` is what was there.
    pub(crate) async fn serve_instead(
        &self,
        ask: &Ask,
        old: Option<Value<V>>,
        error: Error,
    ) -> Result<Fetched<V>, Error> {
        let inner = &*self.inner;
        let Some(mut old) = old.filter(|_| error.is_retryable()) else { return Err(error) };
        let doubt = inner.owed.doubt(&ask.entry);
        let looked = match inner.may_ask() {
            true => inner.read(&inner.quick, &ask.entry, &ask.tags).await.ok(),
            false => None,
        };
        let there = match looked {
            Some(found) => self.value(found).ok(),
            // Nobody here can tell more than what was invalidated here.
            None if doubt.concerns(&old.entry) => None,
            None => {
                old.age = inner.age(&old.entry, inner.clock.now());
                Some(old)
            }
        };
        let there = there.filter(|there| there.age != Age::Over);
        there.map(|there| inner.serve(there)).ok_or(error)
    }

    /// What a caller that `asked` then may take of the load of another. A value only when its load began after that, or
    /// when nobody here can tell anything newer because Redis is away.
    fn take(
        &self,
        landing: Landing,
        named: &[Bytes],
        asked: u64,
        is_away: bool,
    ) -> Result<Option<Fetched<V>>, Error> {
        let began = landing.began;
        let is_new = |origin| {
            let is_best =
                is_away && origin == Origin::Bypassed && self.inner.flights.no_tag_since(began);
            began > asked || is_best
        };
        match landing.outcome {
            Outcome::Failed(error) => Err(error),
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
    /// Whether Redis is asked, or left alone because it did not answer.
    pub(crate) fn may_ask(&self) -> bool {
        self.on_error == OnError::Fail || self.breaker.lets_ask()
    }

    /// Gives a value that is to be loaded anew, or could not be.
    pub(crate) fn serve<V>(&self, found: Value<V>) -> Fetched<V> {
        let origin = if found.age.is_fresh() { Origin::Cached } else { Origin::Stale };
        if origin == Origin::Stale {
            self.counters.add(Counter::ServedStale);
        }
        Fetched { value: found.value, origin }
    }
}
