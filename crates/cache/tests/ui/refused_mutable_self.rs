use redbrick_cache::{Cache, cached};

struct Names(Cache<String>);

impl Names {
    #[cached(cache = self.0, key = "user:{id}")]
    async fn name(&mut self, id: u64) -> String {
        id.to_string()
    }
}

fn main() {}
