use redbrick_cache::{Cache, cached};

trait Names {
    #[cached(cache = self.cache(), key = "user:{id}")]
    async fn name(&self, id: u64) -> String;

    fn cache(&self) -> &Cache<String>;
}

fn main() {}
