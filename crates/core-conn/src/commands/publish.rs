use serde::Serialize;

use super::{Call, request::Request};
use crate::Conn;

impl Conn {
    /// Publishes `message` to all who have subscribed to `channel`, and returns how many connections received it: all
    /// subscribers of one `Conn` count as one.
    ///
    /// One round trip (`PUBLISH`). The connection's prefix is put before the channel. The message is encoded as by
    /// [`set`](Self::set), with the codec of this handle. On Cluster all messages to one channel go through one
    /// node, so that they stay in order, and only the subscribers at that node are counted; between channels there is
    /// no order. It is not sent twice after it may have been published.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Codec`](crate::ErrorKind::Codec) when it cannot be encoded; those of [every
    /// call](Conn#errors-of-every-call). After [an unknown outcome](crate::Error::is_outcome_unknown) it may have been
    /// published.
    pub fn publish<T: Serialize + ?Sized>(
        &self,
        channel: impl AsRef<[u8]>,
        message: &T,
    ) -> Call<'_, u64> {
        let channel = self.wire_key(channel);
        let request =
            self.codec().encode(message).map(|message| Request::Publish(channel, message));
        Call::reading(self, request)
    }

    /// Publishes `message` to the shard channel `channel`, which on Cluster stays within the nodes that have its slot;
    /// returns how many connections received it. Redis has shard channels since 7.0.
    ///
    /// One round trip (`SPUBLISH`); otherwise as [`publish`](Self::publish).
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish); [`ErrorKind::Server`](crate::ErrorKind::Server) where the server has no shard
    /// channels.
    #[doc(alias = "spublish")]
    pub fn publish_sharded<T: Serialize + ?Sized>(
        &self,
        channel: impl AsRef<[u8]>,
        message: &T,
    ) -> Call<'_, u64> {
        let channel = self.wire_key(channel);
        let message = self.codec().encode(message);
        Call::reading(self, message.map(|message| Request::PublishSharded(channel, message)))
    }
}
