mod failover;
mod form;
mod migration;
mod view;

pub use migration::Migration;

use self::view::{Node, nodes};
use crate::{CommandCounts, Error, Proxy, Reply, Server, ServerBuilder, link, provision::Want};

/// A cluster of its own: by default three masters with a replica each.
///
/// Starting one takes seconds, which servers need to trust each other, so a test binary rather shares one. Nodes are numbered: masters come first, then the replicas in the order of their masters.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Server>,
    ids: Vec<String>,
    proxies: Vec<Proxy>,
}

/// Settings of a [`Cluster`] that is to be started.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until start()"]
pub struct ClusterBuilder {
    masters: usize,
    replicas: usize,
    proxied: bool,
    node: ServerBuilder,
}

impl Cluster {
    /// Starts a cluster with default settings.
    ///
    /// # Errors
    ///
    /// As [`ClusterBuilder::start`].
    pub fn start() -> Result<Self, Error> {
        Self::builder().start()
    }

    /// Settings for a cluster to be started.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder { masters: 3, replicas: 1, proxied: false, node: Server::builder() }
    }

    /// All nodes, masters of the beginning first.
    #[must_use]
    pub fn nodes(&self) -> &[Server] {
        &self.nodes
    }

    /// The proxy before a node. Clients, other nodes' replicas among them, are told its address and never the node's;
    /// only the cluster bus goes around it.
    ///
    /// # Panics
    ///
    /// When the cluster was started without [`ClusterBuilder::proxied`], or has no such node.
    #[must_use]
    pub fn proxy(&self, node: usize) -> &Proxy {
        assert!(!self.proxies.is_empty(), "start the cluster with Cluster::builder().proxied()");
        &self.proxies[node]
    }

    /// Where clients connect, one `redis://127.0.0.1:PORT` for each node.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        (0..self.nodes.len()).map(|node| format!("redis://127.0.0.1:{}", self.port(node))).collect()
    }

    /// `redis-cluster://127.0.0.1:PORT?node=127.0.0.1:PORT&node=…`, with all nodes.
    #[must_use]
    pub fn url(&self) -> String {
        let mut places = (0..self.nodes.len()).map(|node| format!("127.0.0.1:{}", self.port(node)));
        let first = places.next().unwrap_or_default();
        let others: Vec<_> = places.map(|place| format!("node={place}")).collect();
        format!("redis-cluster://{first}?{}", others.join("&"))
    }

    /// Sends a command as an administrator to the node that it belongs to, following the cluster's redirections.
    ///
    /// # Errors
    ///
    /// As [`Server::command`].
    pub fn command<A: AsRef<[u8]>>(
        &self,
        command: impl IntoIterator<Item = A>,
    ) -> Result<Reply, Error> {
        let command: Vec<_> = command.into_iter().collect();
        let plain: Vec<&[u8]> = command.iter().map(A::as_ref).collect();
        let mut node = self.nodes.iter().find(|node| node.is_running()).unwrap_or(&self.nodes[0]);
        let mut asking = false;
        for _ in 0..REDIRECTIONS {
            let asked: [&[&[u8]]; 2] = [&[b"ASKING"], &plain];
            let reply = node.exchange(&asked[usize::from(!asking)..])?.pop().unwrap_or(Reply::Nil);
            let Reply::Error(message) = &reply else { return Ok(reply) };
            let mut words = message.split(' ');
            asking = match words.next() {
                Some("MOVED") => false,
                Some("ASK") => true,
                _ => return link::answer(&plain, Ok(reply)),
            };
            let port = words.nth(1).and_then(|place| place.rsplit(':').next()?.parse().ok());
            let target = (0..self.nodes.len()).find(|&at| Some(self.port(at)) == port);
            node = &self.nodes[target.ok_or_else(|| unexpected("redirection", message))?];
        }
        Err(unexpected("redirection", "more than a few"))
    }

    /// How often the nodes that run ran each command, summed; see [`Server::command_counts`]. Replicas repeat the
    /// writes of their masters, which counts too.
    ///
    /// # Errors
    ///
    /// As [`Server::command`].
    pub fn command_counts(&self) -> Result<CommandCounts, Error> {
        let mut all = CommandCounts::default();
        for node in self.nodes.iter().filter(|node| node.is_running()) {
            all += &node.command_counts()?;
        }
        Ok(all)
    }

    /// The slot of a key, from 0 to 16383, as a server computes it.
    ///
    /// # Errors
    ///
    /// As [`Server::command`].
    pub fn slot_of(&self, key: impl AsRef<[u8]>) -> Result<u16, Error> {
        let command: [&[u8]; 3] = [b"CLUSTER", b"KEYSLOT", key.as_ref()];
        let reply = self.command(command)?;
        reply
            .as_int()
            .and_then(|slot| slot.try_into().ok())
            .ok_or_else(|| unexpected("CLUSTER KEYSLOT", "no slot"))
    }

    /// The number of the master that serves a slot.
    ///
    /// # Errors
    ///
    /// [`Error::Reply`] when no running node serves it; as [`Server::command`] otherwise.
    pub fn slot_owner(&self, slot: u16) -> Result<usize, Error> {
        let mut owner: Option<(u64, usize)> = None;
        for (at, _) in self.running() {
            let itself = self.view_of(at)?.into_iter().find(|node| node.is("myself"));
            let Some(itself) = itself.filter(|node| node.is("master") && node.serves(slot)) else {
                continue;
            };
            // A master that was cut off may think that it still serves; the younger claim is right.
            owner = owner.max(Some((itself.epoch, at)));
        }
        owner
            .map(|(_, at)| at)
            .ok_or_else(|| unexpected("CLUSTER NODES", &format!("nobody serves slot {slot}")))
    }

    /// The numbers of the nodes that run and are masters.
    ///
    /// # Errors
    ///
    /// As [`Server::command`].
    pub fn masters(&self) -> Result<Vec<usize>, Error> {
        self.in_role("master")
    }

    /// The numbers of the nodes that run and are replicas.
    ///
    /// # Errors
    ///
    /// As [`Server::command`].
    pub fn replicas(&self) -> Result<Vec<usize>, Error> {
        self.in_role("slave")
    }

    /// Moves a slot with its keys to another master, and waits until all nodes know.
    ///
    /// # Errors
    ///
    /// As [`start_migration`](Self::start_migration) and [`Migration::finish`].
    pub fn migrate_slot(&self, slot: u16, to: usize) -> Result<(), Error> {
        self.start_migration(slot, to)?.finish()
    }

    /// Begins to move a slot to another master: until [`Migration::finish`], keys that are still there are served by
    /// the old one, and questions for others are redirected to the new one (`ASK`).
    ///
    /// # Errors
    ///
    /// [`Error::Reply`] when `to` is no master or serves the slot already; as [`Server::command`] otherwise. The slot
    /// may be open at one end then.
    pub fn start_migration(&self, slot: u16, to: usize) -> Result<Migration<'_>, Error> {
        Migration::start(self, slot, to)
    }

    /// The port at which clients find a node.
    fn port(&self, node: usize) -> u16 {
        self.proxies.get(node).map_or_else(|| self.nodes[node].port(), Proxy::port)
    }

    fn running(&self) -> impl Iterator<Item = (usize, &Server)> {
        self.nodes.iter().enumerate().filter(|(_, node)| node.is_running())
    }

    fn view_of(&self, node: usize) -> Result<Vec<Node>, Error> {
        nodes(&self.nodes[node])
    }

    fn in_role(&self, role: &str) -> Result<Vec<usize>, Error> {
        let mut found = Vec::new();
        for (at, _) in self.running() {
            if self.view_of(at)?.iter().any(|node| node.is("myself") && node.is(role)) {
                found.push(at);
            }
        }
        Ok(found)
    }

    /// Whether something holds for all lines in the views of all running nodes.
    fn all_agree(&self, holds: impl Fn(&Node) -> bool) -> Result<bool, Error> {
        for (at, _) in self.running() {
            if !self.view_of(at)?.iter().all(&holds) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl ClusterBuilder {
    /// Sets how many masters share the slots; three is the least that can fail over.
    ///
    /// Default: 3.
    pub fn masters(mut self, masters: usize) -> Self {
        self.masters = masters;
        self
    }

    /// Sets how many replicas each master has.
    ///
    /// Default: 1.
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    /// Puts a proxy before each node; clients learn the proxies' addresses only.
    ///
    /// Default: no proxies.
    pub fn proxied(mut self) -> Self {
        self.proxied = true;
        self
    }

    /// Sets which server is wanted.
    ///
    /// Default: [`Want::Any`], which `REDIS_SERVER` can steer.
    pub fn want(mut self, want: Want) -> Self {
        self.node = self.node.want(want);
        self
    }

    /// Adds a line to the configuration of each node, as [`ServerBuilder::config`].
    ///
    /// Default: no line but those that [`Server`] names, `cluster-enabled yes`, `cluster-node-timeout 2000`,
    /// `cluster-replica-validity-factor 0`, `repl-diskless-load swapdb`, and with proxies the ports to announce.
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.node = self.node.config(name, value);
        self
    }

    /// Starts the nodes, joins them and waits until all are well and all replicas up to date: a few seconds.
    ///
    /// # Errors
    ///
    /// As [`ServerBuilder::start`]; [`Error::Config`] without any master; [`Error::Timeout`] when a step takes longer
    /// than a minute. No process is left then.
    pub fn start(self) -> Result<Cluster, Error> {
        form::form(&self)
    }
}

fn unexpected(command: &str, message: &str) -> Error {
    Error::Reply { command: command.into(), message: message.into() }
}

const REDIRECTIONS: usize = 8;
