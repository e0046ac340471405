//! How a link is made: directly, or to the master that [`sentinel`]s name.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    lane::Purpose,
    link::{Address, Link, LinkEnd, Target},
    sentinel,
    time::left,
};
use crate::{
    Config, Credentials, Error, ErrorKind, Result, config::Endpoint, error::fred::from_dial,
};

/// Makes a link to the server at `endpoint`, until `deadline`.
pub(super) async fn dial(
    config: &Config,
    endpoint: &Endpoint,
    credentials: &Credentials,
    purpose: Purpose,
    deadline: Instant,
) -> Result<(Link, LinkEnd)> {
    let target = |address| Target {
        address,
        credentials: credentials.clone(),
        database: config.database,
        purpose,
    };
    match endpoint {
        Endpoint::Tcp(node) => {
            let dialed = Link::dial(config, &target(Address::Tcp(node.clone())), deadline).await?;
            if config.endpoint.is_cluster() {
                in_service(&dialed.0, left(deadline)).await?;
            }
            Ok(dialed)
        }
        Endpoint::Unix(path) => {
            Link::dial(config, &target(Address::Unix(path.clone())), deadline).await
        }
        Endpoint::Sentinel(sentinels) => {
            let target = |node| target(Address::Tcp(node));
            let dialed = sentinel::dial(config, sentinels, target, deadline).await;
            dialed.map_err(|err| err.context(&endpoint.to_string()))
        }
        Endpoint::Cluster(_) => Err(Error::config("a link leads to one server, not to a cluster")),
    }
}

/// Makes sure that a node takes part in a cluster that is up. Otherwise it answers CLUSTERDOWN, which ends the
/// link with all that is in flight on it. A node that does not let the user ask is believed.
async fn in_service(link: &Link, timeout: Duration) -> Result<()> {
    let endpoint = link.address.to_string();
    match link.ask::<String>(timeout, "CLUSTER", &["INFO"]).await {
        Ok(info) if info.lines().any(|line| line.trim() == "cluster_state:ok") => Ok(()),
        Ok(_) => {
            let what = "the cluster is not up: some slots have no server; check `CLUSTER INFO`";
            Err(Error::new(ErrorKind::Topology, format!("{endpoint}: {what}")))
        }
        Err(err) => match from_dial(err, &endpoint) {
            err if err.kind() == ErrorKind::Denied => Ok(()),
            err => Err(err),
        },
    }
}
