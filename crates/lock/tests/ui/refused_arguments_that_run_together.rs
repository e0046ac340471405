use redbrick_lock::{Locks, NotHeld, locked};

#[locked(locks = locks, key = "{id}{shelf}")]
async fn reserve(locks: &Locks, id: u64, shelf: u64) -> Result<u64, NotHeld> {
    Ok(id + shelf)
}

fn main() {}
