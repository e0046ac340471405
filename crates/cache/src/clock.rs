//! The server's clock, as far as it is known here. It says until when an entry is fresh; this process's own clock only says how
//! much time has gone by since the server was asked.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
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
/// The same where it was asked in vain.
const IN_VAIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Clock {
    /// What all moments here are counted from, in milliseconds.
    began: Instant,
    /// What time it was there when this began, in milliseconds since 1970; 0 when it is not known.
    then: AtomicU64,
    /// When it is to be asked.
    next: AtomicU64,
    best: Mutex<Option<Answer>>,
    turn: Turn<()>,
}

/// An answer of the server's, the best one that is not old.
#[derive(Clone, Copy, Debug)]
struct Answer {
    at: Instant,
    took: Duration,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            then: AtomicU64::new(0),
            next: AtomicU64::new(0),
            best: Mutex::default(),
            turn: Turn::default(),
        }
    }
}

impl Clock {
    /// What time it is there, in milliseconds since 1970; nothing when it never said so.
    pub(crate) fn now(&self) -> Option<u64> {
        let then = self.then.load(Ordering::Acquire);
        (then > 0).then(|| then.saturating_add(self.since(Instant::now())))
    }

    /// The turn to ask, when it is time to. Whoever knows what time it was does not wait for the answer to another one.
    pub(crate) async fn turn(&self) -> Option<Turned<'_, ()>> {
        if !self.is_time() {
            return None;
        }
        let turn = match self.now() {
            Some(_) => self.turn.try_lock().ok()?,
            None => self.turn.lock().await,
        };
        self.is_time().then_some(turn)
    }

    /// Learns from an answer to what was asked then; nothing, when that was in vain.
    pub(crate) fn learn(&self, asked: Instant, time: Option<u64>) {
        let took = asked.elapsed();
        let again = if time.is_some() { ASKED } else { IN_VAIN };
        self.next.store(self.since(Instant::now() + again), Ordering::Release);
        let Some(time) = time else { return };
        let mut best = self.best.lock().unwrap_or_else(PoisonError::into_inner);
        if best.is_none_or(|best| took <= best.took || best.at.elapsed() >= OLD) {
            // The middle between question and answer.
            let at = asked + took / 2;
            *best = Some(Answer { at, took });
            self.then.store(time.saturating_sub(self.since(at)).max(1), Ordering::Release);
        }
    }

    fn is_time(&self) -> bool {
        self.since(Instant::now()) >= self.next.load(Ordering::Acquire)
    }

    fn since(&self, moment: Instant) -> u64 {
        let since = moment.saturating_duration_since(self.began);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
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
        assert_eq!(clock.now(), Some(50_250), "the best answer is old");
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
        tokio::time::advance(IN_VAIN).await;
        drop(clock.turn().await.expect("it is tried again"));
        clock.learn(Instant::now(), Some(7));
        tokio::time::advance(ASKED).await;
        let _turn = clock.turn().await.expect("it was a minute ago");
        assert!(clock.turn().await.is_none(), "it goes on with what it knows");
    }
}
