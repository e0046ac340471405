//! Keys that are remembered for a while.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

/// How many at most.
const MOST: usize = 10_000;

/// Keys, and until when they are remembered. Some are forgotten before, when there are too many.
#[derive(Debug, Default)]
pub(crate) struct Remembered(Mutex<HashMap<Bytes, Instant>>);

impl Remembered {
    /// Remembers a key for so long; returns whether it was not.
    pub(crate) fn add(&self, key: &Bytes, life: Duration) -> bool {
        let now = Instant::now();
        let mut until = self.until();
        if until.get(key).is_some_and(|until| now < *until) {
            return false;
        }
        if until.len() >= MOST {
            until.retain(|_, until| now < *until);
            if until.len() >= MOST {
                until.clear();
            }
        }
        until.insert(key.clone(), now + life);
        true
    }

    /// Forgets a key; returns whether it was remembered.
    pub(crate) fn take(&self, key: &Bytes) -> bool {
        self.until().remove(key).is_some_and(|until| Instant::now() < until)
    }

    fn until(&self) -> std::sync::MutexGuard<'_, HashMap<Bytes, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_key_is_remembered_until_it_is_taken_or_for_so_long() {
        let keys = Remembered::default();
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
    async fn no_more_keys_are_remembered_than_so_many() {
        let keys = Remembered::default();
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
