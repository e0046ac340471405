//! Values that are kept by moka, so many at most and so heavy at most.

use std::{
    hash::BuildHasher,
    sync::{Mutex, MutexGuard, PoisonError},
};

use foldhash::quality::RandomState;
use moka::sync::Cache as Moka;

use super::{
    Local, Weigher,
    kept::{Kept, Ticket},
    tier::{Forget, Tier},
};

/// In so many groups keys are counted together: what is said of one of them spoils what is asked for of its group just then.
const GROUPS: usize = 1024;
/// What an entry takes besides its key, its value and its tags, and each of its tags besides its name.
const OVERHEAD: usize = 344;
const TAG: usize = 48;

pub(super) struct Bounded<V> {
    kept: Moka<Box<[u8]>, Kept<V>, RandomState>,
    /// How often something was said of the keys of each group; locked while one of them is kept or forgotten.
    said: Box<[Mutex<u64>]>,
    groups: RandomState,
}

impl<V: Clone + Send + Sync + 'static> Bounded<V> {
    pub(super) fn new(local: Local<V>) -> Self {
        let Local { max_entries, max_bytes, weigher, .. } = local;
        let max_bytes = if max_entries == 0 { 0 } else { max_bytes };
        // Nothing counts for less than one of as many as there may be, so that both bounds hold.
        let least = u32::try_from(max_bytes.div_ceil(max_entries.max(1))).unwrap_or(u32::MAX);
        let kept = Moka::<Box<[u8]>, Kept<V>>::builder().max_capacity(max_bytes);
        let kept = kept.weigher(move |id, kept| {
            u32::try_from(weight(id, kept, weigher.as_ref())).unwrap_or(u32::MAX).max(least)
        });
        Self {
            kept: kept.build_with_hasher(RandomState::default()),
            said: (0..GROUPS).map(|_| Mutex::default()).collect(),
            groups: RandomState::default(),
        }
    }

    fn group(&self, id: &[u8]) -> MutexGuard<'_, u64> {
        let hash = usize::try_from(self.groups.hash_one(id) % GROUPS as u64);
        lock(&self.said[hash.unwrap_or_default()])
    }
}

/// How many bytes a value takes here.
fn weight<V>(id: &[u8], kept: &Kept<V>, weigher: Option<&Weigher<V>>) -> usize {
    let value = weigher.map_or(kept.entry.len, |weigh| weigh(&kept.value));
    let tags = kept.entry.head.tags.iter().map(|(name, _)| TAG + name.len());
    OVERHEAD + size_of::<V>() + id.len() + tags.sum::<usize>() + value
}

fn lock(said: &Mutex<u64>) -> MutexGuard<'_, u64> {
    said.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<V: Clone + Send + Sync + 'static> Forget for Bounded<V> {
    fn said(&self, id: &[u8]) -> u64 {
        *self.group(id)
    }

    fn forget(&self, id: &[u8]) {
        let mut said = self.group(id);
        *said += 1;
        self.kept.invalidate(id);
    }

    fn forget_matching(&self, matches: &dyn Fn(&[u8]) -> bool) {
        // What is asked for after this was asked for after what is said.
        self.said.iter().for_each(|said| *lock(said) += 1);
        for (id, _) in &self.kept {
            if matches(&id) {
                self.kept.invalidate(&**id);
            }
        }
    }

    fn size(&self) -> (u64, u64) {
        self.kept.run_pending_tasks();
        (self.kept.entry_count(), self.kept.weighted_size())
    }
}

impl<V: Clone + Send + Sync + 'static> Tier<V> for Bounded<V> {
    fn find(&self, id: &[u8]) -> Option<Kept<V>> {
        self.kept.get(id)
    }

    fn copy(&self, value: &V) -> V {
        value.clone()
    }

    fn keep(&self, id: &[u8], ticket: Ticket, kept: Kept<V>) {
        kept.entry.was_there(ticket);
        let said = self.group(id);
        if *said == ticket.said {
            self.kept.insert(id.into(), kept);
        }
    }
}
