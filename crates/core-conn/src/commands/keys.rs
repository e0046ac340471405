use std::time::Duration;

use fred::interfaces::{ClientLike, KeysInterface};
use tokio::time::Instant;

use crate::{Conn, Error, ErrorKind, Result, conn::Replay};

/// How long a key has to live.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "Redis knows these three")]
pub enum Ttl {
    /// There is no such key.
    Missing,
    /// The key stays until it is deleted.
    Persistent,
    /// The key expires after this time, to the millisecond.
    Expires(Duration),
}

impl Conn {
    /// Asks the server for a sign of life, and returns how long it took.
    ///
    /// One round trip (`PING`); on Cluster to any one node.
    ///
    /// # Errors
    ///
    /// Those of [every call](Conn#errors-of-every-call); see [`ErrorKind`].
    #[tracing::instrument(level = "debug", name = "core_conn.ping", skip_all)]
    pub async fn ping(&self) -> Result<Duration> {
        let started = Instant::now();
        self.call(
            &self.manner(Replay::Idempotent),
            |link| async move { link.ping::<()>(None).await },
        )
        .await?;
        Ok(started.elapsed())
    }

    /// Deletes `key`, and returns whether it was there.
    ///
    /// One round trip (`UNLINK`: the memory is freed in the background). When the connection breaks the
    /// call is repeated; it can then answer `false` although it deleted the key itself.
    ///
    /// # Errors
    ///
    /// Those of [every call](Conn#errors-of-every-call). After [an unknown outcome](Error::is_outcome_unknown) the key may be gone.
    #[doc(alias("del", "unlink"))]
    #[tracing::instrument(level = "debug", name = "core_conn.delete", skip_all)]
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        let deleted: i64 = self
            .keyed(Replay::Idempotent, key, |link, key| async move { link.unlink(key).await })
            .await?;
        Ok(deleted > 0)
    }

    /// Returns whether `key` exists.
    ///
    /// One round trip (`EXISTS`).
    ///
    /// # Errors
    ///
    /// Those of [every call](Conn#errors-of-every-call); nothing is changed.
    #[tracing::instrument(level = "debug", name = "core_conn.exists", skip_all)]
    pub async fn exists(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        let found: i64 = self
            .keyed(Replay::Idempotent, key, |link, key| async move { link.exists(key).await })
            .await?;
        Ok(found > 0)
    }

    /// Lets `key` expire after `time_to_live` from now, by the server's clock, and returns whether it
    /// exists. An earlier expiry is replaced.
    ///
    /// One round trip (`PEXPIRE`). A repetition after a broken connection starts the time anew.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] below one millisecond or above 100 years; those of [every call](Conn#errors-of-every-call).
    #[tracing::instrument(level = "debug", name = "core_conn.expire", skip_all)]
    pub async fn expire(&self, key: impl AsRef<[u8]>, time_to_live: Duration) -> Result<bool> {
        let millis = millis(time_to_live)?;
        let found: i64 = self
            .keyed(Replay::Idempotent, key, |link, key| async move {
                link.pexpire(key, millis, None).await
            })
            .await?;
        Ok(found == 1)
    }

    /// Returns how long `key` has to live.
    ///
    /// One round trip (`PTTL`).
    ///
    /// # Errors
    ///
    /// Those of [every call](Conn#errors-of-every-call); nothing is changed.
    #[tracing::instrument(level = "debug", name = "core_conn.ttl", skip_all)]
    pub async fn ttl(&self, key: impl AsRef<[u8]>) -> Result<Ttl> {
        let left: i64 = self
            .keyed(Replay::Idempotent, key, |link, key| async move { link.pttl(key).await })
            .await?;
        Ok(match left {
            -2 => Ttl::Missing,
            -1 => Ttl::Persistent,
            left => Ttl::Expires(Duration::from_millis(left.unsigned_abs())),
        })
    }
}

/// The longest life a key can be given: far beyond any use, and far below what overflows the server.
const MAX_TIME_TO_LIVE: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);

/// What the server takes as a time to live.
pub(super) fn millis(time_to_live: Duration) -> Result<i64> {
    let millis = i64::try_from(time_to_live.as_millis()).ok();
    millis.filter(|millis| *millis >= 1 && time_to_live <= MAX_TIME_TO_LIVE).ok_or_else(|| {
        Error::new(ErrorKind::InvalidArgument, "a time to live is from 1 millisecond to 100 years")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_live_that_no_server_takes_is_refused_before_it_is_sent() {
        assert_eq!(millis(Duration::from_millis(1)).unwrap(), 1);
        assert_eq!(millis(Duration::from_micros(1999)).unwrap(), 1);
        for wrong in [Duration::ZERO, Duration::from_micros(999), Duration::MAX] {
            assert_eq!(millis(wrong).unwrap_err().kind(), ErrorKind::InvalidArgument, "{wrong:?}");
        }
    }
}
