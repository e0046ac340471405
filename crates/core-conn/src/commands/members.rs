use std::fmt;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::{Call, Reply, list::decode_all, request::Request};
use crate::{Conn, Result};

/// The set at a key: members without an order, each there once.
///
/// Members are encoded as by [`Conn::set`], and are the same when their bytes are: use one type and one
/// [`Codec`](crate::Codec) for a set. One round trip per call.
///
/// ```no_run
/// # async fn f(conn: redbrick_core_conn::Conn) -> Result<(), redbrick_core_conn::Error> {
/// let online = conn.members("online");
/// online.add("ada").await?;
/// let all: Vec<String> = online.all().await?;
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// [`ErrorKind::WrongType`](crate::ErrorKind::WrongType) when the key holds something else;
/// [`ErrorKind::Codec`](crate::ErrorKind::Codec) as for [`Conn::get`] and [`Conn::set`]; those of [every
/// call](Conn#errors-of-every-call).
pub struct Members<'a> {
    conn: &'a Conn,
    key: Bytes,
}

impl Conn {
    /// Names the set at `key`; nothing is sent.
    pub fn members(&self, key: impl AsRef<[u8]>) -> Members<'_> {
        Members { conn: self, key: self.wire_key(key) }
    }
}

impl<'a> Members<'a> {
    /// Adds `member`, and returns whether it is new (`SADD`).
    #[doc(alias = "sadd")]
    pub fn add<T: Serialize + ?Sized>(&self, member: &T) -> Call<'a, bool> {
        let member = self.conn.codec().encode(member);
        let request = member.map(|member| Request::SetAdd(self.key.clone(), vec![member]));
        Call::reading(self.conn, request)
    }

    /// Adds `members`, and returns how many are new (`SADD`). Without any it asks nothing.
    pub fn extend<T: Serialize>(&self, members: impl IntoIterator<Item = T>) -> Call<'a, u64> {
        let codec = self.conn.codec();
        let members: Result<Vec<_>> =
            members.into_iter().map(|member| codec.encode(&member)).collect();
        let request = members.map(|members| match members.is_empty() {
            true => Request::Known(Reply::Int(0)),
            false => Request::SetAdd(self.key.clone(), members),
        });
        Call::reading(self.conn, request)
    }

    /// Removes `member`, and returns whether it was there (`SREM`).
    #[doc(alias = "srem")]
    pub fn remove<T: Serialize + ?Sized>(&self, member: &T) -> Call<'a, bool> {
        let member = self.conn.codec().encode(member);
        let request = member.map(|member| Request::SetRemove(self.key.clone(), vec![member]));
        Call::reading(self.conn, request)
    }

    /// Removes `members`, and returns how many were there (`SREM`). Without any it asks nothing.
    pub fn remove_many<T: Serialize>(&self, members: impl IntoIterator<Item = T>) -> Call<'a, u64> {
        let codec = self.conn.codec();
        let members: Result<Vec<_>> =
            members.into_iter().map(|member| codec.encode(&member)).collect();
        let request = members.map(|members| match members.is_empty() {
            true => Request::Known(Reply::Int(0)),
            false => Request::SetRemove(self.key.clone(), members),
        });
        Call::reading(self.conn, request)
    }

    /// Returns whether `member` is there (`SISMEMBER`).
    #[doc(alias = "sismember")]
    pub fn contains<T: Serialize + ?Sized>(&self, member: &T) -> Call<'a, bool> {
        let member = self.conn.codec().encode(member);
        let request = member.map(|member| Request::SetContains(self.key.clone(), member));
        Call::reading(self.conn, request)
    }

    /// Returns all members, in no order (`SMEMBERS`). A large set holds up the server and every call behind it.
    #[doc(alias = "smembers")]
    pub fn all<T: DeserializeOwned>(&self) -> Call<'a, Vec<T>> {
        let request = Request::Nested { name: "SMEMBERS", key: self.key.clone(), args: Vec::new() };
        Call::new(self.conn, Ok(request), decode_all)
    }

    /// Returns how many members there are (`SCARD`).
    #[doc(alias = "scard")]
    pub fn len(&self) -> Call<'a, u64> {
        Call::reading(self.conn, Ok(Request::SetLen(self.key.clone())))
    }
}

impl fmt::Debug for Members<'_> {
    /// Does not show the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Members").finish_non_exhaustive()
    }
}
