use redbrick_lock::{Locks, NotHeld, locked};

trait Shop {
    #[locked(locks = self.locks(), key = "inventory:{id}")]
    async fn reserve(&self, id: u64) -> Result<u64, NotHeld>;

    fn locks(&self) -> &Locks;
}

fn main() {}
