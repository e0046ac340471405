use redbrick_cache::{Cache, cached};

#[cached(cache = cache, key = "user:{id}")]
async fn name(cache: &Cache<String>, (id, page): (u64, u64)) -> String {
    format!("{id} {page}")
}

fn main() {}
