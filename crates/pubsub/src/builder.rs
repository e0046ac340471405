use std::{fmt, num::NonZeroUsize, sync::Arc};

use redbrick_core_conn::{
    Codec, Conn, DEFAULT_SUBSCRIPTION_BYTES, DEFAULT_SUBSCRIPTION_MESSAGES, Overflow, ReadFrom,
};

use crate::{PubSub, pubsub::Core};

/// The settings of a [`PubSub`], each with a default.
#[must_use = "nothing is made until `build` is called"]
pub struct PubSubBuilder {
    conn: Conn,
    source: String,
    limits: Limits,
}

/// How much may wait for one subscriber, what happens beyond, and whether it begins without a server.
#[derive(Clone)]
pub(crate) struct Limits {
    pub(crate) messages: NonZeroUsize,
    pub(crate) bytes: usize,
    pub(crate) overflow: Overflow,
    pub(crate) lazy: bool,
}

impl PubSubBuilder {
    pub(crate) fn new(conn: Conn, source: String) -> Self {
        let limits = Limits {
            messages: DEFAULT_SUBSCRIPTION_MESSAGES,
            bytes: DEFAULT_SUBSCRIPTION_BYTES,
            overflow: Overflow::default(),
            lazy: false,
        };
        Self { conn, source, limits }
    }

    /// Sets how many messages may wait for each subscription and each handler.
    ///
    /// Default: 1024.
    pub fn queue_messages(mut self, messages: NonZeroUsize) -> Self {
        self.limits.messages = messages;
        self
    }

    /// Sets how many bytes of messages may wait for each of them; one message may be larger than that.
    ///
    /// Default: 16 MiB.
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.limits.bytes = bytes;
        self
    }

    /// Sets what happens when a message comes and such a queue is full.
    ///
    /// Default: [`Overflow::DropOldest`].
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.limits.overflow = overflow;
        self
    }

    /// Makes it; sends nothing.
    #[must_use]
    pub fn build(self) -> PubSub {
        let Self { conn, source, limits } = self;
        // A replica may not have heard yet what a room's history holds.
        let conn = conn.with_read_from(ReadFrom::Master);
        let plain = conn.with_codec(Codec::Plain);
        PubSub::from_core(Arc::new(Core { conn, plain, source, limits }))
    }
}

impl fmt::Debug for PubSubBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PubSubBuilder").field("source", &self.source).finish_non_exhaustive()
    }
}
