//! Values that are kept by moka, so many at most and so heavy at most.

use std::{
    hash::BuildHasher,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use foldhash::quality::RandomState;
use moka::sync::Cache as Moka;

use super::{
    kept::{Copied, Kept, Ticket},
    settings::{Local, Weigher},
    tier::{AnyTier, Near, Tier, Verdict},
};
use crate::entry::MARK_LEN;

/// In so many groups keys are counted together: what is said of one of them spoils what is asked for of its group just then.
const GROUPS: usize = 1024;
/// How many bytes a value takes besides what it is, its key and its tags; measured by `tests/memory.rs`.
const OVERHEAD: usize = 344;
/// How many bytes a tag takes besides its name.
const TAG: usize = 48;

pub(super) struct Lfu<V> {
    kept: Moka<Box<[u8]>, Arc<Kept<V>>, RandomState>,
    /// How often something was said of the keys of each group; locked while one of them is kept or forgotten.
    changes: Box<[Mutex<u64>]>,
    groups: RandomState,
}

impl<V: Clone + Send + Sync + 'static> Lfu<V> {
    pub(super) fn new(local: Local<V>) -> Self {
        let Local { max_entries, max_bytes, weigher, .. } = local;
        // Each value weighs at least its share of the bytes, and no more than fits, so that both limits hold.
        let least = (max_bytes / max_entries.max(1)).clamp(1, u64::from(u32::MAX));
        let kept = Moka::<Box<[u8]>, Arc<Kept<V>>>::builder();
        let kept = kept.max_capacity(max_bytes.min(least.saturating_mul(max_entries)));
        let least = u32::try_from(least).unwrap_or(u32::MAX);
        let kept = kept.weigher(move |id, kept| {
            u32::try_from(weight(id, kept, weigher.as_ref())).unwrap_or(u32::MAX).max(least)
        });
        Self {
            kept: kept.build_with_hasher(RandomState::default()),
            changes: (0..GROUPS).map(|_| Mutex::default()).collect(),
            groups: RandomState::default(),
        }
    }

    fn group(&self, id: &[u8]) -> MutexGuard<'_, u64> {
        let group = usize::try_from(self.groups.hash_one(id) % GROUPS as u64);
        lock(&self.changes[group.unwrap_or_default()])
    }
}

/// How many bytes a value takes here.
fn weight<V>(id: &[u8], kept: &Kept<V>, weigher: Option<&Weigher<V>>) -> usize {
    let value = weigher.map_or(kept.entry.len, |weigh| weigh(&kept.value));
    let tags = kept.entry.head.tags.iter().map(|(name, _)| TAG + name.len());
    value.saturating_add(OVERHEAD + size_of::<V>() + id.len() + tags.sum::<usize>())
}

fn lock(changes: &Mutex<u64>) -> MutexGuard<'_, u64> {
    changes.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<V: Clone + Send + Sync + 'static> AnyTier for Lfu<V> {
    fn changes(&self, id: &[u8]) -> u64 {
        *self.group(id)
    }

    fn forget(&self, id: &[u8]) {
        let mut changes = self.group(id);
        *changes += 1;
        self.kept.invalidate(id);
    }

    fn forget_matching(&self, matches: &dyn Fn(&[u8]) -> bool) {
        // What is asked for after this was asked for after what is said.
        self.changes.iter().for_each(|changes| *lock(changes) += 1);
        for (id, _) in &self.kept {
            if matches(&id) {
                self.kept.invalidate(&**id);
            }
        }
    }
}

impl<V: Clone + Send + Sync + 'static> Tier<V> for Lfu<V> {
    fn look(&self, id: &[u8], judge: &dyn Fn(&Copied) -> Verdict) -> Near<V> {
        let Some(kept) = self.kept.get(id) else { return Near::Nothing };
        match judge(&kept.entry) {
            Verdict::Useless => Near::Nothing,
            Verdict::Due => Near::Due(kept.entry.mark),
            Verdict::Doubtful => {
                let (value, entry) = (kept.value.clone(), Arc::clone(&kept.entry));
                Near::Doubtful(Kept { value, entry })
            }
            Verdict::Given => Near::Value(kept.value.clone()),
        }
    }

    fn copy(&self, value: &V) -> V {
        value.clone()
    }

    fn keep(&self, id: &[u8], ticket: Ticket, kept: Kept<V>) {
        kept.entry.was_there(ticket);
        let changes = self.group(id);
        if *changes == ticket.changes {
            self.kept.insert(id.into(), Arc::new(kept));
        } else {
            // Whatever is kept is older.
            self.kept.invalidate(id);
        }
    }

    fn forget_other(&self, id: &[u8], entry: Option<[u8; MARK_LEN]>) {
        if self.kept.get(id).is_some_and(|kept| Some(kept.entry.mark) != entry) {
            self.forget(id);
        }
    }

    fn size(&self) -> (u64, u64) {
        self.kept.run_pending_tasks();
        (self.kept.entry_count(), self.kept.weighted_size())
    }
}
