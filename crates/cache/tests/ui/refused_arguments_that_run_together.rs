use redbrick_cache::{Cache, cached};

#[cached(cache = cache, key = "user:{id}{page}")]
async fn name(cache: &Cache<String>, id: u64, page: u64) -> String {
    format!("{id} {page}")
}

fn main() {}
