//! Reading entries, and telling whether they count.

use std::{collections::HashMap, pin::Pin};

use bytes::Bytes;
use redbrick_core_conn::{Conn, Key};

use crate::{
    Cache,
    cache::Inner,
    entry::age::Age,
    entry::{self, Entry, Stored, Tag, Version},
    local::Got,
    owed::Doubt,
    statistics::Counter,
    terms::Wanted,
};

/// What was found at the key of an entry.
pub(crate) enum Found {
    /// An entry whose tags are all as they were.
    Valid(Entry, Age),
    /// An entry that counts no more, since it or one of its tags was invalidated.
    Outdated(Seen),
    /// Nothing, or nothing that counts.
    Miss(Seen),
}

/// A value that was found, and what is known of it.
pub(crate) struct Value<V> {
    pub(crate) value: V,
    pub(crate) entry: Entry,
    pub(crate) age: Age,
}

impl<V> Value<V> {
    /// The same, to be kept for a while: as it was read, its entry shares its memory with all that came with it.
    pub(crate) fn kept(self) -> Self {
        Self { entry: self.entry.detached(), ..self }
    }
}

/// What lay there at a miss; who loads overlooks it.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    Nothing,
    /// Whatever it is.
    Anything,
    /// Something that begins like this.
    Beginning(Bytes),
}

type Answers = redbrick_core_conn::Result<Vec<Option<Bytes>>>;

/// Entries that are read at once.
pub(crate) struct Reading<'a> {
    conn: &'a Conn,
    /// What of each does not count; nothing, where all does.
    doubts: Vec<Doubt>,
    stored: Pin<Box<dyn Future<Output = Answers> + Send + 'a>>,
}

/// The versions of tags right now.
pub(crate) type Versions = HashMap<Bytes, Option<Version>>;

impl Inner {
    /// Reads an entry, together with the tags that its caller names.
    pub(crate) async fn read(
        &self,
        conn: &Conn,
        key: &Key,
        wanted: Wanted<'_>,
    ) -> redbrick_core_conn::Result<Found> {
        let doubt = self.owed.doubt(key);
        let (stored, versions) = if wanted.tags.is_empty() {
            (conn.get_bytes(key).await, Ok(Versions::new()))
        } else {
            tokio::join!(conn.get_bytes(key), self.versions(conn, wanted.tags.to_vec()))
        };
        match self.parsed(stored?) {
            Ok(entry) => self.judge(conn, entry, &doubt, wanted, versions?).await,
            Err(seen) => Ok(Found::Miss(seen)),
        }
    }

    /// Tells whether an entry counts that was read, asking for the tags that are not known yet. One without a tag that its caller
    /// names does not: it would stay when that tag is invalidated.
    pub(crate) async fn judge(
        &self,
        conn: &Conn,
        entry: Entry,
        doubt: &Doubt,
        wanted: Wanted<'_>,
        mut versions: Versions,
    ) -> redbrick_core_conn::Result<Found> {
        let tags = &entry.head.tags;
        if has_all(tags, wanted.tags) && !doubt.concerns(tags) {
            let unknown = unknown(tags, &versions);
            if !unknown.is_empty() {
                versions.extend(self.versions(conn, unknown).await?);
            }
        }
        let now = self.now().await;
        Ok(self.judged(entry, doubt, wanted, &versions, now))
    }

    /// The same where all is known.
    fn judged(
        &self,
        entry: Entry,
        doubt: &Doubt,
        wanted: Wanted<'_>,
        versions: &Versions,
        now: Option<u64>,
    ) -> Found {
        let tags = &entry.head.tags;
        if !has_all(tags, wanted.tags) {
            Found::Miss(Seen::Beginning(entry.beginning()))
        } else if doubt.concerns(tags) || !counts(tags, versions) {
            Found::Outdated(Seen::Beginning(entry.beginning()))
        } else {
            let age = self.age(&entry.head, now, wanted);
            Found::Valid(entry, age)
        }
    }

