//! Getting many values, and loading together those that are missing.

use std::{
    collections::HashMap,
    fmt,
    future::{Future, IntoFuture},
    num::NonZeroUsize,
    pin::Pin,
    time::Duration,
};

use bytes::Bytes;
use redbrick_core_conn::BoxError;
use tokio::time::Instant;
use tracing::Instrument;

use crate::{
    Cache, Error, GetOrLoad, Loaded, Origin,
    entry::age::Age,
    entry::read::{Seen, Value},
    get_or_load::Ask,
    get_or_load::bounded::bounded,
    get_or_load::fill::Written,
    get_or_load::flight::{Landing, Lead, Outcome},
    get_or_load::lease::{Lease, Tags},
    get_or_load::loader::Loader as One,
    get_or_load::turn::Answer,
    settings::check,
    statistics::Counter,
    tags,
};

/// How many calls are under way at a time.
const AT_ONCE: NonZeroUsize = NonZeroUsize::new(256).expect("it is not zero");

/// A [`Cache::get_or_load_many`] that has not been sent yet; awaiting it gives the values.
#[must_use = "nothing is asked until it is awaited"]
pub struct GetOrLoadMany<'c, 'l, V, K> {
    cache: &'c Cache<V>,
    keys: Vec<K>,
    time_to_live: Duration,
    tags: Vec<Bytes>,
    loader: Loader<'l, K, V>,
}

type Loader<'l, K, V> = Box<dyn Fn(Vec<K>) -> Loading<'l, K, V> + Send + Sync + 'l>;
type Loading<'l, K, V> =
    Pin<Box<dyn Future<Output = Result<Vec<(K, Loaded<V>)>, BoxError>> + Send + 'l>>;

/// The loader returned no value for a key.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the loader returned no value for this key")]
struct Absent;

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
        let (keys, time_to_live) = (keys.into_iter().collect(), cache.inner.settings.time_to_live);
        Self { cache, keys, time_to_live, tags: Vec::new(), loader }
    }
}

impl<V, K> GetOrLoadMany<'_, '_, V, K> {
    /// Sets how long loaded entries live, from 1 millisecond to 100 years.
    ///
    /// Default: that of the [cache](crate::CacheBuilder::time_to_live).
    pub fn time_to_live(mut self, time_to_live: Duration) -> Self {
        self.time_to_live = time_to_live;
        self
    }

    /// Gives each loaded entry these tags; otherwise as [those of `get_or_load`](crate::GetOrLoad::tags).
    ///
    /// Default: none.
    pub fn tags<T: AsRef<[u8]>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags = tags::named(tags);
        self
    }
}

/// One key of those that are asked for.
struct Asked<V> {
    ask: Ask,
    state: State<V>,
}

/// How far a key has come.
enum State<V> {
    /// What is there, if anything, and how to overlook it; nothing where Redis cannot say.
    Missing(Option<Seen>, Option<Value<V>>),
    /// It has its value, or there is none.
    Done(Option<V>),
    /// Somebody else loads it.
    Elsewhere,
}

/// What keeps others of this process from loading a key.
enum Seat<'f> {
    Lead(Lead<'f>),
    /// What is there is served meanwhile. The note of that is in the lease.
    Refresh,
}

/// A key that this call loads.
struct Mine<'f, V> {
    at: usize,
    seat: Seat<'f>,
    /// What is served where it cannot be loaded.
    old: Option<Value<V>>,
    lease: Option<(Lease, Tags)>,
}

