//! What a tier in the process can do, whatever keeps its values.

use super::kept::{Copied, Kept, Ticket};
use crate::entry::MARK_LEN;

/// What this process knows of a key.
#[cfg_attr(not(feature = "local"), expect(dead_code, reason = "nothing is kept then"))]
pub(crate) enum Near<V> {
    Nothing,
    /// A value of this entry that is to be loaded anew, though it is fresh.
    Due([u8; MARK_LEN]),
    /// A value for which nobody vouches.
    Doubtful(Kept<V>),
    /// Its value.
    Value(V),
}

/// What becomes of a value that is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict {
    Useless,
    Due,
    Doubtful,
    Given,
}

/// A tier, whatever the type of its values: what an invalidation needs.
pub(crate) trait AnyTier: Send + Sync {
    /// How often something was said of `id` and its like.
    fn changes(&self, id: &[u8]) -> u64;

    /// What is kept of `id` is not what is there any more, and neither is what was asked for by now.
    fn forget(&self, id: &[u8]);

    /// The same for all that match.
    fn forget_matching(&self, matches: &dyn Fn(&[u8]) -> bool);
}

/// A tier of values of a type.
pub(crate) trait Tier<V>: AnyTier {
    /// What is kept of `id`, as far as it is of use.
    fn look(&self, id: &[u8], judge: &dyn Fn(&Copied) -> Verdict) -> Near<V>;

    /// A value to be given away.
    fn copy(&self, value: &V) -> V;

    /// What is kept of `id` is not what is there any more, unless it is of this entry.
    fn forget_other(&self, id: &[u8], entry: Option<[u8; MARK_LEN]>);

    /// Keeps what was asked for under a ticket, unless something was said of it since.
    fn keep(&self, id: &[u8], ticket: Ticket, kept: Kept<V>);

    /// How many values are kept, and how many bytes they count for.
    #[cfg(feature = "local")]
    fn size(&self) -> (u64, u64);
}
