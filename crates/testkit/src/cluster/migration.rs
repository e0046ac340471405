use super::{Cluster, unexpected};
use crate::{Error, Reply, Server, wait::await_that};

/// A slot on its way from one master to another; see [`Cluster::start_migration`].
///
/// Dropped, it stays on its way.
#[derive(Debug)]
#[must_use = "the slot stays on its way until finish()"]
pub struct Migration<'a> {
    cluster: &'a Cluster,
    slot: u16,
    from: usize,
    to: usize,
}

impl<'a> Migration<'a> {
    pub(super) fn start(cluster: &'a Cluster, slot: u16, to: usize) -> Result<Self, Error> {
        let from = cluster.slot_owner(slot)?;
        if from == to || !cluster.masters()?.contains(&to) {
            let reason =
                if from == to { "serves the slot already" } else { "is no running master" };
            return Err(unexpected("CLUSTER SETSLOT", &format!("node {to} {reason}")));
        }
        let migration = Self { cluster, slot, from, to };
        // In this order: a question that the old owner redirects must find the new one prepared.
        migration.set_slot(to, "IMPORTING", from)?;
        migration.set_slot(from, "MIGRATING", to)?;
        Ok(migration)
    }

    /// The number of the old owner.
    #[must_use]
    pub fn from(&self) -> usize {
        self.from
    }

    /// The number of the new owner.
    #[must_use]
    pub fn to(&self) -> usize {
        self.to
    }

    /// Moves up to `limit` keys and returns how many there were to move; zero means that none is left.
    ///
    /// # Errors
    ///
    /// As [`Server::command`]; some keys may be moved then, none is lost.
    pub fn move_keys(&self, limit: usize) -> Result<usize, Error> {
        let [slot, limit] = [self.slot.to_string(), limit.to_string()];
        let keys = self.source().command(["CLUSTER", "GETKEYSINSLOT", &slot, &limit])?;
        let keys: Vec<_> =
            keys.as_array().unwrap_or_default().iter().filter_map(Reply::as_bytes).collect();
        if !keys.is_empty() {
            let port = self.target().port().to_string();
            let words: [&[u8]; 7] =
                [b"MIGRATE", b"127.0.0.1", port.as_bytes(), b"", b"0", b"10000", b"KEYS"];
            self.source().command(words.into_iter().chain(keys.iter().copied()))?;
        }
        Ok(keys.len())
    }

    /// Moves all keys that are left, hands the slot over, and waits until all nodes know.
    ///
    /// # Errors
    ///
    /// As [`Server::command`]; the slot may be open at one end then. [`Error::Timeout`] when the nodes do not agree
    /// within a minute.
    pub fn finish(self) -> Result<(), Error> {
        while self.move_keys(100)? > 0 {}
        // The new owner first: until the old one knows, both redirect to where the keys are.
        self.set_slot(self.to, "NODE", self.to)?;
        self.set_slot(self.from, "NODE", self.to)?;
        for master in self.cluster.masters()? {
            if ![self.to, self.from].contains(&master) {
                self.set_slot(master, "NODE", self.to)?;
            }
        }
        let owner = &self.cluster.ids[self.to];
        await_that("the agreement on a slot's owner", || {
            self.cluster.all_agree(|node| node.serves(self.slot) == (node.id == *owner))
        })
    }

    fn set_slot(&self, at: usize, state: &str, other: usize) -> Result<(), Error> {
        let (slot, other) = (self.slot.to_string(), &self.cluster.ids[other]);
        self.cluster.nodes[at].command(["CLUSTER", "SETSLOT", &slot, state, other]).map(|_| ())
    }

    fn source(&self) -> &Server {
        &self.cluster.nodes[self.from]
    }

    fn target(&self) -> &Server {
        &self.cluster.nodes[self.to]
    }
}
