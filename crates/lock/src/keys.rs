use std::num::NonZeroU16;

use redbrick_core_conn::{Key, Prefix};

/// In so many partitions the locks of a group lie: what there is one of in each is little.
const PARTITIONS: NonZeroU16 = NonZeroU16::new(256).expect("it is not zero");

/// Where a lock lies, and what belongs to it, all of it in one slot.
#[derive(Clone, Debug)]
pub(crate) struct LockKeys {
    pub(crate) lock: Key,
    pub(crate) queue: Key,
    /// The tokens that released it last.
    pub(crate) released: Key,
    /// The last fence of the partition, and the beginning of the channels on which processes are told of its locks.
    pub(crate) partition: Key,
}

impl LockKeys {
    pub(crate) fn new(group: &Prefix, name: &[u8]) -> Self {
        let partition = group.partition(name, PARTITIONS);
        let lock = partition.key(name);
        let (queue, released) = (lock.join("queue"), lock.join("released"));
        Self { lock, queue, released, partition: partition.to_key() }
    }
}

/// The name of the lock at a key of a group; nothing where none lies.
pub(crate) fn name_of(group: &Prefix, key: &[u8]) -> Option<Vec<u8>> {
    let name = group.partition_of(key)?.id_of(key)?;
    (LockKeys::new(group, &name).lock.as_ref() == key).then_some(name)
}
