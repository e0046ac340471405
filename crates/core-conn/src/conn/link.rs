use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use fred::{
    clients::{Client, WithOptions},
    error::Error as FredError,
    interfaces::{ClientInterface, ClientLike, EventInterface},
    types::{
        ClusterHash, CustomCommand,
        config::{
            Config as FredConfig, ConnectionConfig, Options, PerformanceConfig, ReconnectPolicy,
            Server, ServerConfig, TcpConfig,
        },
    },
};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    task::{AbortHandle, JoinHandle},
    time::{Instant, timeout_at},
};

use super::{lane::Purpose, time::pause};
use crate::{
    BoxError, Config, Credentials, Error, ErrorKind, Result,
    config::Node,
    error::fred::{from_call, from_dial},
};

/// How many events of a link may wait for the task that looks after it. The first one ends the link.
const EVENTS: usize = 16;
/// How often a server that is loading its data set is asked whether it is done.
const LOADING_PAUSE: Duration = Duration::from_millis(50);

/// Where a link leads, and who logs in there.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: Address,
    pub(crate) credentials: Credentials,
    pub(crate) database: u8,
    pub(crate) purpose: Purpose,
}

/// One server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Address {
    Tcp(Node),
    Unix(std::path::PathBuf),
}

/// One socket through one fred client, and the task that runs it. It never comes back: a link that breaks is
/// replaced by another one. Dropping it closes the socket.
pub(crate) struct Link {
    pub(crate) client: Client,
    /// What the server calls this connection, where the user may ask.
    pub(crate) id: Option<i64>,
    pub(crate) address: Address,
    /// Why there can be no transaction on this link, if that is so.
    pub(crate) no_transactions: Option<Error>,
    up: AtomicBool,
    broken: AtomicBool,
    answered: AtomicBool,
    task: AbortHandle,
}

/// How a link ends.
pub(crate) struct LinkEnd {
    errors: broadcast::Receiver<(FredError, Option<Server>)>,
    task: JoinHandle<Result<(), FredError>>,
    address: Address,
}

