use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use super::MOST_BATCHES;

/// How long a caller may wait, about, for a batch to leave because others are under way.
const WAIT: Duration = Duration::from_micros(100);
/// How many batches may be under way at least: while the server works on one, the next is made here.
const LEAST: usize = 2;
/// After how long a batch is overdue at the earliest; and how many times as long as the shortest time.
const OVERDUE: (Duration, u64) = (Duration::from_millis(10), 4);
/// For how long the shortest time counts, and once more as long as the one before.
const EPOCH: Duration = Duration::from_secs(10);
/// How many batches must have been seen in an epoch: one or two can be slow because this process was.
const ENOUGH: u64 = 8;

/// How long a batch takes at best, which is how far the server is away, and how many may therefore be under way.
///
/// Where the server is near, the next batch leaves when one of two has returned, and takes along whoever has come since. Where
/// it is far, that would make callers wait for about half the way; so as many are under way as make it a tenth of a millisecond.
#[derive(Debug)]
pub(super) struct Pace {
    began: Instant,
    epoch: AtomicU64,
    /// How many batches were seen in this epoch.
    seen: AtomicU64,
    /// In nanoseconds, in this epoch and in the one before.
    shortest: [AtomicU64; 2],
}

impl Pace {
    pub(super) fn new() -> Self {
        let shortest = [AtomicU64::new(u64::MAX), AtomicU64::new(u64::MAX)];
        Self { began: Instant::now(), epoch: AtomicU64::new(0), seen: AtomicU64::new(0), shortest }
    }

    /// Notes how long a batch took. Others who do so at the same time may be overlooked.
    pub(super) fn note(&self, took: Duration) {
        self.note_at(self.began.elapsed(), took);
    }

    fn note_at(&self, now: Duration, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let epoch = now.as_secs() / EPOCH.as_secs();
        let [current, before] = &self.shortest;
        if self.epoch.swap(epoch, Relaxed) == epoch {
            self.seen.fetch_add(1, Relaxed);
            current.fetch_min(took, Relaxed);
        } else {
            let enough = self.seen.swap(1, Relaxed) >= ENOUGH;
            let shortest = current.swap(took, Relaxed);
            if enough {
                before.store(shortest, Relaxed);
            }
        }
    }

    /// The shortest time, once it is known.
    fn shortest(&self) -> Option<u64> {
        let [current, before] = &self.shortest;
        let known = self.seen.load(Relaxed) >= ENOUGH;
        let current = if known { current.load(Relaxed) } else { u64::MAX };
        Some(current.min(before.load(Relaxed))).filter(|shortest| *shortest < u64::MAX)
    }

    /// How many batches may be under way however few callers they carry.
    pub(super) fn eager(&self) -> usize {
        let Some(shortest) = self.shortest() else { return LEAST };
        let eager = u128::from(shortest) / WAIT.as_nanos();
        usize::try_from(eager).unwrap_or(MOST_BATCHES).clamp(LEAST, MOST_BATCHES)
    }

    /// After how long a batch is overdue.
    pub(super) fn patience(&self) -> Duration {
        let (least, times) = OVERDUE;
        let usual =
            self.shortest().map(|shortest| Duration::from_nanos(shortest.saturating_mul(times)));
        usual.unwrap_or(least).max(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_farther_the_server_the_more_is_under_way() {
        let pace = Pace::new();
        assert_eq!(pace.eager(), 2);
        let at = |secs, micros| {
            pace.note_at(Duration::from_secs(secs), Duration::from_micros(micros));
            pace.eager()
        };
        assert!((1..8).all(|_| at(0, 2_000) == 2), "a few are not enough to know");
        assert_eq!(at(0, 2_000), 20);
        assert_eq!(at(1, 550), 5, "the shortest counts");
        assert_eq!(at(2, 9_000), 5);
        assert!((0..8).all(|_| at(11, 9_000) == 5), "and for a while longer");
        assert!((1..8).all(|_| at(21, 9_000) == 32), "but not for ever");
        assert_eq!(at(22, 30), 2);
    }
}
