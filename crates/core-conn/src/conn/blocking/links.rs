//! The links that calls wait on: as many as may, kept for the next call.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Semaphore;

use crate::{
    Credentials,
    conn::{
        Core,
        link::{Link, LinkEnd},
    },
};

/// The links of a connection that calls wait on.
pub(in crate::conn) struct BlockingLinks {
    /// One for each call that may wait.
    pub(super) free: Semaphore,
    /// As many at most.
    idle: Mutex<Vec<Kept>>,
    /// Those in use.
    used: Mutex<Vec<Weak<Link>>>,
}

/// A link, on which one call waits or none.
pub(super) struct Kept {
    pub(super) link: Arc<Link>,
    pub(super) end: LinkEnd,
    pub(super) credentials: Credentials,
    /// The link for commands beside which it was made: while that is up, both lead to one server.
    pub(super) beside: Weak<Link>,
}

impl Kept {
    /// The link for commands to the same server, while it is up.
    pub(super) fn commands(&self) -> Option<Arc<Link>> {
        let beside = self.beside.upgrade()?;
        (beside.is_up() && beside.address == self.link.address).then_some(beside)
    }
}

impl BlockingLinks {
    pub(in crate::conn) fn new(most: usize) -> Self {
        Self { free: Semaphore::new(most), idle: Mutex::default(), used: Mutex::default() }
    }

    /// Closes all.
    pub(in crate::conn) fn end(&self) {
        self.idle().clear();
        for link in self.used().drain(..).filter_map(|link| link.upgrade()) {
            link.abort();
        }
    }

    /// Notes that a call waits on a link.
    pub(super) fn take_up(&self, link: &Arc<Link>) {
        let mut used = self.used();
        used.retain(|used| used.strong_count() > 0);
        used.push(Arc::downgrade(link));
    }

    /// Keeps a link for the next call, unless enough are kept.
    pub(super) fn keep(&self, core: &Core, kept: Kept) {
        {
            let mut idle = self.idle();
            if idle.len() < core.config.blocking_links.get() {
                idle.push(kept);
            }
        }
        // The end may have come a moment before.
        if core.has_ended() {
            self.end();
        }
    }

    pub(super) fn idle(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn used(&self) -> MutexGuard<'_, Vec<Weak<Link>>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
