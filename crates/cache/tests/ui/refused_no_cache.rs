use redbrick_cache::{Cache, cached};

#[cached(key = "user:{id}")]
async fn name(cache: &Cache<String>, id: u64) -> String {
    id.to_string()
}

fn main() {}
