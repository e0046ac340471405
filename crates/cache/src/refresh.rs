//! Loading anew what is still served.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

/// How many keys are remembered of which it is known that somebody loads them anew.
const MOST: usize = 10_000;

/// The keys that nobody here needs to ask the lease for, because somebody loads them anew, and until when.
#[derive(Debug, Default)]
pub(crate) struct Refreshes(Mutex<HashMap<Bytes, Instant>>);

impl Refreshes {
    /// Returns whether a caller is to ask for the lease of `key`; then no other one is for so long.
    pub(crate) fn begin(&self, key: &Bytes, most: Duration) -> bool {
        let now = Instant::now();
        let mut until = self.until();
        if until.get(key).is_some_and(|until| now < *until) {
            return false;
        }
        if until.len() >= MOST {
            until.retain(|_, until| now < *until);
            if until.len() >= MOST {
                // Of so many, some may be asked for twice.
                until.clear();
            }
        }
        until.insert(key.clone(), now + most);
        true
    }

    /// The load of a key has ended, or is to be left alone for so long.
    pub(crate) fn end(&self, key: &Bytes, rest: Duration) {
        if rest.is_zero() {
            self.until().remove(key);
        } else {
            self.until().insert(key.clone(), Instant::now() + rest);
        }
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
    async fn one_asks_for_a_key_until_it_has_ended_or_for_so_long() {
        let refreshes = Refreshes::default();
        let [a, b] = ["a", "b"].map(Bytes::from);
        assert!(refreshes.begin(&a, SECOND) && refreshes.begin(&b, SECOND));
        assert!(!refreshes.begin(&a, SECOND));
        refreshes.end(&a, Duration::ZERO);
        assert!(refreshes.begin(&a, SECOND));
        refreshes.end(&a, SECOND * 2);
        tokio::time::advance(SECOND).await;
        assert!(!refreshes.begin(&a, SECOND) && refreshes.begin(&b, SECOND));
        tokio::time::advance(SECOND).await;
        assert!(refreshes.begin(&a, SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_keys_are_remembered_than_so_many() {
        let refreshes = Refreshes::default();
        for n in 0..2 * MOST + 1 {
            assert!(refreshes.begin(&n.to_string().into(), SECOND));
        }
        assert!(refreshes.until().len() <= MOST);
        tokio::time::advance(SECOND).await;
        for n in 0..MOST {
            refreshes.begin(&n.to_string().into(), SECOND);
        }
        assert!(refreshes.until().len() <= MOST);
    }
}
