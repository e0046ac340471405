//! The task that keeps the layout: which nodes a cluster has and their slots, or which replicas a master has.

use std::{sync::Arc, time::Duration};

use fred::types::Value;

use super::{
    lane::Purpose,
    layout::{Layout, Plan, PlannedShard, SLOTS, Server},
    link::{Address, Link},
    owner::Core,
    state::State,
    time::pause,
};
use crate::{
    Error, ErrorKind, Result,
    config::{Endpoint, Node},
    error::fred::{from_call, from_dial},
};

/// How long a node may take to answer before another one is asked.
const PATIENCE: Duration = Duration::from_secs(1);
/// The shortest pause between two questions: many calls meet a moved slot at once.
const BETWEEN_QUESTIONS: Duration = Duration::from_millis(50);
/// How often it is asked while a server is missing, and while none is.
const WHILE_INCOMPLETE: Duration = Duration::from_millis(250);
const WHILE_COMPLETE: Duration = Duration::from_secs(30);
/// How often while replicas are wanted and a master names none: a new one does so once it has taken a write. And while no node
/// has some slot, of which links that are all up say nothing.
const WHILE_LACKING: Duration = Duration::from_secs(1);

impl Core {
    /// Keeps the layout current: asks for it at first, when a call was sent elsewhere, when a link was lost, and
    /// now and then.
    pub(super) async fn keep_layout(self: Arc<Self>) {
        for turn in 0.. {
            let link = self.somebody(turn).await;
            let learned = if self.config.endpoint.is_cluster() {
                slots(&link).await.map(|plan| self.arrange(|old| old.follow(&self, &plan)))
            } else {
                replicas(&link)
                    .await
                    .map(|nodes| self.arrange(|old| old.with_replicas(&self, &nodes)))
            };
            let is_learned = learned.is_ok();
            if let Err(err) = learned {
                tracing::debug!(error = %err, "the layout could not be read");
                self.status.troubled(err);
            }
            pause(BETWEEN_QUESTIONS).await;
            let wait = if !is_learned || self.status.state() != State::Connected {
                WHILE_INCOMPLETE
            } else if self.lacks_replicas() || self.layout.load().amiss().is_some() {
                WHILE_LACKING
            } else {
                WHILE_COMPLETE
            };
            tokio::select! {
                () = self.layout_wanted.notified() => {}
                () = pause(wait) => {}
            }
        }
    }

    fn lacks_replicas(&self) -> bool {
        self.config.read_from.may_be_replica()
            && self.layout.load().shards.iter().any(|shard| shard.replicas.is_empty())
    }

    /// Waits for a link to somebody who may know, another one each turn.
    async fn somebody(self: &Arc<Self>, turn: usize) -> Arc<Link> {
        let mut status = self.status.watch();
        loop {
            status.borrow_and_update();
            let layout = self.layout.load_full();
            // Any node knows its cluster; the replicas of a single master are known to it alone.
            let knows = |server: &&Arc<Server>| {
                layout.is_cluster() || server.commands.purpose != Purpose::Reads
            };
            let servers = layout.servers().filter(knows);
            let up: Vec<_> = servers.filter_map(|server| server.commands.pick()).collect();
            if !up.is_empty() {
                return Arc::clone(&up[turn % up.len()]);
            }
            if layout.seeds.is_empty()
                && let Endpoint::Cluster(nodes) = &self.config.endpoint
            {
                // Nobody answers whom the layout names: maybe they all moved, and those configured know more.
                let seeds = layout.unnamed(nodes);
                if !seeds.is_empty() {
                    self.arrange(|old| old.with_seeds(self, seeds));
                }
            }
            // The sender lives in `self`.
            let _ = status.changed().await;
        }
    }

    /// Replaces the layout: starts the servers that are new and lets go of those that are no longer in it.
    fn arrange(self: &Arc<Self>, change: impl FnOnce(&Layout) -> Layout) {
        let old = self.layout.load_full();
        let new = Arc::new(change(&old));
        let holds = |layout: &Layout, server: &Arc<Server>| {
            layout.servers().any(|other| Arc::ptr_eq(other, server))
        };
        // Before anybody can read there what it would not hear of when it changes.
        self.trackers.each(|tracker| tracker.rearranging(self, &new.master_places()));
        self.layout.store(Arc::clone(&new));
        // And whoever came between the two has looked at the old one.
        self.trackers.each(|tracker| tracker.rearranging(self, &new.master_places()));
        for server in new.servers().filter(|server| !holds(&old, server)) {
            server.commands.start(self);
        }
        let mut gone = Vec::new();
        for server in old.servers().filter(|server| !holds(&new, server)) {
            server.each_lane(|lane| {
                lane.release();
                gone.extend(lane.ids());
            });
        }
        self.forget_logins(&gone);
        self.status.rearranged(&gone, !new.shards.is_empty(), new.amiss());
        self.hubs.each(|hub| hub.rearranged(self));
    }
}

