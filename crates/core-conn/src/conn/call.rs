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

use super::{Conn, State, after, link::Link, pause};
use crate::{Error, ErrorKind, Result, error::from_call};

/// The pause before the first repetition; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// When a command may be sent again after a failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Replay {
    /// Whenever the failure may pass: done twice is the same as done once.
    Idempotent,
    /// Only when it surely did not run.
    IfUnsent,
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

/// The calls in flight, so that closing can wait for them.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    in_flight: AtomicUsize,
    waiting: AtomicUsize,
    closing: AtomicBool,
    finished: Notify,
}

/// One call; counts until it is dropped.
pub(crate) struct Call<'a>(&'a Calls);

impl Calls {
    fn enter(&self) -> Result<Call<'_>> {
        // Counted before the look at the flag, so that closing either sees the call or refuses it.
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        let call = Call(self);
        if self.closing.load(Ordering::SeqCst) { Err(Error::closed()) } else { Ok(call) }
    }

    /// Refuses calls from now on; returns whether this was the first time.
    pub(crate) fn refuse(&self) -> bool {
        !self.closing.swap(true, Ordering::SeqCst)
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
        if left == 0 && self.0.closing.load(Ordering::SeqCst) {
            self.0.finished.notify_waiters();
        }
    }
}

/// Counts a caller that waits for a link.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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
        let core = &self.owner.core;
        let _call = core.calls.enter()?;
        let deadline = after(self.command_timeout);
        let mut repeated = 0;
        loop {
            let link = self.link(deadline).await?;
            let timeout = Some(
                deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)),
            );
            let options = Options { timeout, ..Options::default() };
            let result = command(link.client.with_options(&options)).await;
            drop(link);
            let err = match result {
                Ok(value) => return Ok(value),
                Err(err) => from_call(err),
            };
            if self.owner.runtime_is_gone() && !err.is_outcome_unknown() {
                return Err(Error::closed());
            }
            if repeated == core.config.retries || !replay.allows(&err) {
                return Err(err);
            }
            let wait = FIRST_PAUSE * 2_u32.saturating_pow(repeated);
            if timeout_at(deadline, pause(wait)).await.is_err() {
                return Err(err);
            }
            repeated += 1;
        }
    }

    /// Picks a link that is up, and waits for one until `deadline`.
    async fn link(&self, deadline: Instant) -> Result<Arc<Link>> {
        if let Some(link) = self.pick() {
            return Ok(link);
        }
        let unsent = |reason: String| {
            let what = "no connection within the command timeout; the command was not sent";
            Error::new(ErrorKind::Connect, format!("{what}: {reason}"))
        };
        timeout_at(deadline, self.start())
            .await
            .unwrap_or_else(|_| Err(unsent("still waiting for credentials".to_owned())))?;

        let core = &self.owner.core;
        let most = core.config.max_waiting;
        if core.calls.waiting.fetch_add(1, Ordering::Relaxed) >= most {
            core.calls.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(Error::new(
                ErrorKind::Busy,
                "too many calls wait for the connection; retry later or raise `max_waiting`",
            ));
        }
        let _waiting = Waiting(&core.calls.waiting);
        let mut status = core.status.watch();
        loop {
            // Cloned, so that no lock is held over the await.
            let now = status.borrow_and_update().clone();
            if let Some(link) = self.pick() {
                return Ok(link);
            }
            match now.state {
                State::End => return Err(Error::closed()),
                _ if self.owner.runtime_is_gone() => return Err(Error::closed()),
                State::Error => {
                    return Err(now.error.map_or_else(Error::closed, |err| err.duplicate()));
                }
                _ => {}
            }
            // The sender lives in `self`, so only the deadline can end the wait early.
            if timeout_at(deadline, status.changed()).await.is_err() {
                let reason =
                    now.error.map_or_else(|| "still connecting".to_owned(), |err| err.to_string());
                return Err(unsent(reason));
            }
        }
    }

    /// The next link that is up; on Cluster any link, since a lost node does not stop the others.
    fn pick(&self) -> Option<Arc<Link>> {
        let core = &self.owner.core;
        let (count, first) = (core.slots.len(), core.next.fetch_add(1, Ordering::Relaxed));
        (0..count).find_map(|offset| {
            let link = core.slots[first.wrapping_add(offset) % count].load_full()?;
            (link.is_up() || core.is_cluster()).then_some(link)
        })
    }
}
