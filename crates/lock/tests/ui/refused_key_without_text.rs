use redbrick_lock::{Locks, NotHeld, locked};

#[locked(locks = locks, key = "{shelf}")]
async fn reserve(locks: &Locks, shelf: Option<u64>) -> Result<Option<u64>, NotHeld> {
    Ok(shelf)
}

fn main() {}
