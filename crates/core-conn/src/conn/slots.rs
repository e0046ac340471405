//! What a cluster asks of the keys of one command.

use bytes::Bytes;
use fred::util::redis_keyslot;

use super::Conn;
use crate::{Error, Result};

impl Conn {
    /// Returns whether one call can touch all of these keys: on Cluster they have to lie in one slot, elsewhere they always can. Nothing
    /// is sent.
    #[must_use]
    pub fn in_one_slot<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> bool {
        if !self.config().endpoint.is_cluster() {
            return true;
        }
        let mut slots = keys.into_iter().map(|key| redis_keyslot(&self.wire_key(key)));
        let first = slots.next();
        slots.all(|slot| Some(slot) == first)
    }

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

    #[tokio::test]
    async fn keys_are_in_one_slot_by_their_tags_on_a_cluster_and_always_elsewhere() {
        let conn = |url: &str| Conn::connect_lazy(url).unwrap();
        let (single, cluster) = (conn("redis://127.0.0.1:1"), conn("redis-cluster://127.0.0.1:1"));
        for (keys, together) in
            [(vec![], true), (vec!["{x}a", "{x}b", "x"], true), (vec!["a", "b"], false)]
        {
            assert!(single.in_one_slot(&keys));
            assert_eq!(cluster.in_one_slot(&keys), together, "{keys:?}");
        }
    }

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
