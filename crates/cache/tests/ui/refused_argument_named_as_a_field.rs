use redbrick_cache::{Cache, cached};

#[cached(cache = cache, key = "{user.id}")]
async fn order(cache: &Cache<u64>, user: User, id: u64) -> u64 {
    user.id + id
}

#[derive(Clone)]
struct User {
    id: u64,
}

fn main() {}
