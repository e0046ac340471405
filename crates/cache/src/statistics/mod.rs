mod fleet;

pub use fleet::ServerStatistics;

use std::sync::atomic::{AtomicU64, Ordering};

use redbrick_core_conn::Counter as Metric;

use crate::Cache;

/// What this process did with a cache since it was made, or what all did together.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Statistics {
    /// Reads that found a value in Redis.
    pub hits: u64,
    /// Reads that found none.
    pub misses: u64,
    /// Loaders that returned a value.
    pub loads: u64,
    /// Loaders that failed or took too long.
    pub load_failures: u64,
    /// Calls that waited for the load of another one in this process.
    pub coalesced: u64,
    /// Calls that waited for the load of another process.
    pub waits: u64,
    /// Calls that were served what was older than its time to live.
    pub served_stale: u64,
    /// Loaded values that were not stored, because their entry was invalidated or stored meanwhile.
    pub refused_fills: u64,
    /// Loads without Redis: it could not be asked, or could not store.
    pub bypassed: u64,
    /// Entries that could not be read: of another program or a newer release. A key of another type is a miss.
    pub unreadable: u64,
    /// Reads that found a value in the process.
    pub local_hits: u64,
    /// Those of them for which the server was asked whether it is still there.
    pub revalidated: u64,
}

impl Statistics {
    /// Returns how many of the reads found a value, from 0 to 1; `None` before the first read.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
    pub fn hit_rate(&self) -> Option<f64> {
        let hits = self.hits.saturating_add(self.local_hits);
        let reads = hits.saturating_add(self.misses);
        (reads > 0).then(|| hits as f64 / reads as f64)
    }

    pub(crate) fn by_name(&self) -> [(&'static str, u64); COUNTERS] {
        [
            ("hits", self.hits),
            ("misses", self.misses),
            ("loads", self.loads),
            ("load_failures", self.load_failures),
            ("coalesced", self.coalesced),
            ("waits", self.waits),
            ("served_stale", self.served_stale),
            ("refused_fills", self.refused_fills),
            ("bypassed", self.bypassed),
            ("unreadable", self.unreadable),
            ("local_hits", self.local_hits),
            ("revalidated", self.revalidated),
        ]
    }

    pub(crate) fn of(count: impl Fn(&str) -> u64) -> Self {
        Self {
            hits: count("hits"),
            misses: count("misses"),
            loads: count("loads"),
            load_failures: count("load_failures"),
            coalesced: count("coalesced"),
            waits: count("waits"),
            served_stale: count("served_stale"),
            refused_fills: count("refused_fills"),
            bypassed: count("bypassed"),
            unreadable: count("unreadable"),
            local_hits: count("local_hits"),
            revalidated: count("revalidated"),
        }
    }
}

/// The same for recorders, in the order of [`Counter`].
static METRICS: [Metric; COUNTERS] = [
    Metric::new("redbrick.cache.hits", "Reads that found a value in Redis"),
    Metric::new("redbrick.cache.misses", "Reads that found none"),
    Metric::new("redbrick.cache.loads", "Loaders that returned a value"),
    Metric::new("redbrick.cache.load_failures", "Loaders that failed or took too long"),
    Metric::new("redbrick.cache.coalesced", "Calls that waited for the load of another one"),
    Metric::new("redbrick.cache.waits", "Calls that waited for the load of another process"),
    Metric::new("redbrick.cache.served_stale", "Calls that were served what was not fresh"),
    Metric::new("redbrick.cache.refused_fills", "Loaded values that others invalidated meanwhile"),
    Metric::new("redbrick.cache.bypassed", "Loads without Redis"),
    Metric::new("redbrick.cache.unreadable", "Entries that could not be read"),
    Metric::new("redbrick.cache.local_hits", "Reads that found a value in the process"),
    Metric::new("redbrick.cache.revalidated", "Values that the server said are still there"),
];
static STALE: Metric =
    Metric::new("redbrick.cache.stale", "Entries that were there, with a tag that was invalidated");

/// In the order of [`Statistics::by_name`].
#[derive(Clone, Copy)]
pub(crate) enum Counter {
    Hits,
    Misses,
    Loads,
    LoadFailures,
    Coalesced,
    Waits,
    ServedStale,
    RefusedFills,
    Bypassed,
    Unreadable,
    LocalHits,
    Revalidated,
}

pub(crate) const COUNTERS: usize = 12;

/// Counts for all handles of a cache in this process.
#[derive(Debug)]
pub(crate) struct Counters {
    /// That of the cache, for recorders.
    name: String,
    counts: [AtomicU64; COUNTERS],
    /// What of them was published.
    pub(crate) published: std::sync::Mutex<[u64; COUNTERS]>,
}

impl Counters {
    pub(crate) fn new(name: &[u8]) -> Self {
        let name = String::from_utf8_lossy(name).into_owned();
        Self { name, counts: Default::default(), published: Default::default() }
    }

    /// That of the cache.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn add(&self, counter: Counter) {
        self.counts[counter as usize].fetch_add(1, Ordering::Relaxed);
        METRICS[counter as usize].add(1, &self.name);
    }

    /// An entry was there whose tags are not what they were. It is a miss as well.
    pub(crate) fn stale(&self) {
        STALE.add(1, &self.name);
    }

    pub(crate) fn now(&self) -> Statistics {
        let counts = self.counts.each_ref().map(|count| count.load(Ordering::Relaxed));
        let names = Statistics::default().by_name().map(|(name, _)| name);
        Statistics::of(|name| {
            let at = names.iter().position(|known| *known == name);
            at.map_or(0, |at| counts[at])
        })
    }
}

impl<V> Cache<V> {
    /// Returns what this process did with this cache since it was made, by all its clones. Sends nothing.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.inner.counters.now()
    }
}
