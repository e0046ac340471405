use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    process,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// A key prefix that no other test and no other process uses: `name-<process>-<counter>`.
///
/// Tests that share a server keep apart by it and need not clean up. It holds no hash tag of its own; where keys must
/// share a slot, write `{prefix}` around it.
#[must_use]
pub fn unique(name: &str) -> String {
    static PROCESS: LazyLock<u64> = LazyLock::new(random);
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    format!("{name}-{:016x}-{}", *PROCESS, COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// A number that differs between calls and processes; good for names, not for secrets.
pub(crate) fn random() -> u64 {
    // Each `RandomState` has keys of its own, which come from the operating system once per thread.
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(process::id());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_are_equal() {
        assert_ne!(unique("a"), unique("a"));
        assert!(unique("a").starts_with("a-"));
    }
}
