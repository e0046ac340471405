use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::Conn;

/// What [`Conn::close`] found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CloseReport {
    /// How many calls had not ended by the deadline. Those that may have been sent end with an [unknown
    /// outcome](crate::Error::is_outcome_unknown), those that still waited with
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed).
    pub abandoned: usize,
    /// How long closing took.
    pub took: Duration,
}

impl CloseReport {
    /// Whether every call ended by itself.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.abandoned == 0
    }
}

impl Conn {
    /// Closes the connection for all its handles: refuses new calls, waits for those in flight until
    /// `deadline` has passed, then closes the links.
    ///
    /// New calls fail with [`ErrorKind::Closed`](crate::ErrorKind::Closed) from the first moment on.
    /// Closing twice is fine: the second call reports what it finds. When the future is dropped, new calls
    /// are refused and the links stay open until the last handle is gone.
    pub async fn close(&self, deadline: Duration) -> CloseReport {
        let started = Instant::now();
        let core = &self.owner.core;
        core.calls.refuse();
        let drained = timeout(deadline, core.calls.drained()).await;
        let abandoned = if drained.is_ok() { 0 } else { core.calls.in_flight() };
        self.owner.end();
        CloseReport { abandoned, took: started.elapsed() }
    }
}
