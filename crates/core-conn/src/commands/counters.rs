use super::{Call, FromReply, reply::Reply, request::Request};
use crate::{Conn, Error, ErrorKind, Result};

impl Conn {
    /// Returns the counter at `key`, or `None` when there is none.
    ///
    /// One round trip (`GET`), not gathered with other reads.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Codec`] when the value is no whole number, as one that [`set`](Self::set) stored;
    /// [`ErrorKind::WrongType`] when the key holds a list, a hash and so on; those of
    /// [every call](Conn#errors-of-every-call). Nothing is changed.
    pub fn count(&self, key: impl AsRef<[u8]>) -> Call<'_, Option<i64>> {
        Call::new(self, Ok(Request::Get(self.call_key(key))), |_, reply| number(reply)).alone()
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
    pub fn increment(&self, key: impl AsRef<[u8]>, by: i64) -> Call<'_, i64> {
        Call::reading(self, Ok(Request::Increment(self.call_key(key), by)))
    }

    /// Takes `by` from the counter at `key`; otherwise as [`increment`](Self::increment) (`DECRBY`).
    ///
    /// # Errors
    ///
    /// As [`increment`](Self::increment).
    #[doc(alias("decr", "decrby"))]
    pub fn decrement(&self, key: impl AsRef<[u8]>, by: i64) -> Call<'_, i64> {
        Call::reading(self, Ok(Request::Decrement(self.call_key(key), by)))
    }
}

/// A plain decimal number that may be missing.
pub(super) fn number(reply: Reply) -> Result<Option<i64>> {
    let stored = match reply {
        Reply::Nil => return Ok(None),
        Reply::Bytes(stored) => stored,
        other => return i64::from_reply(other).map(Some),
    };
    let number = std::str::from_utf8(&stored).ok().and_then(|text| text.parse().ok());
    number.map(Some).ok_or_else(|| {
        Error::new(ErrorKind::Codec, "the stored value is no counter; read it with `Conn::get`")
    })
}
