//! How links that listen are doing.

use std::{fmt, time::Duration};

use tokio::time::Instant;

use crate::{Error, telemetry::Presence};

/// How the links are doing over which the server speaks of its own accord.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Listening {
    /// Whether everything that was asked for arrives, as far as is known.
    pub live: bool,
    /// How long ago the one of them that has been silent longest was last known to work.
    pub unproven_for: Duration,
    /// Why something does not arrive.
    pub error: Option<Error>,
}

/// How one link is doing.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    /// All that is wanted of it arrives.
    pub(crate) live: bool,
    /// The last moment at which it is known to have worked.
    pub(crate) proven: Instant,
    /// Why it does not, or did not.
    pub(crate) error: Option<Error>,
    pub(crate) presence: Presence,
}

impl Condition {
    pub(crate) fn new() -> Self {
        let presence = Presence::default();
        Self { live: false, proven: Instant::now(), error: None, presence }
    }

    fn and(self, other: Self) -> Self {
        Self {
            live: self.live && other.live,
            proven: self.proven.min(other.proven),
            error: self.error.or(other.error),
            presence: self.presence,
        }
    }
}

impl Listening {
    /// The whole of several links; none when there are none.
    pub(crate) fn of(links: impl Iterator<Item = Condition>) -> Option<Self> {
        links.reduce(Condition::and).map(|all| Self {
            live: all.live,
            unproven_for: all.proven.elapsed(),
            error: all.error,
        })
    }
}

impl fmt::Display for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.live {
            return f.write_str("live");
        }
        write!(f, "interrupted, last known to work {:.1?} ago", self.unproven_for)?;
        match &self.error {
            Some(error) => write!(f, " ({error})"),
            None => Ok(()),
        }
    }
}
