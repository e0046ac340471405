use redbrick_lock::{Locks, locked};

#[locked(locks = locks, key = "inventory:{id}")]
async fn reserve(locks: &Locks, id: u64) -> Option<u64> {
    Some(id)
}

fn main() {}
