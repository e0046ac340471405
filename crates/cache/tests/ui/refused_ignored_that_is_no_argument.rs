use redbrick_cache::{Cache, cached};

#[cached(cache = cache, key = "users:{page}", ignore(group))]
async fn names(cache: &Cache<String>, page: u64) -> String {
    page.to_string()
}

fn main() {}
