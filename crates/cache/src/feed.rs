//! What the servers say of a cache: which entries and tags change, and how far that is complete.

use std::{
    future::pending,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use redbrick_core_conn::{Conn, ErrorKind, Freshness, Invalidation, Pattern, Prefix, Tracking};
use tokio::{
    runtime::Handle,
    task::AbortHandle,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    cache::Inner,
    local::{bearing::Bearing, kept::Copied, tier::AnyTier},
    settings::Settings,
    tags::known::{Asking, Known},
};

/// The pause after a failure that may pass, and after a refusal.
const PAUSE: Duration = Duration::from_secs(1);
const LONG_PAUSE: Duration = Duration::from_secs(60);

/// What is known here only for as long as nobody says otherwise, and what is said of it. Dropping it ends that.
pub(crate) struct Feed {
    entries: Prefix,
    tags: Prefix,
    /// How far it may be behind.
    bound: Duration,
    pub(crate) known: Known,
    pub(crate) tier: Option<Arc<dyn AnyTier>>,
    /// Rises whenever anything may have changed unheard; at first before the feed is current.
    epoch: AtomicU64,
    /// What moments are counted from.
    began: Instant,
    /// Where values may be given while it is not current.
    bearing: Option<Bearing>,
    /// How far it is complete, by the first who listened; looked at with every hit.
    first: OnceLock<Freshness>,
    /// By a later listener, where the first has ended with its runtime.
    later: ArcSwapOption<Freshness>,
    has_listener: AtomicBool,
    listener: Mutex<Option<AbortHandle>>,
}

impl Feed {
    /// One for a tier, or for tags alone.
    pub(crate) fn new(
        entries: Prefix,
        tags: Prefix,
        settings: &Settings,
        tier: Option<Arc<dyn AnyTier>>,
    ) -> Self {
        Self {
            entries,
            tags,
            bound: settings.feed_bound,
            known: Known::default(),
            tier,
            epoch: AtomicU64::new(0),
            began: Instant::now(),
            bearing: Bearing::new(settings.max_staleness),
            first: OnceLock::new(),
            later: ArcSwapOption::empty(),
            has_listener: AtomicBool::new(false),
            listener: Mutex::default(),
        }
    }

    /// The epoch of what has been heard completely, but for what is said just now; nothing while that is not so. To be asked before
    /// what is known is looked at.
    pub(crate) fn epoch_at(&self, now: Instant) -> Option<u64> {
        let first = self.first.get()?;
        let is_current = first.is_current_at(now)
            || self.later.load().as_ref().is_some_and(|later| later.is_current_at(now));
        // In this order: what is of a later epoch was asked for later.
        is_current.then(|| self.epoch.load(Ordering::Acquire))
    }

    /// Has the servers say what changes, where they do not yet.
    fn listen(self: &Arc<Self>, conn: &Conn, cache: &str) {
        // A hit may be polled where nothing can be spawned.
        if self.has_listener.load(Ordering::Relaxed)
            || Handle::try_current().is_err()
            || self.has_listener.swap(true, Ordering::AcqRel)
        {
            return;
        }
        self.known.use_it();
        // Not while anything is locked: a runtime that is ending drops the task at once, which says that nobody listens.
        let listener = Listener(Arc::downgrade(self));
        let listening = listener.run(conn.clone(), cache.to_owned(), self.prefixes(), self.bound);
        let task = tokio::spawn(listening);
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.abort_handle());
    }

    /// What is to be said.
    fn prefixes(&self) -> Vec<String> {
        let entries = self.tier.is_some().then_some(&self.entries);
        entries.into_iter().chain([&self.tags]).map(|prefix| format!("{prefix}:{{")).collect()
    }

    /// A moment, in nanoseconds after this was made.
    pub(crate) fn moment(&self, moment: Instant) -> u64 {
        let since = moment.saturating_duration_since(self.began);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Whether a value that is kept may be given while this is not current.
    pub(crate) fn bears(&self, kept: &Copied, now: Instant) -> bool {
        self.bearing.as_ref().is_some_and(|bearing| bearing.bears(kept, self.moment(now)))
    }

    /// Remembers until when what is kept is vouched for.
    fn vouch(&self, freshness: &Freshness) {
        // Before the moment: a flush meanwhile belongs to a later epoch.
        let epoch = self.epoch.load(Ordering::Acquire);
        if let (Some(bearing), Some(until)) = (&self.bearing, freshness.complete_until()) {
            bearing.vouch(epoch, self.moment(until));
        }
    }

    /// Says that versions of tags are about to be asked for; nothing where nobody makes use of what is learned.
    pub(crate) fn asking(&self) -> Option<Asking> {
        self.known.asking(self.epoch_at(Instant::now()).is_some())
    }

    /// A tag is not what it was.
    pub(crate) fn forget_tag(&self, tag: &[u8]) {
        self.known.forget(tag);
        if let Some(bearing) = &self.bearing {
            bearing.tag_moved(tag, self.moment(Instant::now()));
        }
    }

    /// An entry is not what is kept of it.
    pub(crate) fn forget_entry(&self, key: impl AsRef<[u8]>) {
        if let Some(tier) = &self.tier
            && let Some(id) = self.entries.id_of(key)
        {
            tier.forget(&id);
        }
    }

    /// The entries that match are not what is kept of them.
    pub(crate) fn forget_matching(&self, pattern: &Pattern) {
        if let Some(tier) = &self.tier {
            tier.forget_matching(&|id| pattern.matches(self.entries.tagged(id).as_ref()));
        }
    }

    fn heard(&self, change: Invalidation) {
        match change {
            Invalidation::Key(key) => match self.tags.id_of(&key) {
                Some(tag) => self.forget_tag(&tag),
                None => self.forget_entry(&key),
            },
            // Anything may have changed, or all is gone.
            change => {
                self.epoch.fetch_add(1, Ordering::AcqRel);
                self.known.forget_all();
                if let (Invalidation::Flush, Some(bearing)) = (change, &self.bearing) {
                    bearing.flushed(self.moment(Instant::now()));
                }
            }
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let listener = self.listener.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(listener) = listener.take() {
            listener.abort();
        }
    }
}

/// Who listens. Where nobody does any more, as when the runtime has ended, nothing is known to be complete, and somebody can begin once
/// more.
struct Listener(Weak<Feed>);

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(feed) = self.0.upgrade() {
            feed.has_listener.store(false, Ordering::Release);
        }
    }
}

