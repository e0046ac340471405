use std::num::NonZeroU16;

use redbrick_core_conn::{Key, Prefix};

/// In so many partitions the locks of a group lie: what there is one of in each is little.
const PARTITIONS: NonZeroU16 = NonZeroU16::new(256).expect("it is not zero");

/// Where something lies that one can have, and what belongs to it, all of it in one slot.
#[derive(Clone, Debug)]
pub(crate) struct LockKeys {
    /// Who has it.
    pub(crate) held: Key,
    pub(crate) queue: Key,
    /// The tokens that released it last.
    pub(crate) released: Key,
    /// The last fence of the partition, and the beginning of the channels on which processes are told of its locks.
    pub(crate) partition: Key,
}

impl LockKeys {
    /// Those of a lock.
    pub(crate) fn new(group: &Prefix, name: &[u8]) -> Self {
        Self::of(group, name, None)
    }

    /// Those of permits of that kind, which have nothing to do with the lock of their name.
    pub(crate) fn permits(group: &Prefix, name: &[u8], kind: &str) -> Self {
        Self::of(group, name, Some(kind))
    }

    fn of(group: &Prefix, name: &[u8], kind: Option<&str>) -> Self {
        let partition = group.partition(name, PARTITIONS);
        let lock = partition.key(name);
        let held = kind.map_or_else(|| lock.clone(), |kind| lock.join(kind));
        let (queue, released) = (held.join("queue"), held.join("released"));
        Self { held, queue, released, partition: partition.to_key() }
    }

    /// What each token has of permits.
    pub(crate) fn shares(&self) -> Key {
        self.held.join("shares")
    }
}

/// The name of the lock at a key of a group; nothing where none lies.
pub(crate) fn name_of(group: &Prefix, key: &[u8]) -> Option<Vec<u8>> {
    let name = group.partition_of(key)?.id_of(key)?;
    (LockKeys::new(group, &name).held.as_ref() == key).then_some(name)
}
