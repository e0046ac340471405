use std::time::Duration;

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout_at},
};

use crate::{Error, Locks, Released, group::Group, time::FAR};

/// What came of [`Locks::close`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct CloseReport {
    /// How many were released, held until then.
    pub released: usize,
    /// How many had been lost before.
    pub lost: usize,
    /// Of how many it is not known: Redis could not be asked by the deadline. Their lease ends them.
    pub unknown: usize,
}

impl CloseReport {
    /// Returns whether nothing is left for its lease to end.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.unknown == 0
    }
}

/// So many releases are under way at the same time.
const AT_ONCE: usize = 1000;

/// Whether locks are closed.
#[derive(Debug, Default)]
pub(crate) struct Closing(watch::Sender<bool>);

impl Closing {
    /// # Errors
    ///
    /// [`Error::Closed`].
    pub(crate) fn check(&self) -> Result<(), Error> {
        if *self.0.borrow() { Err(Error::Closed) } else { Ok(()) }
    }

    /// Waits until they are.
    pub(crate) async fn closed(&self) -> Error {
        // It ends with the sender, which is here.
        let _ = self.0.subscribe().wait_for(|closed| *closed).await;
        Error::Closed
    }
}

impl Locks {
    /// Releases everything that was acquired through this or a clone of it and is held still, by `deadline`, for a program that is about
    /// to end. Each release is one round trip, and up to 1,000 are under way at the same time.
    ///
    /// From the first moment on, whoever acquires or waits is told [`Error::Closed`], guards are [lost](crate::LockGuard::lost), and
    /// nothing is renewed; a guest's lock stays with its owner. What was asked for
    /// just then is taken back in the background. Locks that were left to a [token](crate::LockGuard::into_token) stay. The connection stays open; close it after
    /// that. When the future is dropped, the releases that are under way are not waited for.
    pub async fn close(&self, deadline: Duration) -> CloseReport {
        self.group().close(Instant::now() + deadline.min(FAR)).await
    }
}

impl Group {
    async fn close(&self, deadline: Instant) -> CloseReport {
        self.closing.0.send_replace(true);
        let (mut report, mut releases) = (CloseReport::default(), JoinSet::new());
        let mut holds = self.keeper.holds().into_iter();
        loop {
            while releases.len() < AT_ONCE
                && let Some(hold) = holds.next()
            {
                if hold.is_guest {
                    hold.forget();
                } else {
                    releases.spawn(async move { timeout_at(deadline, hold.release(None)).await });
                }
            }
            let Some(released) = releases.join_next().await else { break };
            *match released {
                Ok(Ok(Ok(Released::Released))) => &mut report.released,
                Ok(Ok(Ok(Released::AlreadyLost))) => &mut report.lost,
                _ => &mut report.unknown,
            } += 1;
        }
        report
    }
}
