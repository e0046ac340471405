use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::timeout};

use crate::{
    Error, LockGuard, Locks, Released, Wait,
    guard::{lost_below, unless_lost, warn_if_lost},
    lease::Lease,
    time::pause,
    wait::Attempts,
};

/// A lock that more than half of several independent masters must grant.
///
/// **What it does not give:** no fence, since independent servers have no common one; so nothing that is written under it can be refused
/// when it comes late, and work that stood still for longer than its lease runs beside another one's. No order: who waits asks again. No
/// safety from a server that forgets what it granted, as by a restart without persistence: keep such a server away for a lease. It costs
/// as many round trips as there are masters, at the same time. Where a [fence](LockGuard::fence) can be checked, one master with
/// [`Durability`](crate::Durability) and the fence is simpler and safer; this is for where any single master may be away, and the work
/// may be done twice now and then.
///
/// The algorithm is Redlock, as the Redis documentation describes it ("Distributed Locks with Redis"), with leases that are counted on the
/// monotonic clock of this process, from before each request.
#[derive(Clone)]
pub struct Quorum {
    all: Arc<[Locks]>,
}

impl Quorum {
    /// Makes one of locks on independent masters, each with its own connection; three or five are usual. Lease, wait and
    /// renewal are those of the first; the rest is that of each.
    ///
    /// # Errors
    ///
    /// [`Error::Masters`] for fewer than three, which would survive the loss of none.
    pub fn new(all: impl IntoIterator<Item = Locks>) -> Result<Self, Error> {
        let all: Arc<[_]> = all.into_iter().collect();
        if all.len() < 3 { Err(Error::Masters) } else { Ok(Self { all }) }
    }

    /// Returns how many of the masters must grant a lock: more than half.
    #[must_use]
    pub fn majority(&self) -> usize {
        self.all.len() / 2 + 1
    }

    /// Begins to acquire the lock `name`: await it, or say more first.
    pub fn lock(&self, name: impl AsRef<[u8]>) -> AcquireQuorum {
        let group = self.all[0].group();
        let (lease, wait, renew) = (group.lease, group.wait, group.renew);
        AcquireQuorum { quorum: self.clone(), name: name.as_ref().into(), lease, wait, renew }
    }
}

impl fmt::Debug for Quorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quorum").field("all", &self.all).finish()
    }
}

/// A lock that more than half of the masters must grant, to be acquired; awaiting it asks all of them, each for a tenth of the lease at most.
///
/// Gives the guard, or `None` when others have it and the [wait](Self::wait) is over. In whatever way it is not had, what was granted is
/// released, in the background where that takes longer.
///
/// # Errors
///
/// [`Error::Lease`] before anything is sent. When so many masters could not be asked, within a tenth of the lease, that the others are too
/// few, the error of one of them, or [`Error::Late`] where none has said anything; that too when it was granted too late. It is asked again
/// after what may pass until the [wait](Self::wait) is over.
#[must_use = "nothing is asked until it is awaited"]
pub struct AcquireQuorum {
    quorum: Quorum,
    name: Arc<[u8]>,
    lease: Duration,
    wait: Wait,
    renew: bool,
}

impl AcquireQuorum {
    /// Sets the lease: for how long it outlives this process, or, where it is not [renewed](Self::renew), how long it is held.
    ///
    /// Default: that of the first [`Locks`], [30 s](crate::DEFAULT_LEASE).
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets what to do while others have it: it is asked for again, with pauses of half of 100 ms to one and a half, or of the delay.
    ///
    /// Default: that of the first [`Locks`], three attempts.
    pub fn wait(mut self, wait: impl Into<Wait>) -> Self {
        self.wait = wait.into();
        self
    }

    /// Sets whether it is renewed at each third of its lease, at each master.
    ///
    /// Default: that of the first [`Locks`], it is.
    pub fn renew(mut self, renew: bool) -> Self {
        self.renew = renew;
        self
    }

    /// Acquires it, does the work and releases it, as [`Acquire::with`](crate::Acquire::with), without a fence.
    ///
    /// # Errors
    ///
    /// Those of acquiring, `work` was not called then; [`Error::Lost`] when it was lost before the work was done.
    #[tracing::instrument(level = "debug", name = "lock.with_quorum", skip_all)]
    pub async fn with<T, Work>(self, work: impl FnOnce() -> Work) -> Result<Option<T>, Error>
    where
        Work: Future<Output = T>,
    {
        let Some(guard) = self.await? else { return Ok(None) };
        let Some(done) = unless_lost(guard.lost(), work()).await else { return Err(Error::Lost) };
        warn_if_lost(guard.release().await);
        Ok(Some(done))
    }

