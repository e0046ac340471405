//! The server's clock, as far as it is known here. It says until when an entry is fresh; this process's own clock only says how
//! much time has gone by since the server was asked.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// After so long an answer counts for less than a newer one, however long that took.
const OLD: Duration = Duration::from_secs(30);

/// After so long it is asked again: clocks differ a little in how fast they go, and another server may answer by now.
const TOO_OLD: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(crate) struct Clock(Mutex<Option<Known>>);

/// What the server said it was, and when.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// In milliseconds since 1970.
    time: u64,
    /// The middle between question and answer, and how far these were apart.
    at: Instant,
    took: Duration,
}

impl Clock {
    /// What time it is there, in milliseconds since 1970; nothing until it was asked for, and again after a while.
    pub(crate) fn now(&self) -> Option<u64> {
        let known = (*self.known()).filter(|known| known.at.elapsed() < TOO_OLD)?;
        let since = u64::try_from(known.at.elapsed().as_millis()).unwrap_or(u64::MAX);
        Some(known.time.saturating_add(since))
    }

    /// Learns from an answer to what was asked then.
    pub(crate) fn learn(&self, asked: Instant, time: u64) {
        let took = asked.elapsed();
        let mut known = self.known();
        let is_better = known.is_none_or(|known| took <= known.took || known.at.elapsed() >= OLD);
        if is_better {
            *known = Some(Known { time, at: asked + took / 2, took });
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Option<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_from_the_best_answer_that_is_not_old() {
        let clock = Clock::default();
        assert_eq!(clock.now(), None);
        let asked = Instant::now();
        tokio::time::advance(Duration::from_millis(10)).await;
        clock.learn(asked, 5_000);
        assert_eq!(clock.now(), Some(5_005));
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(clock.now(), Some(5_105));
        let asked = Instant::now();
        tokio::time::advance(Duration::from_millis(500)).await;
        clock.learn(asked, 9_000);
        assert_eq!(clock.now(), Some(5_605), "the first answer was better");
        clock.learn(Instant::now(), 5_610);
        assert_eq!(clock.now(), Some(5_610));
        tokio::time::advance(OLD).await;
        let asked = Instant::now();
        tokio::time::advance(Duration::from_millis(500)).await;
        clock.learn(asked, 50_000);
        assert_eq!(clock.now(), Some(50_250), "the others are old");
        tokio::time::advance(TOO_OLD).await;
        assert_eq!(clock.now(), None, "it is to be asked again");
    }
}
