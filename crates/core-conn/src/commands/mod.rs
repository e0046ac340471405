//! Typed commands on a [`Conn`].
//!
//! A key is given without the configured prefix. Its bytes are sent as they are; the prefix goes before
//! them.

mod counters;
mod keys;
mod values;

use bytes::Bytes;
use fred::{
    clients::{Client, WithOptions},
    error::Error as FredError,
    util::redis_keyslot,
};

use crate::{
    Conn, ReadFrom, Replay, Result,
    conn::{Manner, Route},
};

pub use keys::Ttl;
pub use values::Set;

impl Conn {
    /// Runs a command on one key.
    async fn keyed<T, F>(
        &self,
        replay: Replay,
        key: impl AsRef<[u8]>,
        command: impl Fn(WithOptions<Client>, Bytes) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, FredError>>,
    {
        let key = self.wire_key(key);
        let mut manner = self.manner(replay);
        manner.route = Route::Slot(redis_keyslot(&key));
        self.call(&manner, |link| command(link, key.clone())).await
    }

    pub(crate) fn manner(&self, replay: Replay) -> Manner {
        Manner {
            route: Route::Any,
            replay,
            read_from: ReadFrom::Master,
            timeout: self.command_timeout(),
        }
    }

    /// The key as the server sees it.
    fn wire_key(&self, key: impl AsRef<[u8]>) -> Bytes {
        let (prefix, key) = (self.config().key_prefix.as_bytes(), key.as_ref());
        [prefix, key].concat().into()
    }
}
