//! The links to one server for one purpose.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use arc_swap::ArcSwapOption;
use tokio::{sync::Notify, task::AbortHandle};

use super::{
    keeper::Keeper,
    link::Link,
    owner::Core,
    state::{SeatId, Weight},
};
use crate::config::Endpoint;

/// The links to one server for one purpose, where calls find them and keepers put them.
pub(super) struct Lane {
    /// A single server or one behind sentinels; never a whole cluster.
    pub(super) endpoint: Endpoint,
    pub(super) purpose: Purpose,
    seats: Box<[Seat]>,
    next: AtomicUsize,
    /// Somebody met a server that takes no writes: is it still the one to talk to?
    doubts: Notify,
    /// Held while something is handed over that must go out in one piece.
    pub(super) turn: Mutex<()>,
    gone: AtomicBool,
    tasks: Mutex<Vec<AbortHandle>>,
}

/// What the links of a lane are for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Purpose {
    Commands,
    /// Commands that only read, which a replica may answer.
    Reads,
    /// What goes out between `MULTI` and `EXEC`, and nothing else.
    Transactions,
    /// One command that waits at the server.
    Blocking,
    /// What a sentinel is asked.
    Questions,
}

struct Seat {
    id: SeatId,
    link: ArcSwapOption<Link>,
}

impl Lane {
    /// A lane of `links` links; nothing is dialed yet.
    pub(super) fn new(
        core: &Core,
        endpoint: Endpoint,
        purpose: Purpose,
        links: usize,
        weight: Weight,
    ) -> Arc<Self> {
        let seat = |_| Seat { id: core.status.join(weight), link: ArcSwapOption::empty() };
        Arc::new(Self {
            endpoint,
            purpose,
            seats: (0..links).map(seat).collect(),
            next: AtomicUsize::new(0),
            doubts: Notify::new(),
            turn: Mutex::new(()),
            gone: AtomicBool::new(false),
            tasks: Mutex::new(Vec::new()),
        })
    }

    /// Starts the tasks that keep the links.
    pub(super) fn start(self: &Arc<Self>, core: &Arc<Core>) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        for seat in 0..self.seats.len() {
            let keeper = Keeper::new(Arc::clone(core), Arc::clone(self), seat);
            // A lane may be opened by a call from another runtime, which does not end the connection with its own end.
            tasks.push(core.spawn(keeper.run()));
        }
        drop(tasks);
        // The end of the connection may have come a moment before, and found no tasks to end.
        if core.has_ended() {
            self.end();
        }
    }

    /// The next link that is up.
    pub(super) fn pick(&self) -> Option<Arc<Link>> {
        let count = self.seats.len();
        let first = if count == 1 { 0 } else { self.next.fetch_add(1, Ordering::Relaxed) };
        (0..count).find_map(|offset| {
            let link = self.seats[first.wrapping_add(offset) % count].link.load_full()?;
            link.is_up().then_some(link)
        })
    }

    /// All links that are up.
    pub(super) fn up(&self) -> impl Iterator<Item = Arc<Link>> {
        self.seats.iter().filter_map(|seat| seat.link.load_full().filter(|link| link.is_up()))
    }

    pub(super) fn id(&self, seat: usize) -> SeatId {
        self.seats[seat].id
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = SeatId> {
        self.seats.iter().map(|seat| seat.id)
    }

    pub(super) fn link(&self, seat: usize) -> Option<Arc<Link>> {
        self.seats[seat].link.load_full()
    }

    /// Puts a link that answers into its seat; returns the one it replaces.
    pub(super) fn install(&self, core: &Core, seat: usize, link: Link) -> Option<Arc<Link>> {
        let replaced = self.seats[seat].link.swap(Some(Arc::new(link)));
        // Another server may be answering from now on.
        core.capabilities.forget();
        core.status.link_up(self.id(seat));
        // Closing may have emptied the seats a moment before.
        if core.has_ended() || self.is_gone() {
            self.empty(seat);
        }
        replaced
    }

    /// Takes the link out of its seat and closes it.
    pub(super) fn empty(&self, seat: usize) {
        if let Some(link) = self.seats[seat].link.swap(None) {
            link.abort();
        }
    }

    /// Wants to know whether this is still the right server, because it takes no writes.
    pub(super) fn doubt(&self) {
        self.doubts.notify_waiters();
    }

    pub(super) async fn doubted(&self) {
        self.doubts.notified().await;
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Lets go of a server that is no longer wanted: calls in flight on its links still end by themselves.
    pub(super) fn release(&self) {
        self.stop();
        for seat in &self.seats {
            seat.link.store(None);
        }
    }

    /// Ends the tasks and closes the links.
    pub(super) fn end(&self) {
        self.stop();
        for seat in 0..self.seats.len() {
            self.empty(seat);
        }
    }

    fn stop(&self) {
        self.gone.store(true, Ordering::Release);
        for task in self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
    }
}
