//! For how long values are given while nobody says what changes.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;

use super::kept::Copied;
use crate::tags::moved::Moved;

/// What of that is asked for. Moments are in nanoseconds after the feed was made.
pub(crate) struct Bearing {
    most: Duration,
    /// All is gone that was there then.
    flushed: AtomicU64,
    vouched: Mutex<Vouched>,
    moved: Moved,
}

/// Until when what is of an epoch was vouched for, as far as was looked.
#[derive(Clone, Copy, Default)]
struct Vouched {
    epoch: u64,
    until: u64,
}

impl Bearing {
    /// So long at most; nothing for no time.
    pub(crate) fn new(most: Duration) -> Option<Self> {
        let (flushed, vouched, moved) = Default::default();
        (!most.is_zero()).then_some(Self { most, flushed, vouched, moved })
    }

    pub(crate) fn most(&self) -> Duration {
        self.most
    }

    /// What is of this epoch was vouched for until then.
    pub(crate) fn vouch(&self, epoch: u64, until: u64) {
        *self.vouched.lock().unwrap_or_else(PoisonError::into_inner) = Vouched { epoch, until };
    }

    /// All was invalidated at a moment.
    pub(crate) fn flushed(&self, moment: u64) {
        self.flushed.fetch_max(moment, Ordering::AcqRel);
    }

    /// A tag was invalidated at a moment.
    pub(crate) fn tag_moved(&self, tag: &[u8], moment: u64) {
        self.moved.add(Bytes::copy_from_slice(tag), moment);
    }

    /// Whether a value may be given that is kept.
    pub(crate) fn bears(&self, kept: &Copied, now: u64) -> bool {
        if kept.seen() <= self.flushed.load(Ordering::Acquire) {
            return false;
        }
        let most = u64::try_from(self.most.as_nanos()).unwrap_or(u64::MAX);
        let vouched = *self.vouched.lock().unwrap_or_else(PoisonError::into_inner);
        let vouched = if kept.is_of(vouched.epoch) { vouched.until } else { 0 };
        kept.seen().max(vouched) > now.saturating_sub(most)
            && self.moved.none_of(&kept.head.tags, kept)
    }
}