impl Listener {
    async fn run(self, conn: Conn, cache: String, prefixes: Vec<String>, bound: Duration) {
        loop {
            let mut track = conn.track().bound(bound).lazy();
            for prefix in &prefixes {
                track = track.prefix(prefix);
            }
            let pause = match track.await {
                Ok(tracking) => return self.hear(tracking, bound).await,
                Err(error) if error.is_retryable() => {
                    tracing::debug!(cache, %error, "the servers do not say yet what changes, and are asked each time");
                    PAUSE
                }
                Err(error) if error.kind() == ErrorKind::Closed => LONG_PAUSE,
                Err(error) => {
                    tracing::warn!(cache, %error, "the servers do not say what changes, and are asked at each use");
                    LONG_PAUSE
                }
            };
            let _elapsed = timeout(pause, pending::<()>()).await;
        }
    }

    /// Forgets what changes, until the connection is closed.
    async fn hear(&self, mut tracking: Tracking, bound: Duration) {
        let (freshness, mut bears) = (tracking.freshness(), None);
        if let Some(feed) = self.0.upgrade() {
            if let Err(freshness) = feed.first.set(freshness.clone()) {
                feed.later.store(Some(Arc::new(freshness)));
            }
            bears = feed.bearing.as_ref().map(Bearing::most);
        }
        let mut looks = interval(bears.unwrap_or(bound).min(bound) / 2);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let change = tokio::select! {
                biased;
                _ = looks.tick(), if bears.is_some() => {
                    let Some(feed) = self.0.upgrade() else { return };
                    feed.vouch(&freshness);
                    continue;
                }
                change = tracking.next() => change,
            };
            let (Some(change), Some(feed)) = (change, self.0.upgrade()) else { return };
            feed.heard(change);
        }
    }
}

impl Inner {
    /// Has the servers say what changes.
    pub(crate) fn listen(&self) {
        self.feed.listen(&self.conn, self.counters.name());
    }
}
