//! The versions of tags that this process knows.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use crate::entry::{Tag as Named, Version};

/// How many tags are known at least, before those are forgotten that were not met for longest; twice as many at most.
const MOST: usize = 8192;

/// Versions by the names of their tags. What was met lately is among the recent ones, and of the earlier ones all are forgotten
/// together.
#[derive(Default)]
pub(crate) struct Known {
    /// Whether anybody makes use of it: nothing is remembered in vain.
    is_used: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
pub(crate) struct State {
    recent: HashMap<Bytes, Tag>,
    earlier: HashMap<Bytes, Tag>,
    /// How often something was said of tags, or forgotten.
    changes: u64,
}

#[derive(Clone)]
struct Tag {
    version: Version,
    /// The moment in this process when it was known first.
    since: u64,
    /// Whether nothing was said of tags between its being asked for and its being known.
    is_followed: bool,
    /// Until when it is there at least, where that is known.
    until: Option<Instant>,
}

/// What is known before versions are asked for.
#[derive(Clone, Copy)]
pub(crate) struct Asking {
    /// Nothing while nobody says what changes.
    changes: Option<u64>,
    at: Instant,
}

impl Known {
    /// From here on use is made of it.
    pub(crate) fn use_it(&self) {
        if !self.is_used.load(Ordering::Relaxed) {
            self.is_used.store(true, Ordering::Relaxed);
        }
    }

    /// Says that versions are about to be asked for, while the feed is current or not; nothing where nobody makes use of what is learned.
    pub(crate) fn asking(&self, is_current: bool) -> Option<Asking> {
        let changes = || is_current.then(|| self.state().changes);
        let is_used = self.is_used.load(Ordering::Relaxed);
        is_used.then(|| Asking { changes: changes(), at: Instant::now() })
    }

    /// Learns a version; `since` is when, `left` how long it is there from the question on.
    pub(crate) fn learn(
        &self,
        asking: Asking,
        since: u64,
        tag: &[u8],
        version: Version,
        left: Option<Duration>,
    ) {
        let mut state = self.state();
        let is_followed = asking.changes == Some(state.changes);
        let until = left.and_then(|left| asking.at.checked_add(left));
        match state.get(tag) {
            Some(known) if known.version == version => {
                known.is_followed |= is_followed;
                known.until = known.until.max(until);
            }
            _ => state.insert(tag, Tag { version, since, is_followed, until }),
        }
    }

    /// The version that a tag was known to have before a moment.
    pub(crate) fn before(&self, tag: &[u8], moment: u64) -> Option<Version> {
        let mut state = self.state();
        let known = state.get(tag).filter(|known| known.since < moment);
        known.map(|known| known.version)
    }

    /// The versions that tags have now, as far as they are followed, and there for so long at least; while the feed is current.
    pub(crate) fn now<'t>(
        &self,
        tags: impl IntoIterator<Item = &'t Bytes>,
        life: Option<Duration>,
    ) -> Vec<Option<Version>> {
        let mut state = self.state();
        let end = life.map(|life| Instant::now().checked_add(life));
        let holds = |known: &&mut Tag| {
            let lasts = end.is_none_or(|end| end.is_some() && known.until >= end);
            known.is_followed && lasts
        };
        tags.into_iter()
            .map(|tag| state.get(tag).filter(holds).map(|known| known.version))
            .collect()
    }

    /// Whether tags have these versions now, as far as that is followed; while the feed is current.
    pub(crate) fn are_now(&self, tags: &[Named]) -> bool {
        let mut state = self.state();
        tags.iter().all(|(name, version)| {
            state.get(name).is_some_and(|known| known.is_followed && known.version == *version)
        })
    }

    /// A tag is not what it was.
    pub(crate) fn forget(&self, tag: &[u8]) {
        let mut state = self.state();
        state.changes += 1;
        state.recent.remove(tag);
        state.earlier.remove(tag);
    }

    pub(crate) fn forget_all(&self) {
        let mut state = self.state();
        state.changes += 1;
        state.recent.clear();
        state.earlier.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What is known of a tag, which is met by that.
    fn get(&mut self, tag: &[u8]) -> Option<&mut Tag> {
        if let Some((tag, known)) = self.earlier.remove_entry(tag) {
            self.make_room();
            self.recent.insert(tag, known);
        }
        self.recent.get_mut(tag)
    }

    fn insert(&mut self, tag: &[u8], known: Tag) {
        self.make_room();
        // A name is often a part of an entry, which is not to be kept for it.
        self.recent.insert(Bytes::copy_from_slice(tag), known);
    }

    fn make_room(&mut self) {
        if self.recent.len() >= MOST {
            self.earlier = std::mem::take(&mut self.recent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: Version = *b"version1";

    fn known() -> (Known, Asking) {
        let known = Known::default();
        assert!(known.asking(true).is_none(), "nobody makes use of it");
        known.use_it();
        let asking = known.asking(true).expect("it is used");
        (known, asking)
    }

    #[tokio::test]
    async fn a_version_was_before_a_moment_when_it_was_known_by_then() {
        let (known, asking) = known();
        known.learn(asking, 7, b"tag", VERSION, None);
        assert_eq!(known.before(b"tag", 8), Some(VERSION));
        assert_eq!(known.before(b"tag", 7), None);
        // Once more is no later.
        known.learn(asking, 9, b"tag", VERSION, None);
        assert_eq!(known.before(b"tag", 8), Some(VERSION));
        known.learn(asking, 9, b"tag", *b"version2", None);
        assert_eq!(known.before(b"tag", 9), None);
        known.forget(b"tag");
        assert_eq!(known.before(b"tag", 20), None);
    }

    #[tokio::test]
    async fn what_was_said_meanwhile_is_not_known_to_hold() {
        let (known, asking) = known();
        let (tag, other) = (Bytes::from_static(b"tag"), Bytes::from_static(b"other"));
        known.learn(asking, 7, &tag, VERSION, None);
        assert_eq!(known.now([&tag, &other], None), [Some(VERSION), None]);
        assert!(known.are_now(&[(tag.clone(), VERSION)]));
        for unlike in [(tag.clone(), *b"version2"), (other.clone(), VERSION)] {
            assert!(!known.are_now(&[(tag.clone(), VERSION), unlike]));
        }
        known.forget(b"another");
        known.learn(asking, 8, &other, VERSION, None);
        assert_eq!(known.now([&tag, &other], None), [Some(VERSION), None]);
        assert!(!known.are_now(&[(other, VERSION)]));
        // Nor what was asked for while nobody said anything.
        let third = Bytes::from_static(b"third");
        known.learn(known.asking(false).expect("it is used"), 9, &third, VERSION, None);
        assert_eq!(
            (known.now([&third], None), known.before(&third, 10)),
            (vec![None], Some(VERSION))
        );
    }

    #[tokio::test]
    async fn no_more_tags_are_known_than_so_many_and_those_that_are_met_stay() {
        let (known, asking) = known();
        known.learn(asking, 0, b"met", VERSION, None);
        for n in 0..3 * MOST {
            known.learn(asking, 0, n.to_string().as_bytes(), VERSION, None);
            assert!(known.before(b"met", 1).is_some());
        }
        let state = known.state();
        assert!(state.recent.len() + state.earlier.len() <= 2 * MOST);
    }
}
