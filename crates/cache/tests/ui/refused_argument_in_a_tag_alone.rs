use redbrick_cache::{Cache, cached};

#[cached(cache = cache, key = "user:{id}", tags("group:{group}"))]
async fn name(cache: &Cache<String>, id: u64, group: &str) -> String {
    format!("{group}/{id}")
}

fn main() {}
