use redbrick_cache::{Cache, cached};

#[cached(cache = cache, key = "user:{id}")]
struct Names(Cache<String>);

fn main() {}
