use std::{fmt, time::Instant};

use crate::{Error, Message};

/// What a [`Subscription`](crate::Subscription) sees, in order. Its `Debug` shows neither channels nor payloads.
#[non_exhaustive]
pub enum Received<T> {
    /// Something was published.
    Message(Message<T>),
    /// Something was published that is no message, or whose payload is of another type.
    #[non_exhaustive]
    Undecodable {
        /// The channel it came over, without the connection's prefix.
        channel: Vec<u8>,
        /// What is wrong with it: [`Error::Undecodable`].
        error: Error,
    },
    /// So many messages were dropped here, because this subscription was not read fast enough.
    Lagged(u64),
    /// The link to a server was lost: what was published from `since` on may be missing.
    #[non_exhaustive]
    Gap {
        /// The last moment at which the link is known to have worked.
        since: Instant,
    },
    /// Everything that is subscribed to arrives again.
    Resumed,
}

impl<T> Received<T> {
    /// Returns the message, where it is one.
    #[must_use]
    pub fn message(self) -> Option<Message<T>> {
        match self {
            Self::Message(message) => Some(message),
            _ => None,
        }
    }
}

impl<T> fmt::Debug for Received<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(message) => f.debug_tuple("Message").field(message).finish(),
            Self::Undecodable { error, .. } => {
                f.debug_struct("Undecodable").field("error", error).finish_non_exhaustive()
            }
            Self::Lagged(lost) => f.debug_tuple("Lagged").field(lost).finish(),
            Self::Gap { since } => f.debug_struct("Gap").field("since", since).finish(),
            Self::Resumed => f.write_str("Resumed"),
        }
    }
}
