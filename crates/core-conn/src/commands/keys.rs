use std::time::Duration;

use super::{Call, FromReply, request::Request};
use crate::{Conn, Error, ErrorKind, Result};

/// How long a key has to live.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "Redis knows these three")]
pub enum Ttl {
    /// There is no such key.
    #[default]
    Missing,
    /// The key stays until it is deleted.
    Persistent,
    /// The key expires after this time, to the millisecond.
    Expires(Duration),
}

impl Conn {
    /// Deletes `key`, and returns whether it was there.
    ///
    /// One round trip (`UNLINK`: the memory is freed in the background). When the connection breaks the
    /// call is repeated; it can then answer `false` although it deleted the key itself.
    ///
    /// # Errors
    ///
    /// Those of [every call](Conn#errors-of-every-call). After [an unknown outcome](Error::is_outcome_unknown) the key may be gone.
    #[doc(alias("del", "unlink"))]
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Call<'_, bool> {
        Call::reading(self, Ok(Request::Delete(vec![self.call_key(key)])))
    }

    /// Returns whether `key` exists.
    ///
    /// One round trip (`EXISTS`).
    ///
    /// # Errors
    ///
    /// Those of [every call](Conn#errors-of-every-call); nothing is changed.
    pub fn exists(&self, key: impl AsRef<[u8]>) -> Call<'_, bool> {
        Call::reading(self, Ok(Request::Exists(self.call_key(key))))
    }

    /// Lets `key` expire after `time_to_live` from now, by the server's clock, and returns whether it
    /// exists. An earlier expiry is replaced.
    ///
    /// One round trip (`PEXPIRE`). A repetition after a broken connection starts the time anew.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] below one millisecond or above 100 years; those of [every call](Conn#errors-of-every-call).
    pub fn expire(&self, key: impl AsRef<[u8]>, time_to_live: Duration) -> Call<'_, bool> {
        let request =
            millis(time_to_live).map(|millis| Request::Expire(self.call_key(key), millis));
        Call::reading(self, request)
    }

    /// Lets `key` stay until it is deleted, and returns whether it would have expired.
    ///
    /// One round trip (`PERSIST`). Repeated after a broken connection, it can answer `false` although it did it.
    ///
    /// # Errors
    ///
    /// Those of [every call](Conn#errors-of-every-call).
    pub fn persist(&self, key: impl AsRef<[u8]>) -> Call<'_, bool> {
        Call::reading(self, Ok(Request::Persist(self.call_key(key))))
    }

    /// Returns how long `key` has to live.
    ///
    /// One round trip (`PTTL`).
    ///
    /// # Errors
    ///
    /// Those of [every call](Conn#errors-of-every-call); nothing is changed.
    pub fn ttl(&self, key: impl AsRef<[u8]>) -> Call<'_, Ttl> {
        Call::new(self, Ok(Request::Ttl(self.call_key(key))), |_, reply| {
            Ok(match i64::from_reply(reply)? {
                -2 => Ttl::Missing,
                -1 => Ttl::Persistent,
                left => Ttl::Expires(Duration::from_millis(left.unsigned_abs())),
            })
        })
    }
}

/// The longest life that a key can be given, 100 years: far beyond any use, and far below what overflows the server. The
/// shortest is a millisecond.
pub const LONGEST_TIME_TO_LIVE: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);

/// What the server takes as a time to live.
pub(super) fn millis(time_to_live: Duration) -> Result<i64> {
    let millis = i64::try_from(time_to_live.as_millis()).ok();
    millis.filter(|millis| *millis >= 1 && time_to_live <= LONGEST_TIME_TO_LIVE).ok_or_else(|| {
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
