//! Getting a value, or loading it: once in this process, and stored only if nothing was invalidated meanwhile.

use std::{
    collections::HashMap,
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

use bytes::Bytes;
use redbrick_core_conn::{BoxError, ErrorKind, Key};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::timeout;
use tracing::Instrument;

use crate::{
    Cache, Error, OnError,
    builder::check,
    cache::{Inner, bytes},
    entry,
    flight::{Landing, Outcome, Seat},
    lease::Leased,
    read::Seen,
    statistics::Counter,
    tags,
};

/// Where a value came from.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Origin {
    /// Redis had it.
    Cached,
    /// The loader returned it: this call's, or that of another one in this process. It is stored, unless it was
    /// invalidated meanwhile.
    Loaded,
    /// The loader returned it, and it is not stored because Redis could not be asked or could not store.
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

/// What is asked for.
struct Ask {
    entry: Key,
    lease: Key,
    time_to_live: Duration,
    tags: Vec<Bytes>,
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
    /// Callers of one key in this process wait for one load; when it is given up or panics, the next of them loads. A caller is
    /// never given what was invalidated before it called. The loader runs within this call, for at most the
    /// [`load_timeout`](crate::CacheBuilder::load_timeout); who does not poll a call keeps those of the same key waiting, for at
    /// most twice that time and six times the [`redis_timeout`](crate::CacheBuilder::redis_timeout).
    ///
    /// One round trip when the value is there, two when its tags are not those that are named here. Three and the loader
    /// when it is not.
    ///
    /// # Errors
    ///
    /// When it is awaited: [`Error::Load`] and [`Error::LoadTimeout`], shared by all who waited for it; nothing is stored.
    /// [`Error::Conn`] where Redis could not be asked and the loader [was not to](OnError::Fail), and for failures that
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
        let (entry, lease) = self.inner.keys(key.as_ref());
        let time_to_live = self.inner.time_to_live;
        GetOrLoad { cache: self, ask: Ask { entry, lease, time_to_live, tags: Vec::new() }, loader }
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
}

impl<V, L> GetOrLoad<'_, V, L> {
    async fn fetch<Loading, E>(self) -> Result<Fetched<V>, Error>
    where
        V: Serialize + DeserializeOwned + Send,
        L: FnOnce() -> Loading + Send,
        Loading: Future<Output = Result<V, E>> + Send,
        E: Into<BoxError>,
    {
        let Self { cache, ask, loader } = self;
        let inner = &*cache.inner;
        check(ask.time_to_live)?;
        tags::check(&ask.tags)?;
        let asked = inner.flights.moment();
        let key = bytes(&ask.entry);
        let mut is_first = true;
        loop {
            let seen = match inner.look(&ask).await? {
                Ok(value) => {
                    if is_first {
                        inner.counters.add(Counter::Hits);
                    }
                    return Ok(Fetched { value, origin: Origin::Cached });
                }
                Err(seen) => seen,
            };
            if std::mem::take(&mut is_first) && seen.is_some() {
                inner.counters.add(Counter::Misses);
            }
            let lead = match inner.flights.join(&key, inner.patience).await {
                Seat::Lead(lead) => lead,
                Seat::Landed(landing) => {
                    inner.counters.add(Counter::Coalesced);
                    let is_away = seen.is_none();
                    match inner.take(landing, asked, is_away)? {
                        Some(fetched) => return Ok(fetched),
                        None => continue,
                    }
                }
            };
            let (outcome, result) = inner.lead(&ask, seen, loader).await;
            lead.land(outcome);
            return result;
        }
    }
}

impl Inner {
    /// Looks for a value. `Err(Some(_))` when there is none, `Err(None)` when Redis cannot say.
    async fn look<V: DeserializeOwned>(&self, ask: &Ask) -> Result<Result<V, Option<Seen>>, Error> {
        match self.read(&self.quick, &ask.entry, &ask.tags).await {
            Ok(found) => Ok(self.value(found).map_err(Some)),
            Err(error) => self.does_without(error).map(|()| Err(None)),
        }
    }

