//! When tags were invalidated, as far as that is known: what counts where nobody says any more what changes.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;

use crate::{entry::Tag, local::kept::Copied};

/// How many tags are remembered; one more, and all count as invalidated then.
const MOST: usize = 8192;

#[derive(Default)]
pub(crate) struct Moved(Mutex<State>);

#[derive(Default)]
struct State {
    /// The last moment for each.
    moments: HashMap<Bytes, u64>,
    /// That of all others.
    of_all: u64,
}

impl Moved {
    /// A tag was invalidated at a moment.
    pub(crate) fn add(&self, tag: Bytes, moment: u64) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.moments.len() >= MOST {
            state.moments.clear();
            state.of_all = moment;
        }
        state.moments.insert(tag, moment);
    }

    /// Whether none of these tags was invalidated after an entry was asked for last.
    pub(crate) fn none_of(&self, tags: &[Tag], entry: &Copied) -> bool {
        if tags.is_empty() {
            return true;
        }
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let moved = |(name, _): &Tag| state.moments.get(name).copied().unwrap_or_default();
        tags.iter().map(moved).all(|moment| entry.seen() > moment.max(state.of_all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{entry::Head, local::kept::Ticket};

    #[test]
    fn of_more_tags_than_are_remembered_all_count_as_invalidated() {
        let moved = Moved::default();
        let head = Head { fresh_until: 0, cost: 0, ends: false, tags: Vec::new() };
        let entry = Copied::new(head, [0; 8], 0);
        entry.was_there(Ticket { epoch: 0, at: 5, changes: 0 });
        let tag = |name: &'static str| [(Bytes::from_static(name.as_bytes()), [0; 8])];
        moved.add("before".into(), 4);
        moved.add("after".into(), 5);
        assert!(moved.none_of(&tag("before"), &entry) && moved.none_of(&tag("never"), &entry));
        assert!(!moved.none_of(&tag("after"), &entry) && moved.none_of(&[], &entry));
        for n in 0..MOST {
            moved.add(n.to_string().into(), 6);
        }
        assert!(!moved.none_of(&tag("never"), &entry));
        assert!(moved.0.lock().unwrap().moments.len() <= MOST);
    }
}
