//! What stands at the keys of a resource, read by hand, and whether it fits together.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use redbrick_core_conn::{Conn, Key, Prefix, Script};
use redbrick_resource::Resource;

use crate::User;

static PROBE: Script = Script::new(
    "test.state",
    "local out = {}
    for n = 1, 5 do
      local type = redis.call('TYPE', KEYS[n]).ok
      if type == 'zset' then out[n] = redis.call('ZRANGE', KEYS[n], 0, -1, 'WITHSCORES')
      elseif type == 'hash' then out[n] = redis.call('HGETALL', KEYS[n])
      else out[n] = {} end
    end
    return out",
);
static UNPACK: Script = Script::new("test.unpack", "return cmsgpack.unpack(ARGV[1])");

pub(crate) const ROLES: [&str; 5] = ["order", "expiry", "entries", "unique", "lookup"];

/// The key of what finds the records of the users.
pub(crate) fn key(role: &str) -> Key {
    Prefix::new("resource").join("users").tagged("users").join(role)
}

fn pairs(list: &[Bytes]) -> BTreeMap<Bytes, Bytes> {
    list.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}

/// Checks that what finds the records is what the records say. Nothing may write meanwhile, and no record may expire. Returns
/// how many there are.
pub(crate) async fn check(users: &Resource<User>) -> usize {
    let conn = users.conn();
    let mut probe = conn.script(&PROBE);
    for role in ROLES {
        probe = probe.key(key(role));
    }
    let found: Vec<Vec<Bytes>> = probe.run().await.expect("the state");
    let [order, expiry, entries, unique, lookup] =
        <[_; 5]>::try_from(found.iter().map(|list| pairs(list)).collect::<Vec<_>>()).expect("five");

    let (mut uniques, mut lookups) = (BTreeMap::new(), BTreeSet::new());
    for (id, created) in &order {
        let name = std::str::from_utf8(id).expect("an id");
        let user = users.get(name).await.expect("a record for each id in the order");
        assert_eq!(user.id, name);
        let created: u64 = std::str::from_utf8(created).unwrap().parse().expect("microseconds");
        let (mut own_unique, mut own_lookup) = (Vec::new(), Vec::new());
        if let Some(email) = &user.email {
            let entry = entry("email", email);
            assert_eq!(uniques.insert(entry.clone(), id.clone()), None, "two with one email");
            own_unique.push(entry);
        }
        if let Some(city) = &user.city {
            own_lookup.push(member(&entry("city", city), created, id));
        }
        own_lookup.push(member(&entry("age", &user.age), created, id));
        lookups.extend(own_lookup.iter().cloned());
        let mut stored = unpack(conn, &entries[id]).await;
        stored.iter_mut().for_each(|part| part.sort());
        own_lookup.sort();
        assert_eq!(stored, [own_unique, own_lookup], "the entries of {name}");
        let life = conn.ttl(users.key(name)).await.expect("a life");
        assert_eq!(
            expiry.contains_key(id),
            matches!(life, redbrick_core_conn::Ttl::Expires(_)),
            "{name}: {life:?}"
        );
    }
    assert_eq!(entries.keys().collect::<Vec<_>>(), order.keys().collect::<Vec<_>>());
    assert_eq!(unique, uniques);
    assert_eq!(lookup.into_keys().collect::<BTreeSet<_>>(), lookups);
    assert!(expiry.keys().all(|id| order.contains_key(id)), "{expiry:?}");
    order.len()
}

async fn unpack(conn: &Conn, packed: &Bytes) -> Vec<Vec<Bytes>> {
    conn.script(&UNPACK).key("x").arg(packed.clone()).run().await.expect("what cmsgpack packed")
}

fn entry<T: serde::Serialize>(name: &str, value: &T) -> Bytes {
    let part = |bytes: Bytes| bytes[4..].to_vec();
    let codec = redbrick_core_conn::Codec::MessagePack;
    [part(codec.encode(name).unwrap()), part(codec.encode(value).unwrap())].concat().into()
}

fn member(entry: &[u8], created: u64, id: &[u8]) -> Bytes {
    [entry, format!("{created:016}").as_bytes(), id].concat().into()
}
