//! Who wants to hear of which keys, and the masters that say what has changed.

use std::{
    collections::{HashMap, HashSet},
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::watch, time::Instant};

use super::{
    changes::Changes,
    cover::Cover,
    master::{self, Master, State},
};
use crate::{
    Error,
    conn::{Core, Place},
    listen::Condition,
};

/// The shortest pause between two signs of life.
const OFTEN: Duration = Duration::from_millis(10);
/// The longest one.
const SELDOM: Duration = Duration::from_secs(1);
/// How many signs of life come within the time that a feed may be behind.
const SIGNS: u32 = 4;

/// The readers of a connection's feed, and the masters it comes from.
#[derive(Debug)]
pub(crate) struct Tracker {
    /// What this connection writes itself is told too.
    pub(super) own_writes: bool,
    /// How many bytes the connection's prefix has, with which all keys begin that anybody wants to hear of.
    prefix: usize,
    /// Before all moments that servers vouch for.
    began: Instant,
    book: Mutex<Book>,
    wanted: watch::Sender<Wanted>,
    next: AtomicU64,
}

/// What all readers together want.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    /// Rises with every change.
    pub(super) version: u64,
    pub(super) cover: Cover,
    /// How often there is to be a sign of life.
    pub(super) every: Duration,
}

#[derive(Debug, Default)]
struct Book {
    readers: Vec<Reader>,
    masters: HashMap<Place, Arc<Master>>,
    ended: bool,
}

/// What one reader wants to hear of, as servers name it.
#[derive(Debug)]
pub(super) struct Interest {
    pub(super) prefixes: Vec<Bytes>,
    pub(super) keys: HashSet<Bytes>,
    /// How far behind it may be.
    pub(super) bound: Duration,
}

#[derive(Debug)]
struct Reader {
    id: u64,
    interest: Interest,
    changes: Arc<Changes>,
    /// From which version on its keys are covered.
    version: u64,
    /// Where it learns that all masters cover them, or why one does not.
    ready: watch::Sender<Ready>,
}

/// Whether a reader hears of everything it wants.
#[derive(Clone, Debug, Default)]
pub(super) enum Ready {
    #[default]
    No,
    Yes,
    Refused(Error),
}

impl Tracker {
    pub(crate) fn new(prefix: usize, own_writes: bool) -> Self {
        let (book, wanted) = (Mutex::default(), watch::Sender::default());
        let (began, next) = (Instant::now(), AtomicU64::new(0));
        Self { own_writes, prefix, began, book, wanted, next }
    }

