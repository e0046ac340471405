//! Finding values: here, and where nobody vouches for what is here, in Redis.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use bytes::Bytes;
use redbrick_core_conn::{BatchScript, Conn, FromReply, Key, Replay, Reply, Result};

use super::kept::{Copied, Kept, Ticket, nanos};
use crate::{
    Cache,
    cache::Inner,
    entry::{
        self, NEVER_OVER, Tag,
        age::Age,
        read::{Found, Seen, Value, counts, has_all},
    },
    get_or_load::bounded::bounded,
    statistics::Counter,
    terms::Wanted,
};

static VERIFY: BatchScript =
    BatchScript::new("cache.verify", include_str!("../lua/verify.lua")).replay(Replay::Idempotent);

/// How many calls are under way at a time.
const AT_ONCE: NonZeroUsize = NonZeroUsize::new(256).expect("it is not zero");

/// What this process knows of a key.
pub(crate) enum Near<V> {
    Nothing,
    /// A value for which nobody vouches.
    Doubtful(Kept<V>),
    /// Its value.
    Value(V),
}

/// What was found.
pub(crate) enum Got<V> {
    /// Here, and it counts.
    Here(V),
    /// In Redis, or to be overlooked there.
    There(std::result::Result<Value<V>, Seen>),
}

/// What the server says of an entry that was there before.
#[derive(Default)]
enum Verified {
    #[default]
    Gone,
    Same,
    Other(Bytes),
}

impl FromReply for Verified {
    fn from_reply(reply: Reply) -> Result<Self> {
        match reply {
            Reply::Nil => Ok(Self::Gone),
            Reply::Int(1) => Ok(Self::Same),
            Reply::Bytes(stored) => Ok(Self::Other(stored)),
            other => Err(other.unexpected("an entry")),
        }
    }
}

impl<V> Cache<V> {
    /// Looks for a value in this process, with the tags that its caller names. No round trip, and no allocation.
    pub(crate) fn near(&self, id: &[u8], wanted: Wanted<'_>) -> Near<V> {
        let Some(tier) = &self.tier else { return Near::Nothing };
        let (inner, now) = (&*self.inner, Instant::now());
        let epoch = inner.feed.epoch_at(now);
        let Some(kept) = tier.find(id) else { return Near::Nothing };
        let (head, since) = (&kept.entry.head, inner.clock.since(now.into()));
        let Some(time) = inner.clock.at(since) else { return Near::Nothing };
        let is_fresh = inner.age(head, Some(time), wanted.stale) == Age::Fresh;
        if !is_fresh || !has_all(&head.tags, wanted.tags) || inner.is_owed(id, &head.tags) {
            return Near::Nothing;
        }
        let is_vouched_for = match epoch {
            Some(epoch) => {
                kept.entry.is_of(epoch)
                    && (head.tags.is_empty() || inner.feed.known.are_now(&head.tags))
            }
            None => false,
        };
        if is_vouched_for || inner.is_bearable(&kept.entry, now) {
            inner.keep_time(since);
            Near::Value(kept.value)
        } else {
            Near::Doubtful(kept)
        }
    }

    /// Finds the value of a key where it is.
    pub(crate) async fn find(
        &self,
        conn: &Conn,
        id: &[u8],
        key: &Key,
        wanted: Wanted<'_>,
    ) -> Result<Got<V>> {
        if self.tier.is_none() {
            return Ok(Got::There(self.value(self.inner.read(conn, key, wanted).await?)));
        }
        match self.near(id, wanted) {
            Near::Value(value) => Ok(Got::Here(self.counted_here(value))),
            Near::Doubtful(kept) => self.verify(conn, id, key, wanted, kept).await,
            Near::Nothing => {
                let ticket = self.inner.ticket(id);
                let found = self.inner.read(conn, key, wanted).await?;
                Ok(Got::There(self.keep(id, ticket, self.value(found))))
            }
        }
    }

    /// The same for several, at once.
    pub(crate) async fn find_many(
        &self,
        conn: &Conn,
        asked: &[(Bytes, Key)],
        wanted: Wanted<'_>,
    ) -> Result<Vec<Got<V>>> {
        let (inner, mut got) = (&*self.inner, Vec::with_capacity(asked.len()));
        let (mut doubtful, mut missing) = (Vec::new(), Vec::new());
        for (at, (id, key)) in asked.iter().enumerate() {
            got.push(match self.near(id, wanted) {
                Near::Value(value) => Some(Got::Here(self.counted_here(value))),
                Near::Doubtful(kept) => {
                    doubtful
                        .push(async move { (at, self.verify(conn, id, key, wanted, kept).await) });
                    None
                }
                Near::Nothing => {
                    missing.push((at, inner.ticket(id)));
                    None
                }
            });
        }
        let keys = missing.iter().map(|(at, _)| asked[*at].1.clone());
        let reading = inner.reading(conn, keys);
        let read = inner.read_many(reading, wanted, |found| self.value(found));
        let (verified, read) = tokio::join!(bounded(AT_ONCE, doubtful), read);
        for ((at, ticket), found) in missing.into_iter().zip(read?) {
            got[at] = Some(Got::There(self.keep(&asked[at].0, ticket, found)));
        }
        for (at, verified) in verified {
            got[at] = Some(verified?);
        }
        Ok(got.into_iter().flatten().collect())
    }

