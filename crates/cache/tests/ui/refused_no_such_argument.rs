use redbrick_cache::{Cache, cached};

#[cached(cache = cache, key = "user:{name}:{id}")]
async fn name_of(cache: &Cache<String>, id: u64) -> String {
    id.to_string()
}

fn main() {}
