use std::{fmt, num::NonZeroU32, pin::Pin, time::Duration};

use redbrick_core_conn::{Key, Replay, Script, Token};

use crate::{
    Error, Extended, Locks, Released, Wait,
    claim::{Claim, To},
    held::Held,
    keys::LockKeys,
    lease::Lease,
};

/// A fixed number of permits that processes share; see [`Locks::semaphore`].
///
/// A permit whose lease ends is free again, by the server's clock.
#[derive(Clone)]
pub struct Semaphore {
    locks: Locks,
    key: Key,
    permits: NonZeroU32,
}

impl Semaphore {
    pub(crate) fn new(locks: Locks, name: &[u8], permits: NonZeroU32) -> Self {
        let key = LockKeys::new(&locks.inner().prefix, name).lock.join("permits");
        Self { locks, key, permits }
    }

    /// Returns how many permits this handle says there are.
    #[must_use]
    pub fn permits(&self) -> NonZeroU32 {
        self.permits
    }

    /// Begins to acquire a permit: await it, or say more first.
    pub fn acquire(&self) -> AcquirePermit {
        let inner = self.locks.inner();
        AcquirePermit { claim: self.claim(), lease: inner.lease, wait: inner.wait }
    }

    /// Begins to acquire a permit with one attempt: [`acquire`](Self::acquire) with [`Wait::Never`].
    pub fn try_acquire(&self) -> AcquirePermit {
        self.acquire().wait(Wait::Never)
    }

    /// Does work under a permit, as [`AcquirePermit::with`].
    ///
    /// # Errors
    ///
    /// As [`AcquirePermit::with`].
    pub async fn with<T, Work>(&self, work: impl FnOnce() -> Work) -> Result<Option<T>, Error>
    where
        Work: Future<Output = T>,
    {
        self.acquire().with(work).await
    }

    /// Returns how many permits nobody has. One round trip; the answer may be outdated when it comes.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`] when Redis could not be asked.
    #[tracing::instrument(level = "debug", name = "lock.available", skip_all)]
    pub async fn available(&self) -> Result<u32, Error> {
        let conn = &self.locks.inner().conn;
        let out: u64 = conn.script(&COUNT).key(&self.key).run().await?;
        Ok(u32::try_from(u64::from(self.permits.get()).saturating_sub(out)).unwrap_or(0))
    }

    /// Releases the permit of `token`, whichever process acquired it. One round trip.
    ///
    /// Released once more, it is [`Released::AlreadyLost`]; so may the answer be when the connection broke and the
    /// call was repeated.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`] when Redis could not be asked; the permit may or may not be free.
    #[tracing::instrument(level = "debug", name = "lock.release_permit", skip_all)]
    pub async fn release(&self, token: &Token) -> Result<Released, Error> {
        let released = self.claim().release(token, None).await?;
        Ok(Released::of(released))
    }

    /// Makes the lease of the permit of `token` count anew from now, whichever process acquired it. One round trip.
    ///
    /// # Errors
    ///
    /// [`Error::Lease`] before anything is sent; [`Error::Conn`] when Redis could not be asked, the new lease may or may
    /// not count.
    #[tracing::instrument(level = "debug", name = "lock.extend_permit", skip_all)]
    pub async fn extend(&self, token: &Token, lease: Duration) -> Result<Extended, Error> {
        let lease = Lease::new(lease)?;
        let extended = self.claim().extend(token, lease).await?;
        Ok(Extended::of(extended))
    }

    fn claim(&self) -> Claim {
        let to = To::Permit { permits: self.key.clone(), count: self.permits };
        Claim { conn: self.locks.inner().conn.clone(), to }
    }
}

static COUNT: Script = Script::new("lock.count_permits", include_str!("lua/count_permits.lua"))
    .replay(Replay::Idempotent);

impl fmt::Debug for Semaphore {
    /// Does not show the name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore").field("permits", &self.permits).finish_non_exhaustive()
    }
}

/// A permit that is to be acquired; awaiting it asks for it.
///
/// Gives the permit, or `None` when all are out and the [wait](Self::wait) is over. One round trip for each attempt.
///
/// # Errors
///
/// As for [`Acquire`](crate::Acquire).
#[must_use = "nothing is asked until it is awaited"]
pub struct AcquirePermit {
    claim: Claim,
    lease: Duration,
    wait: Wait,
}

