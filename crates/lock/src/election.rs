use std::{fmt, sync::Arc};

use redbrick_core_conn::Tracking;
use tokio::time::{Instant, sleep_until};

use crate::{
    Acquire, Error, LockInfo, Locks, Wait,
    claim::Kind,
    keys::LockKeys,
    time::{FAR, SLACK, jittered, pause},
    wait::PAUSE,
};

/// One of many processes leads, and another one when it is gone; see [`Locks::election`].
///
/// Who leads has the lock of this name, so [`Locks::info`] and the others work on it, and [`Locks::force_release`] deposes the leader.
#[derive(Clone)]
pub struct Election {
    locks: Locks,
    name: Arc<[u8]>,
}

impl Election {
    pub(crate) fn new(locks: Locks, name: Arc<[u8]>) -> Self {
        Self { locks, name }
    }

    /// Returns its name, as it was given.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Begins to campaign: awaited, it returns when this candidate leads, and waits in line without an end unless another
    /// [wait](Acquire::wait) is set. What it is known by is its [holder](Acquire::holder).
    ///
    /// It leads until the guard is released, which resigns, or [lost](crate::LockGuard::lost), at which it must stop. The
    /// [fence](crate::LockGuard::fence) numbers the terms.
    pub fn campaign(&self) -> Acquire {
        Acquire::new(&self.locks, Arc::clone(&self.name), Kind::Lock).wait(Wait::Forever)
    }

    /// Returns who leads; `None` when nobody does. One round trip.
    ///
    /// # Errors
    ///
    /// As [`Locks::info`].
    pub async fn leader(&self) -> Result<Option<LockInfo>, Error> {
        self.locks.info(&self.name).await
    }

    /// Begins to observe who leads. The servers say when that changes, over a link that all such share; see
    /// [`Conn::track`](redbrick_core_conn::Conn::track) for the rights it needs and what it costs.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`], as `Conn::track`.
    #[tracing::instrument(level = "debug", name = "lock.observe", skip_all)]
    pub async fn observe(&self) -> Result<Observer, Error> {
        let group = self.locks.group();
        let keys = LockKeys::new(&group.prefix, &self.name);
        let tracking = group.conn.track().key(&keys.held).await?;
        Ok(Observer { election: self.clone(), tracking, last_term: None, looks: None })
    }
}

impl fmt::Debug for Election {
    /// Does not show the name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Election").field("locks", &self.locks).finish_non_exhaustive()
    }
}

/// Tells who leads, and when that changes; see [`Election::observe`]. Dropping it ends that.
#[must_use = "dropping it ends it"]
pub struct Observer {
    election: Election,
    tracking: Tracking,
    /// The term that was told last, or that nobody leads.
    last_term: Option<Option<u64>>,
    /// When it is looked again, if nobody says anything; nothing where it is to be looked now.
    looks: Option<Instant>,
}

impl Observer {
    /// Waits until another one leads than was told last, or nobody, and returns who it is; the first time at once. Of changes that come
    /// faster than they are asked for, it tells the last.
    ///
    /// One round trip for each change, and for each renewal by the leader. Where Redis cannot be asked it goes on asking, so that no news
    /// means that nothing is known to have changed. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`] where asking again does not help, as when the connection is closed.
    pub async fn next(&mut self) -> Result<Option<LockInfo>, Error> {
        loop {
            match self.looks {
                None => match self.election.locks.info_by_server(&self.election.name).await {
                    Ok(leader) => {
                        let left = leader.as_ref().map_or(FAR, |leader| leader.remaining.min(FAR));
                        self.looks = Some(Instant::now() + left + SLACK);
                        let term = leader.as_ref().map(|leader| leader.fence);
                        if self.last_term != Some(term) {
                            self.last_term = Some(term);
                            return Ok(leader);
                        }
                    }
                    Err(error) if error.is_retryable() => pause(jittered(PAUSE)).await,
                    Err(error) => return Err(error),
                },
                Some(looks) => {
                    tokio::select! {
                        // It ends with the connection, of which the next question tells.
                        _ = self.tracking.next() => {}
                        () = sleep_until(looks) => {}
                    }
                    self.looks = None;
                }
            }
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").field("election", &self.election).finish_non_exhaustive()
    }
}
