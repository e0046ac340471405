use std::{fmt, time::Instant};

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::{Codec, Result};

/// What a [`Subscription`](crate::Subscription) sees, in order.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// Something was published.
    Message(Message),
    /// So many messages were dropped here, because this subscription was not read fast enough.
    Lagged(u64),
    /// The link to the server was lost, or did not work: what was published from `since` on may be missing.
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
}

impl Message {
    /// Returns the channel, without the connection's prefix.
    #[must_use]
    pub fn channel(&self) -> &[u8] {
        &self.channel
    }

    /// Decodes what was published, as [`Codec::decode`] with the codec of the handle that subscribed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Codec`](crate::ErrorKind::Codec) when it is no such value.
    pub fn value<T: DeserializeOwned>(&self) -> Result<T> {
        self.codec.decode(&self.payload)
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