impl AcquirePermit {
    /// Sets how long it is held unless it is extended.
    ///
    /// Default: that of [`Locks`], [30 s](crate::DEFAULT_LEASE).
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets what to do while all permits are out.
    ///
    /// Default: that of [`Locks`], three attempts 100 ms apart.
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// Acquires a permit, does the work and releases it, in all as [`Acquire::with`](crate::Acquire::with); a permit has
    /// no fence.
    ///
    /// # Errors
    ///
    /// Those of acquiring, `work` was not called then; [`Error::Lost`] when the permit was lost before the work was
    /// done, of which a part may be done.
    #[tracing::instrument(level = "debug", name = "lock.with_permit", skip_all)]
    pub async fn with<T, Work>(self, work: impl FnOnce() -> Work) -> Result<Option<T>, Error>
    where
        Work: Future<Output = T>,
    {
        let Some(held) = self.ask().await? else { return Ok(None) };
        held.while_held(work()).await.map(Some)
    }

    async fn ask(self) -> Result<Option<Held>, Error> {
        let lease = Lease::new(self.lease)?;
        let acquired = Held::acquire(self.claim, lease, self.wait).await?;
        Ok(acquired.map(|(held, _)| held))
    }

    #[tracing::instrument(level = "debug", name = "lock.acquire_permit", skip_all)]
    async fn acquire(self) -> Result<Option<Permit>, Error> {
        Ok(self.ask().await?.map(|held| Permit { held }))
    }
}

impl IntoFuture for AcquirePermit {
    type Output = Result<Option<Permit>, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.acquire())
    }
}

impl fmt::Debug for AcquirePermit {
    /// Does not show the name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("AcquirePermit");
        out.field("lease", &self.lease).field("wait", &self.wait).finish_non_exhaustive()
    }
}

/// One of the permits of a [`Semaphore`], until its lease ends. What is said of a [`LockGuard`](crate::LockGuard) holds
/// for it too; it has no fence.
#[must_use = "the permit is released when this is dropped"]
pub struct Permit {
    held: Held,
}

impl Permit {
    /// Returns the token by which any process can [release](Semaphore::release) or [extend](Semaphore::extend) it. It is
    /// a secret.
    #[must_use]
    pub fn token(&self) -> &Token {
        self.held.token()
    }

    /// Returns how long this process may still rely on it, as [`LockGuard::remaining`](crate::LockGuard::remaining).
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.held.remaining()
    }

    /// Returns whether anything of it [remains](Self::remaining).
    #[must_use]
    pub fn is_valid(&self) -> bool {
        !self.remaining().is_zero()
    }

    /// Waits until it may be lost, as [`LockGuard::lost`](crate::LockGuard::lost).
    pub fn lost(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.held.lost()
    }

    /// Makes the lease count anew from now, for `lease`, which may be shorter than before. One round trip.
    ///
    /// # Errors
    ///
    /// [`Error::Lease`] before anything is sent; [`Error::Conn`] when Redis could not be asked: it remains for as
    /// long as the shorter of both leases says.
    #[tracing::instrument(level = "debug", name = "lock.extend_permit", skip_all)]
    pub async fn extend(&mut self, lease: Duration) -> Result<Extended, Error> {
        self.held.extend(Lease::new(lease)?).await
    }

    /// Releases it. One round trip. [`Released::AlreadyLost`] may also be the answer when the connection broke and the
    /// call was repeated.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`] when Redis could not be asked: another attempt is made in the background; should that fail too,
    /// the lease ends it.
    #[tracing::instrument(level = "debug", name = "lock.release_permit", skip_all)]
    pub async fn release(mut self) -> Result<Released, Error> {
        self.held.release().await
    }

    /// Returns the token and leaves the permit as it is: it is not released by dropping anything.
    #[must_use = "without the token nobody can release it before its lease ends"]
    pub fn into_token(self) -> Token {
        self.held.into_token()
    }
}

impl fmt::Debug for Permit {
    /// Does not show the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("remaining", &self.remaining()).finish_non_exhaustive()
    }
}
