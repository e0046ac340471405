use redbrick_cache::Cache;

#[redbrick_cache::invalidates(cache = cache, keys("user:{id}"), ttl = "1h")]
async fn rename(cache: &Cache<String>, id: u64) {
    drop(id);
}

fn main() {}
