//! Finding values: here, and where nobody vouches for what is here, in Redis.

use std::{collections::HashMap, sync::Arc, time::Instant};

use bytes::Bytes;
use redbrick_core_conn::{BatchScript, Conn, FromReply, Key, Replay, Reply, Result};

use super::{
    kept::{Copied, Kept, Ticket},
    tier::{Near, Verdict},
};
use crate::{
    Cache,
    at_once::{AT_ONCE, bounded},
    cache::Inner,
    entry::{
        self, NEVER_OVER, Tag,
        age::Age,
        read::{Found, Seen, Value, counts, has_all},
    },
    statistics::Counter,
    terms::Wanted,
};

static VERIFY: BatchScript =
    BatchScript::new("cache.verify", include_str!("../lua/verify.lua")).replay(Replay::Idempotent);

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
        // Before it is looked at: whatever is found is of that time or later.
        let epoch = inner.feed.epoch_at(now);
        tier.look(id, &|kept| {
            let (head, since) = (&kept.head, inner.clock.since(now.into()));
            let Some(time) = inner.clock.at(since) else { return Verdict::Useless };
            let age = inner.age(head, Some(time), wanted.stale);
            let is_of_use = age.is_fresh()
                && has_all(&head.tags, wanted.tags)
                && !inner.is_owed(id, &head.tags);
            if !is_of_use {
                return Verdict::Useless;
            } else if age == Age::Due && wanted.loads {
                return Verdict::Due;
            }
            let may_be_given = match epoch {
                Some(epoch) => {
                    kept.is_of(epoch)
                        && (head.tags.is_empty() || inner.feed.known.are_now(&head.tags))
                }
                // Nobody says what changes.
                None => inner.is_bearable(kept, now),
            };
            if !may_be_given {
                return Verdict::Doubtful;
            }
            inner.keep_time(since);
            Verdict::Given
        })
    }

    /// Finds the value of a key of which this process knows so much, where it is.
    pub(crate) async fn find(
        &self,
        conn: &Conn,
        id: &[u8],
        key: &Key,
        wanted: Wanted<'_>,
        near: Near<V>,
    ) -> Result<Got<V>> {
        match near {
            Near::Value(value) => Ok(Got::Here(value)),
            Near::Doubtful(kept) => self.verify(conn, id, key, wanted, kept).await,
            Near::Nothing if self.tier.is_none() => {
                Ok(Got::There(self.value(self.inner.read(conn, key, wanted).await?)))
            }
            Near::Nothing => {
                let ticket = self.inner.ticket(id);
                let found = self.inner.read(conn, key, wanted).await?;
                Ok(Got::There(self.keep(id, ticket, self.value(found))))
            }
            Near::Due => {
                let found = self.inner.read(conn, key, wanted).await?;
                Ok(Got::There(due(self.value(found))))
            }
        }
    }

    /// Finds the values of several, at once.
    pub(crate) async fn find_many(
        &self,
        conn: &Conn,
        asked: &[(Bytes, Key)],
        wanted: Wanted<'_>,
    ) -> Result<Vec<Got<V>>> {
        let inner = &*self.inner;
        if self.tier.is_none() {
            let reading = inner.reading(conn, asked.iter().map(|(_, key)| key.clone()));
            let read = inner.read_many(reading, wanted, |found| Got::There(self.value(found)));
            return read.await;
        }
        let mut got = Vec::with_capacity(asked.len());
        let (mut doubtful, mut missing) = (Vec::new(), Vec::new());
        for (at, (id, key)) in asked.iter().enumerate() {
            got.push(match self.near(id, wanted) {
                Near::Value(value) => Some(Got::Here(value)),
                Near::Doubtful(kept) => {
                    doubtful
                        .push(async move { (at, self.verify(conn, id, key, wanted, kept).await) });
                    None
                }
                near => {
                    missing.push((at, inner.ticket(id), matches!(near, Near::Due)));
                    None
                }
            });
        }
        let keys = missing.iter().map(|(at, ..)| asked[*at].1.clone());
        let reading = inner.reading(conn, keys);
        let read = inner.read_many(reading, wanted, |found| self.value(found));
        let (verified, read) = tokio::join!(bounded(AT_ONCE, doubtful), read);
        for ((at, ticket, is_due), found) in missing.into_iter().zip(read?) {
            let found = if is_due { due(found) } else { found };
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
                    inner.feed.forget_entry(key);
                    return Ok(Got::There(Err(Seen::Beginning(entry::beginning_of(kept.mark)))));
                }
                if inner.age(&kept.head, inner.now().await, wanted.stale) == Age::Fresh {
                    kept.was_there(ticket);
                    inner.counters.add(Counter::Revalidated);
                    return Ok(Got::Here(value));
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
            inner.feed.forget_entry(key);
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
            let entry = Arc::new(Copied::new(entry.head.detached(), entry.mark(), len));
            tier.keep(id, ticket, Kept { value, entry });
        }
        read
    }
}

/// What was found, to be loaded anew: whether it is time for that is asked once.
fn due<V>(read: std::result::Result<Value<V>, Seen>) -> std::result::Result<Value<V>, Seen> {
    read.map(|value| match value.age {
        Age::Fresh => Value { age: Age::Due, ..value },
        _ => value,
    })
}

impl Inner {
    /// What is known before a key is asked for.
    fn ticket(&self, id: &[u8]) -> Ticket {
        self.listen();
        let changes = self.feed.tier.as_ref().map_or(0, |tier| tier.changes(id));
        let now = Instant::now();
        let epoch = self.feed.epoch_at(now).unwrap_or_default();
        Ticket { epoch, at: self.feed.moment(now), changes }
    }

    /// Whether an invalidation is owed that concerns what is kept of a key.
    fn is_owed(&self, id: &[u8], tags: &[Tag]) -> bool {
        self.owed.is_any() && self.owed.doubt(&self.prefix.tagged(id)).concerns(tags)
    }

    /// Whether a value may be given for which nobody vouches.
    fn is_bearable(&self, kept: &Copied, now: Instant) -> bool {
        let bearable = u64::try_from(self.settings.max_staleness.as_nanos()).unwrap_or(u64::MAX);
        let since = self.feed.moment(now).saturating_sub(bearable);
        self.feed.last_seen(kept) > since && self.feed.moved.none_of(&kept.head.tags, kept)
    }
}
