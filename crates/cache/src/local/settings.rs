//! How much is kept in the process, and how late it may know of changes.

use std::{fmt, sync::Arc, time::Duration};

use super::{lfu::Lfu, tier::Tier};
use crate::{Cache, DEFAULT_LOCAL_BOUND};

/// The least bound, which the servers are asked for an answer twice in.
const SHORTEST_BOUND: Duration = Duration::from_millis(50);

/// How many bytes a value takes beyond what it is in itself.
pub(super) type Weigher<V> = Arc<dyn Fn(&V) -> usize + Send + Sync>;

/// The tier of a cache in its process; see [`CacheBuilder::local`](crate::CacheBuilder::local).
#[must_use = "it is a setting of a cache"]
pub struct Local<V> {
    pub(super) max_entries: u64,
    pub(super) max_bytes: u64,
    pub(super) weigher: Option<Weigher<V>>,
    pub(crate) bound: Duration,
    pub(crate) max_staleness: Duration,
}

impl<V> Local<V> {
    /// Up to 10,000 values and 64 MiB, until told otherwise.
    pub fn new() -> Self {
        Self {
            max_entries: 10_000,
            max_bytes: 64 << 20,
            weigher: None,
            bound: DEFAULT_LOCAL_BOUND,
            max_staleness: Duration::ZERO,
        }
    }

    /// Sets how many values are kept at most. Those that are asked for often stay (`TinyLFU`).
    ///
    /// Default: 10,000.
    pub fn max_entries(mut self, max_entries: u64) -> Self {
        self.max_entries = max_entries;
        self
    }

    /// Sets about how many bytes of memory values and what belongs to them take at most. So that both limits hold, each value counts for
    /// no less than these bytes divided by [`max_entries`](Self::max_entries).
    ///
    /// Default: 64 MiB.
    pub fn max_bytes(mut self, max_bytes: u64) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Sets how many bytes of memory a value takes, beyond its `size_of`: what it points to.
    ///
    /// Default: as many as its entry has in Redis, where it may be [compressed](crate::CacheBuilder::compression): then say more.
    pub fn weigher(mut self, weigher: impl Fn(&V) -> usize + Send + Sync + 'static) -> Self {
        self.weigher = Some(Arc::new(weigher));
        self
    }

    /// Sets for how long a value can be given that another process has changed, when the network falls silent; otherwise it takes as long
    /// as a reply. Less than 50 milliseconds count as 50. After that time of silence
    /// the server is asked at each use, unless [`max_staleness`](Self::max_staleness) allows more.
    ///
    /// Default: one second ([`DEFAULT_LOCAL_BOUND`](crate::DEFAULT_LOCAL_BOUND)).
    pub fn bound(mut self, bound: Duration) -> Self {
        self.bound = bound.max(SHORTEST_BOUND);
        self
    }

    /// Sets for how long a value is given when nobody says what changes: the servers do not do so (see
    /// [`Conn::track`](redbrick_core_conn::Conn::track)), or are away. That counts from when it was read or found unchanged, or from when
    /// the servers were last heard, if they said all changes until then. What this process invalidates it knows at once all the same.
    ///
    /// Default: zero; the server is asked at each use whether the value is still there.
    pub fn max_staleness(mut self, max_staleness: Duration) -> Self {
        self.max_staleness = max_staleness;
        self
    }
}

/// What a cache keeps in this process.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct LocalSize {
    /// How many values.
    pub entries: u64,
    /// What they weigh together, in bytes, by [`Local::max_bytes`]; no count of the allocator.
    pub bytes: u64,
}

impl<V> Cache<V> {
    /// Returns how much of this cache is kept in this process. What has a tag that was invalidated, or changed while the link was lost, is
    /// among that until it is asked for. Sends nothing.
    #[must_use]
    pub fn local_size(&self) -> LocalSize {
        let (entries, bytes) = self.tier.as_ref().map_or((0, 0), |tier| tier.size());
        LocalSize { entries, bytes }
    }
}

impl<V: Clone + Send + Sync + 'static> Local<V> {
    pub(crate) fn build(self) -> Arc<dyn Tier<V>> {
        Arc::new(Lfu::new(self))
    }
}

impl<V> Default for Local<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> fmt::Debug for Local<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Local");
        out.field("max_entries", &self.max_entries).field("max_bytes", &self.max_bytes);
        out.field("bound", &self.bound).field("max_staleness", &self.max_staleness);
        out.finish_non_exhaustive()
    }
}