    /// Asks whether what is kept is still there, and reads what is there otherwise.
    async fn verify(
        &self,
        conn: &Conn,
        id: &[u8],
        key: &Key,
        wanted: Wanted<'_>,
        kept: Kept<V>,
    ) -> Result<Got<V>> {
        let Kept { value, entry: kept } = kept;
        let (inner, ticket) = (&*self.inner, self.inner.ticket(id));
        let doubt = inner.owed.doubt(key);
        let tags: Vec<Bytes> = kept.head.tags.iter().map(|(name, _)| name.clone()).collect();
        let call = conn.batch_script(&VERIFY).key(key).arg(kept.mark.as_slice()).run::<Verified>();
        let (verified, versions) = if tags.is_empty() {
            (call.await, Ok(HashMap::new()))
        } else {
            tokio::join!(call, inner.versions(conn, tags))
        };
        let stored = match verified? {
            Verified::Same => {
                let tags = &kept.head.tags;
                if !counts(tags, &versions?) {
                    inner.counters.stale();
                    inner.forget_entry(key);
                    return Ok(Got::There(Err(Seen::Beginning(entry::mark_of(kept.mark)))));
                }
                if inner.age(&kept.head, inner.now().await, wanted.stale) == Age::Fresh {
                    kept.was_there(ticket);
                    inner.counters.add(Counter::Revalidated);
                    return Ok(Got::Here(self.counted_here(value)));
                }
                // It can be served past its time.
                let found = inner.read(conn, key, wanted).await?;
                return Ok(Got::There(self.value(found)));
            }
            Verified::Gone => None,
            Verified::Other(stored) => Some(stored),
        };
        let found = match inner.parsed(stored) {
            Ok(entry) => inner.judge(conn, entry, &doubt, wanted, versions?).await?,
            Err(seen) => Found::Miss(seen),
        };
        let found = self.value(found);
        if found.is_err() {
            inner.forget_entry(key);
        }
        Ok(Got::There(self.keep(id, ticket, found)))
    }

    /// Keeps a value that was read, where it can be kept.
    fn keep(
        &self,
        id: &[u8],
        ticket: Ticket,
        read: std::result::Result<Value<V>, Seen>,
    ) -> std::result::Result<Value<V>, Seen> {
        if let (Some(tier), Ok(Value { value, entry, age: Age::Fresh })) = (&self.tier, &read)
            // Of what is never over nobody here knows when it is.
            && entry.head.fresh_until != NEVER_OVER
        {
            let (value, len) = (tier.copy(value), entry.len());
            let entry = Arc::new(Copied::new(entry.head.detached(), entry.id(), len));
            tier.keep(id, ticket, Kept { value, entry });
        }
        read
    }

    /// Counts a value that was found here.
    pub(crate) fn counted_here(&self, value: V) -> V {
        self.inner.counters.add(Counter::LocalHits);
        value
    }
}

impl Inner {
    /// What is known before a key is asked for.
    fn ticket(&self, id: &[u8]) -> Ticket {
        self.listen();
        let said = self.feed.tier.as_ref().map_or(0, |tier| tier.said(id));
        Ticket { epoch: self.feed.epoch(), at: nanos(self.began, Instant::now()), said }
    }

    /// Whether an invalidation is owed that concerns what is kept of a key.
    fn is_owed(&self, id: &[u8], tags: &[Tag]) -> bool {
        self.owed.is_any() && self.owed.doubt(&self.prefix.tagged(id)).concerns(tags)
    }

    /// Whether a value may be given for which nobody vouches.
    fn is_bearable(&self, kept: &Copied, now: Instant) -> bool {
        let bearable = u64::try_from(self.settings.max_staleness.as_nanos()).unwrap_or(u64::MAX);
        let since = nanos(self.began, now).saturating_sub(bearable);
        // Which entries have the tags that were invalidated here, nobody knows.
        let tags =
            if kept.head.tags.is_empty() { 0 } else { self.tags_moved.load(Ordering::Acquire) };
        kept.was_there_after(since.max(tags))
    }
}
