use std::{fmt, sync::Arc, time::Duration};

use redbrick_core_conn::Token;

use crate::{Acquire, Error, Extended, Locks, Released, Wait, claim::Kind};

/// A lock that many can have to read, or one to write; see [`Locks::rw_lock`].
///
/// Whoever waits stands in line, whatever it is for: those who come to read while somebody waits to write come behind it, so that nobody
/// waits for ever. At most 1,048,576 read at a time.
#[derive(Clone)]
pub struct RwLock {
    locks: Locks,
    name: Arc<[u8]>,
}

impl RwLock {
    pub(crate) fn new(locks: Locks, name: Arc<[u8]>) -> Self {
        Self { locks, name }
    }

    /// Returns its name, as it was given.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Begins to acquire it to read: await it, or say more first.
    pub fn read(&self) -> Acquire {
        Acquire::new(&self.locks, Arc::clone(&self.name), Kind::Read)
    }

    /// Begins to acquire it to write: await it, or say more first.
    pub fn write(&self) -> Acquire {
        Acquire::new(&self.locks, Arc::clone(&self.name), Kind::Write)
    }

    /// Begins to acquire it to read with one attempt: [`read`](Self::read) with [`Wait::Never`].
    pub fn try_read(&self) -> Acquire {
        self.read().wait(Wait::Never)
    }

    /// Begins to acquire it to write with one attempt: [`write`](Self::write) with [`Wait::Never`].
    pub fn try_write(&self) -> Acquire {
        self.write().wait(Wait::Never)
    }

    /// Releases what `token` has of it, whichever process acquired it, as [`Locks::release`]. One round trip.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`] when Redis could not be asked; it may or may not be free.
    #[tracing::instrument(level = "debug", name = "lock.release_rw", skip_all)]
    pub async fn release(&self, token: &Token) -> Result<Released, Error> {
        // The server knows what the token has; either kind finds it.
        self.locks.group().release(&self.name, Kind::Read, token).await
    }

    /// Makes the lease count anew from now of what `token` has of it, whichever process acquired it, as [`Locks::extend`]. One round trip.
    ///
    /// # Errors
    ///
    /// [`Error::Lease`] before anything is sent; [`Error::Conn`] when Redis could not be asked, the new lease may or may
    /// not count.
    #[tracing::instrument(level = "debug", name = "lock.extend_rw", skip_all)]
    pub async fn extend(&self, token: &Token, lease: Duration) -> Result<Extended, Error> {
        self.locks.group().extend(&self.name, Kind::Read, token, lease).await
    }
}

impl fmt::Debug for RwLock {
    /// Does not show the name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RwLock").field("locks", &self.locks).finish_non_exhaustive()
    }
}
