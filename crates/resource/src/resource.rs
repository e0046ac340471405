use std::{fmt, marker::PhantomData, num::NonZeroU32, sync::Arc, time::Duration};

use bytes::Bytes;
use redbrick_core_conn::{Codec, Conn, Key, Prefix, Replay, Script};
use serde::Serialize;

use crate::{
    Error, List, Listen, Publish, Record, ResourceBuilder, Saved, Touch, Write, answer,
    fields::{Fields, NIL},
    indexes::{self, Keys, Kind},
    write,
};

static LOAD: Script =
    Script::new("resource.load", include_str!("lua/load.lua")).replay(Replay::Idempotent);
static REMOVE: Script = Script::new(
    "resource.remove",
    concat!(include_str!("lua/index.lua"), include_str!("lua/remove.lua")),
);
/// How often a record is looked for by a value, while that passes from one record to another.
const LOOKS: usize = 4;

/// Typed records in Redis, and what finds them, which changes in the same step.
///
/// Clones are cheap and share everything.
pub struct Resource<R> {
    inner: Arc<Inner>,
    of: PhantomData<fn() -> R>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) conn: Conn,
    pub(crate) name: String,
    pub(crate) prefix: Prefix,
    pub(crate) keys: Keys,
    pub(crate) time_to_live: Option<Duration>,
    pub(crate) page_size: NonZeroU32,
}

impl<R: Record> Resource<R> {
    /// Makes one with the defaults of its [builder](Self::builder); sends nothing.
    #[must_use]
    pub fn new(conn: Conn) -> Self {
        Self::builder(conn).build()
    }

    /// Begins one of which more is to be said.
    pub fn builder(conn: Conn) -> ResourceBuilder<R> {
        ResourceBuilder::new(conn)
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Returns the connection that it was made with, as a handle that reads from masters only.
    #[must_use]
    pub fn conn(&self) -> &Conn {
        &self.inner.conn
    }

    /// Returns the prefix of its keys, behind that of the connection: `resource:name`.
    #[must_use]
    pub fn prefix(&self) -> &Prefix {
        &self.inner.prefix
    }

    /// Returns the key of a record, behind the prefix of the connection: a hash with a field for each of the record's.
    #[must_use]
    pub fn key(&self, id: impl AsRef<str>) -> Key {
        self.record_key(id.as_ref().as_bytes())
    }

    /// Stores a record that is not there yet, whole: say how long it lives, or await it.
    ///
    /// One round trip; two when a unique value is taken.
    ///
    /// # Errors
    ///
    /// When it is awaited: [`Exists`](Error::Exists), [`UniqueTaken`](Error::UniqueTaken), [`Expired`](Error::Expired),
    /// [`Misshaped`](Error::Misshaped): nothing has changed. [`Conn`](Error::Conn): after [an unknown
    /// outcome](Error::is_outcome_unknown) it may be stored.
    pub fn create(&self, record: &R) -> Write<'_, R, ()> {
        Write::whole(self, write::Mode::Create, record, |_| Ok(()))
    }

