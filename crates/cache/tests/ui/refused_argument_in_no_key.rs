use redbrick_cache::{Cache, cached};

#[cached(cache = cache, key = "users:{page}")]
async fn names(cache: &Cache<String>, page: u64, group: &str) -> String {
    format!("{group} {page}")
}

fn main() {}
