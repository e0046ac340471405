use redbrick_lock::{Locks, locked};

pub struct Empty;

#[locked(locks = locks, key = "inventory:{id}")]
async fn reserve(locks: &Locks, id: u64) -> Result<u64, Empty> {
    id.checked_sub(1).ok_or(Empty)
}

fn main() {}
