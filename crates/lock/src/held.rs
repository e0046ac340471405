use std::{pin::pin, time::Duration};

use redbrick_core_conn::{Counter, Histogram, Token};
use tokio::{
    runtime::Handle,
    sync::watch,
    time::{Instant, sleep_until, timeout, timeout_at},
};

use crate::{
    Error, Extended, Released,
    claim::{Answer, Busy, Claim, Lock, To},
    lease::{self, Lease},
    post::Seat,
    time::{FAR, jittered, pause, pause_until},
    wait::{Attempts, PAUSE, Wait},
};

/// How long after the end of a lease it is asked for: the server counts in milliseconds.
const SLACK: Duration = Duration::from_millis(2);

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
    /// Whether the server may have it under this token, or may have it wait.
    open: bool,
    /// The lease with which it may stand in the queue.
    waits: Option<Lease>,
    /// Whether it was found lost.
    lost: bool,
    /// Where what is dropped is given back; it was made there, and the connection lives there.
    runtime: Option<Handle>,
}

/// What came of asking once.
enum Asked {
    Had(u64),
    Busy(Busy),
}

impl Held {
    /// Asks for it until it is had, with the fence that comes with it, or until the wait is over.
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
            waits: None,
            lost: false,
            runtime: Handle::try_current().ok(),
        };
        let began = Instant::now();
        let limit = match wait {
            Wait::For(Duration::ZERO) => None,
            Wait::For(limit) => Some(limit.min(FAR)),
            Wait::Forever => Some(FAR),
            _ => None,
        };
        let fence = match (limit, &held.claim.to) {
            (Some(limit), To::Lock(lock)) => {
                let lock = lock.clone();
                held.in_line(&lock, began + limit).await
            }
            _ => held.again_and_again(wait).await,
        }?;
        WAITED.record(began.elapsed(), "");
        Ok(fence.map(|fence| {
            ACQUIRED.add(1, "");
            (held, fence)
        }))
    }

    /// Asks from time to time.
    async fn again_and_again(&mut self, wait: Wait) -> Result<Option<u64>, Error> {
        let mut attempts = Attempts::after_the_first(wait);
        loop {
            if let Asked::Had(fence) = self.ask(false).await? {
                return Ok(Some(fence));
            }
            let Some(length) = attempts.next() else { return Ok(None) };
            pause(length).await;
        }
    }

    /// Waits in line until it is told that it is its turn.
    async fn in_line(&mut self, lock: &Lock, until: Instant) -> Result<Option<u64>, Error> {
        let (post, partition) = (&lock.post, &lock.keys.partition);
        // Where nobody has it, nobody need listen.
        let (mut seat, mut can_listen) = (post.seat(partition, &self.token), true);
        loop {
            let (asked, before) = (Instant::now(), seat.as_ref().map(Seat::gaps));
            let mut stood = false;
            let failure = match self.ask(seat.is_some()).await {
                Ok(Asked::Had(fence)) => return Ok(Some(fence)),
                Ok(Asked::Busy(busy)) => {
                    if let (Some(seat), Some(gaps), Some(place)) = (&mut seat, before, busy.place) {
                        stood = true;
                        let next = match (place, busy.left) {
                            // Who is first looks when the other one's lease ends.
                            (0, Some(left)) => left.min(self.lease.duration()),
                            _ => self.lease.duration(),
                        };
                        let heard =
                            self.told(seat, asked, gaps, busy, until.min(asked + next + SLACK));
                        if let Some(fence) = heard.await {
                            return Ok(Some(fence));
                        }
                    }
                    None
                }
                Err(error) if error.is_retryable() => Some(error),
                Err(error) => return Err(error),
            };
            if Instant::now() >= until {
                return match failure {
                    Some(error) => Err(error),
                    None => {
                        self.leave().await;
                        Ok(None)
                    }
                };
            }
            seat = seat.filter(|seat| !seat.is_over());
            if seat.is_none() && can_listen {
                match timeout_at(until, post.enter(partition, &self.token)).await {
                    Ok(Ok(Some(entered))) => {
                        seat = Some(entered);
                        continue;
                    }
                    Ok(Err(error)) if !error.is_retryable() => {
                        tracing::debug!(%error, "nobody can tell when a lock is free; it is asked for from time to time");
                        can_listen = false;
                    }
                    _ => {}
                }
            }
            if !stood {
                pause_until(until, PAUSE).await;
            }
        }
    }

    /// Leaves the line, if the server answers soon; otherwise it does when it is dropped.
    async fn leave(&mut self) {
        if !self.open {
            return;
        }
        self.departs();
        if let Ok(Ok(())) = timeout(PAUSE, give_back(&self.claim, &self.token, self.waits)).await {
            self.open = false;
        }
    }

    /// It waits no more: what is granted to it in spite of that is handed on.
    fn departs(&self) {
        if let (Some(_), To::Lock(lock)) = (self.waits, &self.claim.to) {
            lock.post.leaves(&self.token, &lock.keys);
        }
    }

    /// Waits for what the servers say, until the lock is had or it is worth asking again: at `next` at the latest, whatever was lost.
    async fn told(
        &mut self,
        seat: &mut Seat,
        asked: Instant,
        gaps: u64,
        busy: Busy,
        mut next: Instant,
    ) -> Option<u64> {
        loop {
            let news = *seat.news.borrow_and_update();
            // What was granted before the answer is over, or the answer would have said so.
            if let Some(grant) = news.granted.filter(|grant| grant.fence > busy.last) {
                // So long after the answer, by the server's clock, and that was given after the question.
                let since = asked + Duration::from_micros(grant.at.saturating_sub(busy.now));
                let until = self.lease.until(since.min(grant.heard));
                return self.had(until).ok().map(|()| grant.fence);
            }
            if news.gaps != gaps {
                return None;
            }
            if let Some((since, left)) = news.first.filter(|(since, _)| *since >= asked) {
                next = next.min(since + left.min(self.lease.duration()) + SLACK);
            }
            tokio::select! {
                biased;
                changed = seat.news.changed() => if changed.is_err() { return None },
                () = sleep_until(next) => return None,
            }
        }
    }

    /// Asks once, and stands in the queue then if it is to.
    async fn ask(&mut self, waits: bool) -> Result<Asked, Error> {
        // Dropped from here on, it may have it without having heard so.
        self.open = true;
        if waits {
            self.waits = Some(self.lease);
        }
        let asked = Instant::now();
        match self.claim.acquire(&self.token, self.lease, waits).await {
            Ok(Answer::Had { fence, left }) => {
                self.had(lease::until(asked, left.min(self.lease.duration())))?;
                Ok(Asked::Had(fence))
            }
            Ok(Answer::Busy(busy)) => {
                self.open = self.waits.is_some();
                Ok(Asked::Busy(busy))
            }
            Err(error) => {
                self.open = self.waits.is_some() || error.is_outcome_unknown();
                Err(error.into())
            }
        }
    }

    /// It is had, and can be relied on until then.
    fn had(&mut self, until: Instant) -> Result<(), Error> {
        if until <= Instant::now() {
            return Err(Error::Late);
        }
        self.until.send_replace(Some(until));
        Ok(())
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
        if self.claim.extend(&self.token, lease).await? {
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
        let released = self.claim.release(&self.token, self.waits).await?;
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
        self.departs();
        let (claim, token, waits) = (self.claim.clone(), self.token, self.waits);
        let Some(runtime) = &self.runtime else { return };
        // It ends by the command timeout. On a runtime that has ended it never begins, and the lease ends what is held.
        drop(runtime.spawn(async move {
            if let Err(error) = give_back(&claim, &token, waits).await {
                tracing::debug!(%error, "what was dropped could not be released; its lease ends it");
            }
        }));
    }
}

/// Gives back what may be held, or waited for with that lease.
async fn give_back(
    claim: &Claim,
    token: &Token,
    waits: Option<Lease>,
) -> redbrick_core_conn::Result<()> {
    claim.release(token, waits).await?;
    if let To::Lock(lock) = &claim.to {
        lock.post.left(token);
    }
    Ok(())
}
