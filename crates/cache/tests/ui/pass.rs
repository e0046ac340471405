//! What the attributes are for.
#![deny(warnings)]

use std::time::Duration;

use redbrick_cache::{Cache, cached, invalidates, warms};

pub struct Names {
    pub cache: Cache<String>,
}

impl Names {
    /// The name of a user.
    #[cached(cache = self.cache, key = "user:{id}", ttl = "1h", tags("users", "group:{group}"), stale = "1m")]
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

    #[invalidates(cache = self.cache, keys("user:{id}"), tags("users"), patterns("page:*"))]
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