    #[tracing::instrument(level = "debug", name = "lock.lock_quorum", skip_all)]
    async fn acquire(self) -> Result<Option<QuorumGuard>, Error> {
        Lease::new(self.lease)?;
        let mut attempts = Attempts::after_the_first(self.wait);
        loop {
            let failure = match self.ask_all().await {
                Ok(Some(guard)) => return Ok(Some(guard)),
                Ok(None) => None,
                Err(error) if error.is_retryable() => Some(error),
                Err(error) => return Err(error),
            };
            match (attempts.next(), failure) {
                (Some(length), _) => pause(length).await,
                (None, None) => return Ok(None),
                (None, Some(error)) => return Err(error),
            }
        }
    }

    /// Asks all masters at the same time.
    async fn ask_all(&self) -> Result<Option<QuorumGuard>, Error> {
        let needed = self.quorum.majority();
        let patience = self.lease / 10;
        let mut asked = JoinSet::new();
        for locks in &*self.quorum.all {
            let lock = locks.try_lock(&self.name).lease(self.lease).renew(self.renew);
            asked.spawn(async move { timeout(patience, lock).await });
        }
        let (mut guards, mut failure, mut failed) = (Vec::new(), None, 0);
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok(Ok(Ok(Some(guard)))) => guards.push(guard),
                Ok(Ok(Ok(None))) => {}
                Ok(Ok(Err(error))) => {
                    failed += 1;
                    failure = Some(error);
                }
                // Given up; what it may still be granted is taken back in the background.
                Ok(Err(_)) | Err(_) => failed += 1,
            }
        }
        let (had, masters) = (guards.len(), self.quorum.all.len());
        let guard = QuorumGuard { guards, needed };
        if had >= needed && guard.is_valid() {
            return Ok(Some(guard));
        }
        // Waited for, so that who is next finds it free; but no longer than it was asked for.
        let _ = timeout(patience, guard.release()).await;
        match failure {
            Some(error) if masters - failed < needed => Err(error),
            None if had >= needed || masters - failed < needed => Err(Error::Late),
            _ => Ok(None),
        }
    }
}

impl IntoFuture for AcquireQuorum {
    type Output = Result<Option<QuorumGuard>, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.acquire())
    }
}

impl fmt::Debug for AcquireQuorum {
    /// Does not show the name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("AcquireQuorum");
        out.field("quorum", &self.quorum).field("lease", &self.lease).field("wait", &self.wait);
        out.field("renew", &self.renew).finish_non_exhaustive()
    }
}

/// A lock that more than half of the masters have granted. Dropping it releases it in the background.
#[must_use = "the lock is released when this is dropped"]
#[derive(Debug)]
pub struct QuorumGuard {
    guards: Vec<LockGuard>,
    needed: usize,
}

impl QuorumGuard {
    /// Returns how long this process may still rely on it: as long as on the lock of the master that is the last needed one.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        let mut all: Vec<_> = self.guards.iter().map(LockGuard::remaining).collect();
        all.sort_unstable_by(|one, other| other.cmp(one));
        all.get(self.needed - 1).copied().unwrap_or(Duration::ZERO)
    }

    /// Returns whether anything of it [remains](Self::remaining).
    #[must_use]
    pub fn is_valid(&self) -> bool {
        !self.remaining().is_zero()
    }

    /// Waits until it may be lost: until fewer masters than needed grant it.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        lost_below(&self.guards, self.needed)
    }

    /// Releases it at all masters at the same time. [`Released::AlreadyLost`] where fewer than needed had it still, or could be asked; the
    /// others are asked once more in the background.
    pub async fn release(self) -> Released {
        let needed = self.needed;
        let mut releases = JoinSet::new();
        for guard in self.guards {
            releases.spawn(guard.release());
        }
        let mut released = 0;
        while let Some(release) = releases.join_next().await {
            released += usize::from(matches!(release, Ok(Ok(Released::Released))));
        }
        Released::of(released >= needed)
    }
}
