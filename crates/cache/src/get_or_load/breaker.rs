//! Leaving Redis alone for a while when it does not answer in time.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// After so many timeouts in a row nobody asks,
const TIMEOUTS: u32 = 5;
/// but one call each time so long has passed.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Breaker {
    began: Instant,
    /// In a row.
    timeouts: AtomicU32,
    /// When somebody may ask once more, in milliseconds since it began.
    next: AtomicU64,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { began: Instant::now(), timeouts: AtomicU32::new(0), next: AtomicU64::new(0) }
    }
}

impl Breaker {
    /// Whether a call may ask; after that it says what came of it.
    pub(crate) fn lets_ask(&self) -> bool {
        if self.timeouts.load(Ordering::Relaxed) < TIMEOUTS {
            return true;
        }
        let (now, next) = (self.now(), self.next.load(Ordering::Relaxed));
        let later = now + millis(PAUSE);
        let (set, failed) = (Ordering::Relaxed, Ordering::Relaxed);
        now >= next && self.next.compare_exchange(next, later, set, failed).is_ok()
    }

    pub(crate) fn answered(&self) {
        if self.timeouts.load(Ordering::Relaxed) != 0 {
            self.timeouts.store(0, Ordering::Relaxed);
        }
    }

    pub(crate) fn timed_out(&self) {
        let timeouts = self.timeouts.load(Ordering::Relaxed).saturating_add(1);
        self.timeouts.store(timeouts, Ordering::Relaxed);
        self.next.store(self.now() + millis(PAUSE), Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        millis(self.began.elapsed())
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_some_timeouts_in_a_row_one_call_asks_each_second() {
        let breaker = Breaker::default();
        for _ in 1..TIMEOUTS {
            breaker.timed_out();
        }
        breaker.answered();
        for _ in 0..TIMEOUTS {
            assert!(breaker.lets_ask());
            breaker.timed_out();
        }
        for _ in 0..3 {
            assert!(!breaker.lets_ask());
            tokio::time::advance(PAUSE).await;
            assert!(breaker.lets_ask() && !breaker.lets_ask());
        }
        breaker.timed_out();
        assert!(!breaker.lets_ask());
        tokio::time::advance(PAUSE).await;
        assert!(breaker.lets_ask());
        breaker.answered();
        assert!(breaker.lets_ask() && breaker.lets_ask());
    }
}
