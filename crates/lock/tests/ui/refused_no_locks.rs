use redbrick_lock::{Locks, NotHeld, locked};

#[locked(key = "inventory:{id}")]
async fn reserve(locks: &Locks, id: u64) -> Result<u64, NotHeld> {
    Ok(id)
}

fn main() {}
