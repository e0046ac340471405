//! What waits for one reader of the feed: bounded, and how far it is known to be complete.

use std::{
    collections::VecDeque,
    num::NonZeroUsize,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::Invalidation;

#[derive(Debug)]
pub(super) struct Changes {
    most: NonZeroUsize,
    waiting: Mutex<Waiting>,
    proven: Proven,
}

#[derive(Debug, Default)]
struct Waiting {
    entries: VecDeque<Entry>,
    keys: usize,
    closed: bool,
    /// Whoever waits for the next change, and so has done with all before.
    reader: Option<Waker>,
}

/// All that the servers did before this moment has been read; not known while a link is missing. Set while what waits is locked, and
/// looked at by anybody.
#[derive(Debug)]
struct Proven {
    /// Before all that is proven, so that nothing counts as proven later than it is.
    began: Instant,
    /// In nanoseconds after it began, and 1 more; 0 when it is not known.
    reached: AtomicU64,
}

#[derive(Debug)]
enum Entry {
    Key(Bytes),
    Flush,
    Gap,
    /// All that the servers did before this moment stands before this.
    Proof(Instant),
}

impl Changes {
    /// A queue for so many keys; what is proven comes after it began.
    pub(super) fn new(most: NonZeroUsize, began: Instant) -> Self {
        let proven = Proven { began, reached: AtomicU64::new(0) };
        Self { most, waiting: Mutex::default(), proven }
    }

    /// The value at `key` may have changed.
    pub(super) fn key(&self, key: Bytes) {
        let mut waiting = self.lock();
        if waiting.keys >= self.most.get() {
            return self.flush_all(&mut waiting);
        }
        waiting.keys += 1;
        waiting.entries.push_back(Entry::Key(key));
        waiting.wake();
    }

    /// All values have changed; from now on nothing is known to be complete.
    pub(super) fn flush(&self) {
        self.flush_all(&mut self.lock());
    }

    /// Something may have changed unheard; from now on nothing is known to be complete. What was heard before is said before that.
    pub(super) fn gap(&self) {
        let mut waiting = self.lock();
        self.proven.forget();
        waiting.entries.retain(|entry| !matches!(entry, Entry::Proof(_)));
        if !matches!(waiting.entries.back(), Some(Entry::Flush | Entry::Gap)) {
            waiting.entries.push_back(Entry::Gap);
        }
        waiting.wake();
    }

    fn flush_all(&self, waiting: &mut Waiting) {
        // It says more than all that came before.
        waiting.entries.clear();
        waiting.keys = 0;
        self.proven.forget();
        waiting.entries.push_back(Entry::Flush);
        waiting.wake();
    }

    /// All that the servers did before `moment` has been put here.
    pub(super) fn prove(&self, moment: Instant) {
        let mut waiting = self.lock();
        if waiting.closed {
            return;
        }
        let has_done = waiting.reader.is_some();
        match waiting.entries.back_mut() {
            None if has_done => return self.proven.reach(moment),
            Some(Entry::Proof(last)) => *last = moment.max(*last),
            // The reader may be busy with what it was given last.
            _ => waiting.entries.push_back(Entry::Proof(moment)),
        }
        waiting.wake();
    }

    pub(super) fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        self.proven.forget();
        waiting.wake();
    }

    /// Before which moment all that the servers did has been read, where that is known.
    pub(super) fn proven(&self) -> Option<Instant> {
        self.proven.moment()
    }

    /// Whether that is known, and the moment is less than so long before now.
    pub(super) fn is_proven_within(&self, now: Instant, bound: Duration) -> bool {
        self.proven.is_within(now, bound)
    }

    pub(super) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Invalidation>> {
        let mut waiting = self.lock();
        while let Some(entry) = waiting.entries.pop_front() {
            match entry {
                Entry::Proof(_) if waiting.closed => {}
                Entry::Proof(moment) => self.proven.reach(moment),
                Entry::Flush => return Poll::Ready(Some(Invalidation::Flush)),
                Entry::Gap => return Poll::Ready(Some(Invalidation::Gap)),
                Entry::Key(key) => {
                    waiting.keys -= 1;
                    return Poll::Ready(Some(Invalidation::Key(key)));
                }
            }
        }
        if waiting.closed {
            return Poll::Ready(None);
        }
        if waiting.reader.as_ref().is_none_or(|reader| !reader.will_wake(cx.waker())) {
            waiting.reader = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Proven {
    /// What was complete once stays so.
    fn reach(&self, moment: Instant) {
        self.reached.fetch_max(self.since(moment).saturating_add(1), Ordering::Release);
    }

    fn is_within(&self, now: Instant, bound: Duration) -> bool {
        let Some(proven) = self.reached.load(Ordering::Acquire).checked_sub(1) else {
            return false;
        };
        self.since(now).saturating_sub(proven) < nanos(bound)
    }

    fn since(&self, moment: Instant) -> u64 {
        nanos(moment.saturating_duration_since(self.began))
    }

    fn forget(&self) {
        self.reached.store(0, Ordering::Release);
    }

    fn moment(&self) -> Option<Instant> {
        let reached = self.reached.load(Ordering::Acquire).checked_sub(1)?;
        self.began.checked_add(Duration::from_nanos(reached))
    }
}

/// A duration in nanoseconds: this is asked for very often, and 128 bits take their time.
fn nanos(duration: Duration) -> u64 {
    let seconds = duration.as_secs().saturating_mul(1_000_000_000);
    seconds.saturating_add(u64::from(duration.subsec_nanos()))
}

impl Waiting {
    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes() -> Changes {
        let changes = Changes::new(NonZeroUsize::new(2).unwrap(), Instant::now());
        assert_eq!((next(&changes), changes.proven()), (None, None));
        changes
    }

    fn next(changes: &Changes) -> Option<Invalidation> {
        match changes.poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(next) => next,
            Poll::Pending => None,
        }
    }

    fn key(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn what_is_proven_is_known_only_when_all_before_it_was_read() {
        let changes = changes();
        let (first, second) = (Instant::now(), Instant::now() + Duration::from_secs(1));
        changes.prove(first);
        assert_eq!(changes.proven(), Some(first), "nothing stands before it");
        changes.key(key("a"));
        changes.prove(second);
        assert_eq!(changes.proven(), Some(first));
        assert_eq!(next(&changes), Some(Invalidation::Key(key("a"))));
        assert_eq!(changes.proven(), Some(first));
        assert_eq!(next(&changes), None);
        assert_eq!(changes.proven(), Some(second));
    }

    #[test]
    fn what_the_reader_has_not_done_with_is_not_proven() {
        let changes = changes();
        let moment = Instant::now();
        changes.flush();
        assert_eq!(next(&changes), Some(Invalidation::Flush));
        changes.prove(moment);
        assert_eq!(changes.proven(), None, "it was given the flush, and has not come for more");
        assert_eq!(next(&changes), None);
        assert_eq!(changes.proven(), Some(moment));
    }

    #[test]
    fn a_flush_replaces_all_before_it_and_nothing_is_proven_until_it_was_read() {
        let changes = changes();
        let moment = Instant::now();
        changes.prove(moment);
        changes.key(key("a"));
        changes.prove(moment);
        changes.flush();
        assert_eq!(changes.proven(), None, "at once");
        changes.prove(moment);
        assert_eq!(changes.proven(), None, "the flush was not read yet");
        assert_eq!(next(&changes), Some(Invalidation::Flush));
        assert_eq!(next(&changes), None);
        assert_eq!(changes.proven(), Some(moment));
    }

    #[test]
    fn after_a_gap_nothing_is_proven_until_it_was_read_and_what_was_heard_is_said() {
        let changes = changes();
        let moment = Instant::now();
        changes.key(key("a"));
        changes.prove(moment);
        for _ in 0..1000 {
            changes.gap();
        }
        assert!(changes.lock().entries.len() == 2);
        assert_eq!(next(&changes), Some(Invalidation::Key(key("a"))));
        changes.prove(moment);
        assert_eq!(changes.proven(), None, "the gap was not read yet");
        assert_eq!(next(&changes), Some(Invalidation::Gap));
        assert_eq!((next(&changes), changes.proven()), (None, Some(moment)));
        changes.flush();
        changes.gap();
        assert_eq!((next(&changes), next(&changes)), (Some(Invalidation::Flush), None));
    }

    #[test]
    fn more_keys_than_may_wait_are_a_flush() {
        let changes = changes();
        changes.prove(Instant::now());
        for text in ["a", "b", "c", "d"] {
            changes.key(key(text));
        }
        assert_eq!(changes.proven(), None);
        assert_eq!(next(&changes), Some(Invalidation::Flush));
        assert_eq!(next(&changes), Some(Invalidation::Key(key("d"))));
        assert_eq!(next(&changes), None);
    }
}
