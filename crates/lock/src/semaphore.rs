use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use redbrick_core_conn::{Replay, Script, Token};

use crate::{Acquire, Error, Extended, Locks, Released, Wait, claim::Kind, keys::LockKeys};

/// A fixed number of permits that processes share; see [`Locks::semaphore`].
///
/// A permit whose lease ends is free again, by the server's clock. Whoever waits stands in line, and those who ask for few permits do not
/// pass those who ask for many.
#[derive(Clone)]
pub struct Semaphore {
    locks: Locks,
    name: Arc<[u8]>,
    permits: NonZeroU32,
}

impl Semaphore {
    pub(crate) fn new(locks: Locks, name: Arc<[u8]>, permits: NonZeroU32) -> Self {
        Self { locks, name, permits }
    }

    /// Returns its name, as it was given.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Returns how many permits this handle says there are.
    #[must_use]
    pub fn permits(&self) -> NonZeroU32 {
        self.permits
    }

    /// Begins to acquire a permit: await it, or say more first.
    pub fn acquire(&self) -> Acquire {
        self.acquire_many(NonZeroU32::MIN)
    }

    /// Begins to acquire so many permits at a time, which one guard has.
    pub fn acquire_many(&self, permits: NonZeroU32) -> Acquire {
        Acquire::new(&self.locks, Arc::clone(&self.name), self.kind(permits))
    }

    /// Begins to acquire a permit with one attempt: [`acquire`](Self::acquire) with [`Wait::Never`].
    pub fn try_acquire(&self) -> Acquire {
        self.acquire().wait(Wait::Never)
    }

    /// Does work under a permit, as [`Acquire::with`].
    ///
    /// # Errors
    ///
    /// As [`Acquire::with`].
    pub async fn with<T, Work>(&self, work: impl FnOnce(u64) -> Work) -> Result<Option<T>, Error>
    where
        Work: Future<Output = T>,
    {
        self.acquire().with(work).await
    }

    /// Returns how many permits nobody has. One round trip; the answer may be outdated when it comes, and others may wait for them.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`] when Redis could not be asked.
    #[tracing::instrument(level = "debug", name = "lock.available", skip_all)]
    pub async fn available(&self) -> Result<u32, Error> {
        let (group, kind) = (self.locks.group(), self.kind(NonZeroU32::MIN));
        let (keys, _) = kind.of(&group.prefix, &self.name);
        let shares = keys.shares();
        let LockKeys { held, .. } = keys;
        let out: u64 = group.conn.script(&AVAILABLE).key(held).key(shares).run().await?;
        Ok(u32::try_from(u64::from(self.permits.get()).saturating_sub(out)).unwrap_or(0))
    }

    /// Releases what `token` has of it, whichever process acquired it, as [`Locks::release`]. One round trip.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`] when Redis could not be asked; the permits may or may not be free.
    #[tracing::instrument(level = "debug", name = "lock.release_permits", skip_all)]
    pub async fn release(&self, token: &Token) -> Result<Released, Error> {
        self.locks.group().release(&self.name, self.kind(NonZeroU32::MIN), token).await
    }

    /// Makes the lease count anew from now of what `token` has of it, whichever process acquired it, as [`Locks::extend`]. One round trip.
    ///
    /// # Errors
    ///
    /// [`Error::Lease`] before anything is sent; [`Error::Conn`] when Redis could not be asked, the new lease may or may
    /// not count.
    #[tracing::instrument(level = "debug", name = "lock.extend_permits", skip_all)]
    pub async fn extend(&self, token: &Token, lease: Duration) -> Result<Extended, Error> {
        self.locks.group().extend(&self.name, self.kind(NonZeroU32::MIN), token, lease).await
    }

    fn kind(&self, weight: NonZeroU32) -> Kind {
        Kind::Permits { weight, count: self.permits }
    }
}

static AVAILABLE: Script =
    Script::new("lock.available", include_str!("lua/available.lua")).replay(Replay::Idempotent);

impl fmt::Debug for Semaphore {
    /// Does not show the name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore").field("permits", &self.permits).finish_non_exhaustive()
    }
}
