use redbrick_cache::{Cache, cached};

#[cached(cache = cache, key = "all", tags("{key}"))]
async fn all(cache: &Cache<String>, key: &str) -> String {
    key.to_owned()
}

fn main() {}