impl Link {
    /// Connects and, with the ready check on, waits until the server answers, until `deadline`.
    pub(crate) async fn dial(
        config: &Config,
        target: &Target,
        deadline: Instant,
    ) -> Result<(Self, LinkEnd)> {
        let mut loading = None;
        let dialing = async {
            loop {
                match Self::dial_once(config, target).await {
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
            Err(_elapsed) => Err(loading.unwrap_or_else(|| silence(config, &target.address))),
        }
    }

    async fn dial_once(config: &Config, target: &Target) -> Result<(Self, LinkEnd)> {
        let address = target.address.clone();
        let endpoint = address.to_string();
        let client = client(config, target)?;
        // fred drops events that nobody listens to, so the listeners come first.
        let (errors, mut connected) = (client.error_rx(), client.reconnect_rx());
        let mut failed = client.error_rx();
        let task = client.connect();
        let mut link = Self {
            client,
            id: None,
            address: address.clone(),
            no_transactions: None,
            up: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            task: task.abort_handle(),
        };
        let end = LinkEnd { errors, task, address };
        let answering = async {
            let _ = connected.recv().await;
            link.ready(config).await.map_err(|err| err.context(&endpoint))
        };
        tokio::select! {
            biased;
            Ok((err, _)) = failed.recv() => return Err(from_dial(err, &endpoint)),
            answer = answering => answer?,
        }
        link.introduce(config, target).await;
        if target.purpose == Purpose::Transactions {
            link.ask_for_transactions(config).await.map_err(|err| err.context(&endpoint))?;
        }
        if let Ok((err, _)) = failed.try_recv() {
            return Err(from_dial(err, &endpoint));
        }
        link.up.store(true, Ordering::Release);
        Ok((link, end))
    }

    /// Waits for an answer to PING. A refusal is an answer too, but for the credentials; with the ready check
    /// on it is none either when the right to PING is missing or the data set is still loading, and the
    /// end of loading is waited for.
    async fn ready(&self, config: &Config) -> Result<()> {
        loop {
            let Err(err) = self.ping(Some(config.connect_timeout)).await else { return Ok(()) };
            match err.kind() {
                ErrorKind::Loading if config.ready_check => pause(LOADING_PAUSE).await,
                ErrorKind::Denied if config.ready_check => {
                    return Err(err.context(
                        "the ready check failed; grant `+ping` or turn `ready_check` off",
                    ));
                }
                kind if err.is_answer() && kind != ErrorKind::Auth => return Ok(()),
                _ => return Err(err.context("the ready check failed")),
            }
        }
    }

    /// fred's client, for commands of which each may take `timeout`; zero is no limit.
    pub(crate) fn within(&self, timeout: Duration) -> WithOptions<Client> {
        self.client.with_options(&Options { timeout: Some(timeout), ..Options::default() })
    }

    /// Asks for a PONG; without a timeout it waits as long as the link lives.
    pub(crate) async fn ping(&self, timeout: Option<Duration>) -> Result<()> {
        self.within(timeout.unwrap_or(Duration::ZERO)).ping(None).await.map_err(from_call)
    }

    /// Says who is calling and what for. None of it is needed for a call to succeed, so refusals are logged and
    /// forgotten.
    async fn introduce(&mut self, config: &Config, target: &Target) {
        let client = self.within(config.command_timeout);
        let refused = |what, err| {
            tracing::debug!(error = %from_call(err), what, "refused while connecting");
        };
        if let Some(name) = &config.client_name
            && let Err(err) = client.client_setname(name.as_str()).await
        {
            refused("CLIENT SETNAME", err);
        }
        let plain = async |name| client.custom::<(), String>(custom(name), Vec::new()).await;
        if target.purpose == Purpose::Reads && config.endpoint.is_cluster() {
            plain("READONLY").await.unwrap_or_else(|err| refused("READONLY", err));
        }
        // fred has asked already; the server may have refused to say.
        self.id = self.client.connection_ids().into_values().next();
    }

    /// Finds out whether the user may use `MULTI`: where it is refused, the commands behind it would run one by one.
    async fn ask_for_transactions(&mut self, config: &Config) -> Result<()> {
        let client = self.within(config.command_timeout);
        let plain = async |name| {
            client.custom::<(), String>(custom(name), Vec::new()).await.map_err(from_call)
        };
        match plain("MULTI").await {
            Ok(()) => plain("DISCARD").await,
            Err(err) if err.is_answer() => {
                self.no_transactions = Some(err);
                Ok(())
            }
            Err(err) => Err(err),
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// Takes the link out of use, because its connection broke. From now on a call that fred gives back without
    /// a word was surely not sent: those that were in flight have been told already.
    pub(crate) fn broke(&self) {
        self.broken.store(true, Ordering::Release);
        self.up.store(false, Ordering::Release);
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Notes that the server has said something.
    pub(crate) fn heard(&self) {
        // Read first: most calls find it set, and a shared read costs less than a write.
        if !self.answered.load(Ordering::Relaxed) {
            self.answered.store(true, Ordering::Relaxed);
        }
    }

    /// Returns whether the server has said something since this was last asked.
    pub(crate) fn was_heard(&self) -> bool {
        self.answered.swap(false, Ordering::Relaxed)
    }

    /// Closes the socket now. Calls in flight end with an unknown outcome.
    pub(crate) fn abort(&self) {
        self.up.store(false, Ordering::Release);
        self.task.abort();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.abort();
    }
}

impl LinkEnd {
    /// Waits for the end of the link and returns why. Cancel safe.
    pub(crate) async fn wait(&mut self) -> Error {
        tokio::select! {
            biased;
            error = self.errors.recv() => match error {
                Ok((err, _)) => self.lost(err),
                Err(RecvError::Lagged(_)) => self.lost("more than once"),
                Err(RecvError::Closed) => self.lost("for good"),
            },
            result = &mut self.task => match result.ok().and_then(Result::err) {
                Some(err) => self.lost(err),
                None => self.lost("its task has ended"),
            },
        }
    }

    fn lost(&self, source: impl Into<BoxError>) -> Error {
        let what = format!("{}: the connection was lost", self.address);
        Error::new(ErrorKind::Connect, what).with_source(source)
    }
}

/// A command that fred has no method for, or that must not be touched by it.
pub(crate) fn custom(name: &'static str) -> CustomCommand {
    // The hash policy matters to fred's own cluster routing only, and a link leads to one server.
    CustomCommand::new_static(name, ClusterHash::FirstKey, false)
}

fn silence(config: &Config, address: &Address) -> Error {
    let timeout = config.connect_timeout;
    #[cfg(feature = "tls")]
    let tls = if config.tls.is_some() { " that speaks TLS on this port" } else { "" };
    #[cfg(not(feature = "tls"))]
    let tls = "";
    Error::new(
        ErrorKind::Timeout,
        format!(
            "{address}: no answer within {timeout:?}; is this a Redis server{tls}, and can it be reached?"
        ),
    )
}

/// Builds the fred client of a link: it dials once, sends each command once and follows no redirection.
fn client(config: &Config, target: &Target) -> Result<Client> {
    let server = match &target.address {
        Address::Tcp(node) => ServerConfig::Centralized { server: server(config, node) },
        Address::Unix(path) => ServerConfig::Unix { path: path.clone() },
    };
    // fred would dial again by itself after a loss. What it queues meanwhile is neither sent nor refused, so it
    // gets a pause that outlasts the link, and the task that looks after the link closes it.
    let never = ReconnectPolicy::new_constant(0, u32::MAX);
    let fred = fred_config(config, server, &target.credentials, target.database)?;
    Ok(Client::new(fred, Some(performance(config)), Some(connection(config)), Some(never)))
}

/// Says in fred's words where to connect, and as whom.
pub(super) fn fred_config(
    config: &Config,
    server: ServerConfig,
    credentials: &Credentials,
    database: u8,
) -> Result<FredConfig> {
    #[cfg(not(feature = "tls"))]
    let _ = config;
    Ok(FredConfig {
        fail_fast: true,
        username: credentials.username.clone(),
        password: credentials.password.as_ref().map(|password| password.expose().to_owned()),
        server,
        database: (database != 0).then_some(database),
        #[cfg(feature = "tls")]
        tls: config.tls.as_ref().map(crate::Tls::to_fred).transpose()?,
        ..FredConfig::default()
    })
}

fn performance(config: &Config) -> PerformanceConfig {
    PerformanceConfig {
        default_command_timeout: config.command_timeout,
        broadcast_channel_capacity: EVENTS,
        ..PerformanceConfig::default()
    }
}

fn connection(config: &Config) -> ConnectionConfig {
    ConnectionConfig {
        connection_timeout: config.connect_timeout,
        internal_command_timeout: config.connect_timeout,
        // A command is written once. Whether it may be written again is decided where the kind of
        // command is known.
        max_command_attempts: 1,
        max_redirections: 0,
        max_command_buffer_len: config.max_waiting.get(),
        tcp: TcpConfig { nodelay: Some(true), ..TcpConfig::default() },
        ..ConnectionConfig::default()
    }
}

#[cfg(feature = "tls")]
pub(super) fn server(config: &Config, node: &Node) -> Server {
    let name = config.tls.as_ref().map(|tls| tls.expected_name().unwrap_or(&node.host).to_owned());
    Server::new_with_tls(node.dialed_host(), node.port, name)
}

#[cfg(not(feature = "tls"))]
pub(super) fn server(_: &Config, node: &Node) -> Server {
    Server::new(node.dialed_host(), node.port)
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(node) => node.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}
