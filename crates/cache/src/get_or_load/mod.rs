//! Asking for a value, or for its load.

pub(crate) mod breaker;
pub(crate) mod fetch;
mod fill;
pub(crate) mod flight;
pub(crate) mod lease;
mod loader;
mod many;
pub(crate) mod remembered;
mod together;
mod turn;
mod warm;

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

use bytes::Bytes;
use redbrick_core_conn::{BoxError, Key};
use tracing::Instrument;

use crate::{Cache, Error, cache::Inner, local::Near, statistics::Counter, tags, terms::Terms};

pub use loader::Loaded;
pub use many::GetOrLoadMany;
pub use warm::{Warm, Warmed};

use fetch::Refresh;
pub(crate) use loader::Absent;

use loader::Loader;

/// Where a value came from.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Origin {
    /// Redis had it, or has it by now because another process loaded it.
    Cached,
    /// This process had it, and may have asked the server whether it is still there; see
    /// [`CacheBuilder::local`](crate::CacheBuilder::local).
    Local,
    /// Redis had it, and it is older than its time to live: it is being loaded anew, or could not be.
    Stale,
    /// The loader returned it: this call's, or that of another one in this process. It is stored, unless it was
    /// invalidated meanwhile, or its loader named a [tag that is new here](Loaded::tags).
    Loaded,
    /// The loader returned it, and it is not stored: Redis could not be asked or could not store, or another process
    /// loads it too and takes too long. While Redis cannot be asked, the load may have begun before the call.
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
pub struct GetOrLoad<'c, 'l, V> {
    pub(crate) cache: &'c Cache<V>,
    pub(crate) ask: Ask,
    pub(crate) loader: Loader<'l, V>,
    /// Within the call, unless it is said otherwise.
    pub(crate) background: Option<Refresh<'c, 'l, V>>,
}

/// A [`GetOrLoad`] that says where the value came from: awaiting it gives a [`Fetched`].
#[must_use = "nothing is asked until it is awaited"]
pub struct GetOrLoadWithOrigin<'c, 'l, V>(GetOrLoad<'c, 'l, V>);

/// What is asked for.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) id: Bytes,
    pub(crate) entry: Key,
    pub(crate) lease: Key,
    pub(crate) terms: Terms,
    /// Whether it is loaded also where it is there, which is served until then.
    pub(crate) anew: bool,
    /// Whether it is no hit and no miss, or is one already.
    pub(crate) is_counted: bool,
}

impl Ask {
    pub(crate) fn new(inner: &Inner, id: &[u8]) -> Self {
        let (entry, lease) = inner.keys(id);
        let (id, terms) = (Bytes::copy_from_slice(id), Terms::new(&inner.settings));
        Self { id, entry, lease, terms, anew: false, is_counted: false }
    }
}

