use fred::interfaces::KeysInterface;

use crate::{Conn, Result, conn::Replay};

impl Conn {
    /// Adds `by` to the counter at `key`, from 0 when there is none, and returns the new count.
    ///
    /// The counter is a plain decimal number that any program can read; its time to live is left as it is.
    /// One round trip (`INCRBY`). It is never sent twice after it may have run.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Server`](crate::ErrorKind::Server) when the value is no number or would leave the range
    /// of `i64`: it is unchanged. Those of every call; after [an unknown
    /// outcome](crate::Error::is_outcome_unknown) the counter may have counted.
    #[tracing::instrument(level = "debug", name = "core_conn.increment", skip_all)]
    pub async fn increment(&self, key: impl AsRef<[u8]>, by: i64) -> Result<i64> {
        let key = self.wire_key(key);
        self.call(Replay::IfUnsent, |link| {
            let key = key.clone();
            async move { link.incr_by(key, by).await }
        })
        .await
    }

    /// Takes `by` from the counter at `key`; otherwise as [`increment`](Self::increment) (`DECRBY`).
    ///
    /// # Errors
    ///
    /// As [`increment`](Self::increment).
    #[tracing::instrument(level = "debug", name = "core_conn.decrement", skip_all)]
    pub async fn decrement(&self, key: impl AsRef<[u8]>, by: i64) -> Result<i64> {
        let key = self.wire_key(key);
        self.call(Replay::IfUnsent, |link| {
            let key = key.clone();
            async move { link.decr_by(key, by).await }
        })
        .await
    }
}
