use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What the mean is kept in parts of, so that it can follow small changes.
const PARTS: usize = 16;

/// How big values have been of late: a mean in which each new value counts for a sixteenth.
#[derive(Debug, Default)]
pub(super) struct Sizes(AtomicUsize);

impl Sizes {
    /// Notes `values` that had so many bytes together. Others who do so at the same time may be overlooked.
    pub(super) fn note(&self, values: usize, bytes: usize) {
        let known = self.0.load(Relaxed);
        let sixteenths = values.min(PARTS);
        let seen = bytes.saturating_mul(PARTS) / values.max(1);
        let mean = known - known / PARTS * sixteenths + seen / PARTS * sixteenths;
        if mean != known {
            self.0.store(mean, Relaxed);
        }
    }

    pub(super) fn mean(&self) -> usize {
        self.0.load(Relaxed) / PARTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_follows_what_is_seen() {
        let sizes = Sizes::default();
        sizes.note(256, 256 * 1000);
        assert_eq!(sizes.mean(), 1000);
        sizes.note(1, 64 * 1024);
        assert!((4_000..6_000).contains(&sizes.mean()), "{}", sizes.mean());
        for _ in 0..100 {
            sizes.note(1, 100);
        }
        assert!((90..200).contains(&sizes.mean()), "{}", sizes.mean());
        sizes.note(0, 0);
        sizes.note(1, usize::MAX);
        assert!(sizes.mean() > 64 * 1024);
    }
}
