//! What the tier in the process can do, whatever keeps its values.

use super::kept::{Kept, Ticket};

/// The same for values of any type: what an invalidation needs.
pub(crate) trait Forget: Send + Sync {
    /// How often something was said of `id` and its like.
    fn said(&self, id: &[u8]) -> u64;

    /// What is kept of `id` is not what is there any more, and neither is what was asked for by now.
    fn forget(&self, id: &[u8]);

    /// The same for all that match.
    fn forget_matching(&self, matches: &dyn Fn(&[u8]) -> bool);

    /// How many values are kept, and how many bytes they count for.
    #[cfg(feature = "local")]
    fn size(&self) -> (u64, u64);
}

pub(crate) trait Tier<V>: Forget {
    /// What is kept of `id`.
    fn find(&self, id: &[u8]) -> Option<Kept<V>>;

    /// A value to be given away.
    fn copy(&self, value: &V) -> V;

    /// Keeps what was asked for under a ticket, unless something was said of it since.
    fn keep(&self, id: &[u8], ticket: Ticket, kept: Kept<V>);
}
