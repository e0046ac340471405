//! The config in fred's words.

use fred::types::config::{
    ClusterDiscoveryPolicy, Config as FredConfig, ConnectionConfig, PerformanceConfig, Server,
    ServerConfig, TcpConfig,
};

use crate::{
    Config, Credentials,
    config::{Endpoint, Node, Sentinels},
};

/// How many commands may wait on a link beside the calls: its introduction, and its heartbeat.
const ROOM: usize = 64;

/// Where to connect, and as whom.
pub(super) fn access(
    config: &Config,
    server: ServerConfig,
    credentials: &Credentials,
    database: u8,
) -> FredConfig {
    #[cfg(not(feature = "tls"))]
    let _ = config;
    FredConfig {
        fail_fast: true,
        username: credentials.username.clone(),
        password: credentials.password.as_ref().map(|password| password.expose().to_owned()),
        server,
        database: (database != 0).then_some(database),
        #[cfg(feature = "tls")]
        tls: config.tls.as_ref().map(|tls| tls.config.clone()),
        ..FredConfig::default()
    }
}

pub(super) fn performance(config: &Config) -> PerformanceConfig {
    PerformanceConfig {
        default_command_timeout: config.command_timeout,
        ..PerformanceConfig::default()
    }
}

pub(super) fn connection(config: &Config) -> ConnectionConfig {
    ConnectionConfig {
        connection_timeout: config.connect_timeout,
        internal_command_timeout: config.connect_timeout,
        max_command_attempts: 1,
        max_command_buffer_len: config.max_waiting.get().saturating_add(ROOM),
        tcp: TcpConfig { nodelay: Some(true), ..TcpConfig::default() },
        ..ConnectionConfig::default()
    }
}

#[cfg(feature = "tls")]
pub(super) fn server(config: &Config, node: &Node) -> Server {
    let name =
        config.tls.as_ref().map(|tls| tls.server_name.as_ref().unwrap_or(&node.host).clone());
    Server::new_with_tls(node.dialed_host(), node.port, name)
}

#[cfg(not(feature = "tls"))]
pub(super) fn server(_: &Config, node: &Node) -> Server {
    Server::new(node.dialed_host(), node.port)
}

/// The whole deployment.
pub(super) fn servers(config: &Config) -> ServerConfig {
    let all = |nodes: &[Node]| nodes.iter().map(|node| server(config, node)).collect();
    match &config.endpoint {
        Endpoint::Tcp(node) => ServerConfig::Centralized { server: server(config, node) },
        Endpoint::Unix(path) => ServerConfig::Unix { path: path.clone() },
        Endpoint::Cluster(nodes) => {
            ServerConfig::Clustered { hosts: all(nodes), policy: ClusterDiscoveryPolicy::default() }
        }
        Endpoint::Sentinel(Sentinels { nodes, service, username, password }) => {
            ServerConfig::Sentinel {
                hosts: all(nodes),
                service_name: service.clone(),
                username: username.clone(),
                password: password.as_ref().map(|password| password.expose().to_owned()),
            }
        }
    }
}
