//! The server's clock, as far as it is known here. It says until when an entry is fresh; this process's own clock only says how
//! much time has gone by since the server was asked.

use std::{
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

/// After so long an answer counts for less than a newer one, however long that took.
const OLD: Duration = Duration::from_secs(30);
/// After so long it is asked again: clocks differ a little in how fast they go, and another server may answer by now.
const ASKED: Duration = Duration::from_secs(60);
/// The same where it was asked in vain, unless it refuses to say.
const IN_VAIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Clock {
    /// What all moments here are counted from, in milliseconds.
    began: Instant,
    /// What time it was there when this began, in milliseconds since 1970; 0 when it is not known.
    then: AtomicU64,
    /// When it is to be asked.
    next: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    best: Option<Answer>,
    /// Closed when it was asked, while somebody asks.
    asking: Option<watch::Receiver<()>>,
}

/// Somebody who asks.
struct Asking {
    clock: Arc<Clock>,
    _done: watch::Sender<()>,
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.clock.state().asking = None;
    }
}

/// An answer of the server's, the best one that is not old.
#[derive(Clone, Copy, Debug)]
struct Answer {
    at: Instant,
    took: Duration,
}

/// Why the server does not say what time it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refusal {
    /// It may say so soon.
    ForNow,
    /// Trying again does not help.
    ForGood,
}

impl From<redbrick_core_conn::Error> for Refusal {
    fn from(error: redbrick_core_conn::Error) -> Self {
        tracing::debug!(%error, "the server does not say what time it is");
        if error.is_retryable() { Self::ForNow } else { Self::ForGood }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            then: AtomicU64::new(0),
            next: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }
}

impl Clock {
    /// What time it is there, in milliseconds since 1970; nothing when it never said so.
    pub(crate) fn now(&self) -> Option<u64> {
        self.at(self.since(Instant::now()))
    }

    /// The same at a moment, which is so long after this began.
    pub(crate) fn at(&self, since: u64) -> Option<u64> {
        let then = self.then.load(Ordering::Acquire);
        (then > 0).then(|| then.saturating_add(since))
    }

    /// The same, having the server asked when it is time to, in a task of its own. Whoever knows what time it was does not wait for the
    /// answer.
    pub(crate) async fn told<A, E>(self: &Arc<Self>, ask: impl FnOnce() -> A) -> Option<u64>
    where
        A: Future<Output = Result<Duration, E>> + Send + 'static,
        E: Into<Refusal> + Send,
    {
        if self.is_time(self.since(Instant::now()))
            && let Some(mut asking) = self.asking(ask)
            && self.now().is_none()
        {
            let _closed = asking.changed().await;
        }
        self.now()
    }

    /// Has the server asked, where nobody does already.
    pub(crate) fn asking<A, E>(
        self: &Arc<Self>,
        ask: impl FnOnce() -> A,
    ) -> Option<watch::Receiver<()>>
    where
        A: Future<Output = Result<Duration, E>> + Send + 'static,
        E: Into<Refusal> + Send,
    {
        let mut state = self.state();
        if state.asking.is_some() || !self.is_time(self.since(Instant::now())) {
            return state.asking.clone();
        }
        let (done, receiver) = watch::channel(());
        state.asking = Some(receiver.clone());
        // Not while it is locked: a runtime that is ending drops the task at once, which looks at it.
        drop(state);
        let (asking, answer) = (Asking { clock: Arc::clone(self), _done: done }, ask());
        tokio::spawn(async move {
            let asked = Instant::now();
            let answer = answer.await.map_err(Into::into);
            asking.clock.learn(asked, answer);
        });
        Some(receiver)
    }

