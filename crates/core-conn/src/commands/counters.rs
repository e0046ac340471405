use bytes::Bytes;
use fred::interfaces::KeysInterface;

use crate::{Conn, Error, ErrorKind, Result, conn::Replay};

impl Conn {
    /// Returns the counter at `key`, or `None` when there is none.
    ///
    /// One round trip (`GET`).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Codec`] when the value is no whole number, as one that [`set`](Self::set) stored; those of
    /// [every call](Conn#errors-of-every-call). Nothing is changed.
    #[tracing::instrument(level = "debug", name = "core_conn.count", skip_all)]
    pub async fn count(&self, key: impl AsRef<[u8]>) -> Result<Option<i64>> {
        let stored: Option<Bytes> = self
            .keyed(Replay::Idempotent, key, |link, key| async move { link.get(key).await })
            .await?;
        let number = |stored: Bytes| std::str::from_utf8(&stored).ok()?.parse().ok();
        stored
            .map(|stored| {
                number(stored).ok_or_else(|| {
                    Error::new(
                        ErrorKind::Codec,
                        "the stored value is no counter; read it with `Conn::get`",
                    )
                })
            })
            .transpose()
    }

    /// Adds `by` to the counter at `key`, from 0 when there is none, and returns the new count.
    ///
    /// The counter is a plain decimal number that any program can read, and [`count`](Self::count) too; its
    /// time to live is left as it is.
    /// One round trip (`INCRBY`). It is never sent twice after it may have run.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Server`] when the value is no number or would leave the range
    /// of `i64`: it is unchanged. Those of [every call](Conn#errors-of-every-call); after [an unknown
    /// outcome](crate::Error::is_outcome_unknown) the counter may have counted.
    #[doc(alias("incr", "incrby"))]
    #[tracing::instrument(level = "debug", name = "core_conn.increment", skip_all)]
    pub async fn increment(&self, key: impl AsRef<[u8]>, by: i64) -> Result<i64> {
        self.keyed(Replay::IfUnsent, key, |link, key| async move { link.incr_by(key, by).await })
            .await
    }

    /// Takes `by` from the counter at `key`; otherwise as [`increment`](Self::increment) (`DECRBY`).
    ///
    /// # Errors
    ///
    /// As [`increment`](Self::increment).
    #[tracing::instrument(level = "debug", name = "core_conn.decrement", skip_all)]
    pub async fn decrement(&self, key: impl AsRef<[u8]>, by: i64) -> Result<i64> {
        self.keyed(Replay::IfUnsent, key, |link, key| async move { link.decr_by(key, by).await })
            .await
    }
}
