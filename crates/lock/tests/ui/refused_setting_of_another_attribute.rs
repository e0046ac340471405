use redbrick_lock::{Locks, NotHeld, locked};

#[locked(locks = locks, key = "inventory:{id}", tags("inventory"))]
async fn reserve(locks: &Locks, id: u64) -> Result<u64, NotHeld> {
    Ok(id)
}

fn main() {}
