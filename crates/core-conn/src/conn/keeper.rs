//! The task that keeps one link: makes it, watches it, moves it over to new credentials.

use std::{
    future::pending,
    pin::Pin,
    sync::{Arc, Weak},
};

use tokio::{sync::watch, task::JoinSet};

use super::{
    link::{Link, LinkEvent, LinkEvents},
    owner::Core,
    state::{LinkState, Snapshot},
    time::{Backoff, after},
};
use crate::{Credentials, Error, ErrorKind, Result};

pub(super) struct Keeper {
    core: Arc<Core>,
    slot: usize,
    credentials: watch::Receiver<Credentials>,
    status: watch::Receiver<Snapshot>,
    /// What the link logged in with, or tried to.
    used: Credentials,
    /// Over logins that the server refused one after the other.
    refusals: Backoff,
    /// Links that were replaced and carry their last calls.
    retiring: JoinSet<()>,
}

/// Why a link is no longer watched.
enum Over {
    /// It must be made anew.
    Lost,
    /// The server refuses its credentials.
    Refused(Error),
}

/// A link that is being dialed while another is in use.
type Dialing = Pin<Box<dyn Future<Output = (Link, LinkEvents, Credentials)> + Send>>;

impl Keeper {
    pub(super) fn new(core: Arc<Core>, slot: usize) -> Self {
        let used = core.credentials.borrow().clone();
        Self {
            slot,
            credentials: core.credentials.subscribe(),
            status: core.status.watch(),
            used,
            refusals: Backoff::new(core.config.reconnect_delay),
            retiring: JoinSet::new(),
            core,
        }
    }

    /// Runs until the task is aborted. `made` are the events of a link that is in place already.
    pub(super) async fn run(mut self, mut made: Option<LinkEvents>) {
        loop {
            let events = match made.take() {
                Some(events) => Ok(events),
                None => self.make().await,
            };
            let over = match events {
                Ok(events) => self.watch(events).await,
                Err(refused) => Over::Refused(refused),
            };
            self.core.empty(self.slot);
            if let Over::Refused(err) = over {
                self.refused(err).await;
            }
        }
    }

    /// Dials until it works; an error only when the credentials are refused.
    async fn make(&mut self) -> Result<LinkEvents> {
        let mut backoff = Backoff::new(self.core.config.reconnect_delay);
        loop {
            self.used = self.credentials.borrow_and_update().clone();
            match dial(&self.core, &self.used).await {
                Ok((link, events)) => {
                    self.install(link);
                    return Ok(events);
                }
                Err(err) if err.kind() == ErrorKind::Auth => return Err(err),
                Err(err) => {
                    tracing::debug!(error = %err, slot = self.slot, "dialing failed");
                    self.core.status.link_lost(self.slot, LinkState::Down, err);
                }
            }
            backoff.pause().await;
        }
    }

    fn install(&mut self, link: Link) -> Option<Arc<Link>> {
        self.refusals.reset();
        self.core.note_login(None);
        self.core.install(self.slot, link)
    }

    /// After refused credentials: returns when another attempt makes sense.
    async fn refused(&mut self, err: Error) {
        let config = &self.core.config;
        if config.retry_auth_errors || config.credential_provider.is_some() {
            self.core.status.link_lost(self.slot, LinkState::Down, err.clone());
            self.refusals.pause().await;
        }
        if config.credential_provider.is_some() {
            match self.core.fetch(after(config.connect_timeout)).await {
                Ok(new) => self.core.offer(new),
                Err(err) => tracing::warn!(error = %err, "no other credentials to try"),
            }
        }
        if config.retry_auth_errors || !self.credentials.borrow().logs_in_as(&self.used) {
            return;
        }
        tracing::warn!(error = %err, slot = self.slot, "giving up: the server refuses the credentials");
        self.core.status.link_lost(self.slot, LinkState::Refused, err);
        // Others to try, or the proof on another link that these work after all.
        let ups = self.status.borrow_and_update().ups;
        tokio::select! {
            _ = self.credentials.changed() => {}
            _ = self.status.wait_for(|now| now.ups > ups) => {}
        }
    }

    async fn watch(&mut self, mut events: LinkEvents) -> Over {
        let mut check = false;
        let mut dialing: Option<Dialing> = None;
        let core = Arc::clone(&self.core);
        loop {
            let Some(link) = self.core.slots[self.slot].load_full() else { return Over::Lost };
            tokio::select! {
                biased;
                event = events.next() => match event {
                    LinkEvent::Down(err) if err.kind() == ErrorKind::Auth => return Over::Refused(err),
                    LinkEvent::Down(err) => {
                        self.core.down(self.slot, &link, err);
                        // Not every event means a lost connection, and an answer settles it.
                        check = true;
                    }
                    LinkEvent::Up => check = true,
                    LinkEvent::Ended(err) => {
                        self.core.down(self.slot, &link, err);
                        return Over::Lost;
                    }
                },
                () = until_ready(&core, self.slot, &link), if check => check = false,
                Some(_) = self.retiring.join_next() => {}
                Ok(()) = self.credentials.changed() => {
                    let new = self.credentials.borrow_and_update().clone();
                    dialing = (!new.logs_in_as(&self.used)).then(|| self.replace(new));
                }
                (link, new_events, used) = finished(&mut dialing) => {
                    self.used = used;
                    let replaced = self.install(link);
                    let old_events = std::mem::replace(&mut events, new_events);
                    if let Some(replaced) = replaced {
                        self.retiring.spawn(retire(replaced.is_up(), Arc::downgrade(&replaced), old_events));
                    }
                    (check, dialing) = (false, None);
                    tracing::debug!(slot = self.slot, "link moved over to new credentials");
                }
            }
        }
    }

    /// Dials with `credentials` until it works, while the link in use goes on.
    fn replace(&self, credentials: Credentials) -> Dialing {
        let core = Arc::clone(&self.core);
        Box::pin(async move {
            let mut backoff = Backoff::new(core.config.reconnect_delay);
            loop {
                match dial(&core, &credentials).await {
                    Ok((link, events)) => return (link, events, credentials),
                    Err(err) => {
                        tracing::warn!(error = %err, "the new credentials do not work; keeping the link in use");
                        core.note_login(Some(err));
                    }
                }
                backoff.pause().await;
            }
        })
    }
}

async fn dial(core: &Core, credentials: &Credentials) -> Result<(Link, LinkEvents)> {
    Link::dial(&core.config, credentials, after(core.config.connect_timeout)).await
}

async fn finished(dialing: &mut Option<Dialing>) -> (Link, LinkEvents, Credentials) {
    match dialing {
        Some(dialing) => dialing.await,
        None => pending().await,
    }
}

/// Lets a replaced link end with the last call on it. When it breaks, or is broken already, it is closed at
/// once: it would wait for ever to log in as before, and its calls with it.
async fn retire(mut works: bool, link: Weak<Link>, mut events: LinkEvents) {
    while works {
        works = matches!(events.next().await, LinkEvent::Up);
    }
    if let Some(link) = link.upgrade() {
        link.abort();
    }
}

/// Asks until the link answers, then calls it up and names it.
async fn until_ready(core: &Core, slot: usize, link: &Link) {
    let mut backoff = Backoff::new(core.config.reconnect_delay);
    while let Err(err) = link.ready(&core.config).await {
        // What broke the link says more than a check that went unanswered.
        if !err.is_outcome_unknown() {
            core.down(slot, link, err);
        }
        backoff.pause().await;
    }
    core.up(slot, link);
    link.set_name(&core.config).await;
}
