//! Keys that are remembered for a while.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How many at most.
const MOST: usize = 10_000;

/// Keys, and until when they are remembered. Some are forgotten before, when there are too many.
#[derive(Debug)]
pub(crate) struct Remembered<K: Eq + Hash + Clone>(Mutex<HashMap<K, Instant>>);

impl<K: Eq + Hash + Clone> Default for Remembered<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone> Remembered<K> {
    /// Remembers a key for so long; returns whether it was not.
    pub(crate) fn add(&self, key: &K, life: Duration) -> bool {
        let now = Instant::now();
        let mut until = self.until();
        let is_new = until.get(key).is_none_or(|until| now >= *until);
        if is_new {
            insert(&mut until, key.clone(), now, life);
        }
        is_new
    }

    /// Forgets a key; returns whether it was remembered.
    pub(crate) fn take(&self, key: &K) -> bool {
        let mut until = self.until();
        // Mostly, nothing is.
        !until.is_empty() && until.remove(key).is_some_and(|until| Instant::now() < until)
    }

    /// Remembers a key for so long, or until what is returned is dropped; nothing where it was remembered.
    pub(crate) fn note(self: &Arc<Self>, key: K, life: Duration) -> Option<Note<K>> {
        let is_new = self.add(&key, life);
        is_new.then(|| Note { remembered: Arc::clone(self), key, is_kept: false })
    }

    fn until(&self) -> std::sync::MutexGuard<'_, HashMap<K, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Remembers a key from now on, and forgets others where there are too many.
fn insert<K: Eq + Hash>(all: &mut HashMap<K, Instant>, key: K, now: Instant, life: Duration) {
    if all.len() >= MOST {
        all.retain(|_, until| now < *until);
        if all.len() >= MOST {
            all.clear();
        }
    }
    all.insert(key, now + life);
}

/// A key that is remembered until this is dropped.
#[derive(Debug)]
pub(crate) struct Note<K: Eq + Hash + Clone> {
    remembered: Arc<Remembered<K>>,
    key: K,
    is_kept: bool,
}

impl<K: Eq + Hash + Clone> Note<K> {
    /// Has it remembered for so long from now on.
    pub(crate) fn keep(mut self, life: Duration) {
        insert(&mut self.remembered.until(), self.key.clone(), Instant::now(), life);
        self.is_kept = true;
    }
}

impl<K: Eq + Hash + Clone> Drop for Note<K> {
    fn drop(&mut self) {
        if !self.is_kept {
            self.remembered.take(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_key_is_remembered_until_it_is_taken_or_for_so_long() {
        let keys = Remembered::<Bytes>::default();
        let [a, b] = ["a", "b"].map(Bytes::from);
        assert!(keys.add(&a, SECOND) && keys.add(&b, SECOND));
        assert!(!keys.add(&a, SECOND) && keys.take(&a) && !keys.take(&a));
        assert!(keys.add(&a, SECOND * 2));
        tokio::time::advance(SECOND).await;
        assert!(!keys.add(&a, SECOND) && !keys.take(&b));
        tokio::time::advance(SECOND).await;
        assert!(keys.add(&a, SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_is_noted_is_remembered_until_the_note_is_dropped_or_for_longer() {
        let keys = Arc::new(Remembered::<Bytes>::default());
        let a = Bytes::from("a");
        let note = keys.note(a.clone(), SECOND).unwrap();
        assert!(keys.note(a.clone(), SECOND).is_none());
        drop(note);
        keys.note(a.clone(), SECOND).unwrap().keep(SECOND * 2);
        tokio::time::advance(SECOND).await;
        assert!(keys.note(a.clone(), SECOND).is_none());
        tokio::time::advance(SECOND).await;
        assert!(keys.note(a, SECOND).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_keys_are_remembered_than_so_many() {
        let keys = Remembered::<Bytes>::default();
        for n in 0..=2 * MOST {
            assert!(keys.add(&n.to_string().into(), SECOND));
        }
        assert!(keys.until().len() <= MOST);
        tokio::time::advance(SECOND).await;
        for n in 0..MOST {
            keys.add(&n.to_string().into(), SECOND);
        }
        assert!(keys.until().len() <= MOST);
    }
}
