use redbrick_cache::{Cache, cached};

#[cached(cache = cache, key = "{group}users")]
async fn name(cache: &Cache<String>, group: &str) -> String {
    group.to_owned()
}

fn main() {}
