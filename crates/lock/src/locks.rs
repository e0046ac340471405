use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use redbrick_core_conn::{Conn, Key, Prefix, Token, Ttl};

use crate::{
    Acquire, Error, Extended, LocksBuilder, Mutex, Released, Semaphore, Wait,
    claim::{Claim, Lock, To},
    keys::LockKeys,
    lease::Lease,
    post::Post,
};

/// Locks and semaphores that processes share: leases with tokens and fences.
///
/// Clones are cheap and share everything. Names are any bytes, of any length.
#[derive(Clone)]
pub struct Locks {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) conn: Conn,
    pub(crate) prefix: Prefix,
    pub(crate) lease: Duration,
    pub(crate) wait: Wait,
    pub(crate) holder: Arc<str>,
    pub(crate) fence_memory: Duration,
    pub(crate) post: Arc<Post>,
}

impl Inner {
    /// The lock of a name.
    pub(crate) fn lock(&self, name: &[u8]) -> Lock {
        Lock {
            keys: LockKeys::new(&self.prefix, name),
            fence_memory: self.fence_memory,
            holder: Arc::clone(&self.holder),
            post: Arc::clone(&self.post),
        }
    }
}

impl Locks {
    /// Makes one with the defaults of its [builder](Self::builder); sends nothing.
    #[must_use]
    pub fn new(conn: Conn) -> Self {
        Self::builder(conn).build_unchecked()
    }

    /// Begins one of which more is to be said.
    pub fn builder(conn: Conn) -> LocksBuilder {
        LocksBuilder::new(conn)
    }

    pub(crate) fn from_inner(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// Returns the prefix of its keys, behind that of the connection.
    #[must_use]
    pub fn prefix(&self) -> &Prefix {
        &self.inner.prefix
    }

    /// Begins to acquire the lock `name`: await it, or say more first.
    ///
    /// A lock is not reentrant: who has it and asks again is somebody else.
    pub fn lock(&self, name: impl AsRef<[u8]>) -> Acquire {
        Acquire::new(self, name.as_ref().into())
    }

    /// Begins to acquire the lock `name` with one attempt: [`lock`](Self::lock) with [`Wait::Never`].
    pub fn try_lock(&self, name: impl AsRef<[u8]>) -> Acquire {
        self.lock(name).wait(Wait::Never)
    }

    /// Does work under the lock `name` and releases it: [`lock`](Self::lock) and [`Acquire::with`], whose documentation
    /// has the rest. For another lease or wait: `locks.lock(name).lease(…).with(…)`.
    ///
    /// # Errors
    ///
    /// As [`Acquire::with`].
    pub async fn with_lock<T, Work>(
        &self,
        name: impl AsRef<[u8]>,
        work: impl FnOnce(u64) -> Work,
    ) -> Result<Option<T>, Error>
    where
        Work: Future<Output = T>,
    {
        self.lock(name).with(work).await
    }

    /// Names a lock once, to use it often; sends nothing.
    #[must_use]
    pub fn mutex(&self, name: impl AsRef<[u8]>) -> Mutex {
        Mutex::new(self.clone(), name.as_ref().into())
    }

    /// Names a semaphore with `permits` permits; sends nothing.
    ///
    /// It shares its name with no lock. Each handle says how many permits there are; with fewer than before, those that
    /// are out stay so, and no new one is given until enough are back.
    #[must_use]
    pub fn semaphore(&self, name: impl AsRef<[u8]>, permits: NonZeroU32) -> Semaphore {
        Semaphore::new(self.clone(), name.as_ref(), permits)
    }

    /// Releases the lock `name` if `token` has it, whichever process acquired it. One round trip.
    ///
    /// Released once more within twice the command timeout (10 s by default), it answers the same, unless 64 others have released it
    /// since.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`] when Redis could not be asked; the lock may or may not be free.
    #[tracing::instrument(level = "debug", name = "lock.release", skip_all)]
    pub async fn release(&self, name: impl AsRef<[u8]>, token: &Token) -> Result<Released, Error> {
        let released = self.claim(name.as_ref()).release(token, None).await?;
        Ok(Released::of(released))
    }

    /// Makes the lease of the lock `name` count anew from now if `token` has it, whichever process acquired it. One
    /// round trip.
    ///
    /// A guard elsewhere does not learn of it and goes on counting by itself.
    ///
    /// # Errors
    ///
    /// [`Error::Lease`] before anything is sent; [`Error::Conn`] when Redis could not be asked, the new lease may or may
    /// not count.
    #[tracing::instrument(level = "debug", name = "lock.extend", skip_all)]
    pub async fn extend(
        &self,
        name: impl AsRef<[u8]>,
        token: &Token,
        lease: Duration,
    ) -> Result<Extended, Error> {
        let lease = Lease::new(lease)?;
        let extended = self.claim(name.as_ref()).extend(token, lease).await?;
        Ok(Extended::of(extended))
    }

    /// Returns whether anybody has the lock `name`. One round trip (`EXISTS`); the answer may be outdated when it comes.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`] when Redis could not be asked.
    #[tracing::instrument(level = "debug", name = "lock.is_locked", skip_all)]
    pub async fn is_locked(&self, name: impl AsRef<[u8]>) -> Result<bool, Error> {
        Ok(self.inner.conn.exists(self.key(name)).await?)
    }

    /// Returns how long the lock `name` is held unless it is extended or released, by the server's clock; `None` when
    /// nobody has it. One round trip (`PTTL`).
    ///
    /// [`Duration::MAX`] where another program has written the key without a time to live.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`] when Redis could not be asked.
    #[tracing::instrument(level = "debug", name = "lock.ttl", skip_all)]
    pub async fn ttl(&self, name: impl AsRef<[u8]>) -> Result<Option<Duration>, Error> {
        Ok(match self.inner.conn.ttl(self.key(name)).await? {
            Ttl::Expires(left) => Some(left),
            Ttl::Persistent => Some(Duration::MAX),
            Ttl::Missing => None,
        })
    }

    /// Takes the lock `name` away from whoever has it, and returns whether anybody had. Who waits first gets it. One round trip.
    ///
    /// Its holder learns of it with the next extension, at the release, or at the end of the lease; until then it may
    /// believe that it has the lock. For people who repair something. Whatever else is at the lock's key goes too. It is
    /// not repeated where its answer is lost: it would take the lock from the next one.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`] when Redis could not be asked; the lock may or may not be free.
    #[tracing::instrument(level = "debug", name = "lock.force_release", skip_all)]
    pub async fn force_release(&self, name: impl AsRef<[u8]>) -> Result<bool, Error> {
        Ok(self.inner.lock(name.as_ref()).force_release(&self.inner.conn).await?)
    }

    fn claim(&self, name: &[u8]) -> Claim {
        Claim { conn: self.inner.conn.clone(), to: To::Lock(self.inner.lock(name)) }
    }

    fn key(&self, name: impl AsRef<[u8]>) -> Key {
        LockKeys::new(&self.inner.prefix, name.as_ref()).lock
    }
}

impl fmt::Debug for Locks {
    /// Does not show the holder.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Locks");
        out.field("prefix", &self.inner.prefix).field("lease", &self.inner.lease);
        out.field("wait", &self.inner.wait).finish_non_exhaustive()
    }
}
