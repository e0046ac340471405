//! Getting a value, or loading it: once in the fleet, and stored only if nothing was invalidated meanwhile.

use std::{error::Error as _, future::Future, pin::Pin, time::Duration};

use bytes::Bytes;
use tokio::time::timeout;
use tracing::Instrument;

use crate::{
    Cache, Error, Fetched, GetOrLoad, OnError, Origin,
    cache::Inner,
    entry::Entry,
    entry::age::Age,
    entry::read::{Seen, Value},
    get_or_load::Ask,
    get_or_load::flight::{Landing, Outcome, Patience, Seat},
    get_or_load::lease::{Lease, Tags},
    get_or_load::loader::Loader,
    get_or_load::turn::Turn,
    local::{Got, Near},
    statistics::Counter,
    terms::Wanted,
};

/// How often failures are told whose callers are served all the same.
const TOLD: Duration = Duration::from_secs(1);

/// Who runs a load of what is served meanwhile, and how long its caller waits for that.
pub(crate) struct Refresh<'c, 'l, V> {
    /// Where it is made, it is known whether the loader borrows: one that does cannot be spawned.
    run: fn(&'c Cache<V>, Refreshing<'l, V>) -> Running<'c, V>,
    is_here: bool,
    soft_timeout: Option<Duration>,
}

type Running<'c, V> = Pin<Box<dyn Future<Output = Result<Fetched<V>, Error>> + Send + 'c>>;

/// A load that is to be made under a lease.
pub(crate) struct Refreshing<'l, V> {
    pub(crate) ask: Ask,
    pub(crate) lease: Lease,
    pub(crate) tags: Tags,
    pub(crate) previous: Option<V>,
    pub(crate) loader: Loader<'l, V>,
}

impl<'c, 'l: 'c, V: Send + 'static> Refresh<'c, 'l, V> {
    /// Within the call.
    pub(crate) fn here() -> Self {
        let run = |cache: &'c Cache<V>, load: Refreshing<'l, V>| -> Running<'c, V> {
            Box::pin(cache.refresh_under(load))
        };
        Self { run, is_here: true, soft_timeout: None }
    }
}

impl<'c, V: Send + 'static> Refresh<'c, 'static, V> {
    /// In a task of its own, which goes on when what is returned is dropped.
    pub(crate) fn in_background(soft_timeout: Option<Duration>) -> Self {
        let run = |cache: &'c Cache<V>, load| -> Running<'c, V> {
            let cache = cache.clone();
            let refresh = async move {
                let loaded = cache.refresh_under(load).await;
                loaded.inspect_err(|error| cache.inner.tell_failure(error))
            };
            let task = tokio::spawn(refresh.instrument(tracing::debug_span!("cache.refresh")));
            Box::pin(async { task.await.unwrap_or_else(|panic| Err(Error::load(panic))) })
        };
        Self { run, is_here: false, soft_timeout }
    }
}

impl<V> Refresh<'_, '_, V> {
    /// Whether an entry of this age is served while it is loaded anew.
    fn serves(&self, age: Age) -> bool {
        age.is_served_meanwhile() || age == Age::Spare && self.soft_timeout.is_some()
    }

    /// How long the load of an entry of this age is waited for before that is served; nothing for its end.
    fn patience(&self, age: Age) -> Option<Duration> {
        match self.soft_timeout {
            _ if self.is_here => None,
            Some(soft_timeout) if age == Age::Spare => Some(soft_timeout),
            _ => Some(Duration::ZERO),
        }
    }
}

