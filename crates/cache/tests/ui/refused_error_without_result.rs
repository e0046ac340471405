use redbrick_cache::{Cache, cached};

#[cached(cache = cache, key = "user:{id}", map_err = drop)]
async fn name(cache: &Cache<String>, id: u64) -> Option<String> {
    Some(id.to_string())
}

fn main() {}
