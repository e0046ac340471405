use redbrick_cache::Cache;

#[redbrick_cache::invalidates(cache = cache)]
async fn rename(cache: &Cache<String>, id: u64) {
    drop(id);
}

fn main() {}
