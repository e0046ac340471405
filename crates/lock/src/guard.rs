use std::{
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use redbrick_core_conn::Token;

use crate::{Error, Extended, Released, held::Held, lease::Lease};

/// A lock, permits, or the right to read or write, that this process has. It is renewed until it is released, dropped or lost; see
/// [`Acquire::renew`](crate::Acquire::renew).
///
/// [`release`](Self::release) gives it back and says whether it was held until then. Dropping it gives it back in the
/// background, on the runtime that it was acquired on and without waiting; when that runtime has ended, or Redis cannot
/// be reached, the lease ends it.
///
/// A lease can end while its holder is busy, or its machine stands still. What must not happen twice even then takes the
/// [`fence`](Self::fence) along, and the place that is written to refuses a fence lower than the highest it has seen.
#[must_use = "the lock is released when this is dropped"]
pub struct LockGuard {
    name: Arc<[u8]>,
    fence: u64,
    held: Held,
}

impl LockGuard {
    pub(crate) fn new(name: Arc<[u8]>, fence: u64, held: Held) -> Self {
        Self { name, fence, held }
    }

    /// Returns the name of the lock, as it was given.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Returns the token by which any process can release or extend it, by the `release` and `extend` of the [`Locks`](crate::Locks),
    /// [`Semaphore`](crate::Semaphore) or [`RwLock`](crate::RwLock) that it is of. It is a secret.
    #[must_use]
    pub fn token(&self) -> &Token {
        self.held.token()
    }

    /// Returns the number of this acquisition, which is higher than that of each one before it, also across restarts of
    /// the server (see the README for how far that goes). About the microseconds since 1970.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.fence
    }

    /// Returns how long this process may still rely on it: counted on its own clock from before it was asked for, or
    /// renewed, last, and 1 % and 2 ms less than the lease. Zero once it may be lost. Asks nobody.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.held.remaining()
    }

    /// Returns whether anything of it [remains](Self::remaining).
    #[must_use]
    pub fn is_valid(&self) -> bool {
        !self.remaining().is_zero()
    }

    /// Waits until the lock may be lost: until nothing [remains](Self::remaining), a renewal or an extension finds it lost, or it is
    /// released or dropped, or its locks are [closed](crate::Locks::close). It asks nobody, so what happens to the lock meanwhile, as by
    /// force, shows with the next renewal or at the end of the lease.
    ///
    /// The future borrows nothing, so that another task can wait for it.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.held.lost()
    }

    /// Makes the lease count anew from now, for `lease`, which may be shorter than before, and by which it is renewed from then on. One
    /// round trip.
    ///
    /// It also succeeds when nothing remained here and the server still has it: then nobody else had it in between.
    ///
    /// # Errors
    ///
    /// [`Error::Lease`] or [`Error::Closed`] before anything is sent; [`Error::Late`] when the new lease was over before its answer;
    /// [`Error::Conn`] when Redis could not be asked: the lock remains for as
    /// long as the shorter of both leases says.
    #[tracing::instrument(level = "debug", name = "lock.extend", skip_all)]
    pub async fn extend(&mut self, lease: Duration) -> Result<Extended, Error> {
        self.held.extend(Lease::new(lease)?).await
    }

    /// Releases it. One round trip. A [guest's](crate::Locks::enter) guard asks nobody, leaves the lock to its owner, and says by its own
    /// clock whether it was held.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`] when Redis could not be asked: another attempt is made in the background; should that fail too,
    /// the lease ends it.
    #[tracing::instrument(level = "debug", name = "lock.release", skip_all)]
    pub async fn release(mut self) -> Result<Released, Error> {
        self.held.release().await
    }

    /// Returns the token and leaves the lock as it is: it is not released by dropping anything.
    #[must_use = "without the token nobody can release it before its lease ends"]
    pub fn into_token(self) -> Token {
        self.held.into_token()
    }
}

/// Does the work, and stops it once it is not to go on.
pub(crate) async fn unless_lost<T>(
    lost: impl Future<Output = ()>,
    work: impl Future<Output = T>,
) -> Option<T> {
    let mut work = pin!(work);
    tokio::select! {
        biased;
        () = lost => None,
        done = &mut work => Some(done),
    }
}

/// What is said of work that was done when its lock was lost.
pub(crate) fn warn_if_lost(released: Released) {
    if released == Released::AlreadyLost {
        tracing::warn!("a lock was lost while the last of the work under it was done");
    }
}

/// Waits until fewer of these than `least` may be relied on.
pub(crate) fn lost_below(
    guards: &[LockGuard],
    least: usize,
) -> impl Future<Output = ()> + Send + 'static + use<> {
    let mut all: Vec<Pin<Box<dyn Future<Output = ()> + Send>>> =
        guards.iter().map(|guard| Box::pin(guard.lost()) as _).collect();
    poll_fn(move |cx| {
        all.retain_mut(|one| one.as_mut().poll(cx).is_pending());
        if all.len() < least { Poll::Ready(()) } else { Poll::Pending }
    })
}

impl fmt::Debug for LockGuard {
    /// Shows neither the name nor the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("LockGuard");
        out.field("fence", &self.fence).field("remaining", &self.remaining());
        out.finish_non_exhaustive()
    }
}
