use std::{sync::Arc, time::Duration};

use redbrick_core_conn::{Counter, Histogram, Token};
use tokio::{runtime::Handle, time::Instant};

use crate::{
    Durability, Error, Extended, Released,
    claim::{Answer, Busy, Claim},
    group::Group,
    guard::{unless_lost, warn_if_lost},
    hold::Hold,
    keeper::Kept,
    lease::{self, Lease},
    time::{FAR, pause},
    wait::{Attempts, Wait},
};

static ACQUIRED: Counter =
    Counter::new("redbrick.lock.acquired", "Locks and permits that were acquired");
static WAITED: Histogram = Histogram::new(
    "redbrick.lock.waited",
    "How long it took to acquire a lock or a permit, or to give up",
);

/// What somebody asks for and then has: what a guard is made of.
///
/// Whatever the server may have for it, it gives back when it is dropped.
pub(crate) struct Held {
    pub(crate) group: Arc<Group>,
    pub(crate) hold: Arc<Hold>,
    pub(crate) lease: Lease,
    renews: bool,
    kept: Option<Kept>,
    /// Whether the server may have it under this token, or may have it wait, and it is this one's to give back.
    pub(crate) owed: bool,
    /// The lease with which it may stand in the queue.
    pub(crate) queued_with: Option<Lease>,
    /// When it was asked for first.
    first_asked: Option<Instant>,
    /// Where what is dropped is given back; it was made there, and the connection lives there.
    runtime: Option<Handle>,
}

/// How something is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) lease: Lease,
    pub(crate) wait: Wait,
    pub(crate) renews: bool,
    pub(crate) durability: Durability,
}

/// What came of asking once.
pub(crate) enum Asked {
    Had(u64),
    Busy(Busy),
}

impl Held {
    /// Asks for it until it is had, with the fence that comes with it, or until the wait is over.
    pub(crate) async fn acquire(
        group: Arc<Group>,
        claim: Claim,
        terms: Terms,
    ) -> Result<Option<(Self, u64)>, Error> {
        group.closing.check()?;
        let watched = Arc::clone(&group);
        let hold = Hold::new(claim, terms.lease);
        let mut held = Self::unasked(group, hold, terms.renews, terms.lease);
        let fence = tokio::select! {
            biased;
            fence = held.had_as_wanted(terms) => fence?,
            closed = watched.closing.closed() => return Err(closed),
        };
        // What is kept by now is released by whoever closes.
        held.group.closing.check()?;
        Ok(fence.map(|fence| {
            ACQUIRED.add(1, "");
            (held, fence)
        }))
    }

    /// Asks for it, keeps it, and waits until as many know of it as is wanted.
    async fn had_as_wanted(&mut self, terms: Terms) -> Result<Option<u64>, Error> {
        let began = Instant::now();
        let fence = self.had_within(terms.wait, began).await?;
        WAITED.record(began.elapsed(), "");
        if fence.is_some() {
            self.keep();
            self.endures(terms.durability).await?;
        }
        Ok(fence)
    }

    /// Asks for it until it is had, or until the wait is over.
    async fn had_within(&mut self, wait: Wait, began: Instant) -> Result<Option<u64>, Error> {
        match wait {
            Wait::For(limit) if !limit.is_zero() => self.in_line(began + limit.min(FAR)).await,
            Wait::Forever => self.in_line(began + FAR).await,
            _ => self.again_and_again(wait).await,
        }
    }

    /// Waits until it survives the loss of its server, as far as that is wanted; otherwise it is given back.
    pub(crate) async fn endures(&mut self, durability: Durability) -> Result<(), Error> {
        let Durability::Wait { replicas, timeout } = durability else { return Ok(()) };
        let (claim, token) = (&self.hold.claim, &self.hold.token);
        // The lease begins anew with what the replicas get; here it counts on.
        match claim.extend_replicated(token, self.lease, replicas, timeout.min(FAR)).await? {
            Some(known) if known >= u64::from(replicas) => match self.remaining().is_zero() {
                // The lease counted on meanwhile.
                true => Err(Error::Late),
                false => Ok(()),
            },
            Some(known) => {
                // Where that fails, it is tried again in the background.
                let _ = self.release().await;
                Err(Error::NotReplicated { known })
            }
            None => Err(Error::Late),
        }
    }

    /// Something for which nobody was asked yet.
    pub(crate) fn unasked(group: Arc<Group>, hold: Hold, renews: bool, lease: Lease) -> Self {
        let (hold, runtime) = (Arc::new(hold), Handle::try_current().ok());
        Self {
            group,
            hold,
            lease,
            renews,
            kept: None,
            owed: false,
            queued_with: None,
            first_asked: None,
            runtime,
        }
    }

