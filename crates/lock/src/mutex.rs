use std::{fmt, sync::Arc};

use crate::{Acquire, Error, Locks, Wait, claim::Kind};

/// A lock that was named once; see [`Locks::mutex`].
///
/// It is the lock of that name: [`Locks::info`], [`Locks::release`] and the others work on it.
#[derive(Clone)]
pub struct Mutex {
    locks: Locks,
    name: Arc<[u8]>,
}

impl Mutex {
    pub(crate) fn new(locks: Locks, name: Arc<[u8]>) -> Self {
        Self { locks, name }
    }

    /// Returns its name, as it was given.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Begins to acquire it, as [`Locks::lock`].
    pub fn lock(&self) -> Acquire {
        Acquire::new(&self.locks, Arc::clone(&self.name), Kind::Lock)
    }

    /// Begins to acquire it with one attempt, as [`Locks::try_lock`].
    pub fn try_lock(&self) -> Acquire {
        self.lock().wait(Wait::Never)
    }

    /// Does work under it, as [`Acquire::with`].
    ///
    /// # Errors
    ///
    /// As [`Acquire::with`].
    pub async fn with<T, Work>(&self, work: impl FnOnce(u64) -> Work) -> Result<Option<T>, Error>
    where
        Work: Future<Output = T>,
    {
        self.lock().with(work).await
    }
}

impl fmt::Debug for Mutex {
    /// Does not show the name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex").field("locks", &self.locks).finish_non_exhaustive()
    }
}
