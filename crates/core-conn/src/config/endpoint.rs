use std::{fmt, path::PathBuf};

use serde::Deserialize;

use super::{DEFAULT_SENTINEL_PORT, Node};
use crate::{Error, Result, Secret};

/// Where the server is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Endpoint {
    Tcp(Node),
    Unix(PathBuf),
    Cluster(Vec<Node>),
    Sentinel(Sentinels),
}

/// The sentinels, what they call the master, and the credentials at them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Sentinels {
    pub(crate) nodes: Vec<Node>,
    pub(crate) service: String,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Secret>,
}

impl Endpoint {
    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }
}

impl fmt::Display for Endpoint {
    /// Names the endpoint in errors: never a credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list =
            |nodes: &[Node]| nodes.iter().map(Node::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Self::Tcp(node) => node.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
            Self::Cluster(nodes) => write!(f, "cluster at {}", list(nodes)),
            Self::Sentinel(Sentinels { nodes, service, .. }) => {
                write!(f, "`{service}` of the sentinels at {}", list(nodes))
            }
        }
    }
}

/// A master that Sentinel looks after: its name, the sentinels, and the credentials at them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SentinelConfig {
    service: String,
    nodes: Vec<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<Secret>,
}

impl SentinelConfig {
    /// The master that the sentinels at `nodes` know as `service`. Each node is `host:port`; the port
    /// defaults to 26379.
    #[must_use]
    pub fn new<N: Into<String>>(
        service: impl Into<String>,
        nodes: impl IntoIterator<Item = N>,
    ) -> Self {
        let nodes = nodes.into_iter().map(Into::into).collect();
        Self { service: service.into(), nodes, username: None, password: None }
    }

    /// Sets the ACL user at the sentinels.
    ///
    /// Default: the sentinels' default user.
    #[must_use]
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.username = Some(username.into());
        self
    }

    /// Sets the password at the sentinels, which is not the one at the servers.
    ///
    /// Default: none.
    #[must_use]
    pub fn password(mut self, password: impl Into<Secret>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Checks everything; `what` names it in errors.
    pub(super) fn endpoint(&self, what: &str) -> Result<Endpoint> {
        let nodes = self.nodes.iter().map(|node| Node::parse(node, DEFAULT_SENTINEL_PORT, what));
        let nodes: Vec<Node> = nodes.collect::<Result<_>>()?;
        if self.service.is_empty() || nodes.is_empty() {
            let expected = "expected the service's name and at least one sentinel";
            return Err(Error::config(format!("{what}: {expected}")));
        }
        if self.username.is_some() && self.password.is_none() {
            let expected = "a user name at the sentinels needs a password";
            return Err(Error::config(format!("{what}: {expected}")));
        }
        let Self { service, username, password, .. } = self.clone();
        Ok(Endpoint::Sentinel(Sentinels { nodes, service, username, password }))
    }
}
