use redbrick_cache::{Cache, cached};

#[derive(Clone)]
struct Id(u64);

#[cached(cache = cache, key = "user:{id}")]
async fn name(cache: &Cache<String>, id: Id) -> String {
    id.0.to_string()
}

fn main() {}
