//! What waits for one reader of the feed: bounded, and how far it is known to be complete.

use std::{
    collections::VecDeque,
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use tokio::time::Instant;

use super::Invalidation;

#[derive(Debug)]
pub(super) struct Changes {
    most: NonZeroUsize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    entries: VecDeque<Entry>,
    keys: usize,
    /// All that the servers did before this moment has been read; not known while a link is missing.
    proven: Option<Instant>,
    closed: bool,
    reader: Option<Waker>,
}

#[derive(Debug)]
enum Entry {
    Key(Bytes),
    Flush,
    /// All that the servers did before this moment stands before this.
    Proof(Instant),
}

impl Changes {
    pub(super) fn new(most: NonZeroUsize) -> Self {
        Self { most, waiting: Mutex::default() }
    }

    /// The value at `key` may have changed.
    pub(super) fn key(&self, key: Bytes) {
        let mut waiting = self.lock();
        if waiting.keys >= self.most.get() {
            return waiting.flush();
        }
        waiting.keys += 1;
        waiting.entries.push_back(Entry::Key(key));
        waiting.wake();
    }

    /// All values may have changed; from now on nothing is known to be complete.
    pub(super) fn flush(&self) {
        self.lock().flush();
    }

    /// All that the servers did before `moment` has been put here.
    pub(super) fn prove(&self, moment: Instant) {
        let mut waiting = self.lock();
        if waiting.closed {
            return;
        }
        match waiting.entries.back_mut() {
            // What was complete once stays so.
            None => waiting.proven = waiting.proven.max(Some(moment)),
            Some(Entry::Proof(last)) => *last = moment.max(*last),
            Some(_) => waiting.entries.push_back(Entry::Proof(moment)),
        }
        waiting.wake();
    }

    pub(super) fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        waiting.proven = None;
        waiting.wake();
    }

    /// Before which moment all that the servers did has been read, where that is known.
    pub(super) fn proven(&self) -> Option<Instant> {
        self.lock().proven
    }

    pub(super) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Invalidation>> {
        let mut waiting = self.lock();
        while let Some(entry) = waiting.entries.pop_front() {
            match entry {
                Entry::Proof(_) if waiting.closed => {}
                Entry::Proof(moment) => waiting.proven = waiting.proven.max(Some(moment)),
                Entry::Flush => return Poll::Ready(Some(Invalidation::Flush)),
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

impl Waiting {
    fn flush(&mut self) {
        // It says more than all that came before.
        self.entries.clear();
        self.keys = 0;
        self.proven = None;
        self.entries.push_back(Entry::Flush);
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{task::Waker, time::Duration};

    use super::*;

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
        let changes = Changes::new(NonZeroUsize::new(2).unwrap());
        let (first, second) = (Instant::now(), Instant::now() + Duration::from_secs(1));
        assert_eq!(changes.proven(), None);
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
    fn a_flush_replaces_all_before_it_and_nothing_is_proven_until_it_was_read() {
        let changes = Changes::new(NonZeroUsize::new(2).unwrap());
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
    fn more_keys_than_may_wait_are_a_flush() {
        let changes = Changes::new(NonZeroUsize::new(2).unwrap());
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
