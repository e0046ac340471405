//! What the handles of one connection share, what begins it and what ends it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{runtime::Handle, sync::Notify, task::AbortHandle, time::timeout_at};

use super::{
    Conn, Preferences, State,
    blocking::BlockingLinks,
    calls::Calls,
    deadlines::Deadlines,
    hubs::{Hubs, Trackers},
    lane::{Lane, Purpose},
    layout::{Layout, Server, Shard},
    login::Login,
    state::{SeatId, Status},
    time::after,
    without::Warnings,
};
use crate::{
    Config, Error, ErrorKind, Result, capabilities::KnownCapabilities, config::Endpoint,
    gather::Gathering, telemetry::Telemetry,
};

/// How much later than the dials themselves the wait for them ends.
const GRACE: Duration = Duration::from_millis(100);

/// What the handles share. Its end is the end of the connection.
pub(super) struct Owner {
    pub(super) core: Arc<Core>,
    tasks: OnceLock<Vec<AbortHandle>>,
    login: OnceLock<Option<AbortHandle>>,
}

/// What the handles share with the tasks behind them.
pub(crate) struct Core {
    pub(crate) config: Config,
    /// Which servers there are, with the links to them.
    pub(super) layout: ArcSwap<Layout>,
    /// Somebody was sent elsewhere, or lost a link.
    pub(super) layout_wanted: Notify,
    pub(super) next: AtomicUsize,
    pub(super) status: Status,
    pub(super) calls: Calls,
    pub(super) login: Login,
    /// The links that do not use the newest credentials, and why.
    pub(super) stale_logins: Mutex<BTreeMap<SeatId, Error>>,
    pub(super) capabilities: KnownCapabilities,
    pub(super) warnings: Warnings,
    pub(crate) deadlines: Deadlines,
    /// The runtime that the connection belongs to, once it has begun to dial.
    pub(super) runtime: OnceLock<Handle>,
    pub(crate) gathering: Gathering,
    pub(super) hubs: Hubs,
    pub(super) trackers: Trackers,
    pub(super) blocking: BlockingLinks,
    pub(crate) telemetry: Telemetry,
}

impl Core {
    fn new(config: Config) -> Self {
        let core = Self {
            layout: ArcSwap::default(),
            layout_wanted: Notify::new(),
            next: AtomicUsize::new(0),
            status: Status::new(config.endpoint.to_string()),
            calls: Calls::default(),
            login: Login::new(&config),
            stale_logins: Mutex::new(BTreeMap::new()),
            capabilities: KnownCapabilities::default(),
            warnings: Warnings::default(),
            deadlines: Deadlines::new(),
            runtime: OnceLock::new(),
            gathering: Gathering::new(config.endpoint.is_cluster()),
            hubs: Hubs::default(),
            blocking: BlockingLinks::new(config.blocking_links.get()),
            trackers: Trackers::new(config.key_prefix.len()),
            telemetry: Telemetry::new(&config),
            config,
        };
        let server = |endpoint| Server::new(&core, endpoint, Purpose::Commands);
        let layout = match &core.config.endpoint {
            Endpoint::Cluster(nodes) => {
                Layout::unknown(nodes.iter().cloned().map(Endpoint::Tcp).map(server).collect())
            }
            one => Layout::single(Shard { master: server(one.clone()), replicas: Vec::new() }),
        };
        core.status.rearranged(&[], !layout.is_cluster(), None);
        core.layout.store(Arc::new(layout));
        core
    }

    /// Notes whether a link uses the newest credentials, and if not, why.
    pub(super) fn note_login(&self, link: SeatId, refused: Option<Error>) {
        let mut stale = self.stale_logins.lock().unwrap_or_else(PoisonError::into_inner);
        match refused {
            Some(err) => stale.insert(link, err),
            None => stale.remove(&link),
        };
    }

    pub(super) fn forget_logins(&self, links: &[SeatId]) {
        let mut stale = self.stale_logins.lock().unwrap_or_else(PoisonError::into_inner);
        stale.retain(|link, _| !links.contains(link));
    }

    /// Finds out who takes writes, because somebody who should does not: the cluster is asked, other servers are dialed
    /// again.
    pub(crate) fn doubt_writers(&self) {
        if self.config.endpoint.is_cluster() {
            self.layout_wanted.notify_one();
            return;
        }
        for shard in &self.layout.load().shards {
            shard.master.each_lane(Lane::doubt);
        }
    }

    /// Runs a task on the runtime that the connection belongs to.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.runtime.get_or_init(Handle::current).spawn(task).abort_handle()
    }

    /// Has the layout read again, because something is not where it says.
    pub(crate) fn doubt_layout(&self) {
        self.layout_wanted.notify_one();
    }

    /// Whether another server can become the master, and this one be told to obey it.
    pub(crate) fn masters_change(&self) -> bool {
        matches!(self.config.endpoint, Endpoint::Cluster(_) | Endpoint::Sentinel(_))
    }

    pub(crate) fn is_cluster(&self) -> bool {
        self.config.endpoint.is_cluster()
    }

    /// A number that differs from call to call, to spread what may go anywhere.
    pub(super) fn turn(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn links(&self) -> Vec<SeatId> {
        let layout = self.layout.load();
        layout.servers().flat_map(|server| server.commands.ids()).collect()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.status.state() == State::End
    }

    /// Why no call can be made any more, if that is so.
    pub(crate) fn ended(&self) -> Option<Error> {
        self.has_ended()
            .then(|| if self.calls.is_closing() { Error::closed() } else { Error::runtime_gone() })
    }

    fn end(&self) {
        self.calls.refuse();
        self.status.end();
        for server in self.layout.load().servers() {
            server.each_lane(Lane::end);
        }
        self.hubs.each(|hub| hub.end());
        self.trackers.each(|tracker| tracker.end());
        self.blocking.end();
        self.publish();
    }
}

