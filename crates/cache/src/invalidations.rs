//! What changes in a cache, as it happens.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use redbrick_core_conn::{Freshness, Invalidation, Tracking};

use crate::{Cache, Error, cache::Inner};

/// What an [`Invalidations`] says.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Invalidated {
    /// The entry of this key is no longer what it was: deleted, expired, evicted or stored anew.
    Entry(Bytes),
    /// The entries with this tag may count no more: it was invalidated, or is used for the first time since it was. Also said
    /// about once in a month when its life is made longer.
    Tag(Bytes),
    /// Anything may have changed: said at first, after the database was emptied, whenever something may have been missed
    /// because a link was lost, and when this is not read fast enough.
    Everything,
}

/// What changes in a cache, whoever changes it; see [`Cache::invalidations`]. Dropping it ends it.
#[must_use = "dropping it ends the feed"]
pub struct Invalidations {
    tracking: Tracking,
    inner: Arc<Inner>,
}

impl<V> Cache<V> {
    /// Has the servers say what changes in this cache, by this process, by others and by time: what a copy of values in this
    /// process is kept true by, as long as it [is current](Freshness::is_current).
    ///
    /// Costs its writers nothing. At most 16,384 changes wait to be read; more are dropped, and
    /// [`Everything`](Invalidated::Everything) stands for them. An entry that expires is said when the server removes it,
    /// which can be later than its time; servers say nothing of `SWAPDB`.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`] when the servers cannot be asked within the command timeout.
    #[tracing::instrument(level = "debug", name = "cache.invalidations", skip_all)]
    pub async fn invalidations(&self) -> Result<Invalidations, Error> {
        let inner = &*self.inner;
        let (entries, tags) = (format!("{}:{{", inner.prefix), format!("{}:{{", inner.tags));
        let tracking = inner.conn.track().prefix(entries).prefix(tags).await?;
        Ok(Invalidations { tracking, inner: Arc::clone(&self.inner) })
    }
}

impl Invalidations {
    /// Waits for what changes next; `None` when the connection is closed. Cancel safe.
    pub async fn next(&mut self) -> Option<Invalidated> {
        loop {
            let change = match self.tracking.next().await? {
                Invalidation::Key(key) => self.inner.changed(&key),
                _ => Some(Invalidated::Everything),
            };
            if change.is_some() {
                return change;
            }
        }
    }

    /// Returns what tells how far this is complete.
    #[must_use]
    pub fn freshness(&self) -> Freshness {
        self.tracking.freshness()
    }
}

impl Inner {
    fn changed(&self, key: &Bytes) -> Option<Invalidated> {
        let entry = self.prefix.id_of(key).map(|id| Invalidated::Entry(id.into()));
        entry.or_else(|| self.tags.id_of(key).map(|tag| Invalidated::Tag(tag.into())))
    }
}

impl fmt::Debug for Invalidations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invalidations").field("prefix", &self.inner.prefix).finish_non_exhaustive()
    }
}
