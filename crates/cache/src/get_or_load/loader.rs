//! What loads a value, and what it says of it.

use std::{future::Future, pin::Pin, time::Duration};

use bytes::Bytes;
use redbrick_core_conn::BoxError;

use crate::tags;

/// A value as a loader returns it, with what is to be different for it; see [`Cache::get_or_load_with`].
///
/// [`Cache::get_or_load_with`]: crate::Cache::get_or_load_with
#[derive(Clone, Debug)]
#[must_use = "a loader returns it"]
pub struct Loaded<V> {
    pub(crate) value: V,
    pub(crate) time_to_live: Option<Duration>,
    pub(crate) tags: Vec<Bytes>,
}

impl<V> Loaded<V> {
    /// A value that is stored as its call says.
    pub fn new(value: V) -> Self {
        Self { value, time_to_live: None, tags: Vec::new() }
    }

    /// Sets how long the entry lives, from 1 millisecond to 100 years.
    ///
    /// Default: as its call says.
    pub fn time_to_live(mut self, time_to_live: Duration) -> Self {
        self.time_to_live = Some(time_to_live);
        self
    }

    /// Gives the entry these tags besides those that its call names.
    ///
    /// Whether one of them was invalidated while the value was loaded can only be told of tags that this process knows from
    /// before. So where one is new to it, the value is returned and not stored; from the next load on it is. Tags that are known
    /// before the load are better named by the call. All who load a key have to give it the same tags: an entry that was stored without
    /// one stays when that is invalidated.
    ///
    /// Default: none.
    pub fn tags<T: AsRef<[u8]>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags = tags::named(tags);
        self
    }
}

impl<V> From<V> for Loaded<V> {
    fn from(value: V) -> Self {
        Self::new(value)
    }
}

/// What a loader fails with that has no value for a key: nothing is wrong with that.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("there is no value for this key")]
pub(crate) struct Absent;

/// A load that runs.
pub(crate) type Loading<'l, V> =
    Pin<Box<dyn Future<Output = Result<Loaded<V>, BoxError>> + Send + 'l>>;

/// A load that has not begun.
pub(crate) struct Loader<'l, V> {
    load: Box<dyn FnOnce(Option<V>) -> Loading<'l, V> + Send + 'l>,
    /// Whether it makes use of what was there before.
    pub(crate) revalidates: bool,
}

impl<'l, V: Send + 'static> Loader<'l, V> {
    pub(crate) fn new<L, F, E>(load: L) -> Self
    where
        L: FnOnce() -> F + Send + 'l,
        F: Future<Output = Result<V, E>> + Send + 'l,
        E: Into<BoxError>,
    {
        let load = move |_| -> Loading<'l, V> {
            Box::pin(async move { load().await.map(Loaded::new).map_err(Into::into) })
        };
        Self { load: Box::new(load), revalidates: false }
    }

    pub(crate) fn revalidating<L, F, E>(load: L) -> Self
    where
        L: FnOnce(Option<V>) -> F + Send + 'l,
        F: Future<Output = Result<Loaded<V>, E>> + Send + 'l,
        E: Into<BoxError>,
    {
        let load = move |previous| -> Loading<'l, V> {
            Box::pin(async move { load(previous).await.map_err(Into::into) })
        };
        Self { load: Box::new(load), revalidates: true }
    }

    pub(crate) fn begin(self, previous: Option<V>) -> Loading<'l, V> {
        (self.load)(previous)
    }
}
