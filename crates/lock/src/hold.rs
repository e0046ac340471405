use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use redbrick_core_conn::{Counter, Token};
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, sleep_until, timeout_at},
};

use crate::{Error, Extended, Released, claim::Claim, lease::Lease, time::jittered};

static LOST: Counter = Counter::new(
    "redbrick.lock.lost",
    "Locks and permits that were found lost by a renewal, an extension or a release",
);

/// What is had under a token of its own, and how long this process may rely on it.
pub(crate) struct Hold {
    pub(crate) claim: Claim,
    pub(crate) token: Token,
    /// Nothing before it is had, after it was given back, and when it is known to be lost.
    until: watch::Sender<Option<Instant>>,
    /// What it is extended by; one at a time, so that the last answer is about the last question.
    lease: Mutex<Lease>,
    /// Whether it was found lost.
    lost: AtomicBool,
    /// Whether it is another one's, who gives it back.
    pub(crate) is_guest: bool,
}

impl Hold {
    pub(crate) fn new(claim: Claim, lease: Lease) -> Self {
        Self::under(Token::random(), claim, lease, false)
    }

    /// That of a guest of who has it under this token.
    pub(crate) fn of_guest(token: Token, claim: Claim, lease: Lease) -> Self {
        Self::under(token, claim, lease, true)
    }

    fn under(token: Token, claim: Claim, lease: Lease, is_guest: bool) -> Self {
        let (until, lease, lost) = (watch::Sender::new(None), Mutex::new(lease), false.into());
        Self { claim, token, until, lease, lost, is_guest }
    }

    /// It is had, and can be relied on until then.
    pub(crate) fn rely_until(&self, until: Instant) -> Result<(), Error> {
        if until <= Instant::now() {
            return Err(Error::Late);
        }
        self.until.send_replace(Some(until));
        Ok(())
    }

    pub(crate) fn remaining(&self) -> Duration {
        let until = *self.until.borrow();
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn lost(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let mut until = self.until.subscribe();
        async move {
            loop {
                let Some(moment) = *until.borrow_and_update() else { return };
                tokio::select! {
                    biased;
                    changed = until.changed() => if changed.is_err() { return },
                    () = sleep_until(moment) => return,
                }
            }
        }
    }

    pub(crate) async fn extend(&self, lease: Lease) -> Result<Extended, Error> {
        let mut now = self.lease.lock().await;
        let until = lease.until(Instant::now());
        // A shorter lease may begin although its answer never comes.
        *now = now.min(lease);
        self.until.send_if_modified(|now| {
            let shorter = now.is_some_and(|now| until < now);
            if shorter {
                *now = Some(until);
            }
            shorter
        });
        if self.claim.extend(&self.token, lease).await?.is_some() {
            *now = lease;
            self.until.send_replace(Some(until));
            Ok(Extended::Extended)
        } else {
            self.mark_lost();
            Ok(Extended::Lost)
        }
    }

    /// Extends it by its lease, unless it may be lost; returns when to do so again, or nothing when it is had no more.
    pub(crate) async fn renew(&self) -> Option<Instant> {
        let lease = self.lease.lock().await;
        let end = (*self.until.borrow())?;
        let asked = Instant::now();
        let extended = match asked < end {
            true => timeout_at(end, self.claim.renew(&self.token, *lease)).await,
            false => Ok(Ok(None)),
        };
        match extended {
            Ok(Ok(Some(_))) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "a lock could not be renewed yet");
                return Some(Instant::now() + jittered(lease.duration() / 12));
            }
            Ok(Ok(None)) | Err(_) => {
                self.mark_lost();
                return None;
            }
        }
        let mut is_had = false;
        // Who was told meanwhile that it may be lost is not told otherwise.
        self.until.send_if_modified(|until| {
            is_had = until.is_some_and(|until| Instant::now() < until);
            if is_had {
                *until = Some(lease.until(asked));
            }
            is_had
        });
        if !is_had {
            self.mark_lost();
        }
        is_had.then(|| lease.renewal(asked))
    }

    /// Gives it back, or has it wait no more, for a lease that it asked for.
    pub(crate) async fn release(&self, waits: Option<Lease>) -> Result<Released, Error> {
        // Somebody else can have it before the answer comes.
        let was_had = self.until.send_replace(None).is_some();
        let released = Released::of(self.claim.release(&self.token, waits).await?);
        if released == Released::AlreadyLost && was_had {
            self.count_loss();
        }
        Ok(released)
    }

    /// Nobody relies on it any more.
    pub(crate) fn forget(&self) {
        self.until.send_replace(None);
    }

    /// It was lost, if it was still had.
    pub(crate) fn mark_lost(&self) {
        if self.until.send_replace(None).is_some() {
            self.count_loss();
        }
    }

    fn count_loss(&self) {
        if !self.lost.swap(true, Ordering::Relaxed) {
            LOST.add(1, "");
        }
    }
}
