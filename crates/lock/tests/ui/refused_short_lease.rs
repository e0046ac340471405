use redbrick_lock::{Locks, NotHeld, locked};

#[locked(locks = locks, key = "inventory:{id}", ttl = "5ms")]
async fn reserve(locks: &Locks, id: u64) -> Result<u64, NotHeld> {
    Ok(id)
}

fn main() {}
