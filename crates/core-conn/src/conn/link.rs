use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use fred::{
    clients::Client,
    error::{Error as FredError, ErrorKind as FredKind},
    interfaces::{ClientInterface, ClientLike, EventInterface},
    types::config::{
        ClusterDiscoveryPolicy, Config as FredConfig, ConnectionConfig, Options, PerformanceConfig,
        ReconnectPolicy, Server, ServerConfig, TcpConfig,
    },
};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    task::{AbortHandle, JoinHandle},
    time::{Instant, timeout_at},
};

use super::time::pause;
use crate::{
    BoxError, Config, Credentials, Error, ErrorKind, Result,
    config::{Endpoint, Node},
    error::fred::{from_call, from_dial},
};

/// How many events of a link may wait for the task that looks after it.
const EVENTS: usize = 64;
/// How often a server that is loading its data set is asked whether it is done.
const LOADING_PAUSE: Duration = Duration::from_millis(50);

/// One fred client and the task that runs it. Dropping it closes its sockets.
pub(crate) struct Link {
    pub(crate) client: Client,
    up: AtomicBool,
    task: AbortHandle,
}

/// What happens to a link, in order.
pub(crate) struct LinkEvents {
    errors: broadcast::Receiver<(FredError, Option<Server>)>,
    reconnects: broadcast::Receiver<Server>,
    task: JoinHandle<Result<(), FredError>>,
    endpoint: String,
}

/// Something that happened to a link.
pub(crate) enum LinkEvent {
    /// A connection broke, or an attempt to make it again failed. fred goes on trying.
    Down(Error),
    /// A connection was made again.
    Up,
    /// fred has stopped trying.
    Ended(Error),
}

impl Link {
    /// Connects and, with the ready check on, waits until the server answers, until `deadline`.
    pub(crate) async fn dial(
        config: &Config,
        credentials: &Credentials,
        deadline: Instant,
    ) -> Result<(Self, LinkEvents)> {
        let mut loading = None;
        let dialing = async {
            loop {
                match Self::dial_once(config, credentials).await {
                    Err(err) if err.kind() == ErrorKind::Loading && config.ready_check => {
                        loading = Some(err);
                        pause(LOADING_PAUSE).await;
                    }
                    result => return result,
                }
            }
        };
        match timeout_at(deadline, dialing).await {
            Ok(result) => result,
            Err(_elapsed) => Err(loading.unwrap_or_else(|| silence(config))),
        }
    }

    async fn dial_once(config: &Config, credentials: &Credentials) -> Result<(Self, LinkEvents)> {
        let endpoint = config.endpoint.to_string();
        let client = client(config, credentials)?;
        // fred drops events that nobody listens to, so the listeners come first.
        let (errors, reconnects) = (client.error_rx(), client.reconnect_rx());
        let (mut failed, mut connected) = (client.error_rx(), client.reconnect_rx());
        let task = client.connect();
        let link = Self { client, up: AtomicBool::new(false), task: task.abort_handle() };
        let mut events = LinkEvents { errors, reconnects, task, endpoint };

        let answering = async {
            // On Cluster this is the first of several connections; the PING waits for the others.
            let _ = connected.recv().await;
            link.ready(config).await.map_err(|err| err.context(&events.endpoint))
        };
        tokio::select! {
            biased;
            Ok((err, _)) = failed.recv() => return Err(from_dial(err, &events.endpoint)),
            answer = answering => answer?,
        }
        link.set_name(config).await;
        // The connections just made are no news. A break since then is, and makes this dial a failure.
        events.reconnects = events.reconnects.resubscribe();
        if let Ok((err, _)) = failed.try_recv() {
            return Err(from_dial(err, &events.endpoint));
        }
        link.mark(true);
        Ok((link, events))
    }

    /// Waits for an answer to PING. A refusal is an answer too, but for the credentials; with the ready check
    /// on it is none either when the right to PING is missing or the data set is still loading, and the
    /// end of loading is waited for.
    pub(crate) async fn ready(&self, config: &Config) -> Result<()> {
        let options = Options { timeout: Some(config.connect_timeout), ..Options::default() };
        loop {
            let answer = self.client.with_options(&options).ping::<()>(None).await;
            let Err(err) = answer.map_err(from_call) else { return Ok(()) };
            match err.kind() {
                ErrorKind::Loading if config.ready_check => pause(LOADING_PAUSE).await,
                ErrorKind::Denied if config.ready_check => {
                    return Err(err.context(
                        "the ready check failed; grant `+ping` or turn `ready_check` off",
                    ));
                }
                ErrorKind::Denied
                | ErrorKind::Loading
                | ErrorKind::OutOfMemory
                | ErrorKind::ReadOnly
                | ErrorKind::Server => return Ok(()),
                _ => return Err(err.context("the ready check failed")),
            }
        }
    }

    /// Names the connection for `CLIENT LIST`. Only cosmetic, so a refusal is logged and forgotten.
    pub(crate) async fn set_name(&self, config: &Config) {
        let Some(name) = &config.client_name else { return };
        for server in self.client.active_connections() {
            let cluster_node = self.client.is_clustered().then_some(server);
            let timeout = Some(config.command_timeout);
            let options = Options { timeout, cluster_node, ..Options::default() };
            if let Err(err) = self.client.with_options(&options).client_setname(name.as_str()).await
            {
                tracing::debug!(error = %from_call(err), "the server refused the client name");
            }
        }
    }

