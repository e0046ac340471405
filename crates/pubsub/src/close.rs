use std::time::Duration;

use tokio::time::timeout;

use crate::handlers::Handlers;

/// Until when handlers are waited for at least: they have to say what waits for them.
const SHORTEST: Duration = Duration::from_millis(100);

/// What [`PubSub::close`](crate::PubSub::close) left undone.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[must_use = "messages may have been left unhandled"]
#[non_exhaustive]
pub struct CloseReport {
    /// Messages that were received and that no handler has begun. Those that there was no time to read are counted whatever
    /// their kind; those of a handler that blocks its thread all along are not known.
    pub unhandled: u64,
    /// Handlers that were stopped where they waited, with a message in hand.
    pub interrupted: u64,
}

impl CloseReport {
    /// Returns whether every message that had been received was handled.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }
}

/// Lets all handlers do what waits for them, for so long.
pub(crate) async fn close(handlers: &Handlers, deadline: Duration) -> CloseReport {
    let all = handlers.close();
    let every = async {
        for running in &all {
            running.ended().await;
        }
    };
    let mut report = CloseReport::default();
    if timeout(deadline.max(SHORTEST), every).await.is_ok() {
        return report;
    }
    for running in all.iter().filter(|running| !running.is_own()) {
        running.abort();
        let (waiting, in_hand) = running.counts.left();
        report.unhandled += waiting;
        report.interrupted += u64::from(in_hand);
    }
    tracing::warn!(
        unhandled = report.unhandled,
        interrupted = report.interrupted,
        "pubsub was closed before its handlers were done"
    );
    report
}
