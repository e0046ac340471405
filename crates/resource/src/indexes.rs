//! The keys of a resource, and what stands in those that find its records.

use bytes::Bytes;
use redbrick_core_conn::{Conn, Key, Prefix, Script, ScriptCall};

use crate::{
    Error, Record,
    fields::{self, Fields, NIL},
};

/// The keys that all records of a resource share, and what theirs begin with; all in one slot.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    records: Key,
    pub(crate) order: Key,
    expiry: Key,
    entries: Key,
    pub(crate) unique: Key,
    lookup: Key,
    messages: Key,
}

impl Keys {
    pub(crate) fn new(prefix: &Prefix, partition: &[u8]) -> Self {
        let stem = prefix.tagged(partition);
        Self {
            records: stem.join("record"),
            order: stem.join("order"),
            expiry: stem.join("expiry"),
            entries: stem.join("entries"),
            unique: stem.join("unique"),
            lookup: stem.join("lookup"),
            messages: stem.join("messages"),
        }
    }

    /// The key of a record, and the channel of messages about it.
    pub(crate) fn record(&self, id: &[u8]) -> Key {
        self.records.join(id)
    }

    /// The channel where none is named.
    pub(crate) fn messages(&self) -> Key {
        self.messages.clone()
    }

    /// A channel by its name.
    pub(crate) fn channel(&self, name: &[u8]) -> Key {
        self.messages.join(name)
    }

    /// Begins a call of a script that `index.lua` stands before.
    pub(crate) fn call<'a>(
        &self,
        conn: &'a Conn,
        script: &'static Script,
        record: &Key,
    ) -> ScriptCall<'a> {
        let call = conn.script(script).key(record).key(&self.order).key(&self.expiry);
        call.key(&self.entries).key(&self.unique).key(&self.lookup)
    }
}

/// How a field finds records.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Unique,
    Lookup,
}

/// How the field `name` of `R` finds records.
pub(crate) fn kind<R: Record>(name: &str) -> Result<Kind, Error> {
    if R::UNIQUE.contains(&name) {
        Ok(Kind::Unique)
    } else if R::LOOKUP.contains(&name) {
        Ok(Kind::Lookup)
    } else {
        Err(Error::Unsupported { what: "the field is neither unique nor for lookup in its type" })
    }
}

/// What a value of a field is found by: its name and the value, both in MessagePack. No entry begins another one, so what
/// stands behind an entry is told from it.
pub(crate) fn entry(name: &str, value: &[u8]) -> Bytes {
    let mut entry = Vec::with_capacity(name.len() + value.len() + 5);
    fields::push_text(&mut entry, name.as_bytes());
    entry.extend_from_slice(value);
    entry.into()
}

/// What records are to be found by.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    /// What entries of the indexed fields that are given begin with.
    pub(crate) names: Vec<Bytes>,
    pub(crate) unique: Vec<(&'static str, Bytes)>,
    pub(crate) lookup: Vec<Bytes>,
}

impl Entries {
    pub(crate) fn of<R: Record>(fields: &Fields) -> Self {
        let mut entries = Self::default();
        for name in R::UNIQUE {
            let Some(value) = fields.get(name) else { continue };
            entries.names.push(entry(name, b""));
            if value != NIL {
                entries.unique.push((name, entry(name, value)));
            }
        }
        for name in R::LOOKUP.iter().filter(|name| !R::UNIQUE.contains(name)) {
            let Some(value) = fields.get(name) else { continue };
            entries.names.push(entry(name, b""));
            if value != NIL {
                entries.lookup.push(entry(name, value));
            }
        }
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_stays_what_it_is() {
        assert_eq!(entry("city", b"\xa4Rome"), b"\xa4city\xa4Rome".as_slice());
        assert_eq!(entry("age", b"\x1e"), b"\xa3age\x1e".as_slice());
    }

    #[test]
    fn the_keys_stay_what_they_are_and_share_a_slot() {
        let keys = Keys::new(&Prefix::new("resource").join("users"), b"a b");
        let stem = "resource:users:{a%20b}";
        assert_eq!(keys.record(b"1:2").to_string(), format!("{stem}:record:1%3A2"));
        let Keys { order, expiry, entries, unique, lookup, .. } = &keys;
        for (key, role) in [order, expiry, entries, unique, lookup]
            .into_iter()
            .zip(["order", "expiry", "entries", "unique", "lookup"])
        {
            assert_eq!(key.to_string(), format!("{stem}:{role}"));
        }
        assert_eq!(keys.messages().to_string(), format!("{stem}:messages"));
        assert_eq!(keys.channel(b"").to_string(), format!("{stem}:messages:"));
    }
}
