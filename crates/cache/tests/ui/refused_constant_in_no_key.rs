use redbrick_cache::{Cache, cached};

#[cached(cache = cache, key = "{id}")]
async fn times<const N: u64>(cache: &Cache<u64>, id: u64) -> u64 {
    id * N
}

fn main() {}
