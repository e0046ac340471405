use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use redbrick_core_conn::{Counter, Token};
use tokio::{
    sync::{Mutex, Notify, watch},
    time::{Instant, sleep_until, timeout_at},
};

use crate::{Error, Extended, Released, claim::Claim, lease::Lease};

static LOST: Counter = Counter::new(
    "redbrick.lock.lost",
    "Locks and permits that were found lost by a renewal, an extension or a release",
);

/// What is had under a token of its own, and how long this process may rely on it.
pub(crate) struct Hold {
    pub(crate) claim: Claim,
    pub(crate) token: Token,
    standing: watch::Sender<Standing>,
    /// What it is extended by; one at a time, so that the last answer is about the last question.
    lease: Mutex<Lease>,
    /// Somebody waits to extend it by another lease.
    wanted: Notify,
    /// Whether it was found lost.
    lost: AtomicBool,
    /// Whether it is another one's, who gives it back.
    pub(crate) is_guest: bool,
}

/// How long it can be relied on.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    /// Nothing before it is had, after it was given back, and when it is known to be lost.
    until: Option<Instant>,
    /// It was given back, or is about to be, and is not to be relied on any more, whatever is answered.
    is_over: bool,
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
        let (standing, lease) = (watch::Sender::default(), Mutex::new(lease));
        let (lost, wanted) = (AtomicBool::new(false), Notify::new());
        Self { claim, token, standing, lease, wanted, lost, is_guest }
    }

    /// It is had, and can be relied on until then.
    pub(crate) fn rely_until(&self, until: Instant) -> Result<(), Error> {
        if until <= Instant::now() {
            return Err(Error::Late);
        }
        let relies = self.standing.send_if_modified(|standing| {
            if !standing.is_over {
                standing.until = Some(until);
            }
            !standing.is_over
        });
        if relies { Ok(()) } else { Err(Error::Closed) }
    }

    pub(crate) fn remaining(&self) -> Duration {
        let until = self.standing.borrow().until;
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn lost(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let mut standing = self.standing.subscribe();
        async move {
            loop {
                let Some(moment) = standing.borrow_and_update().until else { return };
                tokio::select! {
                    biased;
                    changed = standing.changed() => if changed.is_err() { return },
                    () = sleep_until(moment) => return,
                }
            }
        }
    }

    pub(crate) async fn extend(&self, lease: Lease) -> Result<Extended, Error> {
        let now = self.lease.try_lock();
        let mut now = match now {
            Ok(now) => now,
            Err(_) => {
                // A renewal that is under way is given up: this one counts.
                self.wanted.notify_one();
                self.lease.lock().await
            }
        };
        if self.standing.borrow().is_over {
            return Err(Error::Closed);
        }
        let until = lease.until(Instant::now());
        if self.is_guest {
            // What its owner relies on is not made shorter.
            let extended = self.claim.renew(&self.token, lease).await?;
            return self.extended(extended, until);
        }
        // A shorter lease may begin although its answer never comes.
        *now = now.min(lease);
        self.standing.send_if_modified(|standing| {
            let shorter = standing.until.is_some_and(|now| until < now);
            if shorter {
                standing.until = Some(until);
            }
            shorter
        });
        let extended = self.claim.extend(&self.token, lease).await?;
        if extended.is_some() {
            *now = lease;
        }
        self.extended(extended, until)
    }

    /// What an extension was answered, after which it can be relied on until then.
    fn extended(&self, extended: Option<u64>, until: Instant) -> Result<Extended, Error> {
        if extended.is_none() {
            self.mark_lost();
            return Ok(Extended::Lost);
        }
        self.rely_until(until).inspect_err(|_| self.mark_lost())?;
        Ok(Extended::Extended)
    }

    /// Extends it by its lease, unless it may be lost; returns when to do so again, or nothing when it is had no more.
    pub(crate) async fn renew(&self) -> Option<Instant> {
        let lease = self.lease.lock().await;
        let end = self.standing.borrow().until?;
        let asked = Instant::now();
        let extended = match asked < end {
            true => tokio::select! {
                extended = timeout_at(end, self.claim.renew(&self.token, *lease)) => extended,
                () = self.wanted.notified() => return Some(lease.again()),
            },
            false => Ok(Ok(None)),
        };
        match extended {
            Ok(Ok(Some(_))) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "a lock could not be renewed yet");
                return Some(lease.again());
            }
            Ok(Ok(None)) | Err(_) => {
                self.mark_lost();
                return None;
            }
        }
        let mut is_had = false;
        // Who was told meanwhile that it may be lost is not told otherwise.
        self.standing.send_if_modified(|standing| {
            is_had = standing.until.is_some_and(|until| Instant::now() < until);
            if is_had {
                standing.until = Some(lease.until(asked));
            }
            is_had
        });
        if !is_had {
            self.mark_lost();
        }
        is_had.then(|| lease.renewal(asked))
    }

    /// Gives it back, or has it wait no more, for a lease that it asked for.
    pub(crate) async fn release(&self, queued_with: Option<Lease>) -> Result<Released, Error> {
        // Somebody else can have it before the answer comes.
        let was_had = self.forget();
        let released = Released::of(self.claim.release(&self.token, queued_with).await?);
        if !was_had {
            // Who closed it may have released it, and somebody else has it since.
            return Ok(Released::AlreadyLost);
        }
        if released == Released::AlreadyLost {
            self.count_loss();
        }
        Ok(released)
    }

    /// Nobody relies on it any more, whatever is answered; returns whether anybody did.
    pub(crate) fn forget(&self) -> bool {
        let over = Standing { until: None, is_over: true };
        self.standing.send_replace(over).until.is_some()
    }

    /// It was lost, if it was still had.
    pub(crate) fn mark_lost(&self) {
        let mut was_had = false;
        self.standing.send_if_modified(|standing| {
            was_had = standing.until.take().is_some();
            was_had
        });
        if was_had {
            self.count_loss();
        }
    }

    fn count_loss(&self) {
        if !self.lost.swap(true, Ordering::Relaxed) {
            LOST.add(1, "");
        }
    }
}
