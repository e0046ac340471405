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
            let age = inner.age(head, Some(time), wanted);
            let is_of_use = age.is_fresh()
                && has_all(&head.tags, wanted.tags)
                && !inner.is_owed(id, &head.tags);
            if !is_of_use {
                return Verdict::Useless;
            }
            let may_be_given = match epoch {
                Some(epoch) => {
                    kept.is_of(epoch)
                        && (head.tags.is_empty() || inner.feed.known.are_now(&head.tags))
                }
                None => {
                    // Nobody says what changes, perhaps since the runtime has ended in which somebody listened.
                    inner.listen();
                    inner.feed.bears(kept, now)
                }
            };
            if !may_be_given {
                return Verdict::Doubtful;
            }
            inner.keep_time(since);
            if age == Age::Due { Verdict::Due } else { Verdict::Given }
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
            near => {
                let ticket = self.inner.ticket(id);
                let found = self.value(self.inner.read(conn, key, wanted).await?);
                Ok(Got::There(self.learn(id, &near, ticket, found)))
            }
        }
    }

    /// Finds the values of several of which this process knows so much, at once.
    pub(crate) async fn find_many(
        &self,
        conn: &Conn,
        asked: Vec<(Bytes, Key, Near<V>)>,
        wanted: Wanted<'_>,
    ) -> Result<Vec<Got<V>>> {
        let inner = &*self.inner;
        let mut got: Vec<_> = asked.iter().map(|_| None).collect();
        let (mut doubtful, mut missing) = (Vec::new(), Vec::new());
        for (at, (id, key, near)) in asked.into_iter().enumerate() {
            match near {
                Near::Value(value) => got[at] = Some(Got::Here(value)),
                Near::Doubtful(kept) => doubtful
                    .push(async move { (at, self.verify(conn, &id, &key, wanted, kept).await) }),
                near => missing.push((at, inner.ticket(&id), id, key, near)),
            }
        }
        let keys = missing.iter().map(|(_, _, _, key, _)| key.clone());
        let reading = (!missing.is_empty()).then(|| inner.reading(conn, keys));
        let read = async {
            match reading {
                Some(reading) => inner.read_many(reading, wanted, |found| self.value(found)).await,
                None => Ok(Vec::new()),
            }
        };
        let (verified, read) = tokio::join!(bounded(AT_ONCE, doubtful), read);
        for ((at, ticket, id, _, near), found) in missing.into_iter().zip(read?) {
            got[at] = Some(Got::There(self.learn(&id, &near, ticket, found)));
        }
        for (at, verified) in verified {
            got[at] = Some(verified?);
        }
        Ok(got.into_iter().map(|got| got.expect("each was looked for")).collect())
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
                let age = inner.age(&kept.head, inner.now().await, wanted);
                if age == Age::Fresh {
                    ticket.into_iter().for_each(|ticket| kept.was_there(ticket));
                    inner.counters.add(Counter::Revalidated);
                    return Ok(Got::Here(value));
                }
                // To be loaded anew, before its end or past it.
                let found = self.value(inner.read(conn, key, wanted).await?);
                let near = if age == Age::Due { Near::Due(kept.mark) } else { Near::Nothing };
                return Ok(Got::There(self.learn(id, &near, ticket, found)));
            }
            Verified::Gone => None,
            Verified::Other(stored) => Some(stored),
        };
        let found = match inner.parsed(stored) {
            Ok(entry) => inner.judge(conn, entry, &doubt, wanted, versions?).await?,
            Err(seen) => Found::Miss(seen),
        };
        Ok(Got::There(self.keep(id, ticket, self.value(found))))
    }

    /// Remembers what was read of a key of which this was known.
    fn learn(
        &self,
        id: &[u8],
        near: &Near<V>,
        ticket: Option<Ticket>,
        read: std::result::Result<Value<V>, Seen>,
    ) -> std::result::Result<Value<V>, Seen> {
        self.keep(id, ticket, near.due(read))
    }

    /// Keeps a value that was read, where it can be kept; what was there before is not given any more in any case.
    pub(crate) fn keep(
        &self,
        id: &[u8],
        ticket: Option<Ticket>,
        read: std::result::Result<Value<V>, Seen>,
    ) -> std::result::Result<Value<V>, Seen> {
        let (Some(tier), Some(ticket)) = (&self.tier, ticket) else { return read };
        match &read {
            // Of what is never over nobody here knows when it is.
            Ok(Value { value, entry, age: Age::Fresh }) if entry.head.fresh_until != NEVER_OVER => {
                let (value, len) = (tier.copy(value), entry.len());
                let entry = Arc::new(Copied::new(entry.head.detached(), entry.mark(), len));
                tier.keep(id, ticket, Kept { value, entry });
            }
            Ok(Value { entry, .. }) => tier.forget_other(id, Some(entry.mark())),
            Err(_) => tier.forget_other(id, None),
        }
        read
    }
}

impl<V> Near<V> {
    /// What was read of a key of which this was known: what is due is still so, since whether it is time for that is asked once.
    fn due(
        &self,
        read: std::result::Result<Value<V>, Seen>,
    ) -> std::result::Result<Value<V>, Seen> {
        let Self::Due(mark) = self else { return read };
        read.map(|value| match value.age {
            Age::Fresh if value.entry.mark() == *mark => Value { age: Age::Due, ..value },
            _ => value,
        })
    }
}

impl Inner {
    /// What is known before a key is asked for; nothing where nothing is kept.
    pub(crate) fn ticket(&self, id: &[u8]) -> Option<Ticket> {
        let tier = self.feed.tier.as_ref()?;
        self.listen();
        let changes = tier.changes(id);
        let now = Instant::now();
        let epoch = self.feed.epoch_at(now).unwrap_or_default();
        Some(Ticket { epoch, at: self.feed.moment(now), changes })
    }

    /// Whether an invalidation is owed that concerns what is kept of a key.
    fn is_owed(&self, id: &[u8], tags: &[Tag]) -> bool {
        self.owed.is_any() && self.owed.doubt(&self.prefix.tagged(id)).concerns(tags)
    }
}
