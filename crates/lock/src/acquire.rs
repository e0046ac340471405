use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use crate::{
    Durability, Error, LockGuard, Locks, Released, Wait,
    claim::{Claim, Kind},
    group::Group,
    held::{Held, Terms},
    lease::Lease,
};

/// A lock, or permits, to be acquired; awaiting it asks for them.
///
/// Gives the guard, or `None` when others have it and the [wait](Self::wait) is over. One round trip for each attempt. In line one, and
/// one more for each lease that it waits, of its own or, as the first, of who has it; giving up is another one, for which it waits 100 ms
/// at most.
///
/// # Errors
///
/// [`Error::Closed`], [`Error::Lease`] or [`Error::Permits`] before anything is sent; [`Error::NotReplicated`] when fewer replicas know of it
/// than its [durability](Self::durability) wants, it is released then; [`Error::Conn`] when Redis could not be asked, at once on an optional connection without a
/// server; [`Error::Late`] when the answer took longer than the lease. In line it asks again after what may pass, and returns the error when
/// the wait is over, [without an end](Wait::Forever) never. Where
/// the lock may have been granted all the same, or when the future is dropped before its end, it is released in the
/// background; should that not succeed, its lease ends it.
#[must_use = "nothing is asked until it is awaited"]
pub struct Acquire {
    pub(crate) group: Arc<Group>,
    pub(crate) name: Arc<[u8]>,
    kind: Kind,
    pub(crate) lease: Duration,
    wait: Wait,
    pub(crate) renew: bool,
    pub(crate) durability: Durability,
    holder: Arc<str>,
}

impl Acquire {
    pub(crate) fn new(locks: &Locks, name: Arc<[u8]>, kind: Kind) -> Self {
        let group = Arc::clone(locks.group());
        let (lease, wait, renew) = (group.lease, group.wait, group.renew);
        let (durability, holder) = (group.durability, Arc::clone(&group.holder));
        Self { group, name, kind, lease, wait, renew, durability, holder }
    }

    /// Sets its lease: for how long it outlives this process, or, where it is not [renewed](Self::renew), how long it is held; from [`SHORTEST_LEASE`](crate::SHORTEST_LEASE) to
    /// [`LONGEST_LEASE`](crate::LONGEST_LEASE).
    ///
    /// Default: that of [`Locks`], [30 s](crate::DEFAULT_LEASE).
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets what to do while somebody else has it.
    ///
    /// Default: that of [`Locks`], three attempts 100 ms apart.
    pub fn wait(mut self, wait: impl Into<Wait>) -> Self {
        self.wait = wait.into();
        self
    }

    /// Sets whether it is renewed until it is released or dropped, at each third of its lease, in the background and together with all
    /// that is due then.
    ///
    /// Without that it ends with its lease, or the last [extension](LockGuard::extend).
    ///
    /// Default: that of [`Locks`], it is.
    pub fn renew(mut self, renew: bool) -> Self {
        self.renew = renew;
        self
    }

    /// Sets how many replicas must know of it before it is granted.
    ///
    /// Default: that of [`Locks`], none need to.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets who is shown as the holder, as by [`Locks::info`]. It is no secret and proves nothing.
    ///
    /// Default: that of [`Locks`], this host and process.
    pub fn holder(mut self, holder: impl Into<String>) -> Self {
        self.holder = holder.into().into();
        self
    }

    /// Acquires it, does the work that `work` makes of the fence, and releases it; returns the work's result, or `None`
    /// when somebody else has the lock and `work` was not called.
    ///
    /// It is renewed at each third of its lease, so the work may take longer than that, unless [`renew(false)`](Self::renew) was said: then
    /// it is stopped when the lease ends. The work runs in this future and may borrow; once the lock may be lost, it is not polled any more
    /// and dropped. Work that holds up its thread cannot be stopped, and is renewed only where the runtime has another thread: its writes
    /// need the fence. One round trip for each attempt, for each renewal and for the release, which is waited for.
    ///
    /// When the future is dropped or the work panics, the lock is released in the background. When Redis fails with the
    /// release, or says that the lock was lost at the very end, the result is returned all the same and a warning
    /// logged.
    ///
    /// # Errors
    ///
    /// Those of acquiring, `work` was not called then; [`Error::Lost`] when the lock was lost, or [`Error::Closed`] when
    /// its locks were [closed](Locks::close), before the work was done, of which a part may be done.
    #[tracing::instrument(level = "debug", name = "lock.with", skip_all)]
    pub async fn with<T, Work>(self, work: impl FnOnce(u64) -> Work) -> Result<Option<T>, Error>
    where
        Work: Future<Output = T>,
    {
        let Some((held, fence)) = self.ask().await? else { return Ok(None) };
        held.while_held(work(fence)).await.map(Some)
    }

    /// Acquires it, does the work and releases it, as [`with`](Self::with), but lets the work run to its end also when the lock is lost
    /// meanwhile. Returns its result, and whether the lock was held until it was done; where Redis could not be asked for that, this
    /// process' own clock says so, and the lease ends the lock.
    ///
    /// For work that does more harm when it stops half-way than when it runs beside another one's, or whose writes are fenced.
    ///
    /// # Errors
    ///
    /// Those of acquiring, `work` was not called then.
    #[tracing::instrument(level = "debug", name = "lock.with_uncancelled", skip_all)]
    pub async fn with_uncancelled<T, Work>(
        self,
        work: impl FnOnce(u64) -> Work,
    ) -> Result<Option<(T, Released)>, Error>
    where
        Work: Future<Output = T>,
    {
        let Some((held, fence)) = self.ask().await? else { return Ok(None) };
        let done = work(fence).await;
        Ok(Some((done, held.finish().await)))
    }

    pub(crate) fn claim(&self) -> Claim {
        self.group.claim(&self.name, self.kind, &self.holder)
    }

    async fn ask(&self) -> Result<Option<(Held, u64)>, Error> {
        let lease = Lease::new(self.lease)?;
        if let Kind::Permits { weight, count } = self.kind
            && weight > count
        {
            return Err(Error::Permits);
        }
        let claim = self.claim();
        let (wait, renews, durability) = (self.wait, self.renew, self.durability);
        let terms = Terms { lease, wait, renews, durability };
        Held::acquire(Arc::clone(&self.group), claim, terms).await
    }

    #[tracing::instrument(level = "debug", name = "lock.lock", skip_all)]
    async fn acquire(self) -> Result<Option<LockGuard>, Error> {
        let acquired = self.ask().await?;
        Ok(acquired.map(|(held, fence)| LockGuard::new(self.name, fence, held)))
    }
}

impl IntoFuture for Acquire {
    type Output = Result<Option<LockGuard>, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.acquire())
    }
}

impl fmt::Debug for Acquire {
    /// Shows neither the name nor the holder.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Acquire");
        out.field("kind", &self.kind).field("lease", &self.lease).field("wait", &self.wait);
        out.field("renew", &self.renew).field("durability", &self.durability);
        out.finish_non_exhaustive()
    }
}
