use std::{fmt, marker::PhantomData, time::Duration};

use redbrick_core_conn::{Bytes, Conn, Key, Replay, Script};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, LONGEST_LEASE, Locks, SHORTEST_LEASE, keys::LockKeys};

/// A value in Redis that is written under a lock, and refuses who had the lock before whoever wrote last: the place to write to that a
/// [fence](crate::LockGuard::fence) needs. See [`Locks::fenced`].
///
/// It lies on the server of the locks, encoded as by `Conn::set`. When it expires or the server loses its data, the highest fence is
/// forgotten with it.
pub struct Fenced<T> {
    conn: Conn,
    key: Key,
    time_to_live: Duration,
    value: PhantomData<fn() -> T>,
}

/// What came of a write with a fence.
#[must_use = "what was refused is not written"]
#[expect(clippy::exhaustive_enums, reason = "there is no third outcome")]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Written {
    /// It is there.
    Written,
    /// Somebody who had the lock later has written already. Nothing has changed.
    Refused,
}

impl Locks {
    /// Names a value that is written under a lock; sends nothing. Its name is of its own, and has nothing to do with that of the lock but by
    /// custom: all who write it must have the same lock.
    #[must_use]
    pub fn fenced<T>(&self, name: impl AsRef<[u8]>) -> Fenced<T> {
        let group = self.group();
        let key = LockKeys::new(&group.prefix, name.as_ref()).held.join("fenced");
        let (conn, time_to_live) = (group.conn.clone(), LONGEST_LEASE);
        Fenced { conn, key, time_to_live, value: PhantomData }
    }
}

impl<T> Fenced<T> {
    /// Sets how long the value and its fence are kept after each write, from 10 milliseconds to 366 days; what is less or more counts as
    /// that.
    ///
    /// Default: 366 days.
    #[must_use]
    pub fn time_to_live(mut self, time_to_live: Duration) -> Self {
        self.time_to_live = time_to_live.clamp(SHORTEST_LEASE, LONGEST_LEASE);
        self
    }

    /// Deletes the value, unless one with a higher fence was written; the fence stays. One round trip.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`] when Redis could not be asked; it may or may not be deleted.
    #[tracing::instrument(level = "debug", name = "lock.delete_fenced", skip_all)]
    pub async fn delete(&self, fence: u64) -> Result<Written, Error> {
        self.write(fence, &[]).await
    }

    async fn write(&self, fence: u64, value: &[u8]) -> Result<Written, Error> {
        let call = self.conn.script(&WRITE).key(&self.key).arg(fence.to_be_bytes().as_slice());
        let call = call.arg(value).arg(self.time_to_live);
        let written: bool = call.run().needs_server().await?;
        Ok(if written { Written::Written } else { Written::Refused })
    }
}

impl<T: Serialize> Fenced<T> {
    /// Writes the value, unless one with a higher fence was written. One round trip.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`] when it cannot be encoded, nothing was sent then; or when Redis could not be asked, it may or may not be written.
    #[tracing::instrument(level = "debug", name = "lock.write_fenced", skip_all)]
    pub async fn set(&self, fence: u64, value: &T) -> Result<Written, Error> {
        let value = self.conn.codec().encode(value)?;
        self.write(fence, &[&[IS_THERE], &*value].concat()).await
    }
}

impl<T: DeserializeOwned> Fenced<T> {
    /// Reads the value; `None` where there is none. One round trip (`GET`).
    ///
    /// # Errors
    ///
    /// [`Error::Conn`] when Redis could not be asked, or what is there is no such value.
    #[tracing::instrument(level = "debug", name = "lock.read_fenced", skip_all)]
    pub async fn get(&self) -> Result<Option<T>, Error> {
        let stored: Option<Bytes> = self.conn.get_bytes(&self.key).await?;
        // Of what was deleted there is the fence alone.
        let value = stored.as_deref().and_then(|stored| stored.get(FENCE_LEN + 1..));
        Ok(value.map(|value| self.conn.codec().decode(value)).transpose()?)
    }
}

/// How many bytes of the fence stand before the value.
const FENCE_LEN: usize = 8;
/// What stands between the fence and a value.
const IS_THERE: u8 = 1;

// The same write once more is refused by none but a later one.
static WRITE: Script = Script::new("lock.write_fenced", include_str!("lua/write_fenced.lua"))
    .replay(Replay::Idempotent);

impl<T> Clone for Fenced<T> {
    fn clone(&self) -> Self {
        let Self { conn, key, time_to_live, value } = self;
        Self { conn: conn.clone(), key: key.clone(), time_to_live: *time_to_live, value: *value }
    }
}

impl<T> fmt::Debug for Fenced<T> {
    /// Does not show the name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Fenced");
        out.field("time_to_live", &self.time_to_live).finish_non_exhaustive()
    }
}