impl<'c, 'l: 'c, V: Send + 'static> GetOrLoad<'c, 'l, V> {
    /// Looks for the value, of which this process knows so much, and loads it where there is none.
    pub(crate) async fn fetch(self, near: Near<V>) -> Result<Fetched<V>, Error> {
        let Self { cache, ask, loader, background } = self;
        let refresh = background.unwrap_or_else(Refresh::here);
        let inner = &*cache.inner;
        ask.terms.check()?;
        let (asked, mut patience) = (inner.flights.moment(), Patience::new(inner.patience));
        let key = ask.entry.clone();
        // What was invalidated here is hardly there, and asking for the lease looks once more.
        let mut is_gone = !ask.anew && inner.gone.take(&key);
        let (mut is_counted, mut known) = (ask.is_counted, Some(near));
        loop {
            let near = match known.take() {
                Some(near) => near,
                None if ask.anew => Near::Nothing,
                None => cache.near(&ask.id, ask.terms.wanted()),
            };
            let was_gone = std::mem::take(&mut is_gone);
            let looked = if let Near::Value(value) = near {
                Look::Here(value)
            } else if !inner.may_ask() {
                Look::Away
            } else if ask.anew {
                // Whatever is there.
                Look::Miss(Seen::Anything)
            } else if was_gone {
                Look::Miss(Seen::Nothing)
            } else {
                cache.look(&ask, near).await?
            };
            let mut count = |counter| {
                if !std::mem::replace(&mut is_counted, true) {
                    inner.counters.add(counter);
                }
            };
            let (seen, old) = match looked {
                Look::Here(value) => {
                    count(Counter::LocalHits);
                    return Ok(Fetched { value, origin: Origin::Local });
                }
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
                Look::Found(found) => (Some(Seen::Beginning(found.entry.beginning())), Some(found)),
            };
            if seen.is_some() && !was_gone {
                count(Counter::Misses);
            }
            let previous = cache.previous(&loader, old.as_ref().map(|old| &old.entry));
            let fallback = old.filter(|old| old.age.is_fallback());
            let lead = match inner.flights.join(&key, &mut patience).await {
                Seat::Lead(lead) => lead,
                Seat::Landed(landing) => {
                    count(Counter::Misses);
                    inner.counters.add(Counter::Coalesced);
                    let is_away = seen.is_none();
                    match cache.take(landing, &ask.terms.tags, asked, is_away) {
                        Ok(Some(fetched)) => return Ok(fetched),
                        Ok(None) => continue,
                        Err(error) => return cache.or_fallback(&ask, fallback, Err(error)).await,
                    }
                }
            };
            let turn = match seen {
                None => Ok(Turn::Load(None)),
                Some(seen) => cache.turn(&ask, seen, fallback.is_some()).await,
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
                    if let Some(served) = cache.fallback(&ask, fallback).await {
                        return Ok(served);
                    }
                }
                Ok(Turn::Load(lease)) => {
                    count(Counter::Misses);
                    lead.begins();
                    let (landing, result) = cache.lead(&ask, lease, previous, loader).await;
                    lead.land(landing);
                    return cache.or_fallback(&ask, fallback, result).await;
                }
                Err(error) => {
                    count(Counter::Misses);
                    let outcome = Outcome::Failed(error.clone());
                    lead.land(Landing { began: inner.flights.moment(), outcome });
                    return cache.or_fallback(&ask, fallback, Err(error)).await;
                }
            }
        }
    }
}

/// What others are given, and the caller, of what another process has loaded; nothing where it cannot be read any more.
fn landed<V>(found: Value<V>, began: u64) -> Option<(Landing, Fetched<V>)> {
    let tags = found.entry.head.tags.iter().map(|(name, _)| name.clone()).collect();
    let encoded = found.entry.into_encoded()?;
    let outcome = Outcome::Value(encoded, Origin::Cached, Some(tags));
    let fetched = Fetched { value: found.value, origin: Origin::Cached };
    Some((Landing { began, outcome }, fetched))
}

/// What a look for a value has come to.
enum Look<V> {
    /// This process has it.
    Here(V),
    Found(Value<V>),
    Miss(Seen),
    /// Redis cannot say.
    Away,
}