    /// Puts a reader down; returns its number, its queue, and where it learns that it hears of everything.
    pub(super) fn join(
        self: &Arc<Self>,
        core: &Arc<Core>,
        interest: Interest,
        most: NonZeroUsize,
    ) -> (u64, Arc<Changes>, watch::Receiver<Ready>) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let changes = Arc::new(Changes::new(most, self.began));
        let (ready, becomes_ready) = watch::channel(Ready::No);
        let mut book = self.lock();
        if book.ended {
            changes.close();
            ready.send_replace(Ready::Refused(Error::closed()));
            return (id, changes, becomes_ready);
        }
        // Whatever is known of before is from before.
        changes.gap();
        let version = self.wanted.borrow().version + 1;
        book.readers.push(Reader { id, interest, changes: Arc::clone(&changes), version, ready });
        self.want(&book);
        self.expect(&mut book, core, &core.master_places());
        (id, changes, becomes_ready)
    }

    pub(super) fn leave(&self, id: u64) {
        let mut book = self.lock();
        book.readers.retain(|reader| reader.id != id);
        self.want(&book);
    }

    fn want(&self, book: &Book) {
        let interests = || book.readers.iter().map(|reader| &reader.interest);
        let prefixes = interests().flat_map(|wants| wants.prefixes.iter().chain(&wants.keys));
        let cover = Cover::of(prefixes.cloned());
        let bound = interests().map(|wants| wants.bound).min().unwrap_or(SELDOM);
        let every = (bound / SIGNS).clamp(OFTEN, SELDOM);
        self.wanted.send_modify(|wanted| {
            *wanted = Wanted { version: wanted.version + 1, cover, every };
        });
    }

    pub(super) fn wanted(&self) -> watch::Receiver<Wanted> {
        self.wanted.subscribe()
    }

    /// Nobody is behind any more until these masters have said so. To be called before anybody can ask one of them.
    pub(crate) fn rearranging(self: &Arc<Self>, core: &Arc<Core>, places: &[Place]) {
        let mut book = self.lock();
        if !book.ended && !book.readers.is_empty() {
            self.expect(&mut book, core, places);
        }
    }

    fn expect(self: &Arc<Self>, book: &mut Book, core: &Arc<Core>, places: &[Place]) {
        // With a link that ends, what it had not said yet is lost.
        let mut changed = false;
        let gone = book.masters.extract_if(|place, _| !places.contains(place));
        for (_, master) in gone {
            changed = true;
            master.end();
        }
        for place in places {
            if book.masters.contains_key(place) {
                continue;
            }
            changed = true;
            let master = Arc::new(Master::new(place.clone()));
            let task = master::keep(Arc::clone(core), Arc::clone(self), Arc::clone(&master));
            master.own(core.spawn(task));
            book.masters.insert(place.clone(), master);
        }
        if changed {
            book.gap();
        }
    }

    /// A master's link covers `version`, and has said all that was done after `since`. Unless it took the place of one
    /// that lacked nothing, nobody knows what was done before.
    pub(super) fn armed(&self, master: &Master, version: u64, since: Instant, seamless: bool) {
        let book = self.lock();
        {
            let mut state = master.state();
            state.armed = Some(version);
            let presence = state.condition.presence;
            state.condition = Condition { live: true, proven: since, error: None, presence };
        }
        if !seamless {
            book.gap();
        }
        book.prove();
    }

    /// All that a master did before `moment` has been handed out.
    pub(super) fn proven(&self, master: &Master, moment: Instant) {
        let book = self.lock();
        {
            let mut state = master.state();
            state.condition.proven = state.condition.proven.max(moment);
        }
        book.prove();
    }

    /// A master has no link.
    pub(super) fn lost(&self, master: &Master, err: &Error) {
        let book = self.lock();
        let was_armed = {
            let mut state = master.state();
            state.condition.live = false;
            state.condition.error = Some(err.clone());
            state.armed.take().is_some()
        };
        if was_armed {
            book.gap();
        }
        for reader in &book.readers {
            reader.ready.send_if_modified(|ready| {
                let waits = matches!(ready, Ready::No);
                if waits && !err.is_retryable() {
                    *ready = Ready::Refused(err.clone());
                    return true;
                }
                false
            });
        }
    }

    /// Hands out keys that have changed.
    pub(super) fn changed(&self, keys: &[Bytes]) {
        let book = self.lock();
        for key in keys {
            for reader in book.readers.iter().filter(|reader| reader.interest.has(key)) {
                // What is handed out must not keep all that was read with it.
                reader.changes.key(Bytes::copy_from_slice(&key[self.prefix..]));
            }
        }
    }

    /// Everything has changed.
    pub(super) fn flushed(&self) {
        self.lock().readers.iter().for_each(|reader| reader.changes.flush());
    }

    /// Forgets a master when nobody reads; returns whether that is so.
    pub(super) fn let_go(&self, master: &Master) -> bool {
        let mut book = self.lock();
        let unread = book.readers.is_empty();
        if unread {
            book.masters.remove(&master.place);
        }
        unread
    }

    pub(crate) fn end(&self) {
        let mut book = self.lock();
        book.ended = true;
        book.masters.drain().for_each(|(_, master)| master.end());
        for reader in book.readers.drain(..) {
            reader.changes.close();
            reader.ready.send_replace(Ready::Refused(Error::closed()));
        }
    }

    /// How the links are doing that somebody reads from.
    pub(crate) fn conditions(&self) -> Vec<Condition> {
        let book = self.lock();
        let masters = book.masters.values().filter(|_| !book.readers.is_empty());
        masters.map(|master| master.condition()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn gap(&self) {
        self.readers.iter().for_each(|reader| reader.changes.gap());
    }

    /// Tells readers how far they are known to have heard everything.
    fn prove(&self) {
        let states: Vec<State> =
            self.masters.values().map(|master| master.state().clone()).collect();
        let Some(proven) = states.iter().map(|state| state.condition.proven).min() else { return };
        let Some(armed) = states.iter().map(|state| state.armed).min().flatten() else { return };
        for reader in self.readers.iter().filter(|reader| reader.version <= armed) {
            reader.changes.prove(proven);
            reader.ready.send_if_modified(|ready| {
                let waits = matches!(ready, Ready::No);
                *ready = Ready::Yes;
                waits
            });
        }
    }
}

impl Interest {
    fn has(&self, key: &Bytes) -> bool {
        self.keys.contains(key) || self.prefixes.iter().any(|prefix| key.starts_with(prefix))
    }
}
