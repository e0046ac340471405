use redbrick_core_conn::{Conn, Prefix};

use crate::{Pubsub, pubsub::Inner};

/// The settings of a [`Pubsub`], each with a default.
#[derive(Debug)]
#[must_use = "nothing is made until `build` is called"]
pub struct PubsubBuilder {
    conn: Conn,
    prefix: Prefix,
}

impl PubsubBuilder {
    pub(crate) fn new(conn: Conn) -> Self {
        Self { conn, prefix: Prefix::new("pubsub") }
    }

    /// Keeps what it stores apart from that of others on the same server: keys begin with `pubsub:name`.
    ///
    /// Default: they begin with `pubsub`.
    pub fn name(mut self, name: impl AsRef<[u8]>) -> Self {
        self.prefix = Prefix::new("pubsub").join(name);
        self
    }

    /// Makes it; sends nothing.
    #[must_use]
    pub fn build(self) -> Pubsub {
        Pubsub::from_inner(Inner { conn: self.conn, prefix: self.prefix })
    }
}
