use redbrick_core_conn::{Conn, Prefix};

use crate::{Resource, resource::Inner};

/// The settings of a [`Resource`], each with a default.
#[derive(Debug)]
#[must_use = "nothing is made until `build` is called"]
pub struct ResourceBuilder {
    conn: Conn,
    prefix: Prefix,
}

impl ResourceBuilder {
    pub(crate) fn new(conn: Conn) -> Self {
        Self { conn, prefix: Prefix::new("resource") }
    }

    /// Keeps what it stores apart from that of others on the same server: keys begin with `resource:name`.
    ///
    /// Default: they begin with `resource`.
    pub fn name(mut self, name: impl AsRef<[u8]>) -> Self {
        self.prefix = Prefix::new("resource").join(name);
        self
    }

    /// Makes it; sends nothing.
    #[must_use]
    pub fn build(self) -> Resource {
        Resource::from_inner(Inner { conn: self.conn, prefix: self.prefix })
    }
}
