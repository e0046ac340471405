use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use fred::{
    clients::{Client, WithOptions},
    error::Error as FredError,
    interfaces::ClientLike,
    types::config::Options,
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{
    Conn, State,
    link::Link,
    time::{Backoff, after},
};
use crate::{Error, ErrorKind, Result, error::fred::from_call};

/// The shortest and the longest pause before a call is repeated.
const RETRY_DELAY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(200));

/// When a command may be sent again after a failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Replay {
    /// Whenever the failure may pass: done twice is the same as done once.
    Idempotent,
    /// Only when it surely did not run.
    IfNotRun,
}

impl Replay {
    fn allows(self, err: &Error) -> bool {
        match err.kind() {
            ErrorKind::Interrupted => self == Self::Idempotent,
            ErrorKind::Connect | ErrorKind::Loading | ErrorKind::ReadOnly | ErrorKind::Topology => {
                true
            }
            _ => false,
        }
    }
}

/// What refused credentials mean to somebody who waits for a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    Fails,
    /// There may be others soon.
    Waits,
}

/// The calls in flight: bounded, and waited for when closing.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    in_flight: AtomicUsize,
    closing: AtomicBool,
    finished: Notify,
}

/// One call; counts until it is dropped.
struct Call<'a>(&'a Calls);

impl Calls {
    fn enter(&self, most: usize) -> Result<Call<'_>> {
        // Counted before the look at the flag, so that closing either sees the call or refuses it.
        let others = self.in_flight.fetch_add(1, Ordering::SeqCst);
        let call = Call(self);
        if self.is_closing() {
            return Err(Error::closed());
        }
        if others >= most {
            return Err(Error::new(
                ErrorKind::Busy,
                "too many calls wait for an answer; retry later or raise `max_waiting`",
            ));
        }
        Ok(call)
    }

    /// Refuses calls from now on.
    pub(crate) fn refuse(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Waits until no call is in flight.
    pub(crate) async fn drained(&self) {
        loop {
            let finished = self.finished.notified();
            if self.in_flight() == 0 {
                return;
            }
            finished.await;
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let left = self.0.in_flight.fetch_sub(1, Ordering::SeqCst) - 1;
        if left == 0 && self.0.is_closing() {
            self.0.finished.notify_waiters();
        }
    }
}

impl Conn {
    /// Runs `command` on a link, within the command timeout in all, and again where `replay` allows.
    pub(crate) async fn call<T, F>(
        &self,
        replay: Replay,
        command: impl Fn(WithOptions<Client>) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, FredError>>,
    {
        let config = self.config();
        let _call = self.owner.core.calls.enter(config.max_waiting.get())?;
        let deadline = after(self.command_timeout);
        let mut backoff = Backoff::new(RETRY_DELAY);
        let mut repeats = config.retries;
        // An attempt that may have run is not undone by a later one that surely did not.
        let mut unclear: Option<Error> = None;
        loop {
            let err = match self.attempt(deadline, &command).await {
                Ok(value) => return Ok(value),
                Err(err) => err,
            };
            // A move within a cluster ends by itself, and nothing has run: only time bounds that.
            let again = err.is_redirected() || (repeats > 0 && replay.allows(&err));
            if !err.is_redirected() {
                repeats = repeats.saturating_sub(1);
            }
            if err.is_outcome_unknown() && unclear.is_none() {
                unclear = Some(err.clone());
            }
            if !again || timeout_at(deadline, backoff.pause()).await.is_err() {
                return Err(match unclear {
                    Some(first) if !err.is_outcome_unknown() => first.followed_by(&err),
                    _ => err,
                });
            }
        }
    }

    async fn attempt<T, F>(
        &self,
        deadline: Instant,
        command: impl Fn(WithOptions<Client>) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, FredError>>,
    {
        let link = self.link(deadline, Refusal::Fails).await?;
        let left = deadline.saturating_duration_since(Instant::now());
        // For fred, zero means no timeout.
        let timeout = Some(left.max(Duration::from_millis(1)));
        let options = Options { timeout, ..Options::default() };
        command(link.client.with_options(&options)).await.map_err(|err| {
            let err = from_call(err);
            if err.is_outcome_unknown() { err } else { self.owner.ended().unwrap_or(err) }
        })
    }

    /// Picks a link that is up, and waits for one until `deadline`.
    pub(super) async fn link(&self, deadline: Instant, refusal: Refusal) -> Result<Arc<Link>> {
        if let Some(link) = self.pick() {
            return Ok(link);
        }
        self.owner.start()?;
        let mut status = self.owner.core.status.watch();
        loop {
            // Cloned, so that no lock is held over the await.
            let now = status.borrow_and_update().clone();
            if let Some(link) = self.pick() {
                return Ok(link);
            }
            if let Some(ended) = self.owner.ended() {
                return Err(ended);
            }
            if now.state() == State::Error && refusal == Refusal::Fails {
                return Err(now.error.unwrap_or_else(Error::closed));
            }
            // The sender lives in `self`, so only the deadline can end the wait early.
            if timeout_at(deadline, status.changed()).await.is_err() {
                let reason =
                    now.error.map_or_else(|| "still connecting".to_owned(), |err| err.to_string());
                let what = format!("not connected in time, nothing was sent: {reason}");
                return Err(Error::new(ErrorKind::Connect, what));
            }
        }
    }

    /// The next link that is up.
    pub(super) fn pick(&self) -> Option<Arc<Link>> {
        let core = &self.owner.core;
        let (count, first) = (core.slots.len(), core.next.fetch_add(1, Ordering::Relaxed));
        (0..count).find_map(|offset| {
            let link = core.slots[first.wrapping_add(offset) % count].load_full()?;
            link.is_up().then_some(link)
        })
    }
}
