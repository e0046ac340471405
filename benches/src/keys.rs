use std::sync::Arc;

use redbrick_core_conn::{Bytes, Codec, Conn};

/// How long the values are that callers store: 100 bytes.
pub const VALUE_LEN: usize = 100;

const KEYS: usize = 10_000;

/// The 10,000 keys that tasks choose from, with what is stored there.
#[derive(Clone, Debug)]
pub struct Keys {
    names: Arc<[String]>,
    stored_len: usize,
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

    fn named(name: impl Fn(usize) -> String) -> Self {
        Self { names: (0..KEYS).map(name).collect(), stored_len: stored(VALUE_LEN).len() }
    }

    /// The key that a random number chooses.
    #[must_use]
    pub fn pick(&self, random: u64) -> &str {
        let at = random % KEYS as u64;
        &self.names[usize::try_from(at).expect("it is below the number of keys")]
    }

    /// How long a value of 100 bytes is as redbrick stores it, the codec's header and a length with it.
    pub(crate) fn stored_len(&self) -> usize {
        self.stored_len
    }

    /// Stores a value at each, through redbrick, as everybody reads what redbrick wrote.
    pub(crate) async fn fill(&self, conn: &Conn) {
        self.fill_with(conn, |_| VALUE_LEN).await;
    }

    /// Stores values of different lengths, which the number of the key decides.
    pub(crate) async fn fill_with(&self, conn: &Conn, len: impl Fn(usize) -> usize) {
        for (number, name) in self.names.iter().enumerate() {
            conn.set(name, &value(len(number))).await.expect("the server takes a value");
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
