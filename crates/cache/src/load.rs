//! Getting a value, or loading it: once in the fleet, and stored only if nothing was invalidated meanwhile.

use std::{
    fmt,
    future::{Future, IntoFuture, ready},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use redbrick_core_conn::{BoxError, Key};
use serde::{Serialize, de::DeserializeOwned};
use tracing::Instrument;

use crate::{
    Cache, Error,
    builder::check,
    cache::{Inner, bytes},
    flight::{Landing, Outcome, Seat},
    fresh::Age,
    lead::Failed,
    lease::{Lease, Tags},
    read::{Seen, Value},
    statistics::Counter,
    tags,
};

/// Where a value came from.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Origin {
    /// Redis had it, or has it by now because another process loaded it.
    Cached,
    /// Redis had it, and it is older than its time to live: it is being loaded anew, or could not be.
    Stale,
    /// The loader returned it: this call's, or that of another one in this process. It is stored, unless it was
    /// invalidated meanwhile.
    Loaded,
    /// The loader returned it, and it is not stored: Redis could not be asked or could not store, or another process
    /// loads it too and takes too long.
    Bypassed,
}

/// A value, and where it came from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "a pair with names, made to be taken apart")]
pub struct Fetched<V> {
    /// The value.
    pub value: V,
    /// Where it came from.
    pub origin: Origin,
}

/// A [`Cache::get_or_load`] that has not been sent yet; awaiting it gives the value.
#[must_use = "nothing is asked until it is awaited"]
pub struct GetOrLoad<'a, V, L> {
    cache: &'a Cache<V>,
    ask: Ask,
    loader: L,
}

/// A [`GetOrLoad`] that says where the value came from: awaiting it gives a [`Fetched`].
#[must_use = "nothing is asked until it is awaited"]
pub struct GetOrLoadWithOrigin<'a, V, L>(GetOrLoad<'a, V, L>);

/// A [`GetOrLoad`] that lets nobody wait for a refresh; awaiting it gives a [`Fetched`].
#[must_use = "nothing is asked until it is awaited"]
pub struct RefreshInBackground<'a, V, L>(GetOrLoad<'a, V, L>);

/// What is asked for.
pub(crate) struct Ask {
    pub(crate) entry: Key,
    pub(crate) lease: Key,
    pub(crate) time_to_live: Duration,
    pub(crate) tags: Vec<Bytes>,
    /// Whether it is loaded also where it is there, which is served until then.
    pub(crate) anew: bool,
}

impl Ask {
    fn new(inner: &Inner, id: &[u8]) -> Self {
        let (entry, lease) = inner.keys(id);
        Self { entry, lease, time_to_live: inner.time_to_live, tags: Vec::new(), anew: false }
    }
}

impl<V: Serialize + DeserializeOwned + Send> Cache<V> {
    /// Returns the value of `key`, or what `loader` returns, which it stores.
    ///
    /// ```no_run
    /// # use redbrick_cache::{Cache, Error};
    /// # async fn f(cache: Cache<String>) -> Result<(), Error> {
    /// let name = cache.get_or_load("user:7", async || {
    ///     Ok::<_, std::io::Error>("Ada".to_owned()) // from the database
    /// });
    /// let name: String = name.tags(["users"]).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Callers of one key wait for one load, in this process and in all others; when it fails elsewhere, is given up or panics,
    /// the next of them loads. A caller is never given what was invalidated before it called. The loader runs within this call,
    /// for at most the [`load_timeout`](crate::CacheBuilder::load_timeout). Who does not poll a call keeps those of the same key
    /// waiting: in this process for at most twice that time, the [`wait_timeout`](crate::CacheBuilder::wait_timeout) and eight
    /// times the [`redis_timeout`](crate::CacheBuilder::redis_timeout); in others for the [`lease`](crate::CacheBuilder::lease).
    ///
    /// One round trip when the value is there, two when its tags are not those that are named here. Three and the loader
    /// when it is not; two, where it was [deleted](Self::delete) here a moment ago. Where another process loads, four, the wait
    /// for it, and one more.
    ///
    /// # Errors
    ///
    /// When it is awaited: [`Error::Load`] and [`Error::LoadTimeout`], shared by all who waited for it in this process; nothing is
    /// stored. [`Error::WaitTimeout`] where another process loaded for too long and the cache [was to fail
    /// then](crate::OnWaitTimeout::Fail).
    /// [`Error::Conn`] where Redis could not be asked and the loader [was not to](crate::OnError::Fail), and for failures that
    /// trying again cannot mend, as a missing right or a closed connection. [`Error::Unencodable`]; nothing is stored.
    /// [`Error::InvalidDuration`] and [`Error::TooManyTags`] before anything is sent.
    #[doc(alias("remember", "get_or_compute", "get_or_insert_with"))]
    pub fn get_or_load<L, Loading, E>(
        &self,
        key: impl AsRef<[u8]>,
        loader: L,
    ) -> GetOrLoad<'_, V, L>
    where
        L: FnOnce() -> Loading + Send,
        Loading: Future<Output = Result<V, E>> + Send,
        E: Into<BoxError>,
    {
        GetOrLoad { cache: self, ask: Ask::new(&self.inner, key.as_ref()), loader }
    }

