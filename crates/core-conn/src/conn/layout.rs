//! Which server has what: one server, or the masters of a cluster and their slots, each with its replicas.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    lane::{Lane, Purpose},
    link::Link,
    owner::Core,
    state::Weight,
};
use crate::{
    Error, ErrorKind,
    config::{Endpoint, Node},
};

/// How many slots a cluster has.
pub(crate) const SLOTS: usize = 16_384;

/// Where a command may go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Route {
    /// Any server that takes writes.
    Any,
    /// The server that has the slot.
    Slot(u16),
    /// The node of this address.
    Node(Box<Node>),
}

/// A server: its lanes, each with links for a purpose of its own.
pub(super) struct Server {
    pub(super) commands: Arc<Lane>,
    transactions: Mutex<Option<Arc<Lane>>>,
}

/// The servers and what each has. Replaced as a whole when that changes.
#[derive(Default)]
pub(super) struct Layout {
    pub(super) shards: Vec<Shard>,
    /// On a cluster: which shard has a slot. Otherwise there is one shard, and it has everything.
    slots: Option<Box<[Option<u16>]>>,
    /// Servers that were only asked for the layout.
    pub(super) seeds: Vec<Arc<Server>>,
}

/// A master and its replicas.
#[derive(Clone)]
pub(super) struct Shard {
    pub(super) master: Arc<Server>,
    pub(super) replicas: Vec<Arc<Server>>,
}

/// What a server said about the layout, before there are links to it.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Plan {
    pub(super) shards: Vec<PlannedShard>,
}

#[derive(Debug, Eq, PartialEq)]
pub(super) struct PlannedShard {
    pub(super) master: Node,
    pub(super) replicas: Vec<Node>,
    /// Both ends included.
    pub(super) slots: Vec<(u16, u16)>,
}

impl Server {
    pub(super) fn new(core: &Core, endpoint: Endpoint, purpose: Purpose) -> Arc<Self> {
        // A replica that is down is made up for by its master, so the whole is no worse for it.
        let weight = if purpose == Purpose::Reads { Weight::Extra } else { Weight::Counts };
        let links = core.config.command_links.get();
        let commands = Lane::new(core, endpoint, purpose, links, weight);
        Arc::new(Self { commands, transactions: Mutex::new(None) })
    }

    /// The lane for transactions, opened when it is first asked for; none once the server is no longer wanted.
    pub(super) fn transactions(&self, core: &Arc<Core>) -> Option<Arc<Lane>> {
        let mut lane = self.transactions.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked at under the lock, which whoever lets go of the server takes afterwards.
        if self.commands.is_gone() {
            return None;
        }
        let lane = lane.get_or_insert_with(|| {
            let endpoint = self.commands.endpoint.clone();
            let lane = Lane::new(core, endpoint, Purpose::Transactions, 1, Weight::Extra);
            lane.start(core);
            lane
        });
        Some(Arc::clone(lane))
    }

    pub(super) fn each_lane(&self, mut act: impl FnMut(&Lane)) {
        act(&self.commands);
        if let Some(lane) = &*self.transactions.lock().unwrap_or_else(PoisonError::into_inner) {
            act(lane);
        }
    }

    /// Where the server is, when that is a host and a port.
    pub(super) fn node(&self) -> Option<&Node> {
        match &self.commands.endpoint {
            Endpoint::Tcp(node) => Some(node),
            _ => None,
        }
    }
}

impl Layout {
    /// One server that has everything.
    pub(super) fn single(shard: Shard) -> Self {
        Self { shards: vec![shard], ..Self::default() }
    }

    /// The beginning of a cluster: nodes that may know it.
    pub(super) fn unknown(seeds: Vec<Arc<Server>>) -> Self {
        Self { seeds, slots: Some(vec![None; SLOTS].into()), ..Self::default() }
    }

    /// The same, with nodes to ask for a newer one, which are not started yet.
    pub(super) fn with_seeds(&self, core: &Core, nodes: Vec<Node>) -> Self {
        let seed = |node| Server::new(core, Endpoint::Tcp(node), Purpose::Commands);
        let seeds = nodes.into_iter().map(seed).collect();
        Self { shards: self.shards.clone(), slots: self.slots.clone(), seeds }
    }

    /// The same single master with replicas at `nodes`, of which those that are new are not started yet.
    pub(super) fn with_replicas(&self, core: &Core, nodes: &[Node]) -> Self {
        let Some(shard) = self.shards.first() else { return Self::default() };
        let known = self.known();
        let server = |node| known.server(core, node, Purpose::Reads);
        let replicas = nodes.iter().map(server).collect();
        Self::single(Shard { master: Arc::clone(&shard.master), replicas })
    }

