use redbrick_lock::{Locks, NotHeld, locked};

#[locked(locks = locks, key = "inventory:{id}")]
async fn reserve(locks: &Locks, id: u64) -> Result<String, NotHeld> {
    Ok(id)
}

fn main() {}
