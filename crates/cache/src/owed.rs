//! Invalidations that Redis has not made yet, since it could not be asked: they are made as soon as it can be, and until then
//! nothing counts here that they are about.

use std::{
    collections::HashMap,
    future::pending,
    mem, slice,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use redbrick_core_conn::{Key, Pattern, Result};
use tokio::{runtime::Handle, time::timeout};

use crate::{Cache, cache::Inner, entry::Tag};

/// How many are remembered, and of them by pattern; one more, and all entries are to be deleted.
const MOST: usize = 10_000;
const MOST_PATTERNS: usize = 100;
/// How long after a failure it is tried once more, at first and in the end.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(crate) struct Owed {
    is_any: AtomicBool,
    state: Mutex<State>,
}

/// Each with the number of the failure that it comes from: it can be owed once more while it is being made.
#[derive(Default)]
struct State {
    debts: Debts,
    failures: u64,
    /// Whether somebody makes up for them.
    is_paid: bool,
}

#[derive(Clone, Default)]
struct Debts {
    entries: HashMap<Key, u64>,
    tags: Arc<HashMap<Bytes, u64>>,
    patterns: Vec<(Pattern, u64)>,
}

/// What an invalidation is about.
#[derive(Clone, Copy)]
pub(crate) enum About<'a> {
    Entry(&'a Key),
    Entries(&'a [Key]),
    Tags(&'a [Bytes]),
    Pattern(&'a Pattern),
}

/// An invalidation under way. It is owed when it fails, and when it is dropped before its outcome is known; whatever comes of it, this
/// process forgets what it is about.
#[must_use = "it is owed when this is dropped"]
pub(crate) struct Underway<'a> {
    inner: &'a Arc<Inner>,
    about: About<'a>,
    is_owed: bool,
}

/// What does not count of an entry that is about to be read.
#[derive(Clone, Default)]
pub(crate) struct Doubt {
    is_owed: bool,
    tags: Option<Arc<HashMap<Bytes, u64>>>,
}

impl Doubt {
    /// Whether an entry with these tags does not count that was read.
    pub(crate) fn concerns(&self, of_entry: &[Tag]) -> bool {
        let is_owed = |tags: &Arc<HashMap<Bytes, u64>>| {
            of_entry.iter().any(|(name, _)| tags.contains_key(name))
        };
        self.is_owed || self.tags.as_ref().is_some_and(is_owed)
    }
}

impl Owed {
    /// Says what of an entry does not count, before it is read: what is made up for by then is not read any more.
    pub(crate) fn doubt(&self, entry: &Key) -> Doubt {
        if !self.is_any() {
            return Doubt::default();
        }
        let debts = &self.state().debts;
        let matches = |(pattern, _): &(Pattern, u64)| pattern.matches(entry.as_ref());
        let is_owed = debts.entries.contains_key(entry) || debts.patterns.iter().any(matches);
        Doubt { is_owed, tags: Some(Arc::clone(&debts.tags)) }
    }

    pub(crate) fn is_any(&self) -> bool {
        self.is_any.load(Ordering::Acquire)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, about: About<'_>, all: impl Fn() -> Option<Pattern>) {
        self.failures += 1;
        let (number, debts) = (self.failures, &mut self.debts);
        match about {
            About::Entry(key) => drop(debts.entries.insert(key.clone(), number)),
            About::Entries(keys) => {
                debts.entries.extend(keys.iter().map(|key| (key.clone(), number)));
            }
            About::Tags(tags) => {
                Arc::make_mut(&mut debts.tags).extend(tags.iter().map(|tag| (tag.clone(), number)));
            }
            About::Pattern(pattern) => debts.patterns.push((pattern.clone(), number)),
        }
        if debts.are_too_many()
            && let Some(all) = all()
        {
            tracing::warn!(
                "more invalidations failed than are remembered; the cache is to be emptied"
            );
            *debts = Debts { patterns: vec![(all, number)], ..Debts::default() };
        }
    }
}

impl Debts {
    fn are_none(&self) -> bool {
        self.entries.is_empty() && self.tags.is_empty() && self.patterns.is_empty()
    }

    fn are_too_many(&self) -> bool {
        self.entries.len() + self.tags.len() > MOST || self.patterns.len() > MOST_PATTERNS
    }

    /// Takes out what was made up for.
    fn settle(&mut self, paid: &Self) {
        self.entries.retain(|key, number| paid.entries.get(key) != Some(number));
        Arc::make_mut(&mut self.tags).retain(|tag, number| paid.tags.get(tag) != Some(number));
        self.patterns.retain(|(_, number)| !paid.patterns.iter().any(|(_, it)| it == number));
    }
}

impl<'a> Underway<'a> {
    pub(crate) fn new(inner: &'a Arc<Inner>, about: About<'a>) -> Self {
        Self { inner, about, is_owed: true }
    }

    /// What came of it.
    pub(crate) fn ends<T>(mut self, outcome: &Result<T>) {
        let is_owed =
            |error: &redbrick_core_conn::Error| error.is_retryable() || error.is_outcome_unknown();
        self.is_owed = outcome.as_ref().is_err_and(is_owed);
    }

    /// It was made.
    pub(crate) fn done(mut self) {
        self.is_owed = false;
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        if self.is_owed {
            self.inner.owe(self.about);
        }
        self.inner.forget(self.about);
    }
}

impl<V> Cache<V> {
    /// Returns how many invalidations are owed: keys, tags and patterns that Redis could not be asked for, and that count no more for
    /// this cache and its clones until they are made up for. Sends nothing.
    #[must_use]
    pub fn owed(&self) -> usize {
        let debts = &self.inner.owed.state().debts;
        debts.entries.len() + debts.tags.len() + debts.patterns.len()
    }
}

impl Inner {
    /// Makes an invalidation, and owes it when it fails or is dropped before its outcome is known.
    pub(crate) async fn owing<T>(
        self: &Arc<Self>,
        about: About<'_>,
        made: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let underway = Underway::new(self, about);
        let outcome = made.await;
        underway.ends(&outcome);
        outcome
    }

    fn owe(self: &Arc<Self>, about: About<'_>) {
        // Nobody can make up for it after the runtime has ended.
        let Ok(runtime) = Handle::try_current() else { return };
        let is_paid = {
            let mut state = self.owed.state();
            state.add(about, || self.pattern("*").ok());
            self.owed.is_any.store(true, Ordering::Release);
            mem::replace(&mut state.is_paid, true)
        };
        // Not while it is locked: a runtime that is ending drops the task at once, which looks at it.
        if !is_paid {
            drop(runtime.spawn(make_up(Paying { cache: Arc::downgrade(self), is_done: false })));
        }
    }

    /// What an invalidation is about is not what is known here.
    fn forget(&self, about: About<'_>) {
        match about {
            About::Entry(key) => self.feed.forget_entry(key),
            About::Entries(keys) => keys.iter().for_each(|key| self.feed.forget_entry(key)),
            About::Tags(tags) => {
                tags.iter().for_each(|tag| self.feed.forget_tag(tag));
                self.flights.invalidated_tag();
            }
            About::Pattern(pattern) => self.feed.forget_matching(pattern),
        }
    }

    /// What was owed is not what may have been learned meanwhile.
    fn forget_debts(&self, debts: &Debts) {
        debts.tags.keys().for_each(|tag| self.forget(About::Tags(slice::from_ref(tag))));
        debts.entries.keys().for_each(|key| self.forget(About::Entry(key)));
        debts.patterns.iter().for_each(|(pattern, _)| self.forget(About::Pattern(pattern)));
    }

    async fn make_up(&self, debts: &Debts) -> Result<()> {
        let tags: Vec<Key> = debts.tags.keys().map(|tag| self.tags.tagged(tag)).collect();
        self.conn.delete_many(tags).await?;
        self.conn.delete_many(debts.entries.keys().cloned().collect::<Vec<_>>()).await?;
        for (pattern, _) in &debts.patterns {
            self.conn.delete_matching(pattern.clone()).await?;
        }
        Ok(())
    }
}

/// Somebody who makes up for what is owed, for as long as there is a handle of the cache.
struct Paying {
    cache: Weak<Inner>,
    is_done: bool,
}

impl Drop for Paying {
    fn drop(&mut self) {
        if !self.is_done
            && let Some(inner) = self.cache.upgrade()
        {
            // Its runtime has ended, so the next failure begins anew.
            inner.owed.state().is_paid = false;
        }
    }
}

async fn make_up(mut paying: Paying) {
    let mut pause = SHORTEST_PAUSE;
    loop {
        let Some(inner) = paying.cache.upgrade() else { return };
        let debts = inner.owed.state().debts.clone();
        match Box::pin(inner.make_up(&debts)).await {
            Ok(()) => pause = SHORTEST_PAUSE,
            Err(error) if error.is_retryable() || error.is_outcome_unknown() => {
                tracing::debug!(%error, "invalidations that failed are tried again");
                drop(inner);
                let _elapsed = timeout(pause, pending::<()>()).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
            Err(error) => {
                tracing::warn!(%error, "invalidations that failed cannot be made up for");
            }
        }
        inner.forget_debts(&debts);
        let mut state = inner.owed.state();
        state.debts.settle(&debts);
        if state.debts.are_none() {
            (state.is_paid, paying.is_done) = (false, true);
            inner.owed.is_any.store(false, Ordering::Release);
            return;
        }
    }
}
