use redbrick_cache::{Cache, invalidates};

#[invalidates(cache = cache, patterns("user:?"))]
async fn rename(cache: &Cache<String>, id: u64) {
    drop(id);
}

fn main() {}
