//! The hubs of a connection: the one that its subscribers share, and those of subscribers that are waited for.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use super::Core;
use crate::subscriptions::Hub;

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

impl Core {
    /// The hub that subscribers share.
    pub(crate) fn hub(&self) -> Arc<Hub> {
        Arc::clone(self.hubs.shared.get_or_init(|| self.own_hub()))
    }

    /// A hub for one subscriber.
    pub(crate) fn own_hub(&self) -> Arc<Hub> {
        let hub = Arc::default();
        self.hubs.add(&hub);
        // The end of the connection may have come a moment before.
        if self.has_ended() {
            hub.end();
        }
        hub
    }

    /// The hub that subscribers share, if somebody has subscribed.
    pub(crate) fn hub_in_use(&self) -> Option<&Arc<Hub>> {
        self.hubs.shared.get()
    }
}