impl<V, K> GetOrLoadMany<'_, '_, V, K>
where
    V: Send + 'static,
    K: AsRef<[u8]> + Clone + Send + Sync,
{
    async fn fetch(self) -> Result<Vec<Option<V>>, Error> {
        let Self { cache, keys, time_to_live, tags, loader } = self;
        check(time_to_live)?;
        tags::check(&tags)?;
        // Each once, and where in them each that was named is.
        let mut places = HashMap::new();
        let mut each: Vec<K> = Vec::new();
        let at: Vec<usize> = keys
            .iter()
            .map(|key| {
                *places.entry(key.as_ref().to_vec()).or_insert_with(|| {
                    each.push(key.clone());
                    each.len() - 1
                })
            })
            .collect();
        let asked = each.iter().map(|key| {
            let ask = Ask::new(&cache.inner, key.as_ref());
            let ask = Ask { time_to_live, tags: tags.clone(), ..ask };
            let state = State::Missing(None, None);
            Asked { ask, state }
        });
        let mut asked: Vec<Asked<V>> = asked.collect();
        cache.look_for(&mut asked, &tags).await?;
        cache.load_together(&mut asked, &each, &loader).await?;
        cache.await_others(&mut asked, &each, &loader).await?;
        let mut done: Vec<Option<V>> = asked
            .into_iter()
            .map(|asked| match asked.state {
                State::Done(value) => value,
                State::Missing(..) | State::Elsewhere => None,
            })
            .collect();
        let mut left = vec![0_usize; done.len()];
        at.iter().for_each(|at| left[*at] += 1);
        let values = at.into_iter().map(|at| {
            left[at] -= 1;
            match left[at] {
                0 => done[at].take(),
                // It is asked for once more.
                _ => done[at].as_ref().and_then(|value| cache.copy(value)),
            }
        });
        Ok(values.collect())
    }
}

impl<V: Send + 'static> Cache<V> {
    fn copy(&self, value: &V) -> Option<V> {
        let encoded = self.codec.encode(value).ok()?;
        self.codec.decode(&encoded).ok()
    }

    /// Reads what is there.
    async fn look_for(&self, asked: &mut [Asked<V>], tags: &[Bytes]) -> Result<(), Error> {
        let inner = &*self.inner;
        if !inner.may_ask() {
            return Ok(());
        }
        let entries = asked.iter().map(|asked| asked.ask.entry.clone());
        let reading = inner.reading(&inner.quick, entries);
        let found = inner.read_many(reading, tags, |found| self.value(found)).await;
        let Some(found) = inner.or_without(found)? else { return Ok(()) };
        for (asked, found) in asked.iter_mut().zip(found) {
            asked.state = match found {
                Ok(found) if found.age == Age::Fresh => {
                    inner.counters.add(Counter::Hits);
                    State::Done(Some(found.value))
                }
                Ok(found) => {
                    let is_served = found.age.is_served_meanwhile();
                    inner.counters.add(if is_served { Counter::Hits } else { Counter::Misses });
                    State::Missing(Some(Seen::Beginning(found.entry.mark())), Some(found))
                }
                Err(seen) => {
                    inner.counters.add(Counter::Misses);
                    State::Missing(Some(seen), None)
                }
            };
        }
        Ok(())
    }
}

