//! What the handles of one connection share, what begins it and what ends it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak, atomic::AtomicUsize},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::task::{AbortHandle, JoinSet};

use super::{
    Conn, State,
    call::Calls,
    keeper::Keeper,
    link::{Link, LinkEvents},
    login::Login,
    state::{LinkState, Status},
    time::after,
};
use crate::{Codec, Config, Error, Result, capabilities::KnownCapabilities};

/// What the handles share. Its end is the end of the connection.
pub(super) struct Owner {
    pub(super) core: Arc<Core>,
    tasks: OnceLock<Vec<AbortHandle>>,
}

/// What the handles share with the tasks behind them.
pub(crate) struct Core {
    pub(super) config: Config,
    /// Where handles find links, and keepers put them.
    pub(super) slots: Box<[ArcSwapOption<Link>]>,
    pub(super) next: AtomicUsize,
    pub(super) status: Status,
    pub(super) calls: Calls,
    pub(super) login: Login,
    /// The links that do not use the newest credentials, and why.
    pub(super) stale_logins: Mutex<BTreeMap<usize, Error>>,
    pub(super) capabilities: KnownCapabilities,
}

impl Core {
    /// Puts a link that answers into its slot; returns the one it replaces.
    pub(super) fn install(&self, slot: usize, link: Link) -> Option<Arc<Link>> {
        let link = Arc::new(link);
        let replaced = self.slots[slot].swap(Some(Arc::clone(&link)));
        self.up(slot, &link);
        // Closing may have emptied the slots a moment before.
        if self.status.state() == State::End {
            self.empty(slot);
        }
        replaced
    }

    /// Notes whether a link uses the newest credentials, and if not, why.
    pub(super) fn note_login(&self, slot: usize, refused: Option<Error>) {
        let mut stale = self.stale_logins.lock().unwrap_or_else(PoisonError::into_inner);
        match refused {
            Some(err) => stale.insert(slot, err),
            None => stale.remove(&slot),
        };
    }

    pub(super) fn up(&self, slot: usize, link: &Link) {
        // Another server may be answering from now on.
        self.capabilities.forget();
        link.mark(true);
        self.status.link_up(slot);
    }

    pub(super) fn down(&self, slot: usize, link: &Link, err: Error) {
        link.mark(false);
        tracing::debug!(error = %err, slot, "link down");
        self.status.link_lost(slot, LinkState::Down, err);
    }

    /// Takes the link out of its slot and closes it.
    pub(super) fn empty(&self, slot: usize) {
        if let Some(link) = self.slots[slot].swap(None) {
            link.abort();
        }
    }
}

impl Owner {
    pub(super) fn new(config: Config) -> Self {
        let links = config.command_links.get();
        let core = Core {
            slots: (0..links).map(|_| ArcSwapOption::empty()).collect(),
            next: AtomicUsize::new(0),
            status: Status::new(links),
            calls: Calls::default(),
            login: Login::new(&config),
            stale_logins: Mutex::new(BTreeMap::new()),
            capabilities: KnownCapabilities::default(),
            config,
        };
        Self { core: Arc::new(core), tasks: OnceLock::new() }
    }

    /// Makes the first attempt in the foreground, so that its error reaches the caller.
    pub(super) async fn open(&self) -> Result<()> {
        let core = &self.core;
        let deadline = after(core.config.connect_timeout);
        core.status.connecting();
        let credentials = core.first_login(deadline).await?;
        let mut dials = JoinSet::new();
        for _ in &core.slots {
            let (core, credentials) = (Arc::clone(core), credentials.clone());
            dials.spawn(async move { Link::dial(&core.config, &credentials, deadline).await });
        }
        let mut made = Vec::with_capacity(core.slots.len());
        while let Some(dialed) = dials.join_next().await {
            // A task can only fail to join when the runtime goes down.
            made.push(dialed.map_err(|err| Error::closed().with_source(err))??);
        }
        let installed = made.into_iter().enumerate().map(|(slot, (link, events))| {
            core.install(slot, link);
            Some(events)
        });
        self.keep(installed.collect())
    }

    /// Makes a lazy connection dial in the background; does nothing the second time.
    pub(super) fn start(&self) -> Result<()> {
        self.core.status.connecting();
        self.keep(self.core.slots.iter().map(|_| None).collect())
    }

    fn keep(&self, links: Vec<Option<LinkEvents>>) -> Result<()> {
        self.tasks.get_or_init(|| self.spawn(links));
        // Closing may have come first and found no tasks to end.
        if self.core.calls.is_closing() {
            self.end();
            return Err(Error::closed());
        }
        Ok(())
    }

    /// Starts the tasks that look after the links from now on.
    fn spawn(&self, links: Vec<Option<LinkEvents>>) -> Vec<AbortHandle> {
        let core = &self.core;
        let keepers = links.into_iter().enumerate();
        let keepers = keepers.map(|(slot, events)| {
            tokio::spawn(Keeper::new(Arc::clone(core), slot).run(events)).abort_handle()
        });
        let mut tasks: Vec<_> = keepers.collect();
        if let Some(provider) = core.config.credential_provider.clone() {
            tasks.push(tokio::spawn(Arc::clone(core).keep_login(provider)).abort_handle());
        }
        tasks
    }

    /// Why no call can be made any more, if that is so.
    pub(super) fn ended(&self) -> Option<Error> {
        let ended = self.core.status.state() == State::End;
        ended.then(|| {
            if self.core.calls.is_closing() { Error::closed() } else { Error::runtime_gone() }
        })
    }

    /// Ends the tasks and closes the links.
    pub(super) fn end(&self) {
        self.core.calls.refuse();
        self.core.status.end();
        for task in self.tasks.get().into_iter().flatten() {
            task.abort();
        }
        for slot in 0..self.core.slots.len() {
            self.core.empty(slot);
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
    command_timeout: Duration,
    codec: Codec,
}

impl WeakConn {
    pub(crate) fn upgrade(&self) -> Option<Conn> {
        let owner = self.owner.upgrade()?;
        Some(Conn { owner, command_timeout: self.command_timeout, codec: self.codec })
    }
}

impl Conn {
    /// A reference that does not keep the connection open.
    pub(crate) fn downgrade(&self) -> WeakConn {
        WeakConn {
            owner: Arc::downgrade(&self.owner),
            command_timeout: self.command_timeout,
            codec: self.codec,
        }
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
        assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
    }
}
