mod attempts;
mod blocking;
mod buffers;
mod calls;
mod close;
mod deadlines;
mod dial;
mod handoff;
mod hubs;
mod introduction;
mod keeper;
mod lane;
mod layout;
mod link;
mod login;
mod observed;
mod outcome;
mod owner;
mod pick;
mod place;
mod pulse;
mod raw;
mod replay;
mod sentinel;
mod settings;
mod slots;
mod state;
mod time;
mod together;
mod topology;
mod transactions;
mod without;

use std::{
    fmt,
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::task::AbortHandle;

use crate::{Codec, Config, Error, ReadFrom, Result, capabilities::KnownCapabilities};

pub(crate) use attempts::{Attempts, First, Manner, Way};
pub(crate) use blocking::Blocking;
pub(crate) use calls::Entered;
pub use close::CloseReport;
pub(crate) use deadlines::Watch;
pub(crate) use layout::{Route, SLOTS};
pub(crate) use link::{Address, Link, custom};
pub(crate) use owner::Core;
pub(crate) use place::Place;
pub use raw::RawClient;
pub use replay::Replay;
pub use state::{State, StateChange, StateChanges};
pub(crate) use time::{Backoff, FAR, after, left, until};
pub(crate) use together::together;
pub use without::WARNING_INTERVAL;
pub(crate) use without::Warnings;

use layout::Shard;
use owner::Owner;
use pick::Refusal;

/// A connection to one server, one Cluster or one Sentinel-watched master, shared by all its clones.
///
/// Cloning is cheap. When the last clone is dropped, the sockets are closed and the tasks end. It belongs to
/// the runtime it was made on (a lazy one: on which it was first used): when that runtime ends, calls fail
/// with [`ErrorKind::Closed`](crate::ErrorKind::Closed).
///
/// Calls must be made within a tokio runtime with its time driver on.
///
/// # Errors of every call
///
/// | kind | when | has it run? |
/// |---|---|---|
/// | [`Connect`](crate::ErrorKind::Connect) | no link came up within the command timeout | no |
/// | [`Busy`](crate::ErrorKind::Busy) | more than `max_waiting` calls are waiting | no |
/// | [`Closed`](crate::ErrorKind::Closed) | closed, or the runtime has ended | no |
/// | [`Auth`](crate::ErrorKind::Auth) | the server refuses the credentials on every link | no |
/// | [`Denied`](crate::ErrorKind::Denied) | the user lacks a right | no |
/// | [`Loading`](crate::ErrorKind::Loading), [`NoReplicas`](crate::ErrorKind::NoReplicas), [`OutOfMemory`](crate::ErrorKind::OutOfMemory), [`Persistence`](crate::ErrorKind::Persistence), [`ReadOnly`](crate::ErrorKind::ReadOnly), [`ServerBusy`](crate::ErrorKind::ServerBusy) | the server is in that state | no |
/// | [`Config`](crate::ErrorKind::Config) | the URL names one server, and it is a node of a cluster | no |
/// | [`InvalidArgument`](crate::ErrorKind::InvalidArgument) | the keys lie in several slots of a cluster | no |
/// | [`WrongType`](crate::ErrorKind::WrongType) | the key holds another type of value | no |
/// | [`Topology`](crate::ErrorKind::Topology) | Cluster or Sentinel cannot say who serves the key | no |
/// | [`Server`](crate::ErrorKind::Server) | the server refuses for another reason | no |
/// | [`Timeout`](crate::ErrorKind::Timeout) | no answer within the call's timeout | unknown |
/// | [`Interrupted`](crate::ErrorKind::Interrupted) | the connection broke | unknown |
/// | [`Protocol`](crate::ErrorKind::Protocol) | the answer has an unexpected type | unknown |
#[derive(Clone)]
pub struct Conn {
    owner: Arc<Owner>,
    preferences: Preferences,
}

/// How one handle asks; another of the same connection may ask otherwise.
#[derive(Clone, Copy)]
pub(crate) struct Preferences {
    command_timeout: Duration,
    codec: Codec,
    read_from: ReadFrom,
    /// For a link, when none is up.
    waits: bool,
}

impl Conn {
    /// Connects, and returns when every link is up and has answered a PING; on Cluster when it is known which nodes there
    /// are and each was tried, and one master answers.
    ///
    /// It makes one attempt: a server that is not there is an error at once, so that a wrong address shows
    /// when the service starts; only a server that is still loading its data set is waited for. To start
    /// without the server, use [`connect_lazy`](Self::connect_lazy). Once connected, the connection comes
    /// back by itself after every loss.
    ///
    /// Takes a [`Config`], its builder or a URL. With [`lazy`](crate::ConfigBuilder::lazy) set it returns at
    /// once.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) before any I/O; [`Connect`](crate::ErrorKind::Connect),
    /// [`Auth`](crate::ErrorKind::Auth), [`Denied`](crate::ErrorKind::Denied), [`Tls`](crate::ErrorKind::Tls),
    /// [`Protocol`](crate::ErrorKind::Protocol), [`Topology`](crate::ErrorKind::Topology),
    /// [`Loading`](crate::ErrorKind::Loading) or [`Timeout`](crate::ErrorKind::Timeout) within the connect
    /// timeout. Nothing is left open.
    pub async fn connect<C>(config: C) -> Result<Self>
    where
        C: TryInto<Config>,
        Error: From<C::Error>,
    {
        let conn = Self::connect_lazy(config)?;
        if !conn.config().lazy {
            conn.owner.open().await?;
        }
        Ok(conn)
    }

    /// Makes a connection that dials on its first call and, if the server is not there, goes on trying.
    ///
    /// Calls wait for the link up to their timeout. No I/O happens here and no runtime is needed.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config).
    pub fn connect_lazy<C>(config: C) -> Result<Self>
    where
        C: TryInto<Config>,
        Error: From<C::Error>,
    {
        let config: Config = config.try_into()?;
        let preferences = Preferences {
            command_timeout: config.command_timeout,
            codec: config.codec,
            read_from: config.read_from,
            waits: true,
        };
        Ok(Self { owner: Arc::new(Owner::new(config)), preferences })
    }

    /// Connects to what the `REDIS_…` variables name; see [`Config::from_env`].
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub async fn from_env() -> Result<Self> {
        Self::connect(Config::from_env()?).await
    }

    /// Returns a handle to the same connection whose calls may take `timeout` in all; less than a
    /// millisecond counts as one.
    ///
    /// Default: the config's [`command_timeout`](crate::ConfigBuilder::command_timeout).
    #[must_use]
    pub fn with_command_timeout(&self, timeout: Duration) -> Self {
        self.preferring(Preferences { command_timeout: timeout, ..self.preferences })
    }

    /// Returns a handle to the same connection whose calls fail at once while no link to their server is up, as with
    /// [`Call::fail_fast`](crate::Call::fail_fast).
    #[must_use]
    pub fn with_fail_fast(&self) -> Self {
        self.preferring(Preferences { waits: false, ..self.preferences })
    }

    /// Returns a handle to the same connection that writes values with `codec`.
    ///
    /// Default: the config's [`codec`](crate::ConfigBuilder::codec).
    #[must_use]
    pub fn with_codec(&self, codec: Codec) -> Self {
        self.preferring(Preferences { codec, ..self.preferences })
    }

    /// Returns how this handle writes values, for those that a script is given or returns.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.preferences.codec
    }

    /// Returns a handle to the same connection whose reads go to `read_from`. Replicas are known only where the config
    /// says [`ReadFrom::Replica`]; elsewhere the master answers.
    ///
    /// Default: the config's [`read_from`](crate::ConfigBuilder::read_from).
    #[must_use]
    pub fn with_read_from(&self, read_from: ReadFrom) -> Self {
        self.preferring(Preferences { read_from, ..self.preferences })
    }

    /// Returns whether both are handles to one connection, however they ask.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.owner, &other.owner)
    }

    /// Returns what the connection is doing right now.
    #[must_use]
    pub fn state(&self) -> State {
        self.owner.core.status.state()
    }

    /// Returns whether every link to a master is up.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.state() == State::Connected
    }

    /// Returns the changes of [`state`](Self::state) from now on.
    #[must_use]
    pub fn state_changes(&self) -> StateChanges {
        self.owner.core.status.changes()
    }

    /// Waits until a link is up, at most for the connect timeout, and makes a lazy connection dial. Returns at
    /// once when one is up.
    ///
    /// # Errors
    ///
    /// [`Connect`](crate::ErrorKind::Connect) with the last reason when the time is over;
    /// [`Auth`](crate::ErrorKind::Auth) at once when the server refuses fixed credentials;
    /// [`Closed`](crate::ErrorKind::Closed).
    pub async fn ready(&self) -> Result<()> {
        if let Some(ended) = self.owner.ended() {
            return Err(ended);
        }
        let config = self.config();
        let refusal =
            if config.credential_provider.is_some() { Refusal::Waits } else { Refusal::Fails };
        self.link(&Route::Any, ReadFrom::Master, after(config.connect_timeout), refusal)
            .await
            .map(drop)
    }

    /// What the handles share, once the connection has begun to dial.
    pub(crate) fn begun(&self) -> Result<&Arc<Core>> {
        if let Some(ended) = self.owner.ended() {
            return Err(ended);
        }
        self.owner.start()?;
        Ok(&self.owner.core)
    }

    pub(crate) fn config(&self) -> &Config {
        &self.owner.core.config
    }

    /// Runs a task on the runtime to which the connection belongs, for what is everybody's who uses it, and not its caller's. A connection
    /// that is lazy begins to dial. Nothing ends the task but the handle, its own end or that of the runtime.
    ///
    /// # Panics
    ///
    /// Outside of a runtime, where the connection belongs to none yet.
    ///
    /// # Errors
    ///
    /// [`Closed`](crate::ErrorKind::Closed).
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Result<AbortHandle> {
        Ok(self.begun()?.spawn(task))
    }

    /// Returns whether it is to a Cluster, by its configuration.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.config().endpoint.is_cluster()
    }

    /// Returns how long a call of this handle may take in all.
    #[must_use]
    pub fn command_timeout(&self) -> Duration {
        self.preferences.command_timeout
    }

    pub(crate) fn read_from(&self) -> ReadFrom {
        self.preferences.read_from
    }

    fn preferring(&self, preferences: Preferences) -> Self {
        Self { owner: Arc::clone(&self.owner), preferences }
    }

    pub(crate) fn waits(&self) -> bool {
        self.preferences.waits
    }

    pub(crate) fn known_capabilities(&self) -> &KnownCapabilities {
        &self.owner.core.capabilities
    }

    /// The host and port of the server this connection talks to, where it is one over TCP.
    pub(crate) fn address(&self) -> Option<(String, u16)> {
        if self.config().endpoint.is_cluster() {
            return None;
        }
        match &self.pick(&Route::Any, ReadFrom::Master)?.address {
            Address::Tcp(node) => Some((node.host.clone(), node.port)),
            Address::Unix(_) => None,
        }
    }

    /// Why a call would have to wait now: no link is up, and one was tried.
    pub(crate) fn outage(&self) -> Option<Error> {
        if self.pick(&Route::Any, ReadFrom::Master).is_some() {
            return None;
        }
        self.owner.core.status.watch().borrow().error.clone()
    }

    /// Whether replicas are to answer reads, and some master has none that is up.
    pub(crate) fn reads_fall_back(&self) -> bool {
        let layout = self.owner.core.layout.load();
        let alone =
            |shard: &Shard| shard.replicas.iter().all(|replica| replica.commands.pick().is_none());
        self.preferences.read_from.may_be_replica() && layout.shards.iter().any(alone)
    }

    /// What is amiss with the servers though all links may be up, if anything is.
    pub(crate) fn amiss(&self) -> Option<Error> {
        self.owner.core.layout.load().amiss()
    }

    /// Why the newest credentials are not in use on every link, if that is so.
    pub(crate) fn stale_login(&self) -> Option<Error> {
        let stale = &self.owner.core.stale_logins;
        stale.lock().unwrap_or_else(PoisonError::into_inner).values().next().cloned()
    }
}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn")
            .field("endpoint", &self.config().endpoint.to_string())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