    /// Entries that are to be read at once. It is no part of [`read_many`](Self::read_many), whose future would contain the iterator then.
    pub(crate) fn reading<'a>(
        &self,
        conn: &'a Conn,
        keys: impl Iterator<Item = Key>,
    ) -> Reading<'a> {
        let (is_any_owed, mut doubts) = (self.owed.is_any(), Vec::new());
        let keys = keys.inspect(|key| {
            if is_any_owed {
                doubts.push(self.owed.doubt(key));
            }
        });
        let stored = conn.get_many_bytes(keys);
        Reading { conn, doubts, stored }
    }

    /// Reads entries, together with the tags that their caller names, and then the other tags; makes something of each.
    pub(crate) async fn read_many<T>(
        &self,
        reading: Reading<'_>,
        wanted: Wanted<'_>,
        read: impl Fn(Found) -> T,
    ) -> redbrick_core_conn::Result<Vec<T>> {
        let Reading { conn, doubts, stored: reading } = reading;
        let (stored, versions) = if wanted.tags.is_empty() {
            (reading.await, Ok(Versions::new()))
        } else {
            tokio::join!(reading, self.versions(conn, wanted.tags.to_vec()))
        };
        let (stored, mut versions) = (stored?, versions?);
        let entries: Vec<_> = stored.into_iter().map(|stored| self.parsed(stored)).collect();
        let tags = entries.iter().flatten().map(|entry| &entry.head.tags);
        let tags = tags.filter(|tags| has_all(tags, wanted.tags));
        let mut others: Vec<Bytes> = tags.flat_map(|tags| unknown(tags, &versions)).collect();
        if !others.is_empty() {
            others.sort_unstable();
            others.dedup();
            versions.extend(self.versions(conn, others).await?);
        }
        let now = self.now().await;
        let mut doubts = doubts.into_iter();
        let judged = entries.into_iter().map(|entry| {
            let doubt = doubts.next().unwrap_or_default();
            match entry {
                Ok(entry) => self.judged(entry, &doubt, wanted, &versions, now),
                Err(seen) => Found::Miss(seen),
            }
        });
        Ok(judged.map(read).collect())
    }

    /// The entry in what is stored, or what is there in its place.
    pub(crate) fn parsed(&self, stored: Option<Bytes>) -> Result<Entry, Seen> {
        let Some(stored) = stored else { return Err(Seen::Nothing) };
        match entry::decode(stored) {
            Stored::Entry(entry) => Ok(entry),
            Stored::Lease => Err(Seen::Nothing),
            Stored::Foreign(beginning) => {
                self.counters.add(Counter::Unreadable);
                Err(Seen::Beginning(beginning))
            }
        }
    }

    pub(crate) async fn versions(
        &self,
        conn: &Conn,
        tags: Vec<Bytes>,
    ) -> redbrick_core_conn::Result<Versions> {
        let (followed, tags) = self.followed(&tags, None);
        let followed = followed.into_iter().map(|(name, version)| (name, Some(version)));
        let mut versions: Versions = followed.collect();
        if tags.is_empty() {
            return Ok(versions);
        }
        let asking = self.feed.asking();
        let keys = tags.iter().map(|tag| self.tags.tagged(tag));
        let now = conn.get_many_bytes(keys).await?;
        for (tag, version) in tags.into_iter().zip(now) {
            let version = version.and_then(|version| Version::try_from(&*version).ok());
            if let (Some(asking), Some(version)) = (asking, version) {
                self.feed.known.learn(asking, self.flights.moment(), &tag, version, None);
            }
            versions.insert(tag, version);
        }
        Ok(versions)
    }
}

impl<V> Cache<V> {
    /// Decodes what was found, or says what is to be overlooked.
    pub(crate) fn value(&self, found: Found) -> Result<Value<V>, Seen> {
        match found {
            Found::Miss(seen) => Err(seen),
            Found::Outdated(seen) => {
                self.inner.counters.stale();
                Err(seen)
            }
            Found::Valid(entry, age) => match self.decode(&entry) {
                Some(value) => Ok(Value { value, entry, age }),
                None => {
                    self.inner.counters.add(Counter::Unreadable);
                    Err(Seen::Beginning(entry.beginning()))
                }
            },
        }
    }

    /// The value of an entry, if it is one of this type.
    pub(crate) fn decode(&self, entry: &Entry) -> Option<V> {
        entry.encoded(|encoded| self.codec.decode(encoded).ok())?
    }

    /// Counts a hit or a miss.
    pub(crate) fn counted(&self, got: Got<V>) -> Option<V> {
        let (counter, value) = match got {
            Got::Here(value) => (Counter::LocalHits, Some(value)),
            Got::There(Ok(found)) if found.age.is_fresh() => (Counter::Hits, Some(found.value)),
            Got::There(_) => (Counter::Misses, None),
        };
        self.inner.counters.add(counter);
        value
    }
}

/// Whether an entry has the tags that its caller names.
pub(crate) fn has_all(tags: &[Tag], named: &[Bytes]) -> bool {
    named.iter().all(|named| tags.iter().any(|(name, _)| name == named))
}

fn unknown(tags: &[Tag], versions: &Versions) -> Vec<Bytes> {
    let names = tags.iter().map(|(name, _)| name);
    names.filter(|name| !versions.contains_key(*name)).cloned().collect()
}

/// Whether all tags are there and have the versions that they had when the entry was stored.
pub(crate) fn counts(tags: &[Tag], versions: &Versions) -> bool {
    let is_same = |(name, then): &Tag| versions.get(name).is_some_and(|now| *now == Some(*then));
    tags.iter().all(is_same)
}
