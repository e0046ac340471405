use redbrick_core_conn::{Conn, Prefix};

use crate::{Session, session::Inner};

/// The settings of a [`Session`], each with a default.
#[derive(Debug)]
#[must_use = "nothing is made until `build` is called"]
pub struct SessionBuilder {
    conn: Conn,
    prefix: Prefix,
}

impl SessionBuilder {
    pub(crate) fn new(conn: Conn) -> Self {
        Self { conn, prefix: Prefix::new("session") }
    }

    /// Keeps what it stores apart from that of others on the same server: keys begin with `session:name`.
    ///
    /// Default: they begin with `session`.
    pub fn name(mut self, name: impl AsRef<[u8]>) -> Self {
        self.prefix = Prefix::new("session").join(name);
        self
    }

    /// Makes it; sends nothing.
    #[must_use]
    pub fn build(self) -> Session {
        Session::from_inner(Inner { conn: self.conn, prefix: self.prefix })
    }
}
