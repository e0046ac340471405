use std::{pin::pin, time::Duration};

use redbrick_core_conn::{Counter, Histogram, Token};
use tokio::{
    runtime::Handle,
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::{
    Error, Extended, Released,
    claim::Claim,
    lease::Lease,
    time::{jittered, pause},
    wait::{Attempts, Wait},
};

static ACQUIRED: Counter =
    Counter::new("redbrick.lock.acquired", "Locks and permits that were acquired");
static WAITED: Histogram = Histogram::new(
    "redbrick.lock.waited",
    "How long it took to acquire a lock or a permit, or to give up",
);
static LOST: Counter = Counter::new(
    "redbrick.lock.lost",
    "Locks and permits that were found lost before their release",
);

/// A claim under a token of its own, and how long this process may rely on having it: what guards and permits are made
/// of.
///
/// Whatever it may have at the server, it gives back when it is dropped.
pub(crate) struct Held {
    claim: Claim,
    token: Token,
    lease: Lease,
    /// Nothing before it is had, after it was given back, and when it is known to be lost.
    until: watch::Sender<Option<Instant>>,
    /// Whether the server may have it under this token.
    open: bool,
    /// Whether it was found lost.
    lost: bool,
    /// Where what is dropped is given back; it was made there, and the connection lives there.
    runtime: Option<Handle>,
}

impl Held {
    /// Asks for it until it is had, with the number that comes with it, or until there is no attempt left.
    pub(crate) async fn acquire(
        claim: Claim,
        lease: Lease,
        wait: Wait,
    ) -> Result<Option<(Self, u64)>, Error> {
        let mut held = Self {
            claim,
            token: Token::random(),
            lease,
            until: watch::Sender::new(None),
            open: false,
            lost: false,
            runtime: Handle::try_current().ok(),
        };
        let began = Instant::now();
        let mut attempts = Attempts::after_the_first(wait);
        loop {
            if let Some(number) = held.ask().await? {
                ACQUIRED.add(1, "");
                WAITED.record(began.elapsed(), "");
                return Ok(Some((held, number)));
            }
            let Some(length) = attempts.next() else {
                WAITED.record(began.elapsed(), "");
                return Ok(None);
            };
            pause(length).await;
        }
    }

    async fn ask(&mut self) -> Result<Option<u64>, Error> {
        // Dropped from here on, it may have it without having heard so.
        self.open = true;
        let until = self.lease.until(Instant::now());
        let number = match self.claim.acquire(self.token.as_bytes(), self.lease).await {
            Ok(number) => number,
            Err(error) => {
                self.open = error.is_outcome_unknown();
                return Err(error.into());
            }
        };
        if number.is_none() {
            self.open = false;
        } else if until <= Instant::now() {
            return Err(Error::Late);
        } else {
            self.until.send_replace(Some(until));
        }
        Ok(number)
    }

    pub(crate) fn token(&self) -> &Token {
        &self.token
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

    pub(crate) async fn extend(&mut self, lease: Lease) -> Result<Extended, Error> {
        let until = lease.until(Instant::now());
        // A shorter lease may begin although its answer never comes.
        self.until.send_if_modified(|now| {
            let shorter = now.is_some_and(|now| until < now);
            if shorter {
                *now = Some(until);
            }
            shorter
        });
        if self.claim.extend(self.token.as_bytes(), lease).await? {
            self.lease = lease;
            self.until.send_replace(Some(until));
            Ok(Extended::Extended)
        } else {
            self.open = false;
            self.until.send_replace(None);
            self.found_lost();
            Ok(Extended::Lost)
        }
    }

    /// Gives it back. When that fails, dropping it makes another attempt.
    pub(crate) async fn release(&mut self) -> Result<Released, Error> {
        // Somebody else can have it before the answer comes.
        self.until.send_replace(None);
        let released = self.claim.release(self.token.as_bytes()).await?;
        self.open = false;
        let released = Released::of(released);
        if released == Released::AlreadyLost {
            self.found_lost();
        }
        Ok(released)
    }

    fn found_lost(&mut self) {
        if !std::mem::replace(&mut self.lost, true) {
            LOST.add(1, "");
        }
    }

    /// Leaves it to whoever knows the token.
    pub(crate) fn into_token(mut self) -> Token {
        self.open = false;
        self.token
    }

    /// Does `work` while it is held, and gives it back.
    ///
    /// The work is not polled any more once it may be lost.
    pub(crate) async fn while_held<T>(mut self, work: impl Future<Output = T>) -> Result<T, Error> {
        let lost = self.lost();
        let done = {
            let mut work = pin!(work);
            tokio::select! {
                biased;
                () = lost => None,
                () = self.keep() => None,
                done = &mut work => Some(done),
            }
        };
        // Dropped, it is given back in the background.
        let Some(done) = done else {
            self.found_lost();
            return Err(Error::Lost);
        };
        match self.release().await {
            Ok(Released::Released) => {}
            Ok(Released::AlreadyLost) => {
                tracing::warn!("a lock was lost while the last of the work under it was done");
            }
            Err(error) => tracing::warn!(%error, "a lock could not be released; its lease ends it"),
        }
        Ok(done)
    }

    /// Renews it at each third of its lease; returns when it is lost.
    async fn keep(&mut self) {
        let lease = self.lease;
        let third = lease.duration() / 3;
        let mut next = third;
        loop {
            pause(next).await;
            next = match self.extend(lease).await {
                Ok(Extended::Extended) => third,
                Ok(Extended::Lost) => return,
                Err(error) => {
                    tracing::debug!(%error, "a lock could not be renewed yet");
                    jittered(third / 4)
                }
            };
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        let Some(runtime) = &self.runtime else { return };
        let (claim, token) = (self.claim.clone(), self.token);
        // It ends by the command timeout. On a runtime that has ended it never begins, and the lease ends what is held.
        drop(runtime.spawn(async move {
            if let Err(error) = claim.release(token.as_bytes()).await {
                tracing::debug!(%error, "what was dropped could not be released; its lease ends it");
            }
        }));
    }
}
