//! The cache, and what is written by hand in its place.

use std::fmt;

use fred::interfaces::KeysInterface as _;
use redbrick_cache::Cache;
use redbrick_core_conn::Bytes;
use redis::aio::MultiplexedConnection;
use tokio::runtime::Runtime;

use super::{fred as of_fred, redbrick, redis_rs};
use crate::{
    Keys, Operation, Side,
    keys::{VALUE_LEN, stored, value},
};

const NAME: &str = "redbrick";
/// How many values are read at once, where they are many.
const MANY: u64 = 100;
/// Two for each entry, of 10 and of 100.
const TAGS: [(&str, u64); 2] = [("shelf", 10), ("maker", 100)];

/// A cache and the clients that it is compared with, on the runtime that connected them.
pub struct CacheClients<'a> {
    runtime: &'a Runtime,
    cache: Cache<Bytes>,
    following: Cache<Bytes>,
    fred: ::fred::clients::Client,
    redis_rs: MultiplexedConnection,
    conn: redbrick_core_conn::Conn,
}

impl<'a> CacheClients<'a> {
    /// Connects all.
    ///
    /// # Panics
    ///
    /// When one cannot connect.
    #[must_use]
    pub fn connect(runtime: &'a Runtime, url: &str) -> Self {
        runtime.block_on(async {
            let conn = redbrick::connect(url).await;
            let following = Cache::builder(conn.clone(), "bench").follow_tags(true).build();
            Self {
                runtime,
                cache: Cache::new(conn.clone(), "bench"),
                following: following.expect("the settings are right"),
                fred: of_fred::connect(url).await,
                redis_rs: redis_rs::connect(url).await,
                conn,
            }
        })
    }

    /// Stores values and has each read them: the cache its entries, the others as many bytes.
    ///
    /// # Panics
    ///
    /// When the server refuses a value.
    #[must_use]
    pub fn reads(&self, keys: &Keys) -> Vec<Side> {
        self.fill(keys);
        vec![
            Side::new(NAME, Get { cache: self.cache.clone(), keys: keys.clone() }),
            of_fred::get(&self.fred, keys),
            redis_rs::get(&self.redis_rs, keys),
        ]
    }

    /// The same with a hundred values at once.
    ///
    /// # Panics
    ///
    /// When the server refuses a value.
    #[must_use]
    pub fn reads_of_many(&self, keys: &Keys) -> Vec<Side> {
        self.fill(keys);
        vec![
            Side::new(NAME, GetMany { cache: self.cache.clone(), keys: keys.clone() }),
            Side::new("fred", FredGetMany { client: self.fred.clone(), keys: keys.clone() }),
        ]
    }

    /// Has each write values.
    #[must_use]
    pub fn writes(&self, keys: &Keys) -> Vec<Side> {
        vec![
            Side::new(NAME, Set { cache: self.cache.clone(), keys: keys.clone() }),
            of_fred::set(&self.fred, keys),
            redis_rs::set(&self.redis_rs, keys),
        ]
    }

    /// Has each write values with two tags: the others add the key to a set for each.
    #[must_use]
    pub fn writes_with_tags(&self, keys: &Keys) -> Vec<Side> {
        self.with_tags(&self.cache, keys)
    }

    /// The same with tags that the cache follows.
    #[must_use]
    pub fn writes_with_followed_tags(&self, keys: &Keys) -> Vec<Side> {
        self.with_tags(&self.following, keys)
    }

    fn with_tags(&self, cache: &Cache<Bytes>, keys: &Keys) -> Vec<Side> {
        let (connection, cache, keys) = (self.redis_rs.clone(), cache.clone(), keys.clone());
        vec![
            Side::new(NAME, SetWithTags { cache, keys: keys.clone() }),
            Side::new("redis-rs", SetAndAdd { connection, keys, value: stored(VALUE_LEN) }),
        ]
    }

    fn fill(&self, keys: &Keys) {
        self.runtime.block_on(async {
            keys.fill(&self.conn).await;
            let value = value(VALUE_LEN);
            let entries = keys.names().iter().map(|key| (key, &value));
            self.cache.set_many(entries).await.expect("the server takes entries");
        });
    }
}

/// The tags of the key that a random number chooses.
fn tags(random: u64) -> [String; 2] {
    TAGS.map(|(name, count)| format!("{name}:{}", random % count))
}

#[derive(Clone)]
struct Get {
    cache: Cache<Bytes>,
    keys: Keys,
}

impl Operation for Get {
    async fn call(&mut self, random: u64) {
        let found = self.cache.get(self.keys.pick(random)).await.expect("redbrick reads");
        assert_eq!(found.map(|value| value.len()), Some(VALUE_LEN));
    }
}

#[derive(Clone)]
struct GetMany {
    cache: Cache<Bytes>,
    keys: Keys,
}

impl Operation for GetMany {
    async fn call(&mut self, random: u64) {
        let keys = (0..MANY).map(|n| self.keys.pick(random.wrapping_add(n)));
        let found = self.cache.get_many(keys).await.expect("redbrick reads");
        assert!(found.iter().all(|value| value.as_ref().is_some_and(|it| it.len() == VALUE_LEN)));
    }
}

#[derive(Clone)]
struct FredGetMany {
    client: ::fred::clients::Client,
    keys: Keys,
}

impl Operation for FredGetMany {
    async fn call(&mut self, random: u64) {
        let keys: Vec<&str> = (0..MANY).map(|n| self.keys.pick(random.wrapping_add(n))).collect();
        let found: Vec<Option<Bytes>> = self.client.mget(keys).await.expect("fred reads");
        assert!(found.iter().all(Option::is_some));
    }
}

#[derive(Clone)]
struct Set {
    cache: Cache<Bytes>,
    keys: Keys,
}

impl Operation for Set {
    async fn call(&mut self, random: u64) {
        let value = value(VALUE_LEN);
        self.cache.set(self.keys.pick(random), &value).await.expect("redbrick writes");
    }
}

#[derive(Clone)]
struct SetWithTags {
    cache: Cache<Bytes>,
    keys: Keys,
}

impl Operation for SetWithTags {
    async fn call(&mut self, random: u64) {
        let value = value(VALUE_LEN);
        let set = self.cache.set(self.keys.pick(random), &value).tags(tags(random));
        set.await.expect("redbrick writes");
    }
}

#[derive(Clone)]
struct SetAndAdd {
    connection: MultiplexedConnection,
    keys: Keys,
    value: Bytes,
}

impl Operation for SetAndAdd {
    async fn call(&mut self, random: u64) {
        let key = self.keys.pick(random);
        let mut pipeline = redis::pipe();
        pipeline.set_ex(key, &*self.value, 3600).ignore();
        for tag in tags(random) {
            pipeline.sadd(tag, key).ignore();
        }
        pipeline.query_async::<()>(&mut self.connection).await.expect("redis-rs writes");
    }
}

impl fmt::Debug for CacheClients<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheClients").finish_non_exhaustive()
    }
}
