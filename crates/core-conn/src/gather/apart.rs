use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// How many calls go by themselves after a refusal.
const CALLS: u32 = 1024;

/// Keeps callers apart for a while after a batch was refused, as it is when the user may not touch one of its keys, or not
/// use its command: the next one would be refused too, and cost everybody in it a round trip.
#[derive(Debug, Default)]
pub(super) struct Apart(AtomicU32);

impl Apart {
    pub(super) fn begin(&self) {
        self.0.store(CALLS, Relaxed);
    }

    /// Whether the next caller is to go by itself.
    pub(super) fn next(&self) -> bool {
        self.0.load(Relaxed) > 0
            && self.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_kept_apart_for_a_while() {
        let apart = Apart::default();
        assert!(!apart.next());
        apart.begin();
        assert_eq!((0..2 * CALLS).filter(|_| apart.next()).count(), 1024);
    }
}