impl<V: Send + 'static> Cache<V> {
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
    /// the next of them loads. A caller is never given what was invalidated before it called; where values are [kept in this
    /// process](crate::CacheBuilder::local) or tags [followed](crate::CacheBuilder::follow_tags), that holds for what was invalidated
    /// here. The loader runs within this call,
    /// for at most the [`load_timeout`](crate::CacheBuilder::load_timeout). Who does not poll a call keeps those of the same key
    /// waiting: in this process for at most twice that time, the [`wait_timeout`](crate::CacheBuilder::wait_timeout) and eight
    /// times the [`redis_timeout`](crate::CacheBuilder::redis_timeout), and as long once more where another one that has waited so
    /// loads by then; in others for the [`lease`](crate::CacheBuilder::lease).
    ///
    /// A loader must not load its own key: it would wait for itself until the [`load_timeout`](crate::CacheBuilder::load_timeout).
    ///
    /// None where this process keeps the value, one where it must be asked whether that is still there. One round trip when it is in
    /// Redis, two when its tags are not those that are named here. Three and the loader when it is not; two, where it was [deleted](Self::delete) here a moment ago. Where another process loads, four, the wait
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
    pub fn get_or_load<'l, L, F, E>(&self, key: impl AsRef<[u8]>, loader: L) -> GetOrLoad<'_, 'l, V>
    where
        L: FnOnce() -> F + Send + 'l,
        F: Future<Output = Result<V, E>> + Send + 'l,
        E: Into<BoxError>,
    {
        let ask = Ask::new(&self.inner, key.as_ref());
        GetOrLoad { cache: self, ask, loader: Loader::new(loader), background: None }
    }

    /// The same with a loader that says more of its value, and is given what is there past its time, if anything is: where its
    /// source says that nothing has changed, it returns that once more.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use redbrick_cache::{Cache, Error, Loaded};
    /// # use serde::{Deserialize, Serialize};
    /// #[derive(Serialize, Deserialize)]
    /// struct Page { etag: String, text: String, max_age: u64 }
    /// # async fn fetch_if_not(etag: Option<&str>) -> std::io::Result<Option<Page>> { Ok(None) }
    ///
    /// # async fn f(cache: Cache<Page>) -> Result<(), Error> {
    /// let page = cache.get_or_load_with("start", async |previous: Option<Page>| {
    ///     let etag = previous.as_ref().map(|page| page.etag.as_str());
    ///     let page = match (fetch_if_not(etag).await?, previous) {
    ///         (Some(page), _) | (None, Some(page)) => page,
    ///         (None, None) => return Err(std::io::ErrorKind::NotFound.into()),
    ///     };
    ///     let life = Duration::from_secs(page.max_age.max(1));
    ///     Ok::<_, std::io::Error>(Loaded::new(page).time_to_live(life))
    /// });
    /// let page: Page = page.await?;
    /// # Ok(()) }
    /// ```
    ///
    /// What is past its time is there for as long as [`stale_if_error`](crate::CacheBuilder::stale_if_error) or
    /// [`stale_while_revalidate`](crate::CacheBuilder::stale_while_revalidate) says. What was invalidated is not given.
    ///
    /// One more round trip where the loader names [tags](Loaded::tags) that its call does not.
    ///
    /// # Errors
    ///
    /// Those of [`get_or_load`](Self::get_or_load); [`Error::InvalidDuration`] and [`Error::TooManyTags`] also for what the loader
    /// says, and then nothing is stored.
    pub fn get_or_load_with<'l, L, F, E>(
        &self,
        key: impl AsRef<[u8]>,
        loader: L,
    ) -> GetOrLoad<'_, 'l, V>
    where
        L: FnOnce(Option<V>) -> F + Send + 'l,
        F: Future<Output = Result<Loaded<V>, E>> + Send + 'l,
        E: Into<BoxError>,
    {
        let ask = Ask::new(&self.inner, key.as_ref());
        GetOrLoad { cache: self, ask, loader: Loader::revalidating(loader), background: None }
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
    pub fn refresh<'l, L, F, E>(&self, key: impl AsRef<[u8]>, loader: L) -> GetOrLoad<'_, 'l, V>
    where
        L: FnOnce() -> F + Send + 'l,
        F: Future<Output = Result<V, E>> + Send + 'l,
        E: Into<BoxError>,
    {
        let ask = Ask { anew: true, is_counted: true, ..Ask::new(&self.inner, key.as_ref()) };
        GetOrLoad { cache: self, ask, loader: Loader::new(loader), background: None }
    }
}

impl<'c, 'l, V> GetOrLoad<'c, 'l, V> {
    /// Sets how long a loaded entry lives, from 1 millisecond to 100 years.
    ///
    /// Default: that of the [cache](crate::CacheBuilder::time_to_live).
    pub fn time_to_live(mut self, time_to_live: Duration) -> Self {
        self.ask.terms.time_to_live = time_to_live;
        self
    }