    /// Loads the value of `key` and stores it, also where there is one already; otherwise as [`get_or_load`](Self::get_or_load).
    /// Until it is stored, others are given what is there, as long as it is fresh.
    ///
    /// Where another process is loading the key, its load counts, and this call waits for that.
    ///
    /// Two round trips and the loader.
    ///
    /// # Errors
    ///
    /// As [`get_or_load`](Self::get_or_load); what was there stays.
    pub fn refresh<L, Loading, E>(&self, key: impl AsRef<[u8]>, loader: L) -> GetOrLoad<'_, V, L>
    where
        L: FnOnce() -> Loading + Send,
        Loading: Future<Output = Result<V, E>> + Send,
        E: Into<BoxError>,
    {
        let ask = Ask { anew: true, ..Ask::new(&self.inner, key.as_ref()) };
        GetOrLoad { cache: self, ask, loader }
    }
}

impl<'a, V, L> GetOrLoad<'a, V, L> {
    /// Sets how long a loaded entry lives, from 1 millisecond to 100 years.
    ///
    /// Default: that of the [cache](crate::CacheBuilder::time_to_live).
    pub fn time_to_live(mut self, time_to_live: Duration) -> Self {
        self.ask.time_to_live = time_to_live;
        self
    }

    /// Gives a loaded entry tags, by which it can be [invalidated](Cache::invalidate_tag); at most 1,000. An entry that is there
    /// without one of them is loaded anew, since it would stay when that tag is invalidated.
    ///
    /// Default: none.
    pub fn tags<T: AsRef<[u8]>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.ask.tags = tags::named(tags);
        self
    }

    /// Says also where the value came from.
    pub fn with_origin(self) -> GetOrLoadWithOrigin<'a, V, L> {
        GetOrLoadWithOrigin(self)
    }

    /// Gives what is there at once where it is to be [loaded anew](crate::CacheBuilder::stale_while_revalidate), and does that in
    /// a task of its own, which ends by the [`load_timeout`](crate::CacheBuilder::load_timeout). So the loader may not borrow.
    /// Where nothing is there that can be served, this call loads and waits. It says also where the value came from.
    ///
    /// Default: the call that finds out that it is time loads, and its caller waits for that; others do not.
    pub fn refresh_in_background(self) -> RefreshInBackground<'a, V, L>
    where
        L: 'static,
    {
        RefreshInBackground(self)
    }
}

