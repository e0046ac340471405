//! Where a listening link leads, and how long it leads there.

use std::sync::{Arc, Weak};

use super::{
    Core,
    layout::{Layout, Route, Server},
    link::{Address, Link},
};
use crate::config::Node;

/// Where a listening link leads: to a server that there is a link for commands to.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Place {
    /// Any server that takes writes.
    Anywhere,
    /// The master at this address.
    Master(Node),
}

impl Core {
    /// Waits until a link for commands leads to `place`, and returns where it ends.
    pub(crate) async fn reach(&self, place: &Place) -> Address {
        let mut status = self.status.watch();
        loop {
            status.borrow_and_update();
            if let Some(link) = self.link_at(place) {
                return link.address.clone();
            }
            // The sender lives in `self`.
            let _ = status.changed().await;
        }
    }

    /// Waits until a link to `address` is known to lead elsewhere than to `place`.
    pub(crate) async fn leaves(&self, place: &Place, address: &Address) {
        let mut status = self.status.watch();
        loop {
            status.borrow_and_update();
            if !self.leads_to(place, address) {
                return;
            }
            let _ = status.changed().await;
        }
    }

    /// A link for commands to `place`.
    pub(crate) fn link_at(&self, place: &Place) -> Option<Arc<Link>> {
        let layout = self.layout.load();
        self.server_at(&layout, place)?.commands.pick()
    }

    /// The first link for commands to `place`, if that is up.
    pub(crate) fn first_link_at(&self, place: &Place) -> Option<Arc<Link>> {
        let layout = self.layout.load();
        self.server_at(&layout, place)?.commands.link(0).filter(|link| link.is_up())
    }

    /// All links for commands to `place` that are up.
    pub(crate) fn links_at(&self, place: &Place) -> Vec<Weak<Link>> {
        let layout = self.layout.load();
        let Some(server) = self.server_at(&layout, place) else { return Vec::new() };
        server.commands.up().map(|link| Arc::downgrade(&link)).collect()
    }

    /// Waits until the links for commands to `place` are others than `links`.
    pub(crate) async fn replaced(&self, place: &Place, links: Vec<Weak<Link>>) {
        let mut status = self.status.watch();
        loop {
            status.borrow_and_update();
            let now = self.links_at(place);
            if now.len() != links.len() || !now.iter().zip(&links).all(|(a, b)| a.ptr_eq(b)) {
                return;
            }
            let _ = status.changed().await;
        }
    }

    /// Whether `place` may still be at `address`. While nobody is there, it may.
    fn leads_to(&self, place: &Place, address: &Address) -> bool {
        let layout = self.layout.load();
        if !layout.is_cluster() {
            return self.link_at(place).is_none_or(|link| link.address == *address);
        }
        let is_there = |node: &Node| matches!(address, Address::Tcp(there) if there == node);
        let is_wanted = |node: &Node| match place {
            Place::Anywhere => true,
            Place::Master(at) => at == node,
        };
        let mut masters = layout.shards.iter().filter_map(|shard| shard.master.node());
        layout.shards.is_empty() || masters.any(|node| is_wanted(node) && is_there(node))
    }

    fn server_at<'a>(&self, layout: &'a Layout, place: &Place) -> Option<&'a Arc<Server>> {
        match place {
            Place::Anywhere => layout.server(&Route::Any, self.turn()),
            Place::Master(node) => {
                let mut masters = layout.shards.iter().map(|shard| &shard.master);
                masters.find(|master| master.node() == Some(node))
            }
        }
    }

    /// The place of a shard channel of this slot; none while nobody has it.
    pub(crate) fn place_of(&self, slot: u16) -> Option<Place> {
        let layout = self.layout.load();
        if !layout.is_cluster() {
            return Some(Place::Anywhere);
        }
        layout.shard(slot)?.master.node().cloned().map(Place::Master)
    }

    /// Every master; one anywhere where there is no cluster.
    pub(crate) fn master_places(&self) -> Vec<Place> {
        self.layout.load().master_places()
    }
}

impl Layout {
    /// Every master; one anywhere where there is no cluster.
    pub(super) fn master_places(&self) -> Vec<Place> {
        if !self.is_cluster() {
            return vec![Place::Anywhere];
        }
        let masters = self.shards.iter().filter_map(|shard| shard.master.node());
        masters.cloned().map(Place::Master).collect()
    }
}
