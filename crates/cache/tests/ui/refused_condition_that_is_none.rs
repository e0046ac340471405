use redbrick_cache::{Cache, cached};

#[cached(cache = cache, key = "user:{id}", when = "id > 3")]
async fn name(cache: &Cache<String>, id: u64) -> String {
    id.to_string()
}

fn main() {}
