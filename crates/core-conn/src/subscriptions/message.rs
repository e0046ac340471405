use std::{borrow::Cow, fmt, sync::Arc, time::Instant};

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::{Codec, Pattern, Result};

/// What a [`Subscription`](crate::Subscription) sees, in order. Its `Debug` shows neither channels nor payloads.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// Something was published.
    Message(Message),
    /// So many messages were dropped here, because this subscription was not read fast enough. After
    /// [`Overflow::Close`](crate::Overflow::Close) it is one, and the last event: more are not counted.
    Lagged(u64),
    /// The link to a server was lost, or did not work: of what this subscription has there, what was published from
    /// `since` on may be missing. Of what it has elsewhere, messages go on coming.
    #[non_exhaustive]
    Gap {
        /// The last moment at which the link is known to have worked.
        since: Instant,
    },
    /// Everything that is subscribed to arrives again.
    Resumed,
}

/// One message. Cloning it does not copy the payload.
#[derive(Clone)]
pub struct Message {
    pub(super) channel: Bytes,
    pub(super) payload: Bytes,
    pub(super) codec: Codec,
    pub(super) pattern: Option<Arc<Pattern>>,
}

impl Message {
    /// Returns the channel, without the connection's prefix. [`Prefix::id_of`](crate::Prefix::id_of) reads the id out
    /// of one that a prefix made.
    #[must_use]
    pub fn channel(&self) -> &[u8] {
        &self.channel
    }

    /// Returns the channel as a text; what is no UTF-8 in it is replaced.
    #[must_use]
    pub fn channel_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.channel)
    }

    /// Returns the pattern that the message came through; none where it came by the name of its channel.
    #[must_use]
    pub fn pattern(&self) -> Option<&Pattern> {
        self.pattern.as_deref()
    }

    /// Decodes what was published, as [`Codec::decode`] with the codec of the handle that subscribed: with
    /// [`Codec::Plain`] what other programs publish.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Codec`](crate::ErrorKind::Codec) when it is no such value.
    pub fn value<T: DeserializeOwned>(&self) -> Result<T> {
        self.codec.decode(&self.payload).map_err(|err| err.context("a message"))
    }

    /// Returns what was published, as it is.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// How much room it takes in a queue.
    pub(super) fn size(&self) -> usize {
        self.payload.len() + self.channel.len()
    }
}

impl fmt::Debug for Message {
    /// Shows neither the channel nor the payload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("payload_len", &self.payload.len()).finish_non_exhaustive()
    }
}