    /// Sets for how long an entry is served past its time to live, while one caller in the fleet loads it anew; otherwise as
    /// [`CacheBuilder::stale_while_revalidate`](crate::CacheBuilder::stale_while_revalidate). It says how long what this call stores is
    /// kept, and how old what it is given may be.
    ///
    /// Default: that of the cache.
    pub fn stale_while_revalidate(mut self, stale: Duration) -> Self {
        self.ask.terms.stale = stale;
        self
    }

    /// Gives a loaded entry tags, by which it can be [invalidated](Cache::invalidate_tag); at most 1,000. An entry that is there
    /// without one of them is loaded anew, since it would stay when that tag is invalidated.
    ///
    /// Default: none.
    pub fn tags<T: AsRef<[u8]>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.ask.terms.tags = tags::named(tags);
        self
    }

    /// Says also where the value came from.
    pub fn with_origin(self) -> GetOrLoadWithOrigin<'c, 'l, V> {
        GetOrLoadWithOrigin(self)
    }
}

impl<'c, V: Send + 'static> GetOrLoad<'c, 'static, V> {
    /// Gives what is there at once where it is to be [loaded anew](crate::CacheBuilder::stale_while_revalidate), and does that in
    /// a task of its own, which ends by the [`load_timeout`](crate::CacheBuilder::load_timeout). So the loader may not borrow.
    /// Where nothing is there that can be served, this call loads and waits.
    ///
    /// Default: the call that finds out that it is time loads, and its caller waits for that; others do not.
    pub fn refresh_in_background(mut self) -> Self {
        self.background.get_or_insert_with(|| Refresh::in_background(None));
        self
    }

    /// The same, and gives what is past its time and kept for [when a load fails](crate::CacheBuilder::stale_if_error) also when the
    /// load takes longer than this, which goes on in its task. Without that setting it says no more than
    /// [`refresh_in_background`](Self::refresh_in_background).
    ///
    /// Default: such a load is waited for, until the [`load_timeout`](crate::CacheBuilder::load_timeout).
    pub fn soft_timeout(mut self, soft_timeout: Duration) -> Self {
        self.background = Some(Refresh::in_background(Some(soft_timeout)));
        self
    }
}

impl<'c, 'l: 'c, V: Send + 'static> IntoFuture for GetOrLoad<'c, 'l, V> {
    type Output = Result<V, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'c>>;

    fn into_future(self) -> Self::IntoFuture {
        let fetched = self.with_origin().into_future();
        Box::pin(async move { Ok(fetched.await?.value) })
    }
}

impl<'c, 'l: 'c, V: Send + 'static> IntoFuture for GetOrLoadWithOrigin<'c, 'l, V> {
    type Output = Result<Fetched<V>, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'c>>;

    fn into_future(self) -> Self::IntoFuture {
        let GetOrLoad { cache, ask, .. } = &self.0;
        let (cache, looks) = (*cache, !ask.anew && cache.tier.is_some());
        if !looks {
            let fetch = self.0.fetch(Near::Nothing);
            return Box::pin(fetch.instrument(tracing::debug_span!("cache.get_or_load")));
        }
        // What follows a look in this process is large, and has a span: both cost more than that.
        Box::pin(async move {
            let ask = &self.0.ask;
            ask.terms.check()?;
            match cache.near(&ask.id, ask.terms.wanted()) {
                Near::Value(value) => {
                    if !ask.is_counted {
                        cache.inner.counters.add(Counter::LocalHits);
                    }
                    Ok(Fetched { value, origin: Origin::Local })
                }
                near => {
                    let fetch = Box::pin(self.0.fetch(near));
                    fetch.instrument(tracing::debug_span!("cache.get_or_load")).await
                }
            }
        })
    }
}

impl<V> fmt::Debug for GetOrLoad<'_, '_, V> {
    /// Shows neither the key nor the tags.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("GetOrLoad");
        out.field("time_to_live", &self.ask.terms.time_to_live).finish_non_exhaustive()
    }
}

impl<V> fmt::Debug for GetOrLoadWithOrigin<'_, '_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GetOrLoadWithOrigin").field(&self.0).finish()
    }
}
