//! What the attributes are for.
#![deny(warnings)]

use std::time::Duration;

use redbrick_cache::{Cache, cached, invalidates, warms};

pub struct Names {
    pub cache: Cache<String>,
}

impl Names {
    /// The name of a user.
    #[cached(cache = self.cache, key = "user:{group}:{id}", ttl = "1h", tags("users", "group:{group}"), stale = "1m")]
    pub async fn name(&self, id: u64, group: &str) -> Result<String, std::io::Error> {
        if id == 0 {
            return Err(std::io::ErrorKind::NotFound.into());
        }
        let name = format!("{group}/{id}");
        Ok(name)
    }

    #[warms(cache = self.cache, key = "user:{id}", ttl = Duration::from_secs(60))]
    pub async fn reload(&self, id: u64) -> Option<String> {
        Some(id.to_string())
    }

    #[invalidates(cache = self.cache, keys("user:{id}"), tags("users"), patterns("user:*:{id}"))]
    pub async fn rename(&mut self, id: u64, name: String) -> Result<(), std::io::Error> {
        drop((id, name));
        Ok(())
    }
}

/// A brace in the text, and an expression.
#[cached(cache = cache, key = "{{user}}:{id.wrapping_add(1)}", when = id > 0)]
pub async fn number(cache: &Cache<u64>, mut id: u64) -> u64 {
    id += 1;
    id
}

/// A text that others put together, and nothing served past its time.
#[cached(cache = caches[0], key = format!("{{}}:{from}..{:?}", 0..to), stale = "0s", ignore(key))]
pub async fn between(caches: &[Cache<u64>], from: u64, to: u64, key: &str) -> u64 {
    let _ = key;
    to - from
}

/// What is said of the whole function is said of both.
#[expect(non_snake_case, reason = "it is met")]
#[cached(cache = cache, key = "{Id}")]
pub async fn odd(cache: &Cache<u64>, Id: u64) -> u64 {
    Id
}

#[invalidates(cache = cache, keys("{Id}"))]
#[expect(non_snake_case, reason = "it is met")]
pub async fn even(cache: &Cache<u64>, Id: u64) {
    let _ = Id;
}

#[cached(cache = cache, key = "{id}")]
pub async fn within(cache: &Cache<u64>, id: u64) -> u64 {
    #![deny(unused_mut)]
    let within = id;
    within
}

#[invalidates(cache = cache, keys("{id}"))]
pub async fn without(cache: &Cache<u64>, id: u64) {
    #![deny(unused_mut)]
    let without = id;
    let _ = without;
}

pub trait Shape: Send {}

pub struct Round;

impl Shape for Round {}

/// What is returned becomes what is to be returned.
#[invalidates(cache = cache, keys("{id}"))]
pub async fn shaped(cache: &Cache<u64>, id: u64) -> Result<Box<dyn Shape>, Box<dyn std::error::Error + Send + Sync>> {
    if id == 0 {
        return Err(Box::new(std::io::Error::other("there is none")));
    }
    Ok(Box::new(Round))
}

#[derive(Clone)]
pub struct Taken {
    cache: Cache<u64>,
}

impl Taken {
    /// It takes itself, and changes that.
    #[cached(cache = self.cache, key = "{N}:{id}", ignore(_note))]
    pub async fn taken<const N: u64>(mut self, id: u64, _note: &str) -> u64 {
        const MORE: u64 = 1;
        self.cache = self.cache.of();
        id + N + MORE
    }
}

fn is_send<T: Send>(_: &T) {}

fn main() {
    // Their futures can be spawned.
    let _ = |mut names: Names, numbers: Cache<u64>| {
        is_send(&names.name(7, "admins"));
        is_send(&names.name_uncached(7, "admins"));
        is_send(&names.reload(7));
        is_send(&names.rename(7, String::new()));
        is_send(&number(&numbers, 7));
    };
}
