//! Calls on many keys, one for all of them, on Cluster one for each slot.

use std::{collections::BTreeMap, pin::Pin};

use bytes::Bytes;
use fred::util::redis_keyslot;
use serde::de::DeserializeOwned;
use tracing::Instrument;

use super::{
    Call,
    ending::{Label, Read},
    never_set::{behind_never_set, values_behind},
    reply::Reply,
    request::Request,
    values::{decode, stored},
};
use crate::{Conn, Result, conn::together};

/// How many slots of a cluster one call asks at a time.
const MOST_AT_ONCE: usize = 1024;

/// A future that does not contain the iterator which its keys came from.
type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Conn {
    /// Returns the values at `keys`, in their order.
    ///
    /// One round trip (`MGET`); on Cluster one `MGET` for each slot that the keys lie in, up to 1,024 at once. A key that
    /// holds a list, a hash and so on counts as missing; a [`get`](Self::get) that is made [`alone`](Call::alone) tells the two
    /// apart.
    ///
    /// # Errors
    ///
    /// Those of [`get`](Self::get): one value that cannot be read, or one key that the
    /// user may not read, fails them all.
    #[doc(alias = "mget")]
    #[tracing::instrument(level = "debug", name = "core_conn.get_many", skip_all)]
    pub async fn get_many<T, K>(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<T>>>
    where
        T: DeserializeOwned + Send,
        K: AsRef<[u8]>,
    {
        let keys = keys.into_iter().map(|key| self.call_key(key)).collect();
        self.read_many(keys, decode).await
    }

    /// Returns what is stored at `keys` byte for byte, in their order; otherwise as [`get_many`](Self::get_many), also in round trips.
    ///
    /// Nothing is copied, as by [`get_bytes`](Self::get_bytes): copy what you keep.
    ///
    /// # Errors
    ///
    /// Those of [`get_bytes`](Self::get_bytes): one key that the user may not read fails them all.
    pub fn get_many_bytes<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Boxed<'_, Result<Vec<Option<Bytes>>>> {
        let keys = keys.into_iter().map(|key| self.call_key(key)).collect();
        let span = tracing::debug_span!("core_conn.get_many_bytes");
        Box::pin(self.read_many(keys, stored).instrument(span))
    }

    async fn read_many<T>(
        &self,
        keys: Vec<Bytes>,
        read: Read<Option<T>>,
    ) -> Result<Vec<Option<T>>> {
        let (label, prefix) = (Label::new("MGET", true), &self.config().key_prefix);
        let mut values: Vec<Option<T>> = keys.iter().map(|_| None).collect();
        let (indexes, calls): (Vec<_>, Vec<_>) = self
            .by_slot(keys)
            .into_iter()
            .map(|(slot, Group { indexes, keys })| {
                let keys = behind_never_set(prefix, slot, keys);
                let request =
                    if slot.is_some() { Request::GetMany } else { Request::GetTogether }(keys);
                (indexes, Call::<Vec<Reply>>::reading(self, Ok(request)))
            })
            .unzip();
        for (indexes, replies) in indexes.iter().zip(Box::pin(self.at_once(calls)).await?) {
            if replies.is_empty() {
                // There is no server, and there need not be one.
                continue;
            }
            let replies =
                values_behind(replies, indexes.len()).map_err(|err| label.on(prefix, err))?;
            for (index, reply) in indexes.iter().zip(replies) {
                let value = read(self.codec(), reply);
                values[*index] = value.map_err(|err| label.on(prefix, err))?;
            }
        }
        Ok(values)
    }

    /// Deletes `keys`, and returns how many were there.
    ///
    /// One round trip (`UNLINK`); on Cluster one for each slot that the keys lie in, up to 1,024 at once.
    ///
    /// # Errors
    ///
    /// As [`delete`](Self::delete); some keys may be gone already.
    #[tracing::instrument(level = "debug", name = "core_conn.delete_many", skip_all)]
    pub async fn delete_many<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<u64> {
        let keys: Vec<Bytes> = keys.into_iter().map(|key| self.call_key(key)).collect();
        let calls = self.by_slot(keys).into_values();
        let calls = calls.map(|group| Call::<u64>::reading(self, Ok(Request::Delete(group.keys))));
        Ok(Box::pin(self.at_once(calls.collect())).await?.into_iter().sum())
    }

    /// Sends calls at once, or as many at a time as may wait for an answer; ends with the first failure. It is boxed, since
    /// it is large and callers put it into futures of their own.
    async fn at_once<T>(&self, calls: Vec<Call<'_, T>>) -> Result<Vec<T>> {
        let most = self.config().max_waiting.get().min(MOST_AT_ONCE);
        let mut outcomes = Vec::with_capacity(calls.len());
        let mut calls = calls.into_iter();
        loop {
            let some: Vec<_> = calls.by_ref().take(most).collect();
            if some.is_empty() {
                return Ok(outcomes);
            }
            for outcome in together(some).await {
                outcomes.push(outcome?);
            }
        }
    }

    /// Which of `keys` may go out together: all of them, but those of one slot on Cluster. No group is empty.
    fn by_slot(&self, keys: Vec<Bytes>) -> BTreeMap<Option<u16>, Group> {
        let mut slots = BTreeMap::<_, Group>::new();
        if keys.is_empty() {
            return slots;
        }
        if !self.config().endpoint.is_cluster() {
            slots.insert(None, Group { indexes: (0..keys.len()).collect(), keys });
            return slots;
        }
        for (index, key) in keys.into_iter().enumerate() {
            let group = slots.entry(Some(redis_keyslot(&key))).or_default();
            group.indexes.push(index);
            group.keys.push(key);
        }
        slots
    }
}

/// Keys that go out together, and where each stands among all.
#[derive(Default)]
struct Group {
    indexes: Vec<usize>,
    keys: Vec<Bytes>,
}