/// Asks a node of a cluster who has which slots.
async fn slots(link: &Link) -> Result<Plan> {
    let answer = link.ask::<Value>(PATIENCE, "CLUSTER", &["SLOTS"]).await;
    let answer = answer.map_err(|err| from_dial(err, &link.address.to_string()))?;
    link.heard();
    let plan = read_slots(answer, &link.address).ok_or_else(|| {
        Error::new(ErrorKind::Protocol, "CLUSTER SLOTS was answered in a form that is not known")
    })?;
    if plan.shards.is_empty() {
        let what = format!("{}: the cluster is not up: no node has slots yet", link.address);
        return Err(Error::new(ErrorKind::Topology, what));
    }
    Ok(plan)
}

/// Reads `[[first, last, [host, port, …], [host, port, …] …] …]`: the master first, then its replicas.
fn read_slots(answer: Value, asked: &Address) -> Option<Plan> {
    let mut plan = Plan::default();
    for entry in array(answer)? {
        let mut entry = array(entry)?.into_iter();
        let slot = |value: Value| {
            u16::try_from(value.as_i64()?).ok().filter(|slot| usize::from(*slot) < SLOTS)
        };
        let (first, last) = (slot(entry.next()?)?, slot(entry.next()?)?);
        let mut nodes = entry.map(|node| read_node(node, asked));
        let master = nodes.next()??;
        // A replica without an address is not there yet.
        let replicas: Vec<Node> = nodes.flatten().collect();
        match plan.shards.iter_mut().find(|shard| shard.master == master) {
            Some(shard) => shard.slots.push((first, last)),
            None => plan.shards.push(PlannedShard { master, replicas, slots: vec![(first, last)] }),
        }
        if first > last {
            return None;
        }
    }
    Some(plan)
}

/// Reads `[host, port, …]`. A node that does not know its own host is where it was asked.
fn read_node(node: Value, asked: &Address) -> Option<Node> {
    let mut node = array(node)?.into_iter();
    let host = node.next()?.into_string().filter(|host| !host.is_empty() && host != "?");
    let port = u16::try_from(node.next()?.as_i64()?).ok().filter(|port| *port != 0)?;
    let host = match (host, asked) {
        (Some(host), _) => host,
        (None, Address::Tcp(asked)) => asked.host.clone(),
        (None, Address::Unix(_)) => return None,
    };
    Some(Node::new(&host, port))
}

/// Asks a master for its replicas: `["master", offset, [[host, port, offset] …]]`.
async fn replicas(link: &Link) -> Result<Vec<Node>> {
    let answer = link.ask::<Value>(PATIENCE, "ROLE", &[]).await.map_err(from_call)?;
    link.heard();
    let replicas = array(answer).and_then(|answer| answer.into_iter().nth(2)).and_then(array);
    let port = |value: Value| value.into_string()?.parse().ok();
    let node = |replica: Value| {
        let mut replica = array(replica)?.into_iter();
        Some(Node::new(&replica.next()?.into_string()?, port(replica.next()?)?))
    };
    Ok(replicas.unwrap_or_default().into_iter().filter_map(node).collect())
}

fn array(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(values) => Some(values),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(host: &str, port: u16) -> Node {
        Node::new(host, port)
    }

    fn list(values: impl IntoIterator<Item = Value>) -> Value {
        Value::Array(values.into_iter().collect())
    }

    fn at(host: &str, port: i64) -> Value {
        list([host.into(), port.into(), "0a1b".into(), list([])])
    }

    #[test]
    fn the_slots_of_a_cluster_are_read_with_their_replicas() {
        let answer = list([
            list([0.into(), 99.into(), at("10.0.0.1", 7000), at("10.0.0.4", 7003)]),
            list([100.into(), 16_383.into(), at("", 7001), list([Value::Null, 7004.into()])]),
            list([200.into(), 200.into(), at("10.0.0.1", 7000)]),
        ]);
        let plan = read_slots(answer, &Address::Tcp(node("10.0.0.9", 7001))).unwrap();
        assert_eq!(
            plan.shards,
            [
                PlannedShard {
                    master: node("10.0.0.1", 7000),
                    replicas: vec![node("10.0.0.4", 7003)],
                    slots: vec![(0, 99), (200, 200)],
                },
                PlannedShard {
                    master: node("10.0.0.9", 7001),
                    replicas: vec![node("10.0.0.9", 7004)],
                    slots: vec![(100, 16_383)],
                },
            ]
        );
    }

    #[test]
    fn what_is_no_layout_is_refused() {
        for answer in [
            Value::Null,
            list([1.into()]),
            list([list([0.into(), 16_384.into(), at("a", 1)])]),
            list([list([5.into(), 4.into(), at("a", 1)])]),
            list([list([0.into(), 1.into()])]),
            list([list([0.into(), 1.into(), at("a", 70_000)])]),
        ] {
            assert_eq!(read_slots(answer.clone(), &Address::Tcp(node("a", 1))), None, "{answer:?}");
        }
    }
}
