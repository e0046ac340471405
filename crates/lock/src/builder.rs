use redbrick_core_conn::{Conn, Prefix};

use crate::{Lock, lock::Inner};

/// The settings of a [`Lock`], each with a default.
#[derive(Debug)]
#[must_use = "nothing is made until `build` is called"]
pub struct LockBuilder {
    conn: Conn,
    prefix: Prefix,
}

impl LockBuilder {
    pub(crate) fn new(conn: Conn) -> Self {
        Self { conn, prefix: Prefix::new("lock") }
    }

    /// Keeps what it stores apart from that of others on the same server: keys begin with `lock:name`.
    ///
    /// Default: they begin with `lock`.
    pub fn name(mut self, name: impl AsRef<[u8]>) -> Self {
        self.prefix = Prefix::new("lock").join(name);
        self
    }

    /// Makes it; sends nothing.
    #[must_use]
    pub fn build(self) -> Lock {
        Lock::from_inner(Inner { conn: self.conn, prefix: self.prefix })
    }
}
