//! What is counted of a connection, and what is the case now.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a connection has done since it was made, and what it is doing now; see [`Conn::statistics`](crate::Conn::statistics).
///
/// ```no_run
/// # async fn f(conn: redbrick_core_conn::Conn) -> Result<(), redbrick_core_conn::Error> {
/// let before = conn.statistics();
/// conn.get_many::<String, _>(["a", "b", "c"]).await?;
/// assert_eq!(conn.statistics().since(&before).round_trips, 1);
/// # Ok(()) }
/// ```
///
/// What is counted only rises. The counts are read one after the other, so that one may have seen a moment that another has
/// not.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub struct Statistics {
    /// How often something was sent and waited for as one: a call, a batch of calls, what a pipeline has for one server, a
    /// transaction. An attempt that failed counts, and so does the next one. Heartbeats, and what connecting takes, do not;
    /// a script that its server does not know yet is told in a second round trip, which does not either.
    pub round_trips: u64,
    /// How many batches went out, of two calls or more that were made at the same time.
    pub batches: u64,
    /// How many calls those batches carried.
    pub batched_calls: u64,
    /// How many operations ended with [`ErrorKind::Timeout`](crate::ErrorKind::Timeout). One that found no link in time is not among them.
    pub timeouts: u64,
    /// How many links came up where there was none before. Links for subscriptions and feeds count, those on which single
    /// calls wait do not; so with the next three.
    pub links_made: u64,
    /// How many links broke, or were closed by the other side.
    pub links_lost: u64,
    /// How many links came up where one had been lost.
    pub reconnects: u64,
    /// How many links gave their place to another while they were up: nothing arrived over them any more, there are newer
    /// credentials, or another server takes the writes.
    pub links_replaced: u64,
    /// How many operations took at least the [`slow_threshold`](crate::ConfigBuilder::slow_threshold).
    pub slow_operations: u64,
    /// How many calls wait for a link or an answer now.
    pub calls_waiting: u64,
    /// How many links for commands, reads and transactions are up now.
    pub links_up: u64,
}

impl Statistics {
    /// Returns what was counted after `before`, with what is the case now as it is here.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            round_trips: self.round_trips.saturating_sub(before.round_trips),
            batches: self.batches.saturating_sub(before.batches),
            batched_calls: self.batched_calls.saturating_sub(before.batched_calls),
            timeouts: self.timeouts.saturating_sub(before.timeouts),
            links_made: self.links_made.saturating_sub(before.links_made),
            links_lost: self.links_lost.saturating_sub(before.links_lost),
            reconnects: self.reconnects.saturating_sub(before.reconnects),
            links_replaced: self.links_replaced.saturating_sub(before.links_replaced),
            slow_operations: self.slow_operations.saturating_sub(before.slow_operations),
            calls_waiting: self.calls_waiting,
            links_up: self.links_up,
        }
    }
}

/// What is the case now.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Now {
    pub(crate) links_up: u64,
    pub(crate) links_down: u64,
    pub(crate) calls_waiting: u64,
}

/// What is counted. One counter orders nothing around it, so all of it is relaxed.
#[derive(Debug, Default)]
pub(super) struct Counts {
    round_trips: AtomicU64,
    batches: AtomicU64,
    batched_calls: AtomicU64,
    timeouts: AtomicU64,
    made: AtomicU64,
    lost: AtomicU64,
    reconnects: AtomicU64,
    replaced: AtomicU64,
    slow: AtomicU64,
}

impl Counts {
    pub(super) fn sent(&self) {
        add(&self.round_trips, 1);
    }

    pub(super) fn gathered(&self, calls: usize) {
        add(&self.batches, 1);
        add(&self.batched_calls, u64::try_from(calls).unwrap_or(u64::MAX));
    }

    pub(super) fn timeout(&self) {
        add(&self.timeouts, 1);
    }

    pub(super) fn made(&self) {
        add(&self.made, 1);
    }

    pub(super) fn lost(&self) {
        add(&self.lost, 1);
    }

    pub(super) fn reconnected(&self) {
        add(&self.reconnects, 1);
    }

    pub(super) fn replaced(&self) {
        add(&self.replaced, 1);
    }

    pub(super) fn slow(&self) {
        add(&self.slow, 1);
    }

    pub(super) fn read(&self, now: Now) -> Statistics {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Statistics {
            round_trips: count(&self.round_trips),
            batches: count(&self.batches),
            batched_calls: count(&self.batched_calls),
            timeouts: count(&self.timeouts),
            links_made: count(&self.made),
            links_lost: count(&self.lost),
            reconnects: count(&self.reconnects),
            links_replaced: count(&self.replaced),
            slow_operations: count(&self.slow),
            calls_waiting: now.calls_waiting,
            links_up: now.links_up,
        }
    }
}

fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_since_is_told_and_what_is_now_stays() {
        let counts = Counts::default();
        counts.sent();
        counts.lost();
        let before = counts.read(Now { links_up: 3, links_down: 0, calls_waiting: 9 });
        counts.sent();
        counts.gathered(5);
        let now = counts.read(Now { links_up: 1, links_down: 2, calls_waiting: 4 });
        let since = now.since(&before);
        assert_eq!((since.round_trips, since.links_lost), (1, 0));
        assert_eq!((since.batches, since.batched_calls), (1, 5));
        assert_eq!((since.links_up, since.calls_waiting), (1, 4));
        assert_eq!(before.since(&now).round_trips, 0, "asked the wrong way round");
    }
}