    /// The server this link talks to right now; on Cluster there is no one server.
    pub(crate) fn server(&self) -> Option<(String, u16)> {
        match &self.client.active_connections()[..] {
            [server] if !self.client.is_clustered() => Some((server.host.to_string(), server.port)),
            _ => None,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    pub(crate) fn mark(&self, up: bool) {
        self.up.store(up, Ordering::Release);
    }

    /// Closes the sockets now. Calls in flight end with an unknown outcome.
    pub(crate) fn abort(&self) {
        self.task.abort();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.abort();
    }
}

impl LinkEvents {
    /// Waits for the next event. Cancel safe.
    pub(crate) async fn next(&mut self) -> LinkEvent {
        tokio::select! {
            biased;
            error = self.errors.recv() => match error {
                // With a server it is a connection that was in use, without one an attempt to dial.
                Ok((err, Some(_))) if *err.kind() != FredKind::Auth => LinkEvent::Down(self.lost(err)),
                Ok((err, _)) => LinkEvent::Down(from_dial(err, &self.endpoint)),
                Err(RecvError::Lagged(_)) => LinkEvent::Down(self.lost("more than once")),
                Err(RecvError::Closed) => LinkEvent::Ended(self.lost("for good")),
            },
            reconnect = self.reconnects.recv() => match reconnect {
                // Having missed some, the link is up all the same, and the ready check has the last word.
                Ok(_) | Err(RecvError::Lagged(_)) => LinkEvent::Up,
                Err(RecvError::Closed) => LinkEvent::Ended(self.ended(None)),
            },
            result = &mut self.task => LinkEvent::Ended(self.ended(result.ok().and_then(Result::err))),
        }
    }

    fn lost(&self, source: impl Into<BoxError>) -> Error {
        let what = format!("{}: the connection was lost", self.endpoint);
        Error::new(ErrorKind::Connect, what).with_source(source)
    }

    fn ended(&self, err: Option<FredError>) -> Error {
        match err {
            Some(err) => from_dial(err, &self.endpoint),
            None => self.lost("its task has ended"),
        }
    }
}

fn silence(config: &Config) -> Error {
    let (endpoint, timeout) = (&config.endpoint, config.connect_timeout);
    #[cfg(feature = "tls")]
    let tls = if config.tls.is_some() { " that speaks TLS on this port" } else { "" };
    #[cfg(not(feature = "tls"))]
    let tls = "";
    Error::new(
        ErrorKind::Timeout,
        format!(
            "{endpoint}: no answer within {timeout:?}; is this a Redis server{tls}, and can it be reached?"
        ),
    )
}

/// Builds the fred client: its own reconnecting on, its own replaying off.
fn client(config: &Config, credentials: &Credentials) -> Result<Client> {
    let fred = FredConfig {
        fail_fast: true,
        username: credentials.username.clone(),
        password: credentials.password.as_ref().map(|password| password.expose().to_owned()),
        server: server(config),
        database: (config.database != 0).then_some(config.database),
        #[cfg(feature = "tls")]
        tls: config.tls.as_ref().map(crate::Tls::to_fred).transpose()?,
        ..FredConfig::default()
    };
    let performance = PerformanceConfig {
        default_command_timeout: config.command_timeout,
        broadcast_channel_capacity: EVENTS,
        ..PerformanceConfig::default()
    };
    let connection = ConnectionConfig {
        connection_timeout: config.connect_timeout,
        internal_command_timeout: config.connect_timeout,
        // A command is written once. Whether it may be written again is decided where the kind of
        // command is known.
        max_command_attempts: 1,
        // fred follows ASK by reading the next reply on the node's connection, which may belong to another
        // command. With 0 it follows nothing: MOVED still makes it learn the new layout.
        max_redirections: 0,
        max_command_buffer_len: config.max_waiting.get(),
        tcp: TcpConfig { nodelay: Some(true), ..TcpConfig::default() },
        ..ConnectionConfig::default()
    };
    let millis = |duration: Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
    let (min, max) = config.reconnect_delay;
    let mut policy = ReconnectPolicy::new_exponential(0, millis(min), millis(max), 2);
    policy.set_jitter(millis(min.min(Duration::from_millis(50))));
    Ok(Client::new(fred, Some(performance), Some(connection), Some(policy)))
}

fn server(config: &Config) -> ServerConfig {
    let servers = |nodes: &[Node]| nodes.iter().map(|node| fred_server(config, node)).collect();
    match &config.endpoint {
        Endpoint::Tcp(node) => ServerConfig::Centralized { server: fred_server(config, node) },
        Endpoint::Unix(path) => ServerConfig::Unix { path: path.clone() },
        Endpoint::Cluster(nodes) => ServerConfig::Clustered {
            hosts: servers(nodes),
            policy: ClusterDiscoveryPolicy::default(),
        },
        Endpoint::Sentinel { nodes, service, username, password } => ServerConfig::Sentinel {
            hosts: servers(nodes),
            service_name: service.clone(),
            username: username.clone(),
            password: password.as_ref().map(|password| password.expose().to_owned()),
        },
    }
}

#[cfg(feature = "tls")]
fn fred_server(config: &Config, node: &Node) -> Server {
    let name = config.tls.as_ref().map(|tls| tls.expected_name().unwrap_or(&node.host).to_owned());
    Server::new_with_tls(node.dialed_host(), node.port, name)
}

#[cfg(not(feature = "tls"))]
fn fred_server(_: &Config, node: &Node) -> Server {
    Server::new(node.dialed_host(), node.port)
}
