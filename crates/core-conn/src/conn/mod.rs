mod call;
mod close;
mod keeper;
mod link;
mod state;

use std::{
    fmt,
    sync::{Arc, OnceLock, atomic::AtomicUsize},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::{
    sync::{Mutex, watch},
    task::{AbortHandle, JoinSet},
    time::Instant,
};

use crate::{
    Codec, Config, Credentials, Error, ErrorKind, Result, config::Endpoint, server::Probe,
};

pub(crate) use call::Replay;
pub use close::CloseReport;
pub use state::{State, StateChange, StateChanges};

use call::Calls;
use keeper::Keeper;
use link::{Link, LinkEvents};
use state::Status;

/// A connection to one server, one Cluster or one Sentinel-watched master, shared by all its clones.
///
/// Cloning is cheap. When the last clone is dropped, the sockets are closed and the tasks end; calls in
/// flight hold a clone. It belongs to the runtime it was made on (a lazy one: on which it was first used):
/// when that runtime ends, calls fail with [`ErrorKind::Closed`](crate::ErrorKind::Closed).
///
/// Calls must be made within a tokio runtime with its time driver on.
#[derive(Clone)]
pub struct Conn {
    owner: Arc<Owner>,
    command_timeout: Duration,
    codec: Codec,
}

/// What the handles share. Its end is the end of the connection.
struct Owner {
    core: Arc<Core>,
    started: Mutex<()>,
    tasks: OnceLock<Vec<AbortHandle>>,
}

/// What the handles share with the tasks behind them.
pub(crate) struct Core {
    config: Config,
    slots: Box<[ArcSwapOption<Link>]>,
    next: AtomicUsize,
    status: Status,
    calls: Calls,
    credentials: watch::Sender<Credentials>,
    pub(crate) probe: Probe,
}

impl Conn {
    /// Connects, and returns when every link is up and has answered a PING.
    ///
    /// It makes one attempt: a server that is not there is an error at once, so that a wrong address shows
    /// when the service starts; only a server that is still loading its data set is waited for. To start
    /// without the server, use [`connect_lazy`](Self::connect_lazy). Once connected, the connection comes
    /// back by itself after every loss.
    ///
    /// Takes a [`Config`] or a URL. With [`lazy`](crate::ConfigBuilder::lazy) set it returns at once.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) before any I/O; [`Connect`](crate::ErrorKind::Connect),
    /// [`Auth`](crate::ErrorKind::Auth), [`Denied`](crate::ErrorKind::Denied), [`Tls`](crate::ErrorKind::Tls),
    /// [`Protocol`](crate::ErrorKind::Protocol), [`Topology`](crate::ErrorKind::Topology) or
    /// [`Timeout`](crate::ErrorKind::Timeout) within the connect timeout. Nothing is left open.
    pub async fn connect<C>(config: C) -> Result<Self>
    where
        C: TryInto<Config>,
        Error: From<C::Error>,
    {
        let conn = Self::connect_lazy(config)?;
        if !conn.owner.core.config.lazy {
            conn.open().await?;
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
        let (command_timeout, codec) = (config.command_timeout, config.codec);
        let links = config.command_links.get();
        let core = Core {
            slots: (0..links).map(|_| ArcSwapOption::empty()).collect(),
            next: AtomicUsize::new(0),
            status: Status::new(links),
            calls: Calls::default(),
            credentials: watch::Sender::new(Credentials::none()),
            probe: Probe::default(),
            config,
        };
        let owner = Owner { core: Arc::new(core), started: Mutex::new(()), tasks: OnceLock::new() };
        Ok(Self { owner: Arc::new(owner), command_timeout, codec })
    }

    /// Connects to what the `REDIS_…` variables name; see [`Config::from_env`].
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub async fn from_env() -> Result<Self> {
        Self::connect(Config::from_env()?).await
    }

    /// Returns a handle to the same connection whose calls may take `timeout` in all.
    ///
    /// Default: the config's [`command_timeout`](crate::ConfigBuilder::command_timeout).
    #[must_use]
    pub fn with_command_timeout(&self, timeout: Duration) -> Self {
        Self { command_timeout: timeout, ..self.clone() }
    }

    /// Returns a handle to the same connection that writes values with `codec`.
    ///
    /// Default: the config's [`codec`](crate::ConfigBuilder::codec).
    #[must_use]
    pub fn with_codec(&self, codec: Codec) -> Self {
        Self { codec, ..self.clone() }
    }

    /// Returns what the connection is doing right now.
    #[must_use]
    pub fn state(&self) -> State {
        self.owner.core.status.state()
    }

    /// Returns whether every link is up.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.state() == State::Connected
    }

    /// Returns the changes of [`state`](Self::state) from now on.
    #[must_use]
    pub fn state_changes(&self) -> StateChanges {
        self.owner.core.status.changes()
    }

    /// Waits until the connection is up, and makes a lazy one dial; returns at once when it is up.
    ///
    /// # Errors
    ///
    /// [`Connect`](crate::ErrorKind::Connect) with the last reason when the connect timeout has passed;
    /// [`Auth`](crate::ErrorKind::Auth) when the server refuses the credentials;
    /// [`Closed`](crate::ErrorKind::Closed).
    pub async fn ready(&self) -> Result<()> {
        let patient = self.with_command_timeout(self.owner.core.config.connect_timeout);
        match patient.ping().await {
            // A refusal is an answer too.
            Err(err) if err.kind() == ErrorKind::Denied => Ok(()),
            answer => answer.map(drop),
        }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.owner.core.config
    }

    /// The host and port of the server this connection talks to, where it is one over TCP.
    pub(crate) fn address(&self) -> Option<(String, u16)> {
        if matches!(self.config().endpoint, Endpoint::Unix(_)) {
            return None;
        }
        self.owner.core.slots.iter().find_map(|slot| slot.load().as_ref()?.server())
    }

    pub(crate) fn codec(&self) -> Codec {
        self.codec
    }

    pub(crate) fn probe(&self) -> &Probe {
        &self.owner.core.probe
    }

    /// A reference that does not keep the connection open.
    pub(crate) fn downgrade(&self) -> WeakConn {
        WeakConn {
            owner: Arc::downgrade(&self.owner),
            command_timeout: self.command_timeout,
            codec: self.codec,
        }
    }

    /// Makes the first attempt in the foreground, so that its error reaches the caller.
    async fn open(&self) -> Result<()> {
        let _starting = self.owner.started.lock().await;
        let core = &self.owner.core;
        core.status.connecting();
        let credentials = core.fetch().await?;
        core.offer(credentials.clone());
        let mut dials = JoinSet::new();
        for _ in &core.slots {
            let (core, credentials) = (Arc::clone(core), credentials.clone());
            dials.spawn(async move { Link::dial(&core.config, &credentials).await });
        }
        let mut made = Vec::with_capacity(core.slots.len());
        while let Some(dialed) = dials.join_next().await {
            // A task can only fail to join when the runtime goes down.
            made.push(dialed.map_err(|err| Error::closed().with_source(err))??);
        }
        let events = made
            .into_iter()
            .enumerate()
            .map(|(slot, (link, events))| {
                core.slots[slot].store(Some(Arc::new(link)));
                core.status.link_up(slot);
                Some(events)
            })
            .collect();
        self.owner.spawn(events);
        Ok(())
    }

    /// Makes a lazy connection dial in the background; does nothing the second time.
    async fn start(&self) -> Result<()> {
        if self.owner.tasks.get().is_some() {
            return Ok(());
        }
        let _starting = self.owner.started.lock().await;
        if self.owner.tasks.get().is_none() {
            let core = &self.owner.core;
            core.status.connecting();
            core.offer(core.fetch().await?);
            self.owner.spawn(core.slots.iter().map(|_| None).collect());
        }
        Ok(())
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

impl Core {
    fn is_cluster(&self) -> bool {
        matches!(self.config.endpoint, Endpoint::Cluster(_))
    }
}

impl Owner {
    /// Starts the tasks that look after the links from now on.
    fn spawn(&self, events: Vec<Option<LinkEvents>>) {
        let core = &self.core;
        let mut tasks: Vec<_> = events
            .into_iter()
            .enumerate()
            .map(|(slot, events)| {
                let credentials = core.credentials.subscribe();
                let keeper = Keeper { core: Arc::clone(core), slot, credentials };
                tokio::spawn(keeper.run(events)).abort_handle()
            })
            .collect();
        if let Some(provider) = core.config.credential_provider.clone() {
            let keeping = Arc::clone(core).keep_credentials(provider);
            tasks.push(tokio::spawn(keeping).abort_handle());
        }
        // Set once only: both callers hold the lock and have looked.
        let _ = self.tasks.set(tasks);
    }

    /// Whether the tasks are gone although nobody ended them.
    fn runtime_is_gone(&self) -> bool {
        let gone = self.tasks.get().is_some_and(|tasks| tasks.iter().all(AbortHandle::is_finished));
        gone && self.core.status.state() != State::Error
    }

    /// Ends the tasks and closes the links.
    fn end(&self) {
        self.core.calls.refuse();
        for task in self.tasks.get().into_iter().flatten() {
            task.abort();
        }
        for slot in &self.core.slots {
            if let Some(link) = slot.swap(None) {
                link.abort();
            }
        }
        self.core.status.end();
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.end();
    }
}

/// A [`Conn`] that may be gone.
pub(crate) struct WeakConn {
    owner: std::sync::Weak<Owner>,
    command_timeout: Duration,
    codec: Codec,
}

impl WeakConn {
    pub(crate) fn upgrade(&self) -> Option<Conn> {
        let owner = self.owner.upgrade()?;
        Some(Conn { owner, command_timeout: self.command_timeout, codec: self.codec })
    }
}

/// Longer than anything waits: a clock cannot be asked for every moment that a `Duration` can name.
const FAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The moment `duration` from now.
fn after(duration: Duration) -> Instant {
    Instant::now() + duration.min(FAR)
}

/// The one timer that is not a deadline: between two attempts at something outside this process.
#[expect(
    clippy::disallowed_methods,
    reason = "the world outside sends no event when it is worth trying again"
)]
pub(crate) async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}
