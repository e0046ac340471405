//! Where what listens on behalf of a connection is found: the hub that its subscribers share, those of subscribers that
//! are waited for, and the trackers.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use super::{Conn, Core};
use crate::{Listening, subscriptions::Hub, tracking::Tracker};

#[derive(Debug, Default)]
pub(super) struct Hubs {
    shared: OnceLock<Arc<Hub>>,
    all: Mutex<Vec<Weak<Hub>>>,
}

impl Hubs {
    /// Does something to every hub.
    pub(super) fn each(&self, act: impl FnMut(&Arc<Hub>)) {
        let hubs: Vec<_> = self.all().iter().filter_map(Weak::upgrade).collect();
        hubs.iter().for_each(act);
    }

    fn add(&self, hub: &Arc<Hub>) {
        let mut all = self.all();
        all.retain(|hub| hub.strong_count() > 0);
        all.push(Arc::downgrade(hub));
    }

    fn all(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Hub>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One for feeds with this connection's own writes, one for those without.
#[derive(Debug)]
pub(super) struct Trackers([Arc<Tracker>; 2]);

impl Trackers {
    pub(super) fn new(prefix: usize) -> Self {
        Self([true, false].map(|own_writes| Arc::new(Tracker::new(prefix, own_writes))))
    }

    /// Does something to both.
    pub(super) fn each(&self, act: impl FnMut(&Arc<Tracker>)) {
        self.0.iter().for_each(act);
    }
}

impl Core {
    pub(crate) fn tracker(&self, own_writes: bool) -> Arc<Tracker> {
        let [with, without] = &self.trackers.0;
        Arc::clone(if own_writes { with } else { without })
    }

    /// The hub that subscribers share.
    pub(crate) fn hub(&self) -> Arc<Hub> {
        Arc::clone(self.hubs.shared.get_or_init(|| self.new_hub()))
    }

    /// A hub, to be shared or for one subscriber.
    pub(crate) fn new_hub(&self) -> Arc<Hub> {
        let hub = Arc::default();
        self.hubs.add(&hub);
        // The end of the connection may have come a moment before.
        if self.has_ended() {
            hub.end();
        }
        hub
    }
}

impl Conn {
    /// How subscriptions are doing; none while there are none.
    pub(crate) fn subscriptions(&self) -> Option<Listening> {
        let mut lines = Vec::new();
        self.owner.core.hubs.each(|hub| lines.extend(hub.lines()));
        Listening::of(lines.iter().map(|line| line.condition().clone()))
    }

    /// How feeds of what changes are doing; none while there are none.
    pub(crate) fn feeds(&self) -> Option<Listening> {
        let mut conditions = Vec::new();
        self.owner.core.trackers.each(|tracker| conditions.extend(tracker.conditions()));
        Listening::of(conditions.into_iter())
    }
}