    /// Loads, unless there is an entry by now. Returns what others are given, and what the caller is.
    async fn lead<V, L, Loading, E>(
        &self,
        ask: &Ask,
        seen: Option<Seen>,
        loader: L,
    ) -> (Outcome, Result<Fetched<V>, Error>)
    where
        V: Serialize + DeserializeOwned + Send,
        L: FnOnce() -> Loading + Send,
        Loading: Future<Output = Result<V, E>> + Send,
        E: Into<BoxError>,
    {
        let lease = match seen {
            None => None,
            Some(seen) => match self.lease_or_value(ask, seen).await {
                Ok(Ok(value)) => {
                    return (Outcome::Found, Ok(Fetched { value, origin: Origin::Cached }));
                }
                Ok(Err(lease)) => lease,
                Err(error) => return (Outcome::Failed(error.clone()), Err(error)),
            },
        };
        let value = match self.load(loader).await {
            Ok(value) => value,
            Err(error) => return (Outcome::Failed(error.clone()), Err(error)),
        };
        let encoded = match self.codec.encode(&value) {
            Ok(encoded) => encoded,
            Err(error) => {
                let error = Error::Unencodable(error);
                return (Outcome::Failed(error.clone()), Err(error));
            }
        };
        let origin = match lease {
            None => Origin::Bypassed,
            Some((token, versions)) => {
                let stored = entry::encode(&versions, &encoded);
                let keys = (&ask.entry, &ask.lease);
                let stored = self.store(&self.quick, keys, stored, ask.time_to_live, Some(token));
                match stored.await {
                    Ok(true) => Origin::Loaded,
                    Ok(false) => {
                        self.counters.add(Counter::RefusedFills);
                        Origin::Loaded
                    }
                    // The value is there, and the cache is not what it was loaded for.
                    Err(_) => Origin::Bypassed,
                }
            }
        };
        if origin == Origin::Bypassed {
            self.counters.add(Counter::Bypassed);
        }
        (Outcome::Value(encoded, origin), Ok(Fetched { value, origin }))
    }

    /// Takes part in the lease, with the versions of the tags; or gives the value that is there by now. No lease when Redis
    /// cannot give one.
    async fn lease_or_value<V: DeserializeOwned>(
        &self,
        ask: &Ask,
        mut seen: Seen,
    ) -> Result<Result<V, Option<(Bytes, Vec<entry::Tag>)>>, Error> {
        let keys = (&ask.entry, &ask.lease);
        for is_last in [false, false, true] {
            if is_last {
                // Whatever is stored there again and again, it is of no use.
                seen = Seen::Beginning(Bytes::new());
            }
            let leased = self.lease(&self.quick, keys, &ask.tags, ask.time_to_live, &seen).await;
            let stored = match leased {
                Ok(Leased::Entry(stored)) => stored,
                Ok(Leased::Token(token, versions)) => return Ok(Err(Some((token, versions)))),
                Ok(Leased::Nobody) => return Ok(Err(None)),
                Err(error) => return self.does_without(error).map(|()| Err(None)),
            };
            let found = match self.judge(&self.quick, Some(stored), &ask.tags, HashMap::new()).await
            {
                Ok(found) => found,
                Err(error) => return self.does_without(error).map(|()| Err(None)),
            };
            match self.value(found) {
                Ok(value) => return Ok(Ok(value)),
                Err(stale) => seen = stale,
            }
        }
        Ok(Err(None))
    }

    async fn load<V, L, Loading, E>(&self, loader: L) -> Result<V, Error>
    where
        L: FnOnce() -> Loading,
        Loading: Future<Output = Result<V, E>>,
        E: Into<BoxError>,
    {
        let loaded = match timeout(self.load_timeout, loader()).await {
            Ok(loaded) => loaded.map_err(Error::load),
            Err(_elapsed) => Err(Error::LoadTimeout(self.load_timeout)),
        };
        self.counters.add(if loaded.is_ok() { Counter::Loads } else { Counter::LoadFailures });
        loaded
    }

    /// What a caller that `asked` then may take of the load of another. A value only when its load began after that, or
    /// when nobody here can tell anything newer because Redis is away.
    fn take<V: DeserializeOwned>(
        &self,
        landing: Landing,
        asked: u64,
        is_away: bool,
    ) -> Result<Option<Fetched<V>>, Error> {
        match landing.outcome {
            Outcome::Failed(error) => Err(error),
            Outcome::Value(encoded, origin)
                if landing.began > asked || (is_away && origin == Origin::Bypassed) =>
            {
                match self.codec.decode(&encoded) {
                    Ok(value) => Ok(Some(Fetched { value, origin })),
                    // A type that does not read what it writes: everybody loads for themselves.
                    Err(_) => {
                        self.counters.add(Counter::Unreadable);
                        Ok(None)
                    }
                }
            }
            Outcome::Value(..) | Outcome::Found => Ok(None),
        }
    }

    /// Whether a failure to ask Redis is one that the loader makes up for.
    fn does_without(&self, error: redbrick_core_conn::Error) -> Result<(), Error> {
        let is_away = error.is_retryable()
            || matches!(error.kind(), ErrorKind::Auth | ErrorKind::Protocol | ErrorKind::Tls);
        match self.on_error {
            OnError::Load if is_away => {
                tracing::debug!(error = %error, "the cache goes to its loader without Redis");
                Ok(())
            }
            _ => Err(error.into()),
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
        Box::pin(self.0.fetch().instrument(tracing::debug_span!("cache.get_or_load")))
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