    /// Learns from an answer to what was asked then.
    fn learn(&self, asked: Instant, answer: Result<Duration, Refusal>) {
        let took = asked.elapsed();
        let again = match answer {
            Err(Refusal::ForNow) => IN_VAIN,
            Ok(_) | Err(Refusal::ForGood) => ASKED,
        };
        self.next.store(self.since(Instant::now() + again), Ordering::Release);
        let Ok(time) = answer else { return };
        let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let best = &mut self.state().best;
        if best.is_none_or(|best| took <= best.took || best.at.elapsed() >= OLD) {
            // The middle between question and answer.
            let at = asked + took / 2;
            *best = Some(Answer { at, took });
            self.then.store(time.saturating_sub(self.since(at)).max(1), Ordering::Release);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is time to ask, so long after this began.
    pub(crate) fn is_time(&self, since: u64) -> bool {
        since >= self.next.load(Ordering::Acquire)
    }

    /// How long a moment is after this began, in milliseconds.
    pub(crate) fn since(&self, moment: Instant) -> u64 {
        let since = moment.saturating_duration_since(self.began);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    fn answer(millis: u64) -> Result<Duration, Refusal> {
        Ok(Duration::from_millis(millis))
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_from_the_best_answer_that_is_not_old() {
        let clock = Clock::default();
        assert_eq!(clock.now(), None);
        let asked = Instant::now();
        tokio::time::advance(Duration::from_millis(10)).await;
        clock.learn(asked, answer(5_000));
        assert_eq!(clock.now(), Some(5_005));
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(clock.now(), Some(5_105));
        let asked = Instant::now();
        tokio::time::advance(Duration::from_millis(500)).await;
        clock.learn(asked, answer(9_000));
        assert_eq!(clock.now(), Some(5_605), "the first answer was better");
        clock.learn(Instant::now(), answer(5_610));
        assert_eq!(clock.now(), Some(5_610));
        clock.learn(Instant::now(), Err(Refusal::ForNow));
        assert_eq!(clock.now(), Some(5_610), "it goes on without an answer");
        tokio::time::advance(OLD).await;
        let asked = Instant::now();
        tokio::time::advance(Duration::from_millis(500)).await;
        clock.learn(asked, answer(50_000));
        assert_eq!(clock.now(), Some(50_250), "the best answer is old");
    }

    /// What has been asked, and is to be answered.
    #[derive(Default)]
    struct Server(Mutex<Vec<oneshot::Sender<Result<Duration, Refusal>>>>);

    impl Server {
        fn ask(&self) -> impl Future<Output = Result<Duration, Refusal>> + Send + 'static + use<> {
            let (sender, receiver) = oneshot::channel();
            self.0.lock().unwrap().push(sender);
            async move { receiver.await.expect("an answer") }
        }

        async fn answer(&self, answer: Result<Duration, Refusal>) {
            let asked = self.0.lock().unwrap().pop().expect("it was asked");
            asked.send(answer).expect("somebody waits");
            tokio::task::yield_now().await;
        }

        fn is_asked(&self) -> bool {
            !self.0.lock().unwrap().is_empty()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_asked_once_a_minute_and_only_who_knows_nothing_waits_for_that() {
        let (clock, server) = (Arc::new(Clock::default()), Server::default());
        // Whoever began it can leave it.
        for _ in 0..2 {
            let told = clock.told(|| server.ask());
            assert!(tokio::time::timeout(IN_VAIN, told).await.is_err(), "somebody asks");
        }
        server.answer(Err(Refusal::ForNow)).await;
        assert_eq!(clock.told(|| server.ask()).await, None);
        assert!(!server.is_asked(), "it was in vain, and is not tried again at once");
        tokio::time::advance(IN_VAIN).await;
        let (told, ()) = tokio::join!(clock.told(|| server.ask()), async {
            server.answer(answer(50_000)).await;
        });
        assert_eq!(told, Some(50_000));
        tokio::time::advance(ASKED).await;
        assert_eq!(
            clock.told(|| server.ask()).await,
            Some(110_000),
            "it goes on with what it knows"
        );
        assert!(server.is_asked());
        server.answer(Err(Refusal::ForGood)).await;
        tokio::time::advance(IN_VAIN).await;
        clock.told(|| server.ask()).await;
        assert!(!server.is_asked(), "it will not say so");
    }
}
