//! Typed commands on a [`Conn`].
//!
//! A key is given without the configured prefix. Its bytes are sent as they are; the prefix goes before
//! them.

mod counters;
mod keys;
mod values;

use bytes::Bytes;

use crate::Conn;

pub use keys::Ttl;
pub use values::{Set, SetIf};

impl Conn {
    /// The key as the server sees it.
    fn wire_key(&self, key: impl AsRef<[u8]>) -> Bytes {
        let (prefix, key) = (self.config().key_prefix.as_bytes(), key.as_ref());
        [prefix, key].concat().into()
    }
}