impl Owner {
    pub(super) fn new(config: Config) -> Self {
        Self { core: Arc::new(Core::new(config)), tasks: OnceLock::new(), login: OnceLock::new() }
    }

    /// Makes the first attempt, and waits for its end, so that its error reaches the caller.
    pub(super) async fn open(&self) -> Result<()> {
        let core = &self.core;
        let deadline = after(core.config.connect_timeout);
        core.status.connecting();
        core.first_login(deadline).await?;
        // Changes of credentials are a later matter: this attempt is about the first ones.
        self.tasks.get_or_init(|| self.spawn());
        let mut status = core.status.watch();
        // A dial that runs into its deadline says more than this one.
        let settled = timeout_at(deadline + GRACE, status.wait_for(|now| now.is_settled())).await;
        let (state, usable, error) = match settled {
            Ok(Ok(now)) => (now.state(), now.is_usable(), now.error.clone()),
            _ => {
                let now = core.status.watch().borrow().clone();
                (now.state(), now.is_usable(), now.error)
            }
        };
        // A cluster that lacks a node serves the rest.
        if state == State::Connected || (usable && core.config.endpoint.is_cluster()) {
            return self.start();
        }
        let err = error.unwrap_or_else(|| {
            let (endpoint, timeout) = (&core.config.endpoint, core.config.connect_timeout);
            Error::new(ErrorKind::Timeout, format!("{endpoint}: not connected within {timeout:?}"))
        });
        if core.config.optional && err.is_retryable() {
            core.warn("there is no server; going on without", &err);
            return self.start();
        }
        self.end();
        Err(err)
    }

    /// Makes the connection dial in the background; does nothing the second time.
    pub(super) fn start(&self) -> Result<()> {
        self.core.status.connecting();
        if self.login.get().is_some() {
            // Begun already; what is in flight goes on until closing gives it up.
            return Ok(());
        }
        self.tasks.get_or_init(|| self.spawn());
        self.login.get_or_init(|| {
            let provider = self.core.config.credential_provider.clone()?;
            Some(self.core.spawn(Arc::clone(&self.core).keep_login(provider)))
        });
        // Closing may have come first and found no tasks to end.
        if self.core.calls.is_closing() {
            self.end();
            return Err(Error::closed());
        }
        Ok(())
    }

    /// Starts the tasks that look after the links from now on; returns those that belong to no link.
    fn spawn(&self) -> Vec<AbortHandle> {
        let core = &self.core;
        core.runtime.get_or_init(Handle::current);
        for server in core.layout.load().servers() {
            server.commands.start(core);
        }
        let changes = core.config.endpoint.is_cluster() || core.config.read_from.may_be_replica();
        let layout = changes.then(|| tokio::spawn(Arc::clone(core).keep_layout()).abort_handle());
        let watched = Arc::clone(core);
        let deadlines = tokio::spawn(async move { watched.deadlines.keep().await }).abort_handle();
        let tasks = layout.into_iter().chain([deadlines]);
        #[cfg(feature = "metrics")]
        let tasks = tasks.chain([tokio::spawn(Arc::clone(core).keep_publishing()).abort_handle()]);
        tasks.collect()
    }

    /// Why no call can be made any more, if that is so.
    pub(super) fn ended(&self) -> Option<Error> {
        self.core.ended()
    }

    /// Ends the tasks and closes the links.
    pub(super) fn end(&self) {
        self.core.end();
        let login = self.login.get().into_iter().flatten();
        for task in self.tasks.get().into_iter().flatten().chain(login) {
            task.abort();
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.end();
    }
}

/// A [`Conn`] that may be gone.
pub(crate) struct WeakConn {
    owner: Weak<Owner>,
    preferences: Preferences,
}

impl WeakConn {
    pub(crate) fn upgrade(&self) -> Option<Conn> {
        Some(Conn { owner: self.owner.upgrade()?, preferences: self.preferences })
    }
}

impl Conn {
    /// A reference that does not keep the connection open.
    pub(crate) fn downgrade(&self) -> WeakConn {
        WeakConn { owner: Arc::downgrade(&self.owner), preferences: self.preferences }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[tokio::test]
    async fn a_start_that_comes_after_the_end_leaves_nothing_running() {
        let config = Config::from_url("redis://127.0.0.1:1").unwrap();
        let owner = Owner::new(config);
        owner.end();
        assert_eq!(owner.start().unwrap_err().kind(), ErrorKind::Closed);
        tokio::task::yield_now().await;
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    }
}
