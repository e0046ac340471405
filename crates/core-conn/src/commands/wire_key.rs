//! Keys as the server sees them.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};

use crate::Conn;

/// How much memory keys of one thread share. It is free again when none of them is in use.
const CHUNK: usize = 4096;
/// A key that is longer has memory of its own, so that little is wasted at the end of a chunk.
const LONGEST: usize = 256;

thread_local! {
    static CHUNKS: RefCell<BytesMut> = RefCell::default();
}

impl Conn {
    /// The key as the server sees it.
    pub(crate) fn wire_key(&self, key: impl AsRef<[u8]>) -> Bytes {
        [self.config().key_prefix.as_bytes(), key.as_ref()].concat().into()
    }

    /// The same for a call, which copies its key about and lets it go soon. Short ones lie next to each other, which spares the
    /// call two allocations; one that is kept would keep them all.
    pub(super) fn call_key(&self, key: impl AsRef<[u8]>) -> Bytes {
        let (prefix, key) = (self.config().key_prefix.as_bytes(), key.as_ref());
        let len = prefix.len() + key.len();
        if len > LONGEST {
            return self.wire_key(key);
        }
        let among_others = CHUNKS.try_with(|chunk| {
            let mut chunk = chunk.borrow_mut();
            if chunk.capacity() < len {
                *chunk = BytesMut::with_capacity(CHUNK);
            }
            chunk.extend_from_slice(prefix);
            chunk.extend_from_slice(key);
            chunk.split().freeze()
        });
        // A thread that is ending has none any more.
        among_others.unwrap_or_else(|_gone| self.wire_key(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_what_they_are_made_of_however_many_and_long() {
        let conn = Conn::connect_lazy(crate::Config::builder().key_prefix("shop")).unwrap();
        let keys: Vec<_> = (0..1000).map(|n| "k".repeat(n)).collect();
        let wired: Vec<_> = keys.iter().map(|key| conn.call_key(key)).collect();
        for (key, wired) in keys.iter().zip(wired) {
            assert_eq!(wired, format!("shop:{key}"));
        }
    }
}
