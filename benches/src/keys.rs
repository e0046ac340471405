use std::sync::Arc;

use redbrick_core_conn::{Bytes, Codec, Conn};

/// How long the values are that callers store: 100 bytes.
pub const VALUE_LEN: usize = 100;
/// How long a large value is, where some are: 64 KiB.
pub(crate) const LARGE_LEN: usize = 64 * 1024;

const KEYS: u64 = 10_000;
/// Where some values are large, one of so many is.
const LARGE_EVERY: u64 = 20;

/// The 10,000 keys that tasks choose from.
#[derive(Clone, Debug)]
pub struct Keys {
    names: Arc<[String]>,
    some_large: bool,
    /// How long a value is as redbrick stores it, the codec's header with it: a usual one and a large one.
    stored: [usize; 2],
}

impl Keys {
    /// Names keys that lie in all slots of a cluster.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        Self::named(|number| format!("{prefix}:{number}"))
    }

    /// Names keys that share a hash tag, and so a slot of a cluster.
    #[must_use]
    pub fn tagged(prefix: &str) -> Self {
        Self::named(|number| format!("{prefix}:{{one}}:{number}"))
    }

    /// Makes one of 20 values 64 KiB long.
    #[must_use]
    pub fn some_large(mut self) -> Self {
        self.some_large = true;
        self
    }

    fn named(name: impl Fn(u64) -> String) -> Self {
        let stored = [VALUE_LEN, LARGE_LEN].map(|len| stored(len).len());
        Self { names: (0..KEYS).map(name).collect(), some_large: false, stored }
    }

    /// The key that a random number chooses.
    pub(crate) fn pick(&self, random: u64) -> &str {
        &self.names[Self::at(random)]
    }

    /// Where that key is among all.
    pub(crate) fn at(random: u64) -> usize {
        usize::try_from(random % KEYS).expect("it is below the number of keys")
    }

    /// All of them.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether the value of that key is a large one.
    pub(crate) fn is_large(&self, random: u64) -> bool {
        self.some_large && (random % KEYS).is_multiple_of(LARGE_EVERY)
    }

    /// How long the value of that key is to redbrick's callers.
    pub(crate) fn len(&self, random: u64) -> usize {
        if self.is_large(random) { LARGE_LEN } else { VALUE_LEN }
    }

    /// How long the value of that key is to the server.
    pub(crate) fn stored_len(&self, random: u64) -> usize {
        self.stored[usize::from(self.is_large(random))]
    }

    /// Stores a value at each, through redbrick: everybody reads what redbrick wrote.
    pub(crate) async fn fill(&self, conn: &Conn) {
        for number in 0..KEYS {
            let value = value(self.len(number));
            conn.set(self.pick(number), &value).await.expect("the server takes a value");
        }
    }
}

/// A value of redbrick's callers.
pub(crate) fn value(len: usize) -> Bytes {
    vec![b'x'; len].into()
}

/// What redbrick stores for it, which is what the others read and write.
pub(crate) fn stored(len: usize) -> Bytes {
    Codec::default().encode(&value(len)).expect("bytes can be encoded")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_twenty_is_large_where_some_are() {
        let keys = Keys::new("k").some_large();
        assert_eq!((0..KEYS).filter(|&number| keys.is_large(number)).count(), 500);
        assert_eq!((keys.len(20), keys.len(21)), (LARGE_LEN, VALUE_LEN));
        assert!(!Keys::new("k").is_large(20));
    }
}