    /// Stores a record whole, whether it is there or not: what it had before is gone. Say how long it lives, or await it.
    ///
    /// One round trip; two when a unique value is taken.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create), without `Exists`.
    pub fn save(&self, record: &R) -> Write<'_, R, Saved> {
        Write::whole(self, write::Mode::Save, record, |(done, ..)| {
            Ok(if done == answer::DONE { Saved::Created } else { Saved::Replaced })
        })
    }

    /// Stores a record that is there already, whole: what it had before is gone. Say how long it lives, or await it.
    ///
    /// One round trip; two when a unique value is taken.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create), with [`Unknown`](Error::Unknown) instead of `Exists`.
    pub fn replace(&self, record: &R) -> Write<'_, R, ()> {
        Write::whole(self, write::Mode::Replace, record, |_| Ok(()))
    }

    /// Stores the fields that `patch` has and leaves the others as they are; returns the record as it is then. A patch is any
    /// struct or map with texts as keys; a field that it is to leave alone must not be in it, so use
    /// `#[serde(skip_serializing_if = …)]` for those. A field of the record that is to have no value is given as `None`.
    ///
    /// The record keeps its life, unless the call gives another one. Several updates of different fields never undo each other.
    ///
    /// One round trip; two when a unique value is taken.
    ///
    /// # Errors
    ///
    /// When it is awaited: [`Unknown`](Error::Unknown), [`UniqueTaken`](Error::UniqueTaken), [`Expired`](Error::Expired),
    /// [`Misshaped`](Error::Misshaped) when `R` does not take the type of a field of the patch, or when that would change the
    /// id: nothing has changed, nor when what is there is of another format. `Misshaped` also when the record cannot be read
    /// because of what was there before: the fields are written. [`Conn`](Error::Conn): after [an unknown outcome](Error::is_outcome_unknown) they may be.
    pub fn update<P: Serialize + ?Sized>(&self, id: impl AsRef<str>, patch: &P) -> Write<'_, R, R> {
        Write::patch(self, id.as_ref(), patch)
    }

    /// Returns the record.
    ///
    /// One round trip.
    ///
    /// # Errors
    ///
    /// [`Unknown`](Error::Unknown) when it is not there; as [`load`](Self::load).
    #[tracing::instrument(level = "debug", name = "resource.get", skip_all)]
    pub async fn get(&self, id: impl AsRef<str> + Send) -> Result<R, Error> {
        self.read(id.as_ref().as_bytes()).await?.ok_or(Error::Unknown)
    }

    /// Returns the record, if it is there.
    ///
    /// One round trip.
    ///
    /// # Errors
    ///
    /// [`Misshaped`](Error::Misshaped) when what is stored is no such record; [`Conn`](Error::Conn).
    #[tracing::instrument(level = "debug", name = "resource.load", skip_all)]
    pub async fn load(&self, id: impl AsRef<str> + Send) -> Result<Option<R>, Error> {
        self.read(id.as_ref().as_bytes()).await
    }

    /// Returns the record that has `value` in `field`, which is unique.
    ///
    /// Two round trips; more as [`load_by`](Self::load_by) says.
    ///
    /// # Errors
    ///
    /// [`Unknown`](Error::Unknown) when there is none; as [`load_by`](Self::load_by).
    #[tracing::instrument(level = "debug", name = "resource.get_by", skip_all)]
    pub async fn get_by<V>(&self, field: &str, value: &V) -> Result<R, Error>
    where
        V: Serialize + Sync + ?Sized,
    {
        self.find(field, value).await?.ok_or(Error::Unknown)
    }

    /// Returns the record that has `value` in `field`, which is [unique](Record::UNIQUE), if there is one. For other fields
    /// there is [`list`](Self::list).
    ///
    /// Two round trips, three when the record that had the value is gone (its life has ended and no write or list has removed what
    /// finds it); two more for each time that the value passes from one record to another meanwhile, at most eight in all.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](Error::Unsupported) when the field is not unique; as [`load`](Self::load).
    #[tracing::instrument(level = "debug", name = "resource.load_by", skip_all)]
    pub async fn load_by<V>(&self, field: &str, value: &V) -> Result<Option<R>, Error>
    where
        V: Serialize + Sync + ?Sized,
    {
        self.find(field, value).await
    }

    /// Returns whether the record is there.
    ///
    /// One round trip.
    ///
    /// # Errors
    ///
    /// [`Conn`](Error::Conn).
    #[tracing::instrument(level = "debug", name = "resource.exists", skip_all)]
    pub async fn exists(&self, id: impl AsRef<str> + Send) -> Result<bool, Error> {
        Ok(self.conn().exists(self.key(id)).await?)
    }

    /// Removes the record, and returns what it was, if it was there.
    ///
    /// One round trip. It is not sent again after it may have run.
    ///
    /// # Errors
    ///
    /// [`Misshaped`](Error::Misshaped) when what was there is no such record: it is gone. [`Conn`](Error::Conn): after [an
    /// unknown outcome](Error::is_outcome_unknown) it may be gone.
    #[tracing::instrument(level = "debug", name = "resource.delete", skip_all)]
    pub async fn delete(&self, id: impl AsRef<str> + Send) -> Result<Option<R>, Error> {
        self.remove(id.as_ref()).await
    }

    /// Removes the record and returns it, to exactly one of those who ask for it.
    ///
    /// One round trip. It is not sent again after it may have run.
    ///
    /// # Errors
    ///
    /// [`Unknown`](Error::Unknown) when it is not there; as [`delete`](Self::delete).
    #[tracing::instrument(level = "debug", name = "resource.pick", skip_all)]
    pub async fn pick(&self, id: impl AsRef<str> + Send) -> Result<R, Error> {
        self.remove(id.as_ref()).await?.ok_or(Error::Unknown)
    }

    /// Gives the record the life that a new one would have: say which, or await it. Returns whether it is there.
    ///
    /// One round trip.
    ///
    /// # Errors
    ///
    /// When it is awaited: [`Expired`](Error::Expired): nothing has changed. [`Conn`](Error::Conn).
    pub fn touch(&self, id: impl AsRef<str>) -> Touch<'_, R> {
        Touch::new(self, id.as_ref())
    }

    /// Lists records, a page at a time: say which, or await it for the first page of all.
    ///
    /// Two round trips: one finds the page, one reads its records; one where the page is empty. One more for each thousand records whose life has ended
    /// since anybody listed or wrote any, for each further 500 records of a page, and for each record of the page that went by
    /// another hand.
    ///
    /// # Errors
    ///
    /// When it is awaited: [`Unsupported`](Error::Unsupported) for a field that is neither unique nor for lookup, before
    /// anything is sent; [`Misshaped`](Error::Misshaped) for a value that cannot be encoded; [`Conn`](Error::Conn).
    pub fn list(&self) -> List<'_, R> {
        List::new(self)
    }

    /// Publishes a message to all who are [subscribed](Self::subscribe) now: say where, or await it. Returns how many
    /// connections received it; on Cluster only those at the node that took it are counted.
    ///
    /// One round trip. The message is encoded with the connection's codec. It is not published twice.
    ///
    /// # Errors
    ///
    /// When it is awaited: [`Misshaped`](Error::Misshaped) when it cannot be encoded; [`Conn`](Error::Conn): after [an
    /// unknown outcome](Error::is_outcome_unknown) it may be published.
    pub fn publish<'a, M>(&'a self, message: &'a M) -> Publish<'a, M>
    where
        M: Serialize + ?Sized,
    {
        Publish::new(self.conn(), &self.inner.keys, message)
    }

    /// Subscribes to messages: say to which, then await it for a stream, or give it a handler.
    pub fn subscribe<M>(&self) -> Listen<'_, M> {
        Listen::new(self.conn(), &self.inner.keys)
    }

    /// Reads records, as many as there are keys.
    pub(crate) async fn read_many(
        &self,
        ids: &[Bytes],
    ) -> Result<Vec<redbrick_core_conn::Result<Vec<Bytes>>>, Error> {
        let mut call = self.conn().script(&LOAD);
        for id in ids {
            call = call.key(self.record_key(id));
        }
        Ok(call.run().await?)
    }

    async fn read(&self, id: &[u8]) -> Result<Option<R>, Error> {
        self.found(id).await?.map(|fields| fields.decode()).transpose()
    }

    async fn found(&self, id: &[u8]) -> Result<Option<Fields>, Error> {
        let found = self.read_many(&[Bytes::copy_from_slice(id)]).await?;
        let found = found.into_iter().next().transpose()?.unwrap_or_default();
        Ok((!found.is_empty()).then(|| Fields::stored(found)))
    }

    async fn find<V>(&self, field: &str, value: &V) -> Result<Option<R>, Error>
    where
        V: Serialize + Sync + ?Sized,
    {
        if indexes::kind::<R>(field)? != Kind::Unique {
            return Err(Error::Unsupported { what: "the field is not unique; use `list`" });
        }
        let value = crate::list::encoded(value)?;
        if value == NIL {
            return Ok(None);
        }
        let plain = self.conn().with_codec(Codec::Plain);
        let unique = plain.hash(&self.inner.keys.unique);
        let entry = indexes::entry(field, &value);
        let mut gone = None;
        for _ in 0..LOOKS {
            let Some(id) = unique.get::<String>(&entry).await? else { return Ok(None) };
            // Its life has ended, or it went by another hand, and nobody has taken the value since.
            if gone.as_ref() == Some(&id) {
                return Ok(None);
            }
            match self.found(id.as_bytes()).await? {
                Some(fields) if fields.get(field) == Some(&value) => {
                    return fields.decode().map(Some);
                }
                // The value may have passed on since.
                Some(_) => gone = None,
                None => gone = Some(id),
            }
        }
        Ok(None)
    }

    async fn remove(&self, id: &str) -> Result<Option<R>, Error> {
        let call = self.call(&REMOVE, id.as_bytes()).arg(id);
        let found: Option<Vec<Bytes>> = call.run().await?;
        found.map(|found| Fields::stored(found).decode()).transpose()
    }

    fn record_key(&self, id: &[u8]) -> Key {
        self.inner.keys.record(id)
    }

    /// Begins a call of a script about one record.
    pub(crate) fn call(
        &self,
        script: &'static Script,
        id: &[u8],
    ) -> redbrick_core_conn::ScriptCall<'_> {
        self.inner.keys.call(self.conn(), script, &self.record_key(id))
    }
}

impl<R> Resource<R> {
    pub(crate) fn from_inner(inner: Inner) -> Self {
        Self { inner: Arc::new(inner), of: PhantomData }
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }
}

impl<R> Clone for Resource<R> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), of: PhantomData }
    }
}

impl<R> fmt::Debug for Resource<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resource").field("name", &self.inner.name).finish_non_exhaustive()
    }
}