impl<'a, V, L> GetOrLoad<'a, V, L> {
    /// Looks for the value, and loads it where there is none. `refresh` loads one anew under a lease; what it gives is served,
    /// and otherwise what is there.
    async fn fetch<Loading, E, R>(
        self,
        refresh: impl FnOnce(&'a Cache<V>, Ask, Lease, Tags, L) -> R,
    ) -> Result<Fetched<V>, Error>
    where
        V: Serialize + DeserializeOwned + Send,
        L: FnOnce() -> Loading + Send,
        Loading: Future<Output = Result<V, E>> + Send,
        E: Into<BoxError>,
        R: Future<Output = Option<Result<Fetched<V>, Failed>>>,
    {
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
            let looked = if ask.anew {
                // Whatever is there.
                Look::Miss(Seen::Beginning(Bytes::new()))
            } else if is_gone {
                Look::Miss(Seen::Nothing)
            } else {
                inner.look::<V>(&ask).await?
            };
            let (seen, spare) = match looked {
                Look::Away => (None, None),
                Look::Miss(seen) => (Some(seen), None),
                Look::Found(found) => {
                    if is_first && !matches!(found.age, Age::Spare | Age::Over) {
                        inner.counters.add(Counter::Hits);
                    }
                    match found.age {
                        Age::Fresh => {
                            return Ok(Fetched { value: found.value, origin: Origin::Cached });
                        }
                        Age::Due | Age::Stale => {
                            let seen = Seen::Beginning(found.entry.mark());
                            if inner.refreshes.add(&key, inner.lease_life)
                                && let Some((lease, tags)) =
                                    inner.lease_to_refresh(&ask, &seen).await
                                && let Some(refreshed) =
                                    refresh(cache, ask, lease, tags, loader).await
                            {
                                return refreshed.or_else(|failed| match failed.serves {
                                    true => Ok(inner.serve(found)),
                                    false => Err(failed.error),
                                });
                            }
                            return Ok(inner.serve(found));
                        }
                        Age::Spare => (Some(Seen::Beginning(found.entry.mark())), Some(found)),
                        Age::Over => (Some(Seen::Beginning(found.entry.mark())), None),
                    }
                }
            };
            if std::mem::take(&mut is_first) && seen.is_some() && !ask.anew {
                inner.counters.add(Counter::Misses);
            }
            let lead = match inner.flights.join(&key, inner.patience).await {
                Seat::Lead(lead) => lead,
                Seat::Landed(landing) => {
                    inner.counters.add(Counter::Coalesced);
                    let is_away = seen.is_none();
                    match (inner.take(landing, &ask.tags, asked, is_away), spare) {
                        (Ok(Some(fetched)), _) => return Ok(fetched),
                        (Ok(None), _) => continue,
                        (Err(failed), spare) => return inner.serve_or_fail(spare, failed),
                    }
                }
            };
            let (landing, result) = inner.lead(&ask, seen, spare.is_some(), loader).await;
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

impl Inner {
    async fn look<V: DeserializeOwned>(&self, ask: &Ask) -> Result<Look<V>, Error> {
        match self.read(&self.quick, &ask.entry, &ask.tags).await {
            Ok(found) => Ok(self.value(found).map_or_else(Look::Miss, Look::Found)),
            Err(error) => self.does_without(error).map(|()| Look::Away),
        }
    }

    /// Gives a value that is to be loaded anew, or could not be.
    fn serve<V>(&self, found: Value<V>) -> Fetched<V> {
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

    /// What a caller that `asked` then may take of the load of another. A value only when its load began after that, or
    /// when nobody here can tell anything newer because Redis is away.
    fn take<V: DeserializeOwned>(
        &self,
        landing: Landing,
        named: &[Bytes],
        asked: u64,
        is_away: bool,
    ) -> Result<Option<Fetched<V>>, Failed> {
        let began = landing.began;
        let is_new = |origin| {
            let is_best = is_away && origin == Origin::Bypassed && self.flights.no_tag_since(began);
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
                        self.counters.add(Counter::Unreadable);
                        Ok(None)
                    }
                }
            }
            Outcome::Value(..) => Ok(None),
        }
    }
}

impl<'a, V, L, Loading, E> IntoFuture for GetOrLoad<'a, V, L>
where
    V: Serialize + DeserializeOwned + Send + 'a,
    L: FnOnce() -> Loading + Send + 'a,
    Loading: Future<Output = Result<V, E>> + Send + 'a,
    E: Into<BoxError> + 'a,
{
    type Output = Result<V, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        let fetched = self.with_origin().into_future();
        Box::pin(async move { Ok(fetched.await?.value) })
    }
}

impl<'a, V, L, Loading, E> IntoFuture for GetOrLoadWithOrigin<'a, V, L>
where
    V: Serialize + DeserializeOwned + Send + 'a,
    L: FnOnce() -> Loading + Send + 'a,
    Loading: Future<Output = Result<V, E>> + Send + 'a,
    E: Into<BoxError> + 'a,
{
    type Output = Result<Fetched<V>, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        let refresh = async |cache: &'a Cache<V>, ask, lease, tags, loader| {
            Some(cache.inner.refresh(&ask, lease, tags, loader).await)
        };
        Box::pin(self.0.fetch(refresh).instrument(tracing::debug_span!("cache.get_or_load")))
    }
}

impl<'a, V, L, Loading, E> IntoFuture for RefreshInBackground<'a, V, L>
where
    V: Serialize + DeserializeOwned + Send + 'static,
    L: FnOnce() -> Loading + Send + 'static,
    Loading: Future<Output = Result<V, E>> + Send + 'static,
    E: Into<BoxError> + 'static,
{
    type Output = Result<Fetched<V>, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        let refresh = |cache: &'a Cache<V>, ask, lease, tags, loader| {
            let inner = Arc::clone(&cache.inner);
            let refreshing = async move {
                // Said in the log, and nobody waits for it.
                let _: Result<Fetched<V>, Failed> = inner.refresh(&ask, lease, tags, loader).await;
            };
            drop(tokio::spawn(refreshing.instrument(tracing::debug_span!("cache.refresh"))));
            ready(None)
        };
        Box::pin(self.0.fetch(refresh).instrument(tracing::debug_span!("cache.get_or_load")))
    }
}

impl<V, L> fmt::Debug for GetOrLoad<'_, V, L> {
    /// Shows neither the key nor the tags.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("GetOrLoad");
        out.field("time_to_live", &self.ask.time_to_live).finish_non_exhaustive()
    }
}

impl<V, L> fmt::Debug for GetOrLoadWithOrigin<'_, V, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GetOrLoadWithOrigin").field(&self.0).finish()
    }
}

impl<V, L> fmt::Debug for RefreshInBackground<'_, V, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RefreshInBackground").field(&self.0).finish()
    }
}
