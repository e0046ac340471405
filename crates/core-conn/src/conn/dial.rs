//! How a link is made: directly, or to the master that the sentinels name.

use std::time::Duration;

use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::{
    lane::Purpose,
    link::{Address, Link, LinkEnd, Target, custom, options},
    time::pause,
};
use crate::{
    Config, Credentials, Error, ErrorKind, Result,
    config::{Endpoint, Node},
    error::fred::{from_call, from_dial},
};
use fred::interfaces::ClientLike;

/// How often the sentinels are asked again while the master that they named does not answer.
const ASK_AGAIN: Duration = Duration::from_millis(500);

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
                in_service(&dialed.0, config).await?;
            }
            Ok(dialed)
        }
        Endpoint::Unix(path) => {
            Link::dial(config, &target(Address::Unix(path.clone())), deadline).await
        }
        Endpoint::Sentinel { .. } => {
            let mut node = ask(config, endpoint, deadline).await?;
            loop {
                let address = Address::Tcp(node.clone());
                node = tokio::select! {
                    biased;
                    dialed = master(config, target(address), deadline) => {
                        return dialed.map_err(|err| err.context(&endpoint.to_string()));
                    }
                    // A master that went down is named until its successor is chosen.
                    other = another(config, endpoint, &node, deadline) => other,
                };
            }
        }
        Endpoint::Cluster(_) => Err(Error::config("a link leads to one server, not to a cluster")),
    }
}

/// Makes sure that a node takes part in a cluster that is up. Otherwise it answers CLUSTERDOWN, which ends the
/// link with all that is in flight on it. A node that does not let the user ask is believed.
async fn in_service(link: &Link, config: &Config) -> Result<()> {
    let client = link.client.with_options(&options(config.connect_timeout));
    let endpoint = link.address.to_string();
    match client.custom::<String, _>(custom("CLUSTER"), vec!["INFO"]).await {
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

/// Dials and makes sure that the server is a master; one that does not let the user ask is believed.
async fn master(config: &Config, target: Target, deadline: Instant) -> Result<(Link, LinkEnd)> {
    let (link, end) = Link::dial(config, &target, deadline).await?;
    let client = link.client.with_options(&options(config.connect_timeout));
    let role = client.custom::<fred::types::Value, String>(custom("ROLE"), Vec::new()).await;
    match role.map_err(from_call) {
        Ok(role) => {
            let role = role.into_array().into_iter().next().and_then(|role| role.into_string());
            if role.as_deref() == Some("master") {
                return Ok((link, end));
            }
            let what = "the server that the sentinels name is not a master yet";
            Err(Error::new(ErrorKind::Topology, what))
        }
        Err(err) if err.is_answer() => Ok((link, end)),
        Err(err) => Err(err),
    }
}

/// Returns when the sentinels name another master than `known`.
async fn another(config: &Config, endpoint: &Endpoint, known: &Node, deadline: Instant) -> Node {
    loop {
        pause(ASK_AGAIN).await;
        match ask(config, endpoint, deadline).await {
            Ok(node) if node != *known => return node,
            _ => {}
        }
    }
}

/// Asks all sentinels at once, and takes the first that knows the master.
async fn ask(config: &Config, endpoint: &Endpoint, deadline: Instant) -> Result<Node> {
    let Endpoint::Sentinel { nodes, service, username, password } = endpoint else {
        return Err(Error::config("only sentinels can be asked for a master"));
    };
    let credentials =
        Credentials { username: username.clone(), password: password.clone(), valid_for: None };
    let mut asked = JoinSet::new();
    for node in nodes {
        let target = Target {
            address: Address::Tcp(node.clone()),
            credentials: credentials.clone(),
            database: 0,
            purpose: Purpose::Commands,
        };
        let (config, service) = (config.clone(), service.clone());
        asked.spawn(async move {
            let (link, _end) = Link::dial(&config, &target, deadline).await?;
            let client = link.client.with_options(&options(config.connect_timeout));
            let question = vec!["get-master-addr-by-name".to_owned(), service];
            let answer: Option<(String, u16)> =
                client.custom(custom("SENTINEL"), question).await.map_err(from_call)?;
            Ok::<_, Error>(answer.map(|(host, port)| Node::new(&host, port)))
        });
    }
    let mut reason = None;
    let answers = async {
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok(Ok(Some(node))) => return Some(node),
                Ok(Ok(None)) => {
                    reason = Some(Error::new(ErrorKind::Topology, "unknown service name"));
                }
                Ok(Err(err)) => reason = Some(err),
                // It was ended together with the runtime.
                Err(gone) => reason = Some(Error::closed().with_source(gone)),
            }
        }
        None
    };
    match timeout_at(deadline, answers).await {
        Ok(Some(node)) => Ok(node),
        _ => {
            let what = format!(
                "{endpoint}: no sentinel could name a reachable master; check the service name and the sentinels"
            );
            let err = Error::new(ErrorKind::Topology, what);
            Err(match reason {
                Some(reason) if reason.kind() == ErrorKind::Auth => {
                    reason.context("the sentinels refuse the credentials for them")
                }
                Some(reason) => err.with_source(reason),
                None => err,
            })
        }
    }
}
