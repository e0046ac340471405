use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use fred::{
    clients::{Client, WithOptions},
    error::Error as FredError,
    interfaces::{ClientLike, EventInterface},
    types::{
        ClusterHash, CustomCommand, FromValue, Value,
        config::{ConnectionConfig, PerformanceConfig, ReconnectPolicy, Server, ServerConfig},
    },
};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    task::{AbortHandle, JoinHandle},
    time::{Instant, timeout_at},
};

use super::{introduction::ClientId, lane::Purpose, settings, time::pause};
use crate::{
    BoxError, Config, Credentials, Error, ErrorKind, Result,
    commands::{Request, Sender},
    config::Node,
    error::fred::{from_call, from_dial},
};

/// How many events of a link may wait for the task that looks after it. The first one ends the link.
const EVENTS: usize = 16;
/// How many commands may wait on a link for transactions, for each call that may wait: `ASKING`, `MULTI`, `PING` and
/// `EXEC` around one, the heartbeat, and as many again that nobody waits for any more.
const ROOM_FOR_TRANSACTIONS: usize = 10;
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
    pub(crate) sender: Sender,
    /// What the server calls this connection, where the user may ask.
    pub(crate) client: Option<ClientId>,
    /// The commands that the server does not know, where the user may ask. Its refusal would quote their arguments.
    unknown: Vec<&'static str>,
    pub(crate) address: Address,
    purpose: Purpose,
    /// Why there can be no transaction on this link, if that is so.
    pub(crate) no_transactions: Option<Error>,
    up: AtomicBool,
    broken: AtomicBool,
    heard: AtomicBool,
    /// It is answered to a PING with a word as to one without.
    echoless: AtomicBool,
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
        let client = client(config, target);
        // fred drops events that nobody listens to, so the listeners come first.
        let (errors, mut connected) = (client.error_rx(), client.reconnect_rx());
        let mut failed = client.error_rx();
        let task = client.connect();
        let mut link = Self {
            sender: Sender::new(client),
            client: None,
            unknown: Vec::new(),
            address: address.clone(),
            purpose: target.purpose,
            no_transactions: None,
            up: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            heard: AtomicBool::new(false),
            echoless: AtomicBool::new(false),
            task: task.abort_handle(),
        };
        let end = LinkEnd { errors, task, address };
        let answering = async {
            let _ = connected.recv().await;
            // Sent at once, so that the answers cost one round trip.
            let (ready, introduced) =
                tokio::join!(link.ready(config), link.introduce(config, target));
            ready.and(introduced).map_err(|err| err.context(&endpoint))
        };
        let introduced = tokio::select! {
            biased;
            Ok((err, _)) = failed.recv() => return Err(from_dial(err, &endpoint)),
            answer = answering => answer?,
        };
        (link.client, link.unknown) = introduced;
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
            let Err(err) = self.ping(None).await else { return Ok(()) };
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
        self.sender.within(timeout)
    }

    /// Asks for something that fred has no method for. No answer to it begins with what a user chose.
    pub(crate) async fn ask<T: FromValue>(
        &self,
        timeout: Duration,
        name: &'static str,
        args: &[&str],
    ) -> Result<T, FredError> {
        let args = args.iter().map(|arg| Value::from(*arg)).collect();
        self.within(timeout).custom::<T, Value>(custom(name), args).await
    }

    /// Asks whether the server is a master. One that does not let the user ask is believed to be.
    pub(crate) async fn is_master(&self, timeout: Duration) -> Result<bool> {
        match self.ask::<Value>(timeout, "ROLE", &[]).await.map_err(from_call) {
            Ok(role) => {
                let role = role.into_array().into_iter().next().and_then(|role| role.into_string());
                Ok(role.as_deref() == Some("master"))
            }
            Err(err) if err.is_answer() => Ok(true),
            Err(err) => Err(err),
        }
    }

    /// Gives an order of which parts are no text. No answer to it begins with what a user chose.
    pub(crate) async fn order(
        &self,
        timeout: Duration,
        name: &'static str,
        args: Vec<Bytes>,
    ) -> Result<()> {
        let args = args.into_iter().map(Value::Bytes).collect();
        self.within(timeout).custom::<(), Value>(custom(name), args).await.map_err(from_call)
    }

    /// Asks for a sign of life; without a timeout it waits as long as the link lives. A link on which another answer
    /// comes is closed: from there on every reply would go to the wrong caller.
    pub(crate) async fn ping(&self, timeout: Option<Duration>) -> Result<()> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Within a transaction, its answer must be told from what users store, and is by being none of theirs.
        let echoes =
            self.purpose != Purpose::Transactions && !self.echoless.load(Ordering::Relaxed);
        let word = echoes.then(|| format!("ping {}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let client = self.within(timeout.unwrap_or(Duration::ZERO));
        let pong: Value = client.ping(word.clone()).await.map_err(from_call)?;
        match word {
            // Some proxies answer to the first one already as if there were no word.
            Some(_) if !self.is_up() && pong.as_str().is_some_and(|pong| pong == "PONG") => {
                self.echoless.store(true, Ordering::Relaxed);
                Ok(())
            }
            Some(word) if pong.as_str().is_none_or(|pong| pong != word) => self.out_of_step(),
            _ => Ok(()),
        }
    }

    /// Closes a link whose replies do not belong to the commands.
    pub(crate) fn out_of_step<T>(&self) -> Result<T> {
        tracing::warn!(server = %self.address, "a connection is closed: its replies are out of step");
        self.abort();
        let what = "the replies of the connection were out of step with the commands";
        Err(Error::new(ErrorKind::Protocol, what))
    }

    /// Refuses a command that the server does not know.
    pub(crate) fn check(&self, request: &Request) -> Result<()> {
        if self.unknown.is_empty() {
            return Ok(());
        }
        match request.commands().into_iter().find(|name| self.unknown.contains(name)) {
            None => Ok(()),
            Some(name) => {
                let what = format!("{}: this server does not know {name}", self.address);
                Err(Error::new(ErrorKind::Unsupported, what).with_code("ERR", None))
            }
        }
    }

    /// How this link is called at the server that `other` leads to. Over a Unix socket nothing tells whether that is the
    /// same server still.
    pub(crate) fn known_to(&self, other: &Self) -> Option<&ClientId> {
        let is_same = self.address == other.address && matches!(self.address, Address::Tcp(_));
        self.client.as_ref().filter(|_| is_same)
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
        if !self.heard.load(Ordering::Relaxed) {
            self.heard.store(true, Ordering::Relaxed);
        }
    }

    /// Returns whether the server has said something since this was last asked.
    pub(crate) fn take_heard(&self) -> bool {
        self.heard.swap(false, Ordering::Relaxed)
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
    /// Whether the link has ended. It does not wait.
    pub(crate) async fn has_come(&mut self) -> bool {
        tokio::select! {
            biased;
            _ = self.wait() => true,
            () = std::future::ready(()) => false,
        }
    }

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
fn client(config: &Config, target: &Target) -> Client {
    let server = match &target.address {
        Address::Tcp(node) => ServerConfig::Centralized { server: settings::server(config, node) },
        Address::Unix(path) => ServerConfig::Unix { path: path.clone() },
    };
    // fred would dial again by itself after a loss. What it queues meanwhile is neither sent nor refused, so it
    // gets a pause that outlasts the link, and the task that looks after the link closes it.
    let never = ReconnectPolicy::new_constant(0, u32::MAX);
    let fred = settings::access(config, server, &target.credentials, target.database);
    let performance =
        PerformanceConfig { broadcast_channel_capacity: EVENTS, ..settings::performance(config) };
    // A command is written once. Whether it may be written again is decided where the kind of command is known.
    let mut connection = ConnectionConfig { max_redirections: 0, ..settings::connection(config) };
    if target.purpose == Purpose::Transactions {
        // Calls are counted before. A transaction adds some commands to them, and none may be refused in its midst.
        connection.max_command_buffer_len =
            connection.max_command_buffer_len.saturating_mul(ROOM_FOR_TRANSACTIONS);
    }
    Client::new(fred, Some(performance), Some(connection), Some(never))
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(node) => node.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}
