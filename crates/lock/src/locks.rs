use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use redbrick_core_conn::{Conn, Key, Prefix, Token, Ttl};

use crate::{
    Acquire, AcquireAll, Election, Error, Extended, LockGuard, LocksBuilder, Mutex, Released,
    RwLock, Semaphore, Wait, claim::Kind, group::Group, held::Held, keys::LockKeys, lease::Lease,
};

/// Locks and semaphores that processes share: leases with tokens and fences.
///
/// Clones are cheap and share everything. Names are any bytes, of any length.
#[derive(Clone)]
pub struct Locks {
    group: Arc<Group>,
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

    pub(crate) fn of(group: Group) -> Self {
        Self { group: Arc::new(group) }
    }

    pub(crate) fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// Returns the prefix of its keys, behind that of the connection.
    #[must_use]
    pub fn prefix(&self) -> &Prefix {
        &self.group.prefix
    }

    /// Begins to acquire the lock `name`: await it, or say more first.
    ///
    /// A lock is not reentrant: who has it and asks again is somebody else. See [`enter`](Self::enter).
    pub fn lock(&self, name: impl AsRef<[u8]>) -> Acquire {
        Acquire::new(self, name.as_ref().into(), Kind::Lock)
    }

    /// Begins to acquire the lock `name` with one attempt: [`lock`](Self::lock) with [`Wait::Never`].
    pub fn try_lock(&self, name: impl AsRef<[u8]>) -> Acquire {
        self.lock(name).wait(Wait::Never)
    }

    /// Begins to acquire several locks, all of them or none: await it, or say more first.
    pub fn lock_all<Name: AsRef<[u8]>>(&self, names: impl IntoIterator<Item = Name>) -> AcquireAll {
        AcquireAll::new(self, names.into_iter().map(|name| name.as_ref().into()))
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
    /// are out stay so, and no new one is given until enough are back. All should say the same number: who waits for more than another one
    /// says there are holds up the line when that one hands on.
    #[must_use]
    pub fn semaphore(&self, name: impl AsRef<[u8]>, permits: NonZeroU32) -> Semaphore {
        Semaphore::new(self.clone(), name.as_ref().into(), permits)
    }

    /// Names a lock that many can have to read, or one to write; sends nothing.
    ///
    /// It shares its name with no lock and no semaphore.
    #[must_use]
    pub fn rw_lock(&self, name: impl AsRef<[u8]>) -> RwLock {
        RwLock::new(self.clone(), name.as_ref().into())
    }

    /// Names an election, of which one candidate leads at a time; sends nothing.
    #[must_use]
    pub fn election(&self, name: impl AsRef<[u8]>) -> Election {
        Election::new(self.clone(), name.as_ref().into())
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
        self.group.release(name.as_ref(), Kind::Lock, token).await
    }

    /// Makes the lease of the lock `name` count anew from now if `token` has it, whichever process acquired it. One
    /// round trip.
    ///
    /// A guard elsewhere does not learn of it, goes on counting by itself, and makes a shorter lease longer again when it renews it.
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
        self.group.extend(name.as_ref(), Kind::Lock, token, lease).await
    }

    /// Enters the lock `name` once more under the token that has it, in whichever process: for a function that is called with the lock held,
    /// or work that goes on elsewhere. `None` when the token has it no more. One round trip.
    ///
    /// The guard is a guest's: it renews the lock, tells when it is lost and has its fence, and releasing or dropping it leaves the lock to
    /// whom it belongs. It lasts for the lease of these `Locks`
    /// from now on at least; what lasts longer is not made shorter. For locks alone, not for permits and readers.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`] when Redis could not be asked, the lease may or may not count anew; [`Error::Late`] when the answer took longer than
    /// the lease; [`Error::Closed`].
    #[tracing::instrument(level = "debug", name = "lock.enter", skip_all)]
    pub async fn enter(
        &self,
        name: impl AsRef<[u8]>,
        token: &Token,
    ) -> Result<Option<LockGuard>, Error> {
        let (name, group) = (Arc::<[u8]>::from(name.as_ref()), &self.group);
        let claim = group.claim(&name, Kind::Lock, &group.holder);
        let lease = Lease::new(group.lease)?;
        let entered = Held::enter(Arc::clone(group), claim, *token, lease).await?;
        Ok(entered.map(|(held, fence)| LockGuard::new(name, fence, held)))
    }

    /// Returns whether anybody has the lock `name`. One round trip (`EXISTS`); the answer may be outdated when it comes.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`] when Redis could not be asked.
    #[tracing::instrument(level = "debug", name = "lock.is_locked", skip_all)]
    pub async fn is_locked(&self, name: impl AsRef<[u8]>) -> Result<bool, Error> {
        Ok(self.group.conn.exists(self.key(name)).await?)
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
        Ok(match self.group.conn.ttl(self.key(name)).await? {
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
        let claim = self.group.claim(name.as_ref(), Kind::Lock, &self.group.holder);
        Ok(claim.force_release().await?)
    }

    fn key(&self, name: impl AsRef<[u8]>) -> Key {
        LockKeys::new(&self.group.prefix, name.as_ref()).held
    }
}

impl fmt::Debug for Locks {
    /// Does not show the holder.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Locks");
        out.field("prefix", &self.group.prefix).field("lease", &self.group.lease);
        out.field("wait", &self.group.wait).finish_non_exhaustive()
    }
}