    /// What a token has already, with its fence: it is let in, and gives nothing back. Nothing where the token has it no more.
    pub(crate) async fn enter(
        group: Arc<Group>,
        claim: Claim,
        token: Token,
        lease: Lease,
    ) -> Result<Option<(Self, u64)>, Error> {
        group.closing.check()?;
        let asked = Instant::now();
        let Some(fence) = claim.renew(&token, lease).await? else { return Ok(None) };
        let (renews, hold) = (group.renew, Hold::of_guest(token, claim, lease));
        let mut held = Self::unasked(group, hold, renews, lease);
        held.hold.rely_until(lease.until(asked))?;
        held.keep();
        // What is kept by now is told by whoever closes.
        held.group.closing.check()?;
        Ok(Some((held, fence)))
    }

    /// It is had, and can be relied on until then.
    pub(crate) fn granted_until(&mut self, until: Instant) -> Result<(), Error> {
        self.hold.rely_until(until)?;
        ACQUIRED.add(1, "");
        self.keep();
        Ok(())
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

    /// Asks once, and stands in the queue then if it is to.
    pub(crate) async fn ask(&mut self, waits: bool) -> Result<Asked, Error> {
        // Dropped from here on, it may have it without having heard so.
        self.owed = true;
        if waits {
            self.queued_with = Some(self.lease);
        }
        let asked = Instant::now();
        let first = *self.first_asked.get_or_insert(asked);
        match self.hold.claim.acquire(&self.hold.token, self.lease, waits).await {
            Ok(Answer::Had { fence, left }) => {
                // Its lease began after it was asked for first, and so much of it was left after it was asked for now.
                let left = lease::until(asked, left.min(self.lease.duration()));
                self.hold.rely_until(self.lease.until(first).max(left))?;
                Ok(Asked::Had(fence))
            }
            Ok(Answer::Busy(busy)) => {
                self.owed = self.queued_with.is_some();
                Ok(Asked::Busy(busy))
            }
            Err(error) => {
                self.owed = self.queued_with.is_some() || error.is_outcome_unknown();
                Err(error.into())
            }
        }
    }

    /// Renews it from now on, if it is to be renewed: in time also where the answer was late.
    fn keep(&mut self) {
        let now = Instant::now();
        let first = self.lease.renewal(now).min(now + self.remaining() / 3);
        self.kept = Some(self.group.keeper.keep(&self.hold, self.renews.then_some(first)));
    }

    pub(crate) fn token(&self) -> &Token {
        &self.hold.token
    }

    pub(crate) fn remaining(&self) -> Duration {
        self.hold.remaining()
    }

    pub(crate) fn lost(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.hold.lost()
    }

    pub(crate) async fn extend(&mut self, lease: Lease) -> Result<Extended, Error> {
        if lease < self.lease && !self.hold.is_guest {
            // It may begin although its answer never comes.
            self.lease = lease;
            self.kept = Some(
                self.group
                    .keeper
                    .keep(&self.hold, self.renews.then(|| lease.renewal(Instant::now()))),
            );
        }
        let extended = self.hold.extend(lease).await?;
        match extended {
            Extended::Extended => {
                self.lease = lease;
                self.keep();
            }
            Extended::Lost => self.owed = false,
        }
        Ok(extended)
    }

    /// Gives it back. When that fails, dropping it makes another attempt.
    pub(crate) async fn release(&mut self) -> Result<Released, Error> {
        self.kept = None;
        if self.hold.is_guest {
            let was_held = Released::of(!self.remaining().is_zero());
            self.hold.forget();
            return Ok(was_held);
        }
        let released = self.hold.release(self.queued_with).await?;
        self.owed = false;
        Ok(released)
    }

    /// Leaves it to whoever knows the token.
    pub(crate) fn into_token(mut self) -> Token {
        self.owed = false;
        self.hold.token
    }

    /// Does `work` while it is held, and gives it back.
    ///
    /// The work is not polled any more once it may be lost.
    pub(crate) async fn while_held<T>(self, work: impl Future<Output = T>) -> Result<T, Error> {
        // Dropped, it is given back in the background.
        let Some(done) = unless_lost(self.lost(), work).await else {
            self.hold.mark_lost();
            self.group.closing.check()?;
            return Err(Error::Lost);
        };
        warn_if_lost(self.finish().await);
        Ok(done)
    }

    /// Gives it back after the work under it; says whether it was held until then, by this process' clock where nobody else can tell.
    pub(crate) async fn finish(mut self) -> Released {
        let was_held = Released::of(!self.remaining().is_zero());
        self.release().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "a lock could not be released; its lease ends it");
            was_held
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.hold.forget();
        if !self.owed {
            return;
        }
        self.departs();
        let (group, hold, waits) =
            (Arc::clone(&self.group), Arc::clone(&self.hold), self.queued_with);
        let Some(runtime) = &self.runtime else { return };
        // It ends by the command timeout. On a runtime that has ended it never begins, and the lease ends what is held.
        drop(runtime.spawn(async move {
            if let Err(error) = group.give_back(&hold, waits).await {
                tracing::debug!(%error, "what was dropped could not be released; its lease ends it");
            }
        }));
    }
}
