//! A value that this process keeps, and what is known of it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::entry::{Head, MARK_LEN};

/// A value as it was in Redis at some time.
pub(crate) struct Kept<V> {
    pub(crate) value: V,
    pub(crate) entry: Arc<Copied>,
}

/// The entry that it was in, and until when it was there.
pub(crate) struct Copied {
    pub(crate) head: Head,
    pub(crate) mark: [u8; MARK_LEN],
    /// How many bytes it has in Redis.
    #[cfg_attr(not(feature = "local"), expect(dead_code, reason = "nothing is weighed then"))]
    pub(crate) len: usize,
    /// It was there in this epoch of the feed.
    epoch: AtomicU64,
    /// When it was there last, in nanoseconds after the feed was made.
    seen: AtomicU64,
}

/// What is known before a value is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    /// The epoch of the feed; 0 while that is not current.
    pub(crate) epoch: u64,
    /// In nanoseconds after the feed was made.
    pub(crate) at: u64,
    /// How often something was said of this key and its like.
    #[cfg_attr(not(feature = "local"), expect(dead_code, reason = "nothing is kept then"))]
    pub(crate) changes: u64,
}

impl Copied {
    pub(crate) fn new(head: Head, mark: [u8; MARK_LEN], len: usize) -> Self {
        let (epoch, seen) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { head, mark, len, epoch, seen }
    }

    /// It was asked for under a ticket, and was there.
    pub(crate) fn was_there(&self, ticket: Ticket) {
        self.epoch.fetch_max(ticket.epoch, Ordering::AcqRel);
        self.seen.fetch_max(ticket.at, Ordering::AcqRel);
    }

    /// Whether it was there in this epoch.
    pub(crate) fn is_of(&self, epoch: u64) -> bool {
        self.epoch.load(Ordering::Acquire) == epoch
    }

    /// When it was there last, as far as it was asked for.
    pub(crate) fn seen(&self) -> u64 {
        self.seen.load(Ordering::Acquire)
    }
}
