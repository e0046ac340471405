//! Doing without a server: the optional mode, and what is said about it in the log.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use super::{Conn, State, attempts::Manner, owner::Core};
use crate::{Error, ErrorKind};

/// How often, at most, a connection warns that calls are answered without the server: every 30 s.
pub const WARNING_INTERVAL: Duration = Duration::from_secs(30);

/// Warnings of which all but one per interval are only counted.
#[derive(Debug, Default)]
pub(crate) struct Warnings(Mutex<Unsaid>);

#[derive(Debug, Default)]
struct Unsaid {
    last: Option<Instant>,
    since: u64,
}

impl Warnings {
    /// Counts a warning; returns how many were not said since the last one when it is time to say one.
    pub(crate) fn due(&self, now: Instant, interval: Duration) -> Option<u64> {
        let mut unsaid = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if unsaid.last.is_some_and(|last| now < last + interval) {
            unsaid.since += 1;
            return None;
        }
        unsaid.last = Some(now);
        Some(std::mem::take(&mut unsaid.since))
    }
}

impl Core {
    pub(super) fn warn(&self, what: &'static str, err: &Error) {
        if let Some(suppressed) = self.warnings.due(Instant::now(), WARNING_INTERVAL) {
            tracing::warn!(error = %err, suppressed, "{what}");
        }
    }
}

impl Conn {
    /// Whether a call that failed is answered with nothing, because that is enough for it; says so in the log.
    pub(crate) fn makes_do(&self, is_enough: bool, err: &Error) -> bool {
        let makes_do = is_enough && err.is_retryable();
        if makes_do {
            self.owner.core.warn("a call failed and was answered with nothing", err);
        }
        makes_do
    }

    /// Whether what failed is answered with nothing, because there is no server and the connection can do without; says so
    /// in the log.
    pub(crate) fn does_without_any(&self, err: &Error) -> bool {
        self.makes_do(self.config().optional && err.kind() == ErrorKind::Connect, err)
    }

    /// Whether a call is to be answered with nothing, because that is enough for it or for the whole connection, and no
    /// server is there. The end of the first attempt to connect is waited for.
    pub(crate) async fn does_without(
        &self,
        manner: &Manner,
        deadline: Instant,
        is_enough: bool,
    ) -> bool {
        if !(self.config().optional || is_enough) {
            return false;
        }
        let absence = self.absence(manner, deadline).await;
        if let Some(err) = &absence {
            let what = "there is no server, and calls are answered with nothing";
            self.owner.core.warn(what, err);
        }
        absence.is_some()
    }

    /// Why a call has no server, when no link is up.
    pub(crate) async fn absence(&self, manner: &Manner, deadline: Instant) -> Option<Error> {
        let is_there = || self.pick(&manner.route, manner.read_from).is_some();
        // A call on a closed connection is a mistake with a server and without one.
        if is_there() || self.owner.start().is_err() {
            return None;
        }
        let mut status = self.owner.core.status.watch();
        let settled = status.wait_for(|now| now.is_settled() || now.is_usable());
        let _ = timeout_at(deadline, settled).await;
        if is_there() {
            return None;
        }
        let now = self.owner.core.status.watch().borrow().clone();
        // So are wrong credentials.
        if matches!(now.state(), State::End | State::Error) {
            return None;
        }
        // Of one kind whatever is behind it: there is no server, and nothing was sent.
        Some(match now.error {
            Some(err) if err.kind() == ErrorKind::Connect => err,
            Some(err) => {
                let what = format!("nobody to send it to: {err}");
                Error::new(ErrorKind::Connect, what).with_source(err)
            }
            None => Error::new(ErrorKind::Connect, "not connected yet"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_warning_per_interval_is_said_and_the_others_are_counted() {
        let warnings = Warnings::default();
        let due = || warnings.due(Instant::now(), WARNING_INTERVAL);
        assert_eq!(due(), Some(0));
        assert_eq!(due(), None);
        assert_eq!(due(), None);
        tokio::time::advance(WARNING_INTERVAL).await;
        assert_eq!(due(), Some(2));
        assert_eq!(due(), None);
    }
}
