//! The moments and pauses of this crate. Everything waits for an event, for a deadline, or here.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use tokio::time::Instant;

/// Longer than anything waits: a clock cannot be asked for every moment that a `Duration` can name.
pub(crate) const FAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// How far the pauses of different clients are spread, at most.
const SPREAD: Duration = Duration::from_millis(50);

/// The shortest time that a call is given. Zero is no limit at all to fred.
pub(super) const SHORTEST: Duration = Duration::from_millis(1);

/// The moment `duration` from now.
pub(crate) fn after(duration: Duration) -> Instant {
    Instant::now() + duration.min(FAR)
}

/// The time until `deadline`; never zero, which means no timeout to fred.
pub(crate) fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(SHORTEST)
}

/// Waits for a moment, if there is one.
pub(crate) async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Waits between two attempts at something outside this process.
#[expect(
    clippy::disallowed_methods,
    reason = "the world outside sends no event when it is worth trying again"
)]
pub(crate) async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Pauses that double, each spread a little, so that many clients do not come back in step.
#[derive(Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new((min, max): (Duration, Duration)) -> Self {
        Self { min, max, next: min }
    }

    pub(crate) fn reset(&mut self) {
        self.next = self.min;
    }

    pub(crate) async fn pause(&mut self) {
        let spread = self.min.min(SPREAD);
        // A hasher's keys are random enough to spread pauses; nothing else depends on them.
        let share = RandomState::new().hash_one(()) % 1000;
        let length =
            self.next + spread.mul_f64(f64::from(u32::try_from(share).unwrap_or(0)) / 1000.0);
        self.next = (self.next * 2).min(self.max);
        pause(length).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_the_longest_and_start_anew() {
        let millis = Duration::from_millis;
        let mut backoff = Backoff::new((millis(100), millis(350)));
        for expected in [100, 200, 350, 350] {
            let started = Instant::now();
            backoff.pause().await;
            let took = started.elapsed();
            assert!(
                took >= millis(expected) && took < millis(expected) + SPREAD + millis(5),
                "{took:?}"
            );
        }
        backoff.reset();
        let started = Instant::now();
        backoff.pause().await;
        assert!(started.elapsed() < millis(155));
    }
}
