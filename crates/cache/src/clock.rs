//! The server's clock, as far as it is known here. It says until when an entry is fresh; this process's own clock only says how
//! much time has gone by since the server was asked.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Mutex as Turn, MutexGuard as Turned},
    time::Instant,
};

/// After so long an answer counts for less than a newer one, however long that took.
const OLD: Duration = Duration::from_secs(30);
/// After so long it is asked again: clocks differ a little in how fast they go, and another server may answer by now.
const ASKED: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(crate) struct Clock {
    state: Mutex<State>,
    turn: Turn<()>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    known: Option<Known>,
    /// When it was asked last, in vain or not.
    asked: Option<Instant>,
}

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
    /// What time it is there, in milliseconds since 1970; nothing when it never said so.
    pub(crate) fn now(&self) -> Option<u64> {
        let known = self.state().known?;
        let since = u64::try_from(known.at.elapsed().as_millis()).unwrap_or(u64::MAX);
        Some(known.time.saturating_add(since))
    }

    /// The turn to ask, when it is time to. Whoever knows what time it was does not wait for the answer to another one.
    pub(crate) async fn turn(&self) -> Option<Turned<'_, ()>> {
        if self.was_asked() {
            return None;
        }
        let turn = match self.now() {
            Some(_) => self.turn.try_lock().ok()?,
            None => self.turn.lock().await,
        };
        (!self.was_asked()).then_some(turn)
    }

    /// Learns from an answer to what was asked then; nothing, when that was in vain.
    pub(crate) fn learn(&self, asked: Instant, time: Option<u64>) {
        let took = asked.elapsed();
        let mut state = self.state();
        state.asked = Some(Instant::now());
        let is_better = |known: Known| took <= known.took || known.at.elapsed() >= OLD;
        if let Some(time) = time
            && state.known.is_none_or(is_better)
        {
            state.known = Some(Known { time, at: asked + took / 2, took });
        }
    }

    fn was_asked(&self) -> bool {
        self.state().asked.is_some_and(|asked| asked.elapsed() < ASKED)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        clock.learn(asked, Some(5_000));
        assert_eq!(clock.now(), Some(5_005));
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(clock.now(), Some(5_105));
        let asked = Instant::now();
        tokio::time::advance(Duration::from_millis(500)).await;
        clock.learn(asked, Some(9_000));
        assert_eq!(clock.now(), Some(5_605), "the first answer was better");
        clock.learn(Instant::now(), Some(5_610));
        assert_eq!(clock.now(), Some(5_610));
        clock.learn(Instant::now(), None);
        assert_eq!(clock.now(), Some(5_610), "it goes on without an answer");
        tokio::time::advance(OLD).await;
        let asked = Instant::now();
        tokio::time::advance(Duration::from_millis(500)).await;
        clock.learn(asked, Some(50_000));
        assert_eq!(clock.now(), Some(50_250), "the others are old");
    }

    #[tokio::test(start_paused = true)]
    async fn one_asks_once_a_minute_and_only_who_knows_nothing_waits_for_that() {
        let clock = Clock::default();
        let turn = clock.turn().await.expect("nobody has asked");
        let mut waiting = std::pin::pin!(clock.turn());
        let waits = tokio::time::timeout(Duration::from_secs(1), &mut waiting).await;
        assert!(waits.is_err(), "somebody asks");
        clock.learn(Instant::now(), None);
        drop(turn);
        assert!(waiting.await.is_none(), "it was in vain, and is not tried again at once");
        tokio::time::advance(ASKED).await;
        clock.learn(Instant::now(), Some(7));
        tokio::time::advance(ASKED).await;
        let _turn = clock.turn().await.expect("it was a minute ago");
        assert!(clock.turn().await.is_none(), "it goes on with what it knows");
    }
}
