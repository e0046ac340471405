use std::{num::NonZeroU32, time::Duration};

use tokio::time::Instant;

use crate::time::{FAR, jittered};

/// A good limit for [`Wait::For`] where nothing else suggests itself: 5 s.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// What to do while somebody else has it.
///
/// Whoever waits [for](Self::For) a time stands in line, and those who ask from time to time come behind them. A failure ends the wait at
/// once where it asks from time to time; who stands in line asks again after what may pass, until its time is over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Wait {
    /// Asks once.
    Never,
    /// Asks this often, with pauses of half of `delay` to one and a half.
    Attempts {
        /// How often it asks in all.
        attempts: NonZeroU32,
        /// The mean pause between two of them.
        delay: Duration,
    },
    /// Stands in line for this long, at most a year: first come, first served, until what is asked for is handed on to it. Zero asks once.
    /// A [`Quorum`](crate::Quorum) has no line: it asks every 50 to 150 ms, and a last time when it is over.
    For(Duration),
    /// The same without an end.
    Forever,
}

impl Default for Wait {
    /// Three attempts, 100 ms apart.
    fn default() -> Self {
        Self::Attempts { attempts: THREE, delay: PAUSE }
    }
}

impl From<Duration> for Wait {
    /// Waits for so long.
    fn from(limit: Duration) -> Self {
        Self::For(limit)
    }
}

const THREE: NonZeroU32 = NonZeroU32::new(3).expect("three is not zero");
pub(crate) const PAUSE: Duration = Duration::from_millis(100);

/// The attempts that are left.
#[derive(Debug)]
pub(crate) enum Attempts {
    Some { left: u32, delay: Duration },
    Until(Instant),
}

impl Attempts {
    /// Those after a first one that is made in any case.
    pub(crate) fn after_the_first(wait: Wait) -> Self {
        match wait {
            Wait::Never => Self::Some { left: 0, delay: Duration::ZERO },
            Wait::Attempts { attempts, delay } => Self::Some { left: attempts.get() - 1, delay },
            Wait::For(limit) => Self::Until(Instant::now() + limit.min(FAR)),
            Wait::Forever => Self::Until(Instant::now() + FAR),
        }
    }

    /// Takes one more, and returns how long to pause before it.
    pub(crate) fn next(&mut self) -> Option<Duration> {
        match self {
            Self::Some { left, delay } => {
                *left = left.checked_sub(1)?;
                Some(jittered(*delay))
            }
            Self::Until(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                (!left.is_zero()).then(|| jittered(PAUSE).min(left))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(wait: Wait) -> Vec<Duration> {
        let mut attempts = Attempts::after_the_first(wait);
        std::iter::from_fn(|| attempts.next()).take(10).collect()
    }

    #[test]
    fn attempts_are_counted_and_their_pauses_spread() {
        assert_eq!(all(Wait::Never), []);
        let delay = Duration::from_millis(100);
        assert_eq!(all(Wait::Attempts { attempts: NonZeroU32::MIN, delay }), []);
        let pauses = all(Wait::default());
        assert_eq!(pauses.len(), 2);
        assert!(pauses.iter().all(|pause| (delay / 2..=delay * 3 / 2).contains(pause)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_asks_a_last_time_when_it_is_over_and_never_after() {
        assert_eq!(all(Wait::For(Duration::ZERO)), []);
        let started = Instant::now();
        let limit = Duration::from_secs(1);
        let mut attempts = Attempts::after_the_first(Wait::For(limit));
        let mut asked = 0;
        while let Some(pause) = attempts.next() {
            assert!(pause <= PAUSE * 3 / 2);
            tokio::time::advance(pause).await;
            asked += 1;
        }
        assert!((6..=21).contains(&asked), "{asked}");
        assert_eq!(started.elapsed(), limit, "the last one");
    }

    #[test]
    fn the_longest_duration_is_a_wait_too() {
        let for_ever = [
            Wait::For(Duration::MAX),
            Wait::Attempts { attempts: NonZeroU32::MAX, delay: Duration::MAX },
        ];
        for wait in for_ever {
            assert!(Attempts::after_the_first(wait).next().is_some());
        }
    }
}
