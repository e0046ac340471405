use redbrick_core_conn::{Conn, Prefix};

use crate::{Ratelimit, ratelimit::Inner};

/// The settings of a [`Ratelimit`], each with a default.
#[derive(Debug)]
#[must_use = "nothing is made until `build` is called"]
pub struct RatelimitBuilder {
    conn: Conn,
    prefix: Prefix,
}

impl RatelimitBuilder {
    pub(crate) fn new(conn: Conn) -> Self {
        Self { conn, prefix: Prefix::new("ratelimit") }
    }

    /// Keeps what it stores apart from that of others on the same server: keys begin with `ratelimit:name`.
    ///
    /// Default: they begin with `ratelimit`.
    pub fn name(mut self, name: impl AsRef<[u8]>) -> Self {
        self.prefix = Prefix::new("ratelimit").join(name);
        self
    }

    /// Makes it; sends nothing.
    #[must_use]
    pub fn build(self) -> Ratelimit {
        Ratelimit::from_inner(Inner { conn: self.conn, prefix: self.prefix })
    }
}