    /// Those of `nodes` that are no master here.
    pub(super) fn unnamed(&self, nodes: &[Node]) -> Vec<Node> {
        let named =
            |node: &&Node| self.shards.iter().any(|shard| shard.master.node() == Some(node));
        nodes.iter().filter(|node| !named(node)).cloned().collect()
    }

    pub(super) fn is_cluster(&self) -> bool {
        self.slots.is_some()
    }

    pub(super) fn shard(&self, slot: u16) -> Option<&Shard> {
        match &self.slots {
            None => self.shards.first(),
            Some(slots) => self.shards.get(usize::from((*slots.get(usize::from(slot))?)?)),
        }
    }

    /// What is amiss though all links may be up: no node of a known cluster serves some slot.
    pub(super) fn amiss(&self) -> Option<Error> {
        let slots = self.slots.as_ref().filter(|_| !self.shards.is_empty())?;
        let slot = slots.iter().position(Option::is_none)?;
        let what = format!(
            "no node of the cluster serves slot {slot}; check `CLUSTER INFO` and `CLUSTER NODES`"
        );
        Some(Error::new(ErrorKind::Topology, what))
    }

    /// The server that a command may go to; `turn` spreads commands that may go anywhere.
    pub(super) fn server(&self, route: &Route, turn: usize) -> Option<&Arc<Server>> {
        match route {
            Route::Slot(slot) => self.shard(*slot).map(|shard| &shard.master),
            Route::Node(node) => self.servers().find(|server| server.node() == Some(&**node)),
            // Nothing to choose from.
            Route::Any if self.slots.is_none() => self.shards.first().map(|shard| &shard.master),
            Route::Any => {
                let count = self.shards.len();
                let shards = (0..count).map(|n| &self.shards[turn.wrapping_add(n) % count].master);
                let mut shards = shards.chain(&self.seeds);
                shards.find(|server| server.commands.pick().is_some())
            }
        }
    }

    /// A replica of the shard that is up, if there is one.
    pub(super) fn replica(&self, slot: u16, turn: usize) -> Option<Arc<Link>> {
        let replicas = &self.shard(slot)?.replicas;
        let count = replicas.len();
        (0..count).find_map(|n| replicas[turn.wrapping_add(n) % count].commands.pick())
    }

    pub(super) fn servers(&self) -> impl Iterator<Item = &Arc<Server>> {
        let shards = self.shards.iter();
        shards
            .flat_map(|shard| std::iter::once(&shard.master).chain(&shard.replicas))
            .chain(&self.seeds)
    }

    /// The layout that `plan` describes, with the servers of this one where they stay. Those that were not there
    /// before are not started yet.
    pub(super) fn follow(&self, core: &Core, plan: &Plan) -> Self {
        let known = self.known();
        let server = |node: &Node, purpose| known.server(core, node, purpose);
        let mut slots = vec![None; SLOTS];
        let mut shards = Vec::with_capacity(plan.shards.len());
        for PlannedShard { master, replicas, slots: ranges } in &plan.shards {
            for (first, last) in ranges {
                let index = u16::try_from(shards.len()).ok();
                slots[usize::from(*first)..=usize::from(*last)].fill(index);
            }
            let replicas = replicas.iter().filter(|_| core.config.read_from.may_be_replica());
            shards.push(Shard {
                master: server(master, Purpose::Commands),
                replicas: replicas.map(|node| server(node, Purpose::Reads)).collect(),
            });
        }
        Self { shards, slots: Some(slots.into()), seeds: Vec::new() }
    }

    fn known(&self) -> Known<'_> {
        let known = self.servers();
        Known(
            known
                .filter_map(|server| Some(((server.node()?, server.commands.purpose), server)))
                .collect(),
        )
    }
}

/// The servers of a layout, by what they are and where.
struct Known<'a>(BTreeMap<(&'a Node, Purpose), &'a Arc<Server>>);

impl Known<'_> {
    /// The one that is known, or a new one, which is not started yet.
    fn server(&self, core: &Core, node: &Node, purpose: Purpose) -> Arc<Server> {
        let known = self.0.get(&(node, purpose)).map(|server| Arc::clone(server));
        known.unwrap_or_else(|| Server::new(core, Endpoint::Tcp(node.clone()), purpose))
    }
}
