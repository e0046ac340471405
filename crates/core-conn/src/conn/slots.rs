//! What a cluster asks of the keys of one command.

use bytes::Bytes;
use fred::util::redis_keyslot;

use super::Conn;
use crate::{Error, Result};

impl Conn {
    /// Refuses keys that one command cannot reach together.
    pub(crate) fn check_slots(&self, keys: &[Bytes]) -> Result<()> {
        if self.config().endpoint.is_cluster() { in_one_slot(keys) } else { Ok(()) }
    }
}

/// Refuses keys of several slots.
fn in_one_slot(keys: &[Bytes]) -> Result<()> {
    let Some((first, others)) = keys.split_first() else { return Ok(()) };
    if others.is_empty() || others.iter().all(|key| redis_keyslot(key) == redis_keyslot(first)) {
        return Ok(());
    }
    Err(Error::cross_slot())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn keys_of_several_slots_are_refused() {
        let keys = |keys: &[&str]| {
            keys.iter().map(|key| Bytes::copy_from_slice(key.as_bytes())).collect::<Vec<_>>()
        };
        in_one_slot(&keys(&[])).unwrap();
        in_one_slot(&keys(&["a"])).unwrap();
        in_one_slot(&keys(&["{x}a", "{x}b", "x"])).unwrap();
        let err = in_one_slot(&keys(&["a", "b"])).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::InvalidArgument);
    }
}
