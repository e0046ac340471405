use redbrick_lock::{NotHeld, locked};

#[locked(locks = names, key = "inventory:{id}")]
async fn reserve(names: &[String], id: u64) -> Result<u64, NotHeld> {
    Ok(id)
}

fn main() {}
