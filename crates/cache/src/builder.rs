use redbrick_core_conn::{Conn, Prefix};

use crate::{Cache, cache::Inner};

/// The settings of a [`Cache`], each with a default.
#[derive(Debug)]
#[must_use = "nothing is made until `build` is called"]
pub struct CacheBuilder {
    conn: Conn,
    prefix: Prefix,
}

impl CacheBuilder {
    pub(crate) fn new(conn: Conn) -> Self {
        Self { conn, prefix: Prefix::new("cache") }
    }

    /// Keeps what it stores apart from that of others on the same server: keys begin with `cache:name`.
    ///
    /// Default: they begin with `cache`.
    pub fn name(mut self, name: impl AsRef<[u8]>) -> Self {
        self.prefix = Prefix::new("cache").join(name);
        self
    }

    /// Makes it; sends nothing.
    #[must_use]
    pub fn build(self) -> Cache {
        Cache::from_inner(Inner { conn: self.conn, prefix: self.prefix })
    }
}
