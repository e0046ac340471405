//! The pauses of this crate.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use tokio::time::Instant;

/// Longer than anything waits: a clock cannot be asked for every moment that a `Duration` can name.
pub(crate) const FAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// How long after the end of a lease it is asked for: the server counts in milliseconds.
pub(crate) const SLACK: Duration = Duration::from_millis(2);

/// A duration from half of `mean` to one and a half, so that those who wait do not come back in step.
pub(crate) fn jittered(mean: Duration) -> Duration {
    // A hasher's keys are random enough for that; nothing else depends on them.
    let share = u32::try_from(RandomState::new().hash_one(()) % 1001).unwrap_or(500);
    let mean = mean.min(FAR);
    mean / 2 + mean * share / 1000
}

/// Waits between two questions to Redis.
#[expect(clippy::disallowed_methods, reason = "nobody tells when it is worth asking again")]
pub(crate) async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// The same, but no longer than until a moment.
pub(crate) async fn pause_until(end: Instant, duration: Duration) {
    pause(jittered(duration).min(end.saturating_duration_since(Instant::now()))).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_spread_around_its_mean() {
        let mean = Duration::from_millis(100);
        let all: Vec<_> = (0..1000).map(|_| jittered(mean)).collect();
        assert!(all.iter().all(|pause| (mean / 2..=mean * 3 / 2).contains(pause)), "{all:?}");
        assert!(all.iter().any(|pause| *pause < mean) && all.iter().any(|pause| *pause > mean));
        assert_eq!(jittered(Duration::ZERO), Duration::ZERO);
        assert!(jittered(Duration::MAX) < FAR * 2);
    }
}
