//! The calls in flight: bounded, and waited for when closing.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::Conn;
use crate::{Error, ErrorKind, Result};

/// The calls in flight: bounded, and waited for when closing.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    in_flight: AtomicUsize,
    closing: AtomicBool,
    finished: Notify,
    refused: Notify,
}

/// Calls that count until this is dropped.
pub(crate) struct Entered<'a> {
    calls: &'a Calls,
    count: usize,
}

impl Calls {
    fn enter(&self, count: usize, most: usize) -> Result<Entered<'_>> {
        if count > most {
            let what =
                "more calls at once than may wait for an answer; send fewer or raise `max_waiting`";
            return Err(Error::new(ErrorKind::InvalidArgument, what));
        }
        // Counted before the look at the flag, so that closing either sees the calls or refuses them.
        let others = self.in_flight.fetch_add(count, Ordering::SeqCst);
        let call = Entered { calls: self, count };
        if self.is_closing() {
            return Err(Error::closed());
        }
        if others + count > most {
            return Err(Error::busy());
        }
        Ok(call)
    }

    /// Refuses calls from now on.
    pub(crate) fn refuse(&self) {
        self.closing.store(true, Ordering::SeqCst);
        self.refused.notify_waiters();
    }

    /// Waits until calls are refused.
    pub(crate) async fn refused(&self) {
        let refused = self.refused.notified();
        if !self.is_closing() {
            refused.await;
        }
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Waits until no call is in flight.
    pub(crate) async fn drained(&self) {
        loop {
            let finished = self.finished.notified();
            if self.in_flight() == 0 {
                return;
            }
            finished.await;
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let left = self.calls.in_flight.fetch_sub(self.count, Ordering::SeqCst) - self.count;
        if left == 0 && self.calls.is_closing() {
            self.calls.finished.notify_waiters();
        }
    }
}

impl Conn {
    /// Counts calls in, if there is room for them.
    pub(crate) fn enter(&self, count: usize) -> Result<Entered<'_>> {
        self.owner.core.calls.enter(count, self.config().max_waiting.get())
    }
}
