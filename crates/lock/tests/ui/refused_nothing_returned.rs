use redbrick_lock::{Locks, locked};

#[locked(locks = locks, key = "inventory:{id}")]
async fn reserve(locks: &Locks, id: u64) {
    drop((locks, id));
}

fn main() {}
