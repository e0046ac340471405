use redbrick_cache::{Cache, cached};

#[cached(cache = cache, key = "user:{id}")]
async fn forget(cache: &Cache<String>, id: u64) {
    drop(id);
}

fn main() {}