impl<V: Send + 'static> Cache<V> {
    async fn look(&self, ask: &Ask, near: Near<V>) -> Result<Look<V>, Error> {
        let inner = &*self.inner;
        let (conn, wanted) = (&inner.quick, ask.terms.wanted());
        let found = self.find(conn, &ask.id, &ask.entry, wanted, near).await;
        Ok(match inner.or_without(found)? {
            Some(Got::Here(value)) => Look::Here(value),
            Some(Got::There(Ok(found))) if found.age == Age::Fresh => Look::Found(found),
            Some(Got::There(Ok(found))) => Look::Found(found.kept()),
            Some(Got::There(Err(seen))) => Look::Miss(seen),
            None => Look::Away,
        })
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
        let mark = found.entry.beginning();
        let Some(note) = inner.refreshes.note(mark.clone(), inner.settings.lease) else {
            return Ok(inner.serve(found));
        };
        let leased = inner.lease_to_refresh(&ask, &Seen::Beginning(mark), note).await;
        let Some((lease, tags)) = leased else { return Ok(inner.serve(found)) };
        let previous = self.previous(&loader, Some(&found.entry));
        let load = Refreshing { ask: ask.clone(), lease, tags, previous, loader };
        let mut loading = (refresh.run)(self, load);
        match refresh.patience(found.age) {
            Some(Duration::ZERO) => Ok(inner.serve(found)),
            Some(most) => match timeout(most, &mut loading).await {
                Ok(loaded) => self.or_fallback(&ask, Some(found), loaded).await,
                Err(_elapsed) => match self.fallback(&ask, Some(found)).await {
                    Some(served) => Ok(served),
                    // It was invalidated, and there is nothing to serve.
                    None => loading.await,
                },
            },
            None => {
                let loaded = loading.await;
                self.or_fallback(&ask, Some(found), loaded).await
            }
        }
    }

    /// What was loaded; in place of what could not be, what is there.
    pub(crate) async fn or_fallback(
        &self,
        ask: &Ask,
        fallback: Option<Value<V>>,
        loaded: Result<Fetched<V>, Error>,
    ) -> Result<Fetched<V>, Error> {
        match loaded {
            Err(error) if error.is_retryable() && !error.is_absent() => {
                let served = self.fallback(ask, fallback).await;
                if served.is_some() {
                    self.inner.tell_failure(&error);
                }
                served.ok_or(error)
            }
            loaded => loaded,
        }
    }

    /// What was there, looked at once more, if its age allows that and it was not invalidated meanwhile.
    async fn fallback(&self, ask: &Ask, fallback: Option<Value<V>>) -> Option<Fetched<V>> {
        let inner = &*self.inner;
        // What was to be loaded anew, and is fresh still.
        let wanted = Wanted { loads: false, ..ask.terms.wanted() };
        if let (false, Near::Value(value)) = (ask.anew, self.near(&ask.id, wanted)) {
            return Some(Fetched { value, origin: Origin::Local });
        }
        let mut fallback = fallback?;
        let doubt = inner.owed.doubt(&ask.entry);
        let looked = match inner.may_ask() {
            true => inner.read(&inner.quick, &ask.entry, ask.terms.wanted()).await.ok(),
            false => None,
        };
        let there = match looked {
            Some(found) => self.value(found).ok()?,
            // Nobody here can tell more than what was invalidated here.
            None if doubt.concerns(&fallback.entry.head.tags) => return None,
            None => {
                fallback.age = inner.age(&fallback.entry.head, inner.clock.now(), wanted);
                fallback
            }
        };
        there.age.is_fallback().then(|| inner.serve(there))
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
            // That there is nothing can have changed like a value.
            Outcome::Failed(error) if error.is_absent() && !is_new(Origin::Loaded) => Ok(None),
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
        self.settings.on_error == OnError::Fail || self.breaker.lets_ask()
    }

    /// Says in the log why a load has failed of which no caller is told.
    pub(crate) fn tell_failure(&self, error: &Error) {
        self.tell(error, "a load has failed; where something was there, it is served");
    }

    /// Says in the log what has failed of which no caller is told, each once a second as a warning.
    pub(crate) fn tell(&self, error: &Error, what: &'static str) {
        let (cache, cause) = (self.counters.name(), error.source().map(ToString::to_string));
        let cause = cause.unwrap_or_default();
        if self.told.add(&what, TOLD) {
            tracing::warn!(cache, %error, cause, "{what}");
        } else {
            tracing::debug!(cache, %error, cause, "{what}");
        }
    }

    /// Says in the log why what is there is served on.
    pub(crate) fn tell_unasked(&self, error: &redbrick_core_conn::Error) {
        let cache = self.counters.name();
        tracing::debug!(cache, %error, "what is there is served on, since Redis could not be asked for its lease");
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
