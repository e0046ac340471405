use redbrick_cache::{Cache, cached};

#[cached(cache = cache, key = "user:{id}")]
async fn name(cache: &Cache<String>, id: u64, names: &mut Vec<String>) -> String {
    names.pop().unwrap_or_else(|| id.to_string())
}

fn main() {}