impl<V: Send + 'static> Cache<V> {
    /// Loads what nobody else loads, all at once.
    async fn load_together<K: AsRef<[u8]> + Clone>(
        &self,
        asked: &mut [Asked<V>],
        keys: &[K],
        loader: &Loader<'_, K, V>,
    ) -> Result<(), Error> {
        let inner = &*self.inner;
        let mine = self.lead_many(asked).await?;
        if mine.is_empty() {
            return Ok(());
        }
        let (began, since) = (inner.flights.moment(), Instant::now());
        for mine in &mine {
            if let Seat::Lead(lead) = &mine.seat {
                lead.begins();
            }
        }
        let loading = loader(mine.iter().map(|mine| keys[mine.at].clone()).collect());
        let leases = mine.iter().filter_map(|mine| mine.lease.as_ref().map(|(lease, _)| lease));
        let leases: Vec<&Lease> = leases.collect();
        let loaded = Lease::during_all(leases, inner.in_time(loading)).await;
        let mut outcome = Ok(());
        match loaded {
            Ok(loaded) => {
                let took = since.elapsed();
                let values = loaded.into_iter().map(|(key, value)| (key.as_ref().to_vec(), value));
                let mut values: HashMap<Vec<u8>, Loaded<V>> = values.collect();
                let ends = mine.into_iter().map(|mine| {
                    let value = values.remove(keys[mine.at].as_ref());
                    self.end(asked[mine.at].ask.time_to_live, mine, value, took, began)
                });
                let ends: Vec<_> = ends.collect();
                for (at, end) in bounded(AT_ONCE, ends).await {
                    match end {
                        Ok(value) => asked[at].state = State::Done(value),
                        Err(error) => outcome = Err(error),
                    }
                }
            }
            Err(error) => {
                let failures = mine.into_iter().map(|mine| {
                    let ask = asked[mine.at].ask.clone();
                    self.fail(ask, mine, error.clone(), began)
                });
                let failures: Vec<_> = failures.collect();
                for (at, end) in bounded(AT_ONCE, failures).await {
                    match end {
                        Ok(served) => asked[at].state = State::Done(Some(served)),
                        Err(error) => outcome = Err(error),
                    }
                }
            }
        }
        outcome
    }

    /// Takes the leases of the keys that nobody loads, and says what has become of the others.
    async fn lead_many(&self, asked: &mut [Asked<V>]) -> Result<Vec<Mine<'_, V>>, Error> {
        let inner = &*self.inner;
        let mut candidates = Vec::new();
        for (at, asked) in asked.iter_mut().enumerate() {
            let state = std::mem::replace(&mut asked.state, State::Elsewhere);
            let State::Missing(seen, old) = state else {
                asked.state = state;
                continue;
            };
            let served = old.as_ref().filter(|old| old.age.is_served_meanwhile());
            let seat = match served.map(|old| old.entry.mark()) {
                Some(mark) => {
                    let note = inner.refreshes.note(mark, inner.settings.lease);
                    note.map(|note| (Seat::Refresh, Some(note)))
                }
                None => inner.flights.lead(&asked.ask.entry).map(|lead| (Seat::Lead(lead), None)),
            };
            match (seat, old) {
                (Some((seat, note)), old) => {
                    candidates.push((seen, note, Mine { at, seat, old, lease: None }));
                }
                (None, Some(old)) if old.age.is_served_meanwhile() => {
                    asked.state = State::Done(Some(inner.serve(old).value));
                }
                (None, _) => {}
            }
        }
        let turns = candidates.into_iter().map(|(seen, note, mine)| {
            let ask = asked[mine.at].ask.clone();
            let has_fallback = mine.old.as_ref().is_some_and(|old| old.age.is_fallback());
            async move {
                let turn = match seen {
                    None => Ok(Answer::Load(None)),
                    Some(seen) => self.ask_for_lease(&ask, &seen, has_fallback, note).await,
                };
                (mine, turn)
            }
        });
        let turns: Vec<_> = turns.collect();
        let mut mine = Vec::new();
        for (it, turn) in bounded(AT_ONCE, turns).await {
            match (turn, it) {
                (Ok(Answer::Load(Some(lease))), it) => mine.push(Mine { lease: Some(lease), ..it }),
                (Ok(Answer::There(Ok(found), _)), Mine { at, .. }) if found.age.is_fresh() => {
                    asked[at].state = State::Done(Some(found.value));
                }
                // Who has something to serve does so.
                (turn, Mine { at, seat: Seat::Refresh, old: Some(old), .. }) => {
                    if let Err(error) = turn {
                        tracing::debug!(%error, "what is there is served on, since Redis could not be asked for its lease");
                    }
                    asked[at].state = State::Done(Some(inner.serve(old).value));
                }
                (Ok(Answer::Failed), Mine { at, old: Some(old), .. }) => {
                    asked[at].state = State::Done(Some(inner.serve(old).value));
                }
                // Looked at once more by who waits for one key.
                (Ok(Answer::Failed | Answer::Elsewhere(..) | Answer::There(..)), _) => {}
                (Ok(Answer::Load(None)), it) => mine.push(it),
                (Err(error), it) => {
                    inner.or_without::<()>(Err(error))?;
                    mine.push(it);
                }
            }
        }
        Ok(mine)
    }

    /// Ends the load of a key that has a value, or none.
    async fn end(
        &self,
        time_to_live: Duration,
        mine: Mine<'_, V>,
        loaded: Option<Loaded<V>>,
        took: Duration,
        began: u64,
    ) -> (usize, Result<Option<V>, Error>) {
        let inner = &*self.inner;
        let Mine { at, seat, lease, .. } = mine;
        let Some(loaded) = loaded else {
            if let Some((lease, _)) = lease {
                lease.give_up().await;
            }
            return (at, Ok(None));
        };
        let written = match self.write(loaded, took) {
            Ok(written) => written,
            Err(error) => return (at, Err(error)),
        };
        let origin = match lease {
            Some((lease, tags)) => {
                let fill = written.fill(time_to_live, tags, began);
                self.fill(lease, fill).await
            }
            None => {
                inner.counters.add(Counter::Bypassed);
                Origin::Bypassed
            }
        };
        let Written { value, encoded, .. } = written;
        match seat {
            Seat::Lead(lead) => {
                lead.land(Landing { began, outcome: Outcome::Value(encoded, origin, None) });
            }
            Seat::Refresh => {}
        }
        (at, Ok(Some(value)))
    }

    /// Ends the load of a key that has failed; what is there may be served.
    async fn fail(
        &self,
        ask: Ask,
        mine: Mine<'_, V>,
        error: Error,
        began: u64,
    ) -> (usize, Result<V, Error>) {
        let Mine { at, seat, lease, old } = mine;
        if let Some((lease, _)) = lease {
            lease.fail().await;
        }
        match seat {
            Seat::Lead(lead) => {
                lead.land(Landing { began, outcome: Outcome::Failed(error.clone()) });
            }
            Seat::Refresh => {}
        }
        let old = old.filter(|old| old.age.is_fallback());
        (at, self.or_fallback(&ask, old, Err(error)).await.map(|served| served.value))
    }

    /// Waits for what others load, one key by the other, and loads where they fail.
    async fn await_others<K: AsRef<[u8]> + Clone + Send + Sync>(
        &self,
        asked: &mut [Asked<V>],
        keys: &[K],
        loader: &Loader<'_, K, V>,
    ) -> Result<(), Error> {
        let elsewhere = asked.iter().enumerate();
        let elsewhere = elsewhere.filter(|(_, asked)| matches!(asked.state, State::Elsewhere));
        let waits: Vec<_> = elsewhere
            .map(|(at, asked)| {
                let ask = Ask { is_counted: true, ..asked.ask.clone() };
                let key = &keys[at];
                let load = move |_previous| async move {
                    let loaded = loader(vec![key.clone()]).await?;
                    let mut loaded = loaded.into_iter();
                    let value = loaded.find(|(it, _)| it.as_ref() == key.as_ref());
                    value.map(|(_, loaded)| loaded).ok_or_else(|| BoxError::from(Absent))
                };
                let load = GetOrLoad {
                    cache: self,
                    ask,
                    loader: One::revalidating(load),
                    background: None,
                };
                async move { (at, load.await) }
            })
            .collect();
        for (at, value) in bounded(AT_ONCE, waits).await {
            asked[at].state = match value {
                Ok(value) => State::Done(Some(value)),
                Err(error) if error.loader_error().is_some_and(|it| it.is::<Absent>()) => {
                    State::Done(None)
                }
                Err(error) => return Err(error),
            };
        }
        Ok(())
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
        out.field("keys", &self.keys.len()).field("time_to_live", &self.time_to_live);
        out.finish_non_exhaustive()
    }
}
