use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::{Call, FromReply, counters, reply::Reply, request::Request, values};
use crate::{Codec, Conn, Error, ErrorKind, Result};

/// The hash at a key: fields with a value each.
///
/// Values are encoded as by [`Conn::set`]; fields are texts or bytes as they are. One round trip per call.
///
/// ```no_run
/// # async fn f(conn: redbrick_core_conn::Conn) -> Result<(), redbrick_core_conn::Error> {
/// let seats = conn.hash("seats");
/// seats.set("12a", "Ada").await?;
/// let who: Option<String> = seats.get("12a").await?;
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// [`ErrorKind::WrongType`] when the key holds something else; [`ErrorKind::Codec`] as for [`Conn::get`] and
/// [`Conn::set`]; those of [every call](Conn#errors-of-every-call).
pub struct Hash<'a> {
    conn: &'a Conn,
    key: Bytes,
}

impl Conn {
    /// Names the hash at `key`; nothing is sent.
    pub fn hash(&self, key: impl AsRef<[u8]>) -> Hash<'_> {
        Hash { conn: self, key: self.wire_key(key) }
    }
}

impl<'a> Hash<'a> {
    /// Stores `value` in `field`, and returns whether the field is new (`HSET`).
    #[doc(alias = "hset")]
    pub fn set<T: Serialize + ?Sized>(&self, field: impl AsRef<[u8]>, value: &T) -> Call<'a, bool> {
        let field = bytes(field);
        let value = self.conn.codec().encode(value);
        let request = value.map(|value| Request::HashSet(self.key.clone(), vec![(field, value)]));
        Call::reading(self.conn, request)
    }

    /// Stores several fields at once, and returns how many are new (`HSET`). Without any it asks nothing.
    pub fn set_many<F, T>(&self, fields: impl IntoIterator<Item = (F, T)>) -> Call<'a, u64>
    where
        F: AsRef<[u8]>,
        T: Serialize,
    {
        let codec = self.conn.codec();
        let fields =
            fields.into_iter().map(|(field, value)| Ok((bytes(field), codec.encode(&value)?)));
        let request = fields.collect::<Result<Vec<_>>>().map(|fields| match fields.is_empty() {
            true => Request::Known(Reply::Int(0)),
            false => Request::HashSet(self.key.clone(), fields),
        });
        Call::reading(self.conn, request)
    }

    /// Returns the value in `field` (`HGET`).
    #[doc(alias = "hget")]
    pub fn get<T: DeserializeOwned>(&self, field: impl AsRef<[u8]>) -> Call<'a, Option<T>> {
        Call::new(self.conn, Ok(Request::HashGet(self.key.clone(), bytes(field))), values::decode)
    }

    /// Returns every field with its value (`HGETALL`). A large hash holds up the server and every call behind it.
    ///
    /// One value that cannot be read, or one field that is not UTF-8, is an [`ErrorKind::Codec`] for them all.
    #[doc(alias = "hgetall")]
    pub fn get_all<T: DeserializeOwned>(&self) -> Call<'a, BTreeMap<String, T>> {
        let request = Request::Nested { name: "HGETALL", key: self.key.clone(), args: Vec::new() };
        Call::new(self.conn, Ok(request), read_all)
    }

    /// Deletes `field`, and returns whether it was there (`HDEL`).
    #[doc(alias = "hdel")]
    pub fn delete(&self, field: impl AsRef<[u8]>) -> Call<'a, bool> {
        let request = Request::HashDelete(self.key.clone(), vec![bytes(field)]);
        Call::reading(self.conn, Ok(request))
    }

    /// Deletes several fields, and returns how many were there (`HDEL`). Without any it asks nothing.
    pub fn delete_many<F: AsRef<[u8]>>(
        &self,
        fields: impl IntoIterator<Item = F>,
    ) -> Call<'a, u64> {
        let fields: Vec<_> = fields.into_iter().map(bytes).collect();
        let request = match fields.is_empty() {
            true => Request::Known(Reply::Int(0)),
            false => Request::HashDelete(self.key.clone(), fields),
        };
        Call::reading(self.conn, Ok(request))
    }

    /// Returns whether `field` is there (`HEXISTS`).
    #[doc(alias = "hexists")]
    pub fn contains(&self, field: impl AsRef<[u8]>) -> Call<'a, bool> {
        let request = Request::HashContains(self.key.clone(), bytes(field));
        Call::reading(self.conn, Ok(request))
    }

    /// Returns how many fields there are (`HLEN`).
    #[doc(alias = "hlen")]
    pub fn len(&self) -> Call<'a, u64> {
        Call::reading(self.conn, Ok(Request::HashLen(self.key.clone())))
    }

    /// Adds `by` to the counter in `field`, from 0 when there is none, and returns the new count (`HINCRBY`). It is
    /// never sent twice after it may have run.
    #[doc(alias = "hincrby")]
    pub fn increment(&self, field: impl AsRef<[u8]>, by: i64) -> Call<'a, i64> {
        let request = Request::HashIncrement(self.key.clone(), bytes(field), by);
        Call::reading(self.conn, Ok(request))
    }

    /// Returns the counter in `field` (`HGET`).
    pub fn count(&self, field: impl AsRef<[u8]>) -> Call<'a, Option<i64>> {
        let request = Request::HashGet(self.key.clone(), bytes(field));
        Call::new(self.conn, Ok(request), |_, reply| counters::number(reply))
    }
}

impl fmt::Debug for Hash<'_> {
    /// Does not show the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hash").finish_non_exhaustive()
    }
}

pub(super) fn bytes(of: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(of.as_ref())
}

/// Reads fields and values in turn.
fn read_all<T: DeserializeOwned>(codec: Codec, reply: Reply) -> Result<BTreeMap<String, T>> {
    let mut replies = Vec::<Bytes>::from_reply(reply)?.into_iter();
    let mut all = BTreeMap::new();
    while let (Some(field), Some(value)) = (replies.next(), replies.next()) {
        let field = String::from_utf8(field.into()).map_err(|err| {
            Error::new(ErrorKind::Codec, "a field of the hash is not UTF-8")
                .with_source(err.utf8_error())
        })?;
        all.insert(field, codec.decode(&value)?);
    }
    Ok(all)
}
