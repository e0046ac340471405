use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use fred::types::SetOptions;
use serde::{Serialize, de::DeserializeOwned};

use super::{Call, keys::millis, reply::Reply, request::Request};
use crate::{Codec, Conn, FromReply, Replay, Result};

impl Conn {
    /// Returns the value at `key`, or `None` when there is none.
    ///
    /// A value that redbrick wrote says itself whether it is MessagePack or JSON. What another program wrote is
    /// read by a handle [with](Self::with_codec) [`Codec::Plain`], and by it alone.
    ///
    /// A key that holds a list, a hash and so on counts as missing, unless the call is made [`alone`](Call::alone).
    ///
    /// One round trip (`GET`). Reads that tasks make at the same time leave together: while some are under way, those that
    /// come gather, and go as one `MGET` for all, on Cluster one for each slot. A call that finds nobody is not held up
    /// by that, and an error of one caller's key is no other's.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Codec`](crate::ErrorKind::Codec) when the value was not written by redbrick, by a newer release, or does not have the shape
    /// of `T`; [`ErrorKind::WrongType`](crate::ErrorKind::WrongType), `alone`, when the key holds a list, a hash and so on; those of [every
    /// call](Conn#errors-of-every-call). Nothing is changed.
    pub fn get<T: DeserializeOwned>(&self, key: impl AsRef<[u8]>) -> Call<'_, Option<T>> {
        Call::new(self, Ok(Request::Get(self.call_key(key))), decode)
    }

    /// Returns what is stored at `key` byte for byte, whatever the codec: for those who know themselves what it means.
    ///
    /// Nothing is copied: the bytes share their memory with everything that was read from the server with them. Copy what you keep.
    /// Otherwise as [`get`](Self::get).
    ///
    /// # Errors
    ///
    /// Those of [`get`](Self::get), but for [`ErrorKind::Codec`](crate::ErrorKind::Codec).
    pub fn get_bytes(&self, key: impl AsRef<[u8]>) -> Call<'_, Option<Bytes>> {
        Call::new(self, Ok(Request::Get(self.call_key(key))), stored)
    }

    /// Stores `value` at `key`, replacing what is there.
    ///
    /// Await it as it is, or say more first:
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn f(conn: redbrick_core_conn::Conn) -> Result<(), redbrick_core_conn::Error> {
    /// conn.set("greeting", "hello").await?;
    /// conn.set("code", &1234).time_to_live(Duration::from_secs(300)).await?;
    /// let first: bool = conn.set("seen:42", &true).if_absent().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// The value carries a header and is for redbrick to read, unless the codec is [`Codec::Plain`]. Counters are
    /// another matter: they are plain numbers, written by [`increment`](Self::increment) and read by
    /// [`count`](Self::count).
    #[doc(alias("setex", "setnx", "psetex"))]
    pub fn set<T: Serialize + ?Sized>(&self, key: impl AsRef<[u8]>, value: &T) -> Set<'_> {
        self.set_encoded(self.call_key(key), self.codec().encode(value))
    }

    /// Stores bytes at `key` as they are, whatever the codec, for [`get_bytes`](Self::get_bytes); otherwise as [`set`](Self::set).
    pub fn set_bytes(&self, key: impl AsRef<[u8]>, value: Bytes) -> Set<'_> {
        self.set_encoded(self.call_key(key), Ok(value))
    }

    fn set_encoded(&self, key: Bytes, value: Result<Bytes>) -> Set<'_> {
        let request = value.map(|value| Request::Set { key, value, millis: None, condition: None });
        Set(Call::reading(self, request))
    }
}

/// A value that may be missing.
pub(super) fn decode<T: DeserializeOwned>(codec: Codec, reply: Reply) -> Result<Option<T>> {
    stored(codec, reply)?.map(|stored| codec.decode(&stored)).transpose()
}

/// The same as it is stored.
pub(super) fn stored(_: Codec, reply: Reply) -> Result<Option<Bytes>> {
    match reply {
        Reply::Nil => Ok(None),
        Reply::Bytes(stored) => Ok(Some(stored)),
        other => Err(other.unexpected("bytes")),
    }
}

/// A [`Conn::set`] that has not been sent yet; awaiting it sends it.
///
/// It resolves to nothing, or to `bool` with a condition: whether the value was stored.
///
/// One round trip (`SET`). A plain one is repeated after a broken connection, which can also replace what
/// somebody else stored in between; a conditional one is repeated only when it surely did not run.
///
/// # Errors
///
/// [`ErrorKind::Codec`](crate::ErrorKind::Codec) when the value cannot be encoded and
/// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) when the time to live is below one millisecond or
/// above 100 years, both before anything is sent; those of [every call](Conn#errors-of-every-call). After [an unknown
/// outcome](crate::Error::is_outcome_unknown) the value may be stored.
#[must_use = "nothing is stored until it is awaited"]
pub struct Set<'a, Outcome = ()>(Call<'a, Outcome>);

impl<'a, Outcome> Set<'a, Outcome> {
    /// Lets the key expire after `time_to_live`, by the server's clock.
    ///
    /// Default: it stays, and loses the expiry it had.
    #[doc(alias("ttl", "px", "ex"))]
    pub fn time_to_live(self, time_to_live: Duration) -> Self {
        Self(self.0.alter(|request| match request {
            Request::Set { key, value, condition, .. } => {
                Ok(Request::Set { key, value, millis: Some(millis(time_to_live)?), condition })
            }
            other => Ok(other),
        }))
    }

    /// Stores only when there is no such key (`NX`).
    #[doc(alias = "nx")]
    pub fn if_absent(self) -> Set<'a, bool> {
        self.only(SetOptions::NX)
    }

    /// Stores only when there is such a key (`XX`).
    #[doc(alias = "xx")]
    pub fn if_present(self) -> Set<'a, bool> {
        self.only(SetOptions::XX)
    }

    /// See [`Call::timeout`].
    pub fn timeout(self, timeout: Duration) -> Self {
        Self(self.0.timeout(timeout))
    }

    /// See [`Call::replay`].
    pub fn replay(self, replay: Replay) -> Self {
        Self(self.0.replay(replay))
    }

    /// See [`Call::or_empty`].
    pub fn or_empty(self) -> Self {
        Self(self.0.or_empty())
    }

    fn only(self, only: SetOptions) -> Set<'a, bool> {
        let call = self.0.alter(|request| match request {
            Request::Set { key, value, millis, .. } => {
                Ok(Request::Set { key, value, millis, condition: Some(only) })
            }
            other => Ok(other),
        });
        // A refused one is answered with nothing.
        Set(call
            .read_as(|_, reply| Option::<Reply>::from_reply(reply).map(|reply| reply.is_some())))
    }
}

impl<Outcome> fmt::Debug for Set<'_, Outcome> {
    /// Shows neither the key nor the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Set").field(&self.0).finish()
    }
}

impl<'a, Outcome> From<Set<'a, Outcome>> for Call<'a, Outcome> {
    fn from(set: Set<'a, Outcome>) -> Self {
        set.0
    }
}

impl<'a, Outcome: 'a> Future for Set<'a, Outcome> {
    type Output = Result<Outcome>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Outcome>> {
        Pin::new(&mut self.0).poll(cx)
    }
}
