//! What can be seen of a connection from outside.

#[cfg(feature = "metrics")]
use std::{sync::Arc, time::Duration};

#[cfg(feature = "metrics")]
use tokio::time::{MissedTickBehavior, interval};

use super::{Conn, owner::Core};
use crate::{
    Statistics,
    telemetry::{Now, Telemetry},
};

/// How often it is published what the connection is doing, besides with every change of a link: a recorder may be
/// installed at any time.
#[cfg(feature = "metrics")]
const EVERY: Duration = Duration::from_secs(1);

impl Conn {
    /// Returns what this connection, all its handles together, has done so far and what it is doing now. Nothing is sent.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let core = &self.owner.core;
        core.telemetry.statistics(core.now())
    }

    pub(crate) fn telemetry(&self) -> &Telemetry {
        &self.owner.core.telemetry
    }
}

impl Core {
    fn now(&self) -> Now {
        let (links_up, links_down) = self.status.watch().borrow().links_up_and_down();
        let calls_waiting = u64::try_from(self.calls.in_flight()).unwrap_or(u64::MAX);
        Now { links_up, links_down, calls_waiting }
    }

    /// Publishes what the connection is doing.
    #[cfg(feature = "metrics")]
    pub(super) fn publish(&self) {
        // A connection that has ended is none that is down.
        self.telemetry.now(if self.has_ended() { Now::default() } else { self.now() });
    }

    #[cfg(not(feature = "metrics"))]
    #[expect(clippy::unused_self, reason = "nobody is told")]
    pub(super) fn publish(&self) {}

    /// Publishes now and then, for ever.
    #[cfg(feature = "metrics")]
    pub(super) async fn keep_publishing(self: Arc<Self>) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.publish();
        }
    }
}
