use std::net::Ipv4Addr;

use super::{Cluster, ClusterBuilder, unexpected};
use crate::{
    Error, Proxy, Server, ServerBuilder,
    config::Role,
    masters::start_all,
    ports::{BUS, Port},
    provision::{self, Found},
    wait::await_that,
};

/// Starts and joins the nodes.
pub(super) fn form(settings: &ClusterBuilder) -> Result<Cluster, Error> {
    let &ClusterBuilder { masters, replicas, proxied, ref node } = settings;
    if masters == 0 {
        let reason = "a cluster without masters serves nothing; ask for 3".into();
        return Err(Error::Config { what: "masters(0)".into(), reason });
    }
    let found = provision::for_tests(node.want)?;
    let count = masters * (1 + replicas);
    let started =
        start_all(count, |_| if proxied { start_proxied(&found, node) } else { start(node) })?;
    let (nodes, proxies): (Vec<_>, Vec<_>) = started.into_iter().unzip();
    let ids = nodes.iter().map(|node| {
        let id = node.command(["CLUSTER", "MYID"])?;
        id.as_str().map(Into::into).ok_or_else(|| unexpected("CLUSTER MYID", "no id"))
    });
    let ids = ids.collect::<Result<_, _>>()?;
    let cluster = Cluster { nodes, ids, proxies: proxies.into_iter().flatten().collect() };
    join(&cluster, masters)?;
    cluster.await_healthy()?;
    Ok(cluster)
}

fn join(cluster: &Cluster, masters: usize) -> Result<(), Error> {
    for (at, node) in cluster.nodes.iter().enumerate() {
        node.command(["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()])?;
        if at < masters {
            let slots =
                (at * SLOTS / masters..(at + 1) * SLOTS / masters).map(|slot| slot.to_string());
            node.command(["CLUSTER", "ADDSLOTS"].map(String::from).into_iter().chain(slots))?;
        }
    }
    // Each meets each, which is faster than waiting for the word to spread.
    for (at, node) in cluster.nodes.iter().enumerate() {
        for other in &cluster.nodes[at + 1..] {
            let [port, bus] = [other.port(), other.port() + BUS].map(|port| port.to_string());
            node.command(["CLUSTER", "MEET", "127.0.0.1", &port, &bus])?;
        }
    }
    await_that("the meeting of all nodes", || {
        for at in 0..cluster.nodes.len() {
            let view = cluster.view_of(at)?;
            if view.len() != cluster.nodes.len() || view.iter().any(|node| node.is("handshake")) {
                return Ok(false);
            }
        }
        Ok(true)
    })?;
    for at in masters..cluster.nodes.len() {
        // Refused for as long as the replica has not heard that the other is a master.
        await_that("a replica's master", || {
            match cluster.nodes[at].command([
                "CLUSTER",
                "REPLICATE",
                &cluster.ids[(at - masters) % masters],
            ]) {
                Ok(_) => Ok(true),
                Err(Error::Reply { .. }) => Ok(false),
                Err(err) => Err(err),
            }
        })?;
    }
    Ok(())
}

fn start(settings: &ServerBuilder) -> Result<(Server, Option<Proxy>), Error> {
    let server = settings.clone().role(Role::Node { announced: None }).start()?;
    Ok((server, None))
}

/// The proxy comes first, for the node announces its port.
fn start_proxied(
    found: &Found,
    settings: &ServerBuilder,
) -> Result<(Server, Option<Proxy>), Error> {
    Port::with(|port| {
        let proxy = Proxy::to((Ipv4Addr::LOCALHOST, port.number()))?;
        let builder = settings.clone().role(Role::Node { announced: Some(proxy.port()) });
        let server = Server::launch_on(port, found, &builder)?;
        Ok(server.map(|server| (server, Some(proxy))))
    })
}

const SLOTS: usize = 16_384;
